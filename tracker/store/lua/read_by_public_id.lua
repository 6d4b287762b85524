-- Read operations by their public ids. Writes nothing.
--
-- ARGV wanted ...  for each: the tenant's digest, the public id
--
-- Returns for each id {field, value, ...}, which is empty when the tenant has no operation with the id. When the
-- record's key has another type, there is only the field `key`.
local replies = {}
for at = wanted_start, wanted_start + wanted_count - 1, 2 do
  local key = call('HGET', C.ids .. ARGV[at], ARGV[at + 1])
  local stored = key and redis.pcall('HGETALL', C.operation .. key) or {}
  replies[#replies + 1] = stored.err and {'key', key} or stored
end
return replies
