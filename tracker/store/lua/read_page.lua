-- Read a range of a call's operations, in the order of their creation or from the newest, with their records.
--
-- ARGV lower   int|-inf  lowest order of creation
-- ARGV upper   int|+inf  highest order of creation
-- ARGV newest  0|1       whether the newest come first
-- ARGV skip    int       how many to leave out before the first; for one set only
-- ARGV most    int       how many to read
-- ARGV whole   0|1       whether to read whole records, else without their members, which may be large
-- ARGV first   int       how many of the sets are in the first group
-- ARGV sets    ...       indexes of the call. The operations of a group are those of any of its sets. Of two groups,
--                        the one with fewer members in the range is read, and a record is left out if it is in no set
--                        of the other group.
-- FROM clock: digits, server_time
--
-- Returns {time, members in the range, order of creation, {field, value, ...}, order, {...}, ...}. An empty list stands
-- for a record that is left out. Of a record whose key has another type, there is only the field `key`. The only write
-- removes a member from its set, when Redis itself has removed the record because no sweeper ran in time.

local FIELDS = {'key', 'tenant', 'call_id', 'id', 'type', 'digest', 'stage', 'status', 'hidden', 'client_context',
  'result_info', 'detail', 'created', 'not_before', 'started', 'completed', 'changed', 'expires', 'cancel_requested'}

-- The sets at these positions in ARGV, each with how many members it has in the range, and how many that is in all.
local function group_of(from, to)
  local group = {total = 0}
  for index = from, to do
    local count = call('ZCOUNT', ARGV[index], lower, upper)
    group[#group + 1] = {name = ARGV[index], count = count}
    group.total = group.total + count
  end
  return group
end

-- The group to read, and the other one, if there are two.
local function groups()
  local first_end, last = sets_start + tonumber(first) - 1, sets_start + sets_count - 1
  local chosen = group_of(sets_start, first_end)
  if first_end == last then return chosen, nil end
  local other = group_of(first_end + 1, last)
  if other.total < chosen.total then return other, chosen end
  return chosen, other
end

local function is_in(group, key)
  for _, set in ipairs(group) do
    if call('ZSCORE', set.name, key) then return true end
  end
  return false
end

-- Key, order, ... of the first members of a set in the range. They are read by rank: reading by score with an offset
-- takes time for each member that is skipped.
local function members_of(set)
  local count = math.min(tonumber(most), set.count - tonumber(skip))
  if count <= 0 then return {} end
  if newest == '1' then
    local start = call('ZCOUNT', set.name, '(' .. upper, '+inf') + tonumber(skip)
    return call('ZRANGE', set.name, start, start + count - 1, 'REV', 'WITHSCORES')
  end
  local start = call('ZCOUNT', set.name, '-inf', '(' .. lower) + tonumber(skip)
  return call('ZRANGE', set.name, start, start + count - 1, 'WITHSCORES')
end

local function older(one, other) return one.number < other.number end
local function newer(one, other) return one.number > other.number end

-- The members of all sets of the group, in order.
local function entries_of(group)
  local entries = {}
  for _, set in ipairs(group) do
    local members = members_of(set)
    for at = 1, #members, 2 do
      local key, order = members[at], members[at + 1]
      entries[#entries + 1] = {key = key, order = order, number = tonumber(order), set = set.name}
    end
  end
  if #group > 1 then table.sort(entries, newest == '1' and newer or older) end
  return entries
end

-- The record without its members: field, value, ...
local function read_fields(hash)
  local fields = {}
  for index, value in ipairs(redis.pcall('HMGET', hash, unpack(FIELDS))) do
    if value then fields[#fields + 1], fields[#fields + 2] = FIELDS[index], value end
  end
  return fields
end

local function read(entry)
  local hash = C.operation .. entry.key
  local fields = whole == '1' and redis.pcall('HGETALL', hash) or read_fields(hash)
  if #fields > 0 then return fields end
  if call('EXISTS', hash) == 1 then return {'key', entry.key} end
  call('ZREM', entry.set, entry.key)
  return {}
end

local chosen, other = groups()
local reply = {digits(server_time()), chosen.total}
local entries = entries_of(chosen)
for index = 1, math.min(#entries, tonumber(most)) do
  local entry = entries[index]
  reply[#reply + 1] = entry.order
  reply[#reply + 1] = (not other or is_in(other, entry.key)) and read(entry) or {}
end
return reply
