-- Renew the leases of running attempts.
--
-- KEYS leases    ZSET    key -> when the lease runs out
-- ARGV lease     int     microseconds
-- ARGV attempts  ...     key, attempt, key, attempt, ...: each attempt is its fence
--
-- Returns a word for each: OK | CANCEL (renewed, and a cancel was asked for) | REFUSED (not this attempt's any more).
-- INCLUDE clock
local ends = digits(server_time() + tonumber(lease))
local answer = {}
for index = attempts, #ARGV, 2 do
  local key = ARGV[index]
  local record = redis.call('HMGET', C.operation .. key, 'stage', 'attempt', 'cancel_requested')
  if record[1] ~= 'running' or record[2] ~= ARGV[index + 1] then
    answer[#answer + 1] = 'REFUSED'
  else
    redis.call('ZADD', leases, ends, key)
    answer[#answer + 1] = (record[3] or '') ~= '' and 'CANCEL' or 'OK'
  end
end
return answer
