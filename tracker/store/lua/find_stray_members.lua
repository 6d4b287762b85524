-- Judge for members of sets, indexes and queues whether the key may hold the operation at all. Writes nothing.
--
-- ARGV held ...  for each: key in Redis, member, operation's key. The member of a tenant's ids is a public id; every
--                other member is the operation's key itself.
-- FROM record: read_record
-- FROM memberships: memberships_of
--
-- Returns for each OK (also when the member is gone meanwhile) | GONE (the operation has no record) | ELSEWHERE (the
-- key never holds the operation, whatever the operation's stage).

-- The keys that may hold the operation, each with its public id; or the verdict that counts for every key.
local function keys_of(key)
  local record = read_record(key)
  if not record then return call('EXISTS', C.operation .. key) == 0 and 'GONE' or 'OK' end
  local keys = {}
  for _, name in pairs(memberships_of(record)) do keys[name] = record.id end
  return keys
end

local function is_ids(name) return string.sub(name, 1, #C.ids) == C.ids end

local function verdict(keys, name, member)
  if type(keys) == 'string' then return keys end
  return keys[name] and (not is_ids(name) or keys[name] == member) and 'OK' or 'ELSEWHERE'
end

local function holds(name, member, key)
  if is_ids(name) then return call('HGET', name, member) == key end
  return call('ZSCORE', name, member)
end

local replies, known = {}, {} -- `known`: operation's key -> what `keys_of` says
for index = held_start, held_start + held_count - 1, 3 do
  local name, member, key = ARGV[index], ARGV[index + 1], ARGV[index + 2]
  known[key] = known[key] or keys_of(key)
  local word = verdict(known[key], name, member)
  replies[#replies + 1] = word ~= 'OK' and holds(name, member, key) and word or 'OK'
end
return replies
