-- Shift times that were set before the server's clock jumped, and that are a while from then on: the delays of retries,
-- the `delay` of a create, the deadlines for a first attempt, and the end of the retention. The time of a create
-- (`notBefore`) stays as it is.
--
-- KEYS due        ZSET  delayed operation -> when it is due
-- KEYS deadlines  ZSET  operation -> when it must have started
-- KEYS expiries   ZSET  operation that has ended -> when to expire it
-- ARGV jump       int   microseconds, negative for a jump back
-- ARGV since      int   a time after the jump: what was set from then on is right already
-- ARGV entries    ...   `due`, `deadlines` or `expiries`, operation, its score as the caller has seen it, and so on
-- FROM clock: digits, server_time
-- FLAGS allow-oom
-- FROM record: read_record
--
-- Returns how many were shifted.
local SETS = {due = due, deadlines = deadlines, expiries = expiries}
local FIELDS = {due = 'not_before', deadlines = 'start_by', expiries = 'expires'}
local now = server_time()

-- Whether the time was set before the jump. After a jump back, times before it may be later than now. The order of
-- creation may be later than now, too, so it is not enough.
local function is_older(name, record)
  local changed = tonumber(record.changed) or 0
  local set_at = name == 'deadlines' and tonumber(record.created) or changed
  return set_at < tonumber(since) or (set_at > now and changed > now)
end

-- Whether the time is a while from when it was set. The `notBefore` of a create is not, and neither is a deadline that
-- counts from there.
local function is_relative(name, record)
  if name == 'expiries' or record.attempt ~= '' or record.vanished ~= '' or record.relative == '1' then return true end
  return name == 'deadlines' and record.stage ~= 'delayed'
end

local function shift(name, key, seen)
  local record = tonumber(call('ZSCORE', SETS[name], key)) == seen and read_record(key)
  if not record or not is_older(name, record) or not is_relative(name, record) then return 0 end
  local time = digits(seen + tonumber(jump))
  call('ZADD', SETS[name], 'XX', time, key)
  if name ~= 'due' or record.attempt == '' then call('HSET', record.hash, FIELDS[name], time) end
  return 1
end

local shifted = 0
for index = entries_start, entries_start + entries_count - 1, 3 do
  shifted = shifted + shift(ARGV[index], ARGV[index + 1], tonumber(ARGV[index + 2]))
end
return shifted
