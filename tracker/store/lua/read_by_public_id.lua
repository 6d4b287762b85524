-- Read operations by their public ids. Writes nothing.
--
-- ARGV wanted ...  for each: the tenant's digest, the public id
--
-- Returns for each id {field, value, ...}, which is empty when the tenant has no operation with the id.
local replies = {}
for at = wanted_start, wanted_start + wanted_count - 1, 2 do
  local key = call('HGET', C.ids .. ARGV[at], ARGV[at + 1])
  replies[#replies + 1] = key and call('HGETALL', C.operation .. key) or {}
end
return replies
