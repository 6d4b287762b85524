-- Read an operation by its public id, in one round trip.
--
-- KEYS ids   HASH    public id -> key, of the tenant
-- ARGV id    string  the public id
--
-- Returns {field, value, ...}, empty when the tenant has no such operation. Writes nothing.
local key = redis.call('HGET', ids, id)
return key and redis.call('HGETALL', C.operation .. key) or {}
