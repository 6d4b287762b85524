-- Where operations are: what their records say of it, and which of the places for such an operation hold it.
--
-- ARGV thorough 0|1  whether to name the places, and look for tickets on RQ's queues, which takes long on long ones
-- ARGV asked    ...  keys
--
-- Returns for each {{field, value, ...}, {place, score, ...}, {place, name, ...}}: all empty when there is no record,
-- and only an empty stage when it has none. Writes nothing.
-- INCLUDE memberships
local FIELDS = {'stage', 'status', 'attempt', 'ticket', 'revision', 'id', 'hidden', 'policy', 'lane', 'gate', 'serial',
  'blocker', 'context', 'start_by'}

local SCORES = {
  gates = function(_, record) return call('ZSCORE', gates, record.gate) end,
  lacking = function(_, record) return call('ZSCORE', lacking, type_name(record)) end,
  ids = function(key, record, ids) return call('HGET', ids, record.id) == key and '1' end,
  ticket = function(key, record, queue)
    if thorough ~= '1' or record.stage ~= 'queued' then return nil end
    local job = key .. '-' .. record.ticket
    return call('LPOS', queue, job, 'RANK', -1) and record.ticket -- from the end, where the new ones are
  end,
}

-- What the head of an operation's line is: `itself`, or the stage of another.
local function head_of(key, line)
  local head = call('ZRANGE', line, 0, 0)[1]
  if head == key then return 'itself' end
  return head and call('HGET', C.operation .. head, 'stage')
end

local function find(key)
  local op = C.operation .. key
  local record = look(op)
  if not record then return {call('EXISTS', op) == 1 and {'stage', ''} or {}, {}, {}} end
  local fields, scores, names = {}, {}, {}
  local function note(list, word, value)
    if value then list[#list + 1], list[#list + 2] = word, value end
  end
  for _, name in ipairs(FIELDS) do note(fields, name, record[name]) end
  for place, name in pairs(places_of(record)) do
    local score = SCORES[place]
    if score then score = score(key, record, name) else score = call('ZSCORE', name, key) end
    note(scores, place, score)
    if thorough == '1' then note(names, place, name) end
    if place == 'line' then note(scores, 'head', head_of(key, name)) end
  end
  return {fields, scores, names}
end

local answers = {}
for index = asked, #ARGV do answers[#answers + 1] = find(ARGV[index]) end
return answers
