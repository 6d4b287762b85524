-- Store a new operation, index it, tell about it and put its first ticket on the queue: one atomic step.
--
-- KEYS op         HASH    the new record
-- KEYS ids        HASH    public id -> key, of the tenant
-- KEYS of_call    ZSET    the call's operations
-- KEYS status     ZSET    the call's operations with the first status
-- KEYS context    ZSET    the call's operations with this client context
-- ARGV key        string  the internal key
-- ARGV id         string  the public id
-- ARGV digest     string  digest of the call and the body, to tell a repeat from a conflict
-- ARGV indexed    0|1     whether there is a client context to index
-- ARGV delay      int     microseconds from now before which it must not start
-- ARGV not_before int     the same as a time, microseconds; the later one counts
-- ARGV start_in   int     microseconds within which it must have started, or 0
-- ARGV once       string  digest of the client's name for this request, or empty
-- ARGV told       string  digest of what it asks for, to tell a repeat from another request of that name
-- ARGV remember   int     seconds that the name is remembered
-- ARGV fields     ...     field, value, field, value, ... of the record
--
-- Returns {CREATED, field, value, ...} | {EXISTS, field, value, ...} | {CONFLICT} | {REUSED} (the name is another
-- request's) | {FORGOTTEN} (its first answer's operation is not there any more). Writes nothing unless CREATED, but the
-- name of a request that EXISTS answers. A name that is remembered answers the first word again, and the record as it
-- now is. The same key again (a repeated call whose answer was lost) is CREATED again, and writes nothing.
-- INCLUDE move
local function named(word, holder)
  if once ~= '' then call('SET', C.once .. once, word .. ' ' .. holder .. ' ' .. told, 'EX', remember) end
end

local memory = once ~= '' and call('GET', C.once .. once)
if memory then
  local word, first, asked = string.match(memory, '^(%S+) (%S+) (%S+)$')
  if asked ~= told then return {'REUSED'} end
  local stored = call('HGETALL', C.operation .. first)
  if #stored == 0 then return {'FORGOTTEN'} end
  return {word, unpack(stored)}
end

local holder = call('HGET', ids, id)
local there = holder and call('HMGET', C.operation .. holder, 'digest', 'stage', 'hidden')
if there and there[2] then -- else the id is free, or its record outlived every sweeper and Redis let it go
  if there[1] ~= digest or there[2] == 'tombstone' or there[3] == '1' then return {'CONFLICT'} end
  local word = holder == key and 'CREATED' or 'EXISTS'
  named(word, holder)
  return {word, unpack(call('HGETALL', C.operation .. holder))}
end

local now = server_time()
local newest = call('ZRANGE', of_call, 0, 0, 'REV', 'WITHSCORES')
local created = digits(math.max(now, (tonumber(newest[2]) or 0) + 1))
call('HSET', op, 'created', created, 'stage', 'new', 'status', 'NotStarted', 'revision', '0', unpack(ARGV, fields))
call('HSET', ids, id, key)
named('CREATED', key)
call('ZADD', of_call, created, key)
call('ZADD', status, created, key)
if indexed == '1' then call('ZADD', context, created, key) end

local wait = math.max(tonumber(delay), tonumber(not_before) - now)
local extra = {}
if wait > 0 then extra = {'not_before', digits(now + wait)} end
if start_in ~= '0' then
  local start_by = digits(now + math.max(wait, 0) + tonumber(start_in))
  call('ZADD', deadlines, start_by, key)
  extra[#extra + 1], extra[#extra + 2] = 'start_by', start_by
end
move(op, key, look(op), wait > 0 and 'delayed' or 'queued', now, wait, extra)
finish()
return {'CREATED', unpack(call('HGETALL', op))}
