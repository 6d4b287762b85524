-- Tickets of earlier versions, which have the queued operations of all tenants of a lane in one sorted set. While such
-- versions run beside this one, they go on writing it.
--
-- FROM clock: digits

-- Move the first `limit` operations to the sets of their tenants. Returns how many were moved or are not queued.
local function convert_former(lane, limit)
  local found = call('ZRANGE', lane.former, 0, limit - 1, 'WITHSCORES')
  for index = 1, #found, 2 do
    local key, number = found[index], digits(tonumber(found[index + 1]))
    local stored = redis.pcall('HMGET', C.operation .. key, 'stage', 'ticket', 'tenant')
    if stored[1] == 'queued' and stored[2] == number then
      local owner = redis.sha1hex(stored[3])
      call('ZADD', lane.ticketed .. owner, number, key)
      call('ZADD', lane.turns, 'NX', 0, owner)
    end
    call('ZREM', lane.former, key)
  end
  return #found / 2
end
