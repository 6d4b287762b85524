-- Read operations by their public ids, in one round trip.
--
-- ARGV wanted ...  for each: the tenant's digest, the public id
--
-- Returns for each {field, value, ...}, empty when the tenant has no such operation. Writes nothing.
local found = {}
for at = wanted, #ARGV, 2 do
  local key = redis.call('HGET', C.ids .. ARGV[at], ARGV[at + 1])
  found[#found + 1] = key and redis.call('HGETALL', C.operation .. key) or {}
end
return found
