-- Store new operations of one call, index them, tell about them and put their first tickets on the queue: one atomic
-- step. Each is judged by itself, as if they came one after another; one that is refused does not touch its neighbours.
--
-- KEYS ids        HASH    public id -> key, of the tenant
-- KEYS of_call    ZSET    the call's operations
-- KEYS status     ZSET    the call's operations with the first status
-- ARGV creates    ...     for each: head, and as many words as it says: field, value, ... of the record. The head holds,
--                         between spaces and with - for nothing: key (the internal one), id (the public one), digest (of
--                         the call and the body, to tell a repeat from a conflict), context (the client context's
--                         digest), delay (microseconds from now before which it must not start), not_before (the same as
--                         a time; the later one counts), start_in (microseconds within which it must have started, or
--                         0), once (digest of the client's name for this request), told (digest of what it asks for, to
--                         tell a repeat from another request of that name), remember (seconds that the name is
--                         remembered), count (of the words)
--
-- Returns for each: {NEW, field, value, ...} (what was added to the fields) | {CREATED, field, value, ...} (it was new
-- before, and is so now) | {EXISTS, field, value, ...} | {CONFLICT} | {REUSED} (the name is another request's) |
-- {FORGOTTEN} (its first answer's operation is not there any more). Writes nothing unless NEW, but the name of a request
-- that EXISTS answers. A name that is remembered answers the first word again, and the record as it now is. The same key
-- again (a repeated call whose answer was lost) is CREATED, and writes nothing.
-- INCLUDE move
local HEAD = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'
local now = server_time()
local wanted, names = {}, {}
local at = creates
while at <= #ARGV do
  local key, id, digest, context, delay, not_before, start_in, once, told, remember, count = string.match(ARGV[at], HEAD)
  wanted[#wanted + 1] = {key = key, id = id, digest = digest, context = context, delay = delay, not_before = not_before,
    start_in = start_in, once = once, told = told, remember = remember, first = at + 1, last = at + count}
  names[#names + 1] = id
  at = at + count + 1
end

local holders, taken = {}, {} -- id -> key, as it was and becomes; id, key, id, key, ... that are new
for index, holder in ipairs(call('HMGET', ids, unpack(names))) do holders[names[index]] = holder end
local newest = tonumber(call('ZRANGE', of_call, 0, 0, 'REV', 'WITHSCORES')[2]) or 0

local function named(new, word, holder)
  if new.once ~= '-' then call('SET', C.once .. new.once, word .. ' ' .. holder .. ' ' .. new.told, 'EX', new.remember) end
end

-- The answer to one that is not new, or nil.
local function known(new)
  local memory = new.once ~= '-' and call('GET', C.once .. new.once)
  if memory then
    local word, first, asked = string.match(memory, '^(%S+) (%S+) (%S+)$')
    if asked ~= new.told then return {'REUSED'} end
    local stored = call('HGETALL', C.operation .. first)
    if #stored == 0 then return {'FORGOTTEN'} end
    return {word, unpack(stored)}
  end
  local holder = holders[new.id]
  local there = holder and call('HMGET', C.operation .. holder, 'digest', 'stage', 'hidden')
  if there and there[2] then -- else the id is free, or its record outlived every sweeper and Redis let it go
    if there[1] ~= new.digest or there[2] == 'tombstone' or there[3] == '1' then return {'CONFLICT'} end
    local word = holder == new.key and 'CREATED' or 'EXISTS'
    named(new, word, holder)
    return {word, unpack(call('HGETALL', C.operation .. holder))}
  end
end

local function create(new)
  local key = new.key
  newest = math.max(now, newest + 1)
  local created = digits(newest)
  holders[new.id], taken[#taken + 1], taken[#taken + 2] = key, new.id, key
  named(new, 'CREATED', key)
  share_scored(of_call, created, key)
  share_scored(status, created, key)
  if new.context ~= '-' then share_scored(of_call .. ':context:' .. new.context, created, key) end

  local record = blank()
  record.stage, record.status, record.revision, record.created = 'new', 'NotStarted', '0', created
  local extra = {unpack(ARGV, new.first, new.last)}
  local given = #extra
  for index = 1, given, 2 do record[extra[index]] = extra[index + 1] end
  extra[given + 1], extra[given + 2] = 'created', created
  local wait = math.max(tonumber(new.delay), tonumber(new.not_before) - now)
  if wait > 0 then extra[#extra + 1], extra[#extra + 2] = 'not_before', digits(now + wait) end
  if new.start_in ~= '0' then
    local start_by = digits(now + math.max(wait, 0) + tonumber(new.start_in))
    call('ZADD', deadlines, start_by, key)
    extra[#extra + 1], extra[#extra + 2] = 'start_by', start_by
  end
  local _, written = move(C.operation .. key, key, record, wait > 0 and 'delayed' or 'queued', now, wait, extra)
  return {'NEW', unpack(written, given + 1)}
end

local answers = {}
gathering = #wanted > 1
if gathering then push_later(#wanted) end
for index, new in ipairs(wanted) do answers[index] = known(new) or create(new) end
if #taken > 0 then call('HSET', ids, unpack(taken)) end
finish()
return answers
