-- Begin the next attempt: raise `attempt`, set the lease. Decided here, because whoever claims has not read
-- the record yet.
--
-- KEYS op         HASH    the record
-- ARGV key        string  the internal key
-- ARGV ticket     int     the ticket that the claimer holds
-- ARGV worker     string  who claims; unique, so that a repeated call whose answer was lost is recognised
-- ARGV lease      int     microseconds
-- ARGV types      string  ",type,type,": canonical names of the types the worker has
--
-- Returns {CLAIMED, field, value, ...} | {MISSING} | {STALE, stage} (another ticket, already claimed, or ended)
-- | {UNKNOWN_TYPE, field, value, ...}. Writes nothing unless CLAIMED.
-- INCLUDE move
local record = look(op)
if not record then return {'MISSING'} end
if record.stage == 'running' and record.ticket == ticket and record.worker == worker then
  return {'CLAIMED', unpack(redis.call('HGETALL', op))}
end
if record.stage ~= 'queued' or record.ticket ~= ticket then return {'STALE', record.stage} end
local name = string.lower(string.gsub(record.type, '^#', ''))
if not string.find(types, ',' .. name .. ',', 1, true) then
  return {'UNKNOWN_TYPE', unpack(redis.call('HGETALL', op))}
end

local now = server_time()
redis.call('HINCRBY', op, 'attempt', 1)
redis.call('HSETNX', op, 'started', digits(now))
redis.call('HSET', op, 'worker', worker)
redis.call('HDEL', op, 'percent', 'detail', 'vanished', 'declined')
move(op, key, record, 'running', now, tonumber(lease))
return {'CLAIMED', unpack(redis.call('HGETALL', op))}
