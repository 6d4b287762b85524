-- Renew the leases of running attempts.
--
-- KEYS leases    ZSET    running operation -> when its lease runs out
-- ARGV lease     int     microseconds
-- ARGV attempts  ...     key, attempt, key, attempt, ...
-- FROM clock: digits, server_time
--
-- Returns a word for each attempt: OK | CANCEL (renewed, and a cancel was requested) | REFUSED (the operation does not
-- run, or runs another attempt).
local ends = digits(server_time() + tonumber(lease))
local words = {}
for index = attempts_start, attempts_start + attempts_count - 1, 2 do
  local key = ARGV[index]
  local record = redis.pcall('HMGET', C.operation .. key, 'stage', 'attempt', 'cancel_requested')
  local stage, attempt, cancel_requested = record[1], record[2], record[3]
  if stage ~= 'running' or attempt ~= ARGV[index + 1] then
    words[#words + 1] = 'REFUSED'
  else
    call('ZADD', leases, ends, key)
    words[#words + 1] = (cancel_requested or '') ~= '' and 'CANCEL' or 'OK'
  end
end
return words
