-- Read a range of a call's operations, in the order of their creation or from the newest, with their records.
--
-- ARGV lower   int|-inf  lowest order of creation
-- ARGV upper   int|+inf  highest order of creation
-- ARGV newest  0|1       whether the newest come first
-- ARGV skip    int       how many to leave out before the first; for one set only
-- ARGV most    int       how many to read
-- ARGV whole   0|1       whether to read whole records, else without their members, which may be large
-- ARGV room    int       no more records are read once their values have so many bytes
-- ARGV first   int       how many of the sets are in the first group
-- ARGV sets    ...       indexes of the call. The operations of a group are those of any of its sets. Of two groups,
--                        the one with fewer members in the range is read, and a record is left out if it is in no set
--                        of the other group.
-- FROM clock: digits, server_time
-- FROM record_reads: read_record
--
-- Returns {time, members in the range, order of creation, {field, value, ...}, order, {...}, ...}, with at least one
-- record if `most` is not 0. An empty list stands for a record that is left out. Of a record whose key has another
-- type, there is only the field `key`. The only write removes a member from its set, when Redis itself has removed the
-- record because no sweeper ran in time.

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

local function older(one, other) return one.number < other.number end
local function newer(one, other) return one.number > other.number end
local precedes = newest == '1' and newer or older

-- Read the next members of a set, `at_once` at most. They are read by rank: reading by score with an offset takes time
-- for each member that is skipped.
local function refill(set, at_once)
  local count = math.min(at_once, set.count - set.taken)
  set.entries, set.next = {}, 1
  local start = set.start + set.taken
  local members = newest == '1' and call('ZRANGE', set.name, start, start + count - 1, 'REV', 'WITHSCORES')
    or call('ZRANGE', set.name, start, start + count - 1, 'WITHSCORES')
  set.taken = set.taken + count
  for at = 1, #members, 2 do
    local key, order = members[at], members[at + 1]
    set.entries[#set.entries + 1] = {key = key, order = order, number = tonumber(order), set = set.name}
  end
end

-- A function that returns the next member of the group, in order, and nil after the last one. Each set is read in
-- parts, so that few members are read that are not needed.
local function members_of(group)
  local at_once = math.ceil(tonumber(most) * 2 / (#group + 1))
  for _, set in ipairs(group) do
    local before = newest == '1' and call('ZCOUNT', set.name, '(' .. upper, '+inf')
      or call('ZCOUNT', set.name, '-inf', '(' .. lower)
    set.start, set.taken = before + tonumber(skip), 0
    set.count = set.count - tonumber(skip)
    set.entries, set.next = {}, 1
  end
  return function()
    local nearest
    for _, set in ipairs(group) do
      if not set.entries[set.next] and set.taken < set.count then refill(set, at_once) end
      local entry = set.entries[set.next]
      if entry and (not nearest or precedes(entry, nearest.entries[nearest.next])) then nearest = set end
    end
    if not nearest then return nil end
    nearest.next = nearest.next + 1
    return nearest.entries[nearest.next - 1]
  end
end

-- Members whose records are gone. They are removed in the end, because a removal changes the ranks of other members.
local gone = {}

local function read(entry)
  local fields, size = read_record(entry.key, whole)
  if #fields == 0 then gone[#gone + 1] = entry end
  return fields, size
end

local chosen, other = groups()
local reply = {digits(server_time()), chosen.total}
local next_member, size = members_of(chosen), 0
for _ = 1, tonumber(most) do
  local entry = next_member()
  if not entry then break end
  reply[#reply + 1] = entry.order
  local fields, bytes = {}, 0
  if not other or is_in(other, entry.key) then fields, bytes = read(entry) end
  reply[#reply + 1] = fields
  size = size + bytes
  if size >= tonumber(room) then break end
end
for _, entry in ipairs(gone) do call('ZREM', entry.set, entry.key) end
return reply
