-- End what has had its time: a final record becomes a tombstone, a tombstone is forgotten. Decided here, because
-- nobody has read these records yet.
--
-- ARGV limit      int     most records
--
-- Returns {expired, forgotten}, two counts.
-- INCLUDE move
local now = server_time()
local expired, forgotten = 0, 0
for _, key in ipairs(call('ZRANGE', expiries, '-inf', digits(now), 'BYSCORE', 'LIMIT', 0, limit)) do
  local op = C.operation .. key
  local record = look(op)
  if record and (record.stage == 'completed' or record.stage == 'failed') then
    move(op, key, record, 'tombstone', now, 0)
    expired = expired + 1
  else
    call('ZREM', expiries, key)
    if record then
      call('HDEL', C.ids .. record.owner, record.id)
      call('DEL', op)
      forgotten = forgotten + 1
    end
  end
end
finish()
return {expired, forgotten}
