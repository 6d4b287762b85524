-- Renew the lease of a running attempt.
--
-- KEYS op        HASH    the record
-- KEYS leases    ZSET    key -> when the lease runs out
-- ARGV key       string  the internal key
-- ARGV attempt   int     the fence
-- ARGV lease     int     microseconds
--
-- Returns OK | CANCEL (renewed, and a cancel was asked for) | REFUSED (not this attempt's any more).
-- INCLUDE clock
local record = redis.call('HMGET', op, 'stage', 'attempt', 'cancel_requested')
if record[1] ~= 'running' or record[2] ~= attempt then return 'REFUSED' end
redis.call('ZADD', leases, digits(server_time() + tonumber(lease)), key)
return (record[3] or '') ~= '' and 'CANCEL' or 'OK'
