-- Store a new operation, index it, tell about it and put its first ticket on the queue: one atomic step.
--
-- KEYS op         HASH    the new record
-- KEYS ids        HASH    public id -> key, of the tenant
-- KEYS call       ZSET    the call's operations
-- KEYS status     ZSET    the call's operations with the first status
-- KEYS context    ZSET    the call's operations with this client context
-- ARGV key        string  the internal key
-- ARGV id         string  the public id
-- ARGV digest     string  digest of the call and the body, to tell a repeat from a conflict
-- ARGV indexed    0|1     whether there is a client context to index
-- ARGV fields     ...     field, value, field, value, ... of the record
--
-- Returns {CREATED, field, value, ...} | {EXISTS, field, value, ...} | {CONFLICT}. Writes nothing unless CREATED.
-- The same key again (a repeated call whose answer was lost) is CREATED again, and writes nothing.
-- INCLUDE move
local holder = redis.call('HGET', ids, id)
local there = holder and redis.call('HMGET', C.operation .. holder, 'digest', 'stage', 'hidden')
if there and there[2] then -- else the id is free, or its record outlived every sweeper and Redis let it go
  if there[1] ~= digest or there[2] == 'tombstone' or there[3] == '1' then return {'CONFLICT'} end
  return {holder == key and 'CREATED' or 'EXISTS', unpack(redis.call('HGETALL', C.operation .. holder))}
end

local now = server_time()
local newest = redis.call('ZRANGE', call, 0, 0, 'REV', 'WITHSCORES')
local created = digits(math.max(now, (tonumber(newest[2]) or 0) + 1))
redis.call('HSET', op, 'created', created, 'changed', digits(now), 'stage', 'queued', 'status', 'NotStarted',
  'revision', '1', unpack(ARGV, fields))
redis.call('HSET', ids, id, key)
redis.call('ZADD', call, created, key)
redis.call('ZADD', status, created, key)
if indexed == '1' then redis.call('ZADD', context, created, key) end
push_ticket(op, key, now)
tell(key, '1', 'queued', 'NotStarted')
return {'CREATED', unpack(redis.call('HGETALL', op))}
