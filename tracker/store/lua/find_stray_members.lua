-- Whether sets hold operations that have nothing to do with them.
--
-- ARGV held ...  set, member, key, ...: what a set holds; the member of a tenant's ids is a public id, else the key
--
-- Returns for each OK (or it is not there any more) | GONE (there is no such record) | ELSEWHERE (its record belongs
-- to other sets, whatever its stage). Writes nothing.
-- INCLUDE memberships
local known = {}

-- The names of the sets that may hold an operation, each with its public id; or what is to be said of it anywhere.
local function sets_of(key)
  local record = look(C.operation .. key)
  if not record then return call('EXISTS', C.operation .. key) == 0 and 'GONE' or 'OK' end
  local names = {}
  for _, name in pairs(places_of(record)) do names[name] = record.id end
  return names
end

local function judge(name, member, key)
  known[key] = known[key] or sets_of(key)
  local sets = known[key]
  local ids = string.sub(name, 1, #C.ids) == C.ids
  local word = sets
  if type(sets) == 'table' then
    word = sets[name] and (not ids or sets[name] == member) and 'OK' or 'ELSEWHERE'
  end
  if word == 'OK' then return word end
  local there
  if ids then there = call('HGET', name, member) == key else there = call('ZSCORE', name, member) end
  return there and word or 'OK'
end

local answers = {}
for index = held, #ARGV, 3 do
  answers[#answers + 1] = judge(ARGV[index], ARGV[index + 1], ARGV[index + 2])
end
return answers
