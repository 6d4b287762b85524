-- Reads of records for lists, with their size in bytes.

local BRIEF_FIELDS = {'key', 'tenant', 'call_id', 'id', 'type', 'digest', 'stage', 'status', 'hidden', 'client_context',
  'result_info', 'detail', 'created', 'not_before', 'started', 'completed', 'changed', 'expires', 'cancel_requested'}

-- A record as field, value, ..., and how many bytes its values have. `whole` is '1' for all fields; otherwise the
-- members, which may be large, are left out. A record that is not there is an empty list. Of a record whose key has
-- another type, there is only the field `key`.
local function read_record(key, whole)
  local fields, size = {}, 0
  if whole == '1' then
    fields = redis.pcall('HGETALL', C.operation .. key)
    for at = 2, #fields, 2 do size = size + #fields[at] end
  else
    for index, value in ipairs(redis.pcall('HMGET', C.operation .. key, unpack(BRIEF_FIELDS))) do
      if value then
        fields[#fields + 1], fields[#fields + 2] = BRIEF_FIELDS[index], value
        size = size + #value
      end
    end
  end
  if #fields == 0 and call('EXISTS', C.operation .. key) == 1 then fields = {'key', key} end
  return fields, size
end
