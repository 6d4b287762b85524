-- INCLUDE clock
-- Read a stretch of one of a call's indexes, or of several as if they were one, with its records: one round trip.
--
-- ARGV lower   int|-inf  lowest order of creation
-- ARGV upper   int|+inf  highest
-- ARGV newest  0|1       whether the newest come first
-- ARGV skip    int       how many to leave out before the first; of one set only
-- ARGV most    int       how many to read
-- ARGV whole   0|1       whether to read whole records, else without their members, which may be large
-- ARGV first   int       how many of the sets are in the first group
-- ARGV sets    ...       the sets; of two groups, the one with fewer members within the bounds is read, and what is in
--                        none of the other's sets has no record
--
-- Returns {time, members within the bounds, order of creation, {field, value, ...}, order, {...}, ...}. Writes only
-- that a member whose record Redis let go, because nobody swept for all of its time, is no member any more.
local call = redis.call
local FIELDS = {'key', 'tenant', 'call_id', 'id', 'type', 'digest', 'stage', 'status', 'hidden', 'client_context',
  'result_info', 'detail', 'created', 'not_before', 'started', 'completed', 'changed', 'expires', 'cancel_requested'}
local within = {} -- set -> members within the bounds

local function group(from, to)
  local total = 0
  for index = from, to do
    local name = ARGV[index]
    within[name] = call('ZCOUNT', name, lower, upper)
    total = total + within[name]
  end
  return {from = from, to = to, total = total}
end

local chosen, other = group(sets, sets + tonumber(first) - 1), nil
if chosen.to < #ARGV then
  other = group(chosen.to + 1, #ARGV)
  if other.total < chosen.total then chosen, other = other, chosen end
end

local function wanted(key)
  if not other then return true end
  for index = other.from, other.to do
    if call('ZSCORE', ARGV[index], key) then return true end
  end
  return false
end

-- Key, order, … of one set: by rank, which is cheap however long the set is.
local function stretch(name)
  local count = math.min(tonumber(most), within[name] - tonumber(skip))
  if count <= 0 then return {} end
  if newest == '1' then
    local start = call('ZCOUNT', name, '(' .. upper, '+inf') + tonumber(skip)
    return call('ZRANGE', name, start, start + count - 1, 'REV', 'WITHSCORES')
  end
  local start = call('ZCOUNT', name, '-inf', '(' .. lower) + tonumber(skip)
  return call('ZRANGE', name, start, start + count - 1, 'WITHSCORES')
end

local entries = {}
for index = chosen.from, chosen.to do
  local name = ARGV[index]
  local flat = stretch(name)
  for at = 1, #flat, 2 do
    entries[#entries + 1] = {key = flat[at], order = flat[at + 1], number = tonumber(flat[at + 1]), set = name}
  end
end
if chosen.to > chosen.from then
  table.sort(entries, newest == '1' and function(one, next_one) return one.number > next_one.number end
    or function(one, next_one) return one.number < next_one.number end)
end

local function read(op)
  if whole == '1' then return call('HGETALL', op) end
  local record = {}
  for index, value in ipairs(call('HMGET', op, unpack(FIELDS))) do
    if value then record[#record + 1], record[#record + 2] = FIELDS[index], value end
  end
  return record
end

local answer = {digits(server_time()), chosen.total}
for index = 1, math.min(#entries, tonumber(most)) do
  local entry = entries[index]
  local record = {}
  if wanted(entry.key) then
    record = read(C.operation .. entry.key)
    if #record == 0 and call('EXISTS', C.operation .. entry.key) == 0 then call('ZREM', entry.set, entry.key) end
  end
  answer[#answer + 1], answer[#answer + 2] = entry.order, record
end
return answer
