-- Write one lifecycle change, if the operation is still where the caller saw it.
--
-- KEYS op              HASH    the record
-- ARGV key             string  the internal key
-- ARGV seen_stage      string  stage the caller saw
-- ARGV seen_attempt    int     attempt the caller saw: the fence
-- ARGV seen_ticket     int     ticket the caller saw
-- ARGV seen_revision   int     revision to insist on, or empty
-- ARGV lease_ran_out   0|1     refuse when the lease was renewed after all
-- ARGV stage           string  where it goes
-- ARGV delay           int     microseconds, when it becomes delayed
-- ARGV token           string  names this change: the same one again (its answer was lost) is OK, and writes nothing
-- ARGV stamp           string  a field that takes the time, or empty
-- ARGV fields          ...     field, value, field, value, ... to set
--
-- Returns OK and the record | MISSING | CONFLICT | CANCEL (a cancel was asked for meanwhile: it must not start
-- again). Writes nothing unless OK.
-- INCLUDE move
local record = look(op)
if not record then return {'MISSING'} end
if record.token == token then return {'OK', unpack(redis.call('HGETALL', op))} end
if record.stage ~= seen_stage or (record.attempt == '' and '0' or record.attempt) ~= seen_attempt
  or record.ticket ~= seen_ticket or (seen_revision ~= '' and record.revision ~= seen_revision) then
  return {'CONFLICT'}
end
local now = server_time()
if lease_ran_out == '1' and (tonumber(redis.call('ZSCORE', leases, key)) or 0) > now then return {'CONFLICT'} end
local starts_again = stage == 'queued' or stage == 'delayed'
if record.stage == 'running' and starts_again and record.cancel_requested ~= '' then return {'CANCEL'} end

redis.call('HSET', op, 'token', token, unpack(ARGV, fields))
if stamp ~= '' then redis.call('HSET', op, stamp, digits(now)) end
if redis.call('HGET', op, 'hidden') == '1' and record.hidden == '' then
  unindex(key, record)
  record.hidden = '1'
end
move(op, key, record, stage, now, tonumber(delay))
return {'OK', unpack(redis.call('HGETALL', op))}
