-- An operation's record as a Lua table.
--
-- The table has the stored fields by name, all as strings. A field that is not stored is an empty string. The following
-- fields are computed when they are first read:
--   owner    digest of the tenant
--   call     digest of the tenant and the call
--   context  digest of the client context, or empty where the record has no client context
--   id       the public id; an id that the server made is not stored, because it is the key in the form of a UUID
-- `hash` is the Redis key of the record.
--
-- FROM lanes: LANES

local COMPUTED = {
  owner = function(record) return redis.sha1hex(record.tenant) end,
  call = function(record) return redis.sha1hex(record.tenant .. '\n' .. record.call_id) end,
  context = function(record)
    local text = rawget(record, 'client_context')
    return text and redis.sha1hex(text) or ''
  end,
  id = function(record)
    return (string.gsub(record.key, '^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)', '%1-%2-%3-%4-'))
  end,
}
local RECORD = {__index = function(record, name)
  local compute = COMPUTED[name]
  if not compute then return '' end
  local value = compute(record)
  rawset(record, name, value)
  return value
end}

-- A record without stored fields.
--
-- Plain code would name only `key` and `hash`. The other fields are named for speed: every transition reads them and
-- few records store them, so each name saves a call of `__index`, and Lua makes room for the stored fields at once.
-- (`make bench-instructions`: change, 16 at once, -3.4 %.)
local function new_record(key)
  return setmetatable({key = key, hash = C.operation .. key, hidden = '', gate = '', serial = '', rq = '', lane = '',
    policy = '', blocker = '', started = '', start_by = '', attempt = '', tried = '', token = '', percent = '',
    detail = '', cancel_requested = '', apart = ''}, RECORD)
end

-- Whether scripts can work with a record. An error in a script is not undone, and it ends what the script does with
-- other records. So a damaged record is found before anything is written. A number that is no number is below nothing.
local function is_sound(record, key)
  return rawget(record, 'stage') and LANES[record.lane] and record.key == key and record.hash == C.operation .. key
    and (tonumber(record.revision) or math.huge) < 1e15 and (tonumber(record.created) or math.huge) < 1e18
    and (record.attempt == '' or tonumber(record.attempt)) and (record.percent == '' or tonumber(record.percent))
end

-- Read a record. Returns the record and the reply of HGETALL, or nil when there is no record or it is damaged. The
-- error for a key of another type is a reply without elements.
local function read_record(key)
  local reply = redis.pcall('HGETALL', C.operation .. key)
  if #reply == 0 then return nil end
  local record = new_record(key)
  for index = 1, #reply, 2 do record[reply[index]] = reply[index + 1] end
  if not is_sound(record, key) then return nil end
  return record, reply
end

local POLICY_NUMBERS = {'retention', 'tombstone', 'run_within', 'concurrency', 'rate', 'per'}

local LARGEST_OF_POLICY = 10000000000

-- The decoded policy. Of a damaged one only the numbers are left that can be reckoned with.
local function decode_policy(text)
  local is_json, policy = pcall(cjson.decode, text)
  if not is_json or type(policy) ~= 'table' then return {} end
  for _, name in ipairs(POLICY_NUMBERS) do
    local number = policy[name]
    if type(number) ~= 'number' or not (number >= 0 and number <= LARGEST_OF_POLICY) then policy[name] = nil end
  end
  if not policy.per or policy.per == 0 then policy.rate = nil end
  return policy
end

-- The record's policy. A record stores only what differs from the defaults. Two of the defaults are filled in here.
local function policy_of(record)
  local policy = record.policy == '' and {} or decode_policy(record.policy)
  policy.retention = policy.retention or C.retention
  policy.tombstone = policy.tombstone or C.tombstone
  return policy
end

-- The type's name as workers and keys have it: in lower case and without its `#`.
local function type_name(record) return string.lower((string.gsub(record.type, '^#', ''))) end
