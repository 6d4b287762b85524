-- Read which of the sets, indexes and queues for an operation hold it. Writes nothing.
--
-- KEYS limiters       ZSET  limiter -> when to look at it again
-- KEYS unserved_types ZSET  type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS apart_types    ZSET  `process <type>` or `worker <type>` -> the same
-- ARGV thorough       0|1   reply with the names of the keys, and look for tickets on RQ's queues, which takes long on
--                           long queues
-- ARGV asked          ...   keys of operations
-- FROM record: read_record, type_name
-- FROM memberships: memberships_of
--
-- Returns for each operation {{field, value, ...}, {membership, score, ...}, {membership, key, ...}}. All three are
-- empty when there is no record. When the record is damaged, there is only the field `stage`, which is empty.

local FIELDS = {'stage', 'status', 'attempt', 'ticket', 'revision', 'id', 'hidden', 'policy', 'lane', 'gate', 'serial',
  'blocker', 'apart', 'context', 'start_by'}

-- How to read the score in a key that is no sorted set of operations. `ticket` is searched from the end, where the new
-- tickets are.
local SCORES = {
  turn = function(record, turns) return call('ZSCORE', turns, record.owner) end,
  gates = function(record) return call('ZSCORE', limiters, record.gate) end,
  lacking = function(record) return call('ZSCORE', unserved_types, type_name(record)) end,
  processes = function(record) return call('ZSCORE', apart_types, 'process ' .. type_name(record)) end,
  workers = function(record) return call('ZSCORE', apart_types, 'worker ' .. type_name(record)) end,
  ids = function(record, ids) return call('HGET', ids, record.id) == record.key and '1' end,
  ticket = function(record, queue)
    if thorough ~= '1' or record.stage ~= 'queued' then return nil end
    return call('LPOS', queue, record.key .. '-' .. record.ticket, 'RANK', -1) and record.ticket
  end,
}

-- The head of the operation's serial queue: `itself`, or the stage of another operation.
local function head_of_line(record, queue)
  local head = call('ZRANGE', queue, 0, 0)[1]
  if head == record.key then return 'itself' end
  return head and redis.pcall('HMGET', C.operation .. head, 'stage')[1]
end

local function add(list, name, value)
  if value then list[#list + 1], list[#list + 2] = name, value end
end

local function read(key)
  local record = read_record(key)
  if not record then return {call('EXISTS', C.operation .. key) == 1 and {'stage', ''} or {}, {}, {}} end
  local fields, scores, keys = {}, {}, {}
  for _, name in ipairs(FIELDS) do add(fields, name, record[name]) end
  for name, held_by in pairs(memberships_of(record)) do
    local score_of = SCORES[name]
    if score_of then
      add(scores, name, score_of(record, held_by))
    else
      add(scores, name, call('ZSCORE', held_by, key))
    end
    if thorough == '1' then add(keys, name, held_by) end
    if name == 'line' then add(scores, 'head', head_of_line(record, held_by)) end
  end
  return {fields, scores, keys}
end

local replies = {}
for index = asked_start, asked_start + asked_count - 1 do replies[#replies + 1] = read(ARGV[index]) end
return replies
