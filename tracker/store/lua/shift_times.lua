-- Shift times that were set before the server's clock jumped, and that are a while from then on: the delays of retries,
-- the `delay` of a create, the deadlines for a first attempt, and the end of the retention. The time of a create
-- (`notBefore`) stays as it is.
--
-- KEYS due        ZSET  delayed operation -> when it is due
-- KEYS deadlines  ZSET  operation -> when it must have started
-- KEYS expiries   ZSET  operation that has ended -> when to expire it
-- ARGV jump       int   microseconds, negative for a jump back
-- ARGV entries    ...   `due`, `deadlines` or `expiries`, operation, its score as the caller has seen it, and so on. An
--                       entry with another score has been set after the jump, and stays as it is.
-- FROM clock: digits
-- FROM record: read_record
--
-- Returns how many were shifted.
local SETS = {due = due, deadlines = deadlines, expiries = expiries}
local FIELDS = {deadlines = 'start_by', expiries = 'expires'}
local shifted = 0
for index = entries_start, entries_start + entries_count - 1, 3 do
  local name, key, seen = ARGV[index], ARGV[index + 1], tonumber(ARGV[index + 2])
  local set, field = SETS[name], FIELDS[name]
  local record = tonumber(call('ZSCORE', set, key)) == seen and read_record(key)
  local is_relative = field or (record and (record.attempt ~= '' or record.relative == '1'))
  if record and is_relative then
    local time = digits(seen + tonumber(jump))
    call('ZADD', set, 'XX', time, key)
    if field or record.attempt == '' then call('HSET', record.hash, field or 'not_before', time) end
    shifted = shifted + 1
  end
end
return shifted
