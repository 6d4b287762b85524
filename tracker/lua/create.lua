-- Store new operations, index them, tell about them and put their first tickets on the queue: one atomic step. Each is
-- judged by itself, as if they came one after another; one that is refused does not touch its neighbours.
--
-- ARGV creates    ...     for each: head, and as many words as it says: field, value, ... of the record. The head holds,
--                         between spaces and with - for nothing: key (the internal one), id (the public one), owner (the
--                         tenant's digest), call (the call's digest), digest (of the call and the body, to tell a repeat
--                         from a conflict), context (the client context's digest), delay (microseconds from now before
--                         which it must not start), not_before (the same as a time; the later one counts), start_in
--                         (microseconds within which it must have started, or 0), once (digest of the client's name for
--                         this request), told (digest of what it asks for, to tell a repeat from another request of that
--                         name), remember (seconds that the name is remembered), count (of the words)
--
-- Returns for each: {NEW, field, value, ...} (what was added to the fields) | {CREATED, field, value, ...} (it was new
-- before, and is so now) | {EXISTS, field, value, ...} | {CONFLICT} | {REUSED} (the name is another request's) |
-- {FORGOTTEN} (its first answer's operation is not there any more). Writes nothing unless NEW, but the name of a request
-- that EXISTS answers. A name that is remembered answers the first word again, and the record as it now is. The same key
-- again (a repeated call whose answer was lost) is CREATED, and writes nothing.
-- INCLUDE move
local HEAD = '^' .. string.rep('(%S+) ', 12) .. '(%S+)$'
local now = server_time()
local wanted, names = {}, {} -- `names`: owner -> public ids that are asked for
local at = creates
while at <= #ARGV do
  local new, count = {first = at + 1}, nil
  new.key, new.id, new.owner, new.call, new.digest, new.context, new.delay, new.not_before, new.start_in, new.once,
    new.told, new.remember, count = string.match(ARGV[at], HEAD)
  new.last = at + count
  wanted[#wanted + 1] = new
  local asked = names[new.owner] or {}
  names[new.owner], asked[#asked + 1] = asked, new.id
  at = new.last + 1
end

local holders, taken = {}, {} -- owner -> id -> key, as it was and becomes; owner -> id, key, id, key, ... that are new
for owner, asked in pairs(names) do
  holders[owner], taken[owner] = {}, {}
  for index, holder in ipairs(call('HMGET', C.ids .. owner, unpack(asked))) do holders[owner][asked[index]] = holder end
end

-- The latest place in a call's order.
local newest = {}

local function next_place(of_call)
  local last = newest[of_call] or tonumber(call('ZRANGE', of_call, 0, 0, 'REV', 'WITHSCORES')[2]) or 0
  newest[of_call] = math.max(now, last + 1)
  return digits(newest[of_call])
end

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
  local holder = holders[new.owner][new.id]
  local there = holder and call('HMGET', C.operation .. holder, 'digest', 'stage', 'hidden')
  if there and there[2] then -- else the id is free, or its record outlived every sweeper and Redis let it go
    if there[1] ~= new.digest or there[2] == 'tombstone' or there[3] == '1' then return {'CONFLICT'} end
    local word = holder == new.key and 'CREATED' or 'EXISTS'
    named(new, word, holder)
    return {word, unpack(call('HGETALL', C.operation .. holder))}
  end
end

local function create(new)
  local key, ids, of_call = new.key, taken[new.owner], C.call .. new.call
  local created = next_place(of_call)
  holders[new.owner][new.id], ids[#ids + 1], ids[#ids + 2] = key, new.id, key
  named(new, 'CREATED', key)
  share_scored(of_call, created, key)
  share_scored(of_call .. ':status:NotStarted', created, key)
  if new.context ~= '-' then share_scored(of_call .. ':context:' .. new.context, created, key) end

  local record = blank()
  record.stage, record.status, record.revision, record.created = 'new', 'NotStarted', '0', created
  record.owner, record.call = new.owner, new.call
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
for owner, ids in pairs(taken) do
  if #ids > 0 then call('HSET', C.ids .. owner, unpack(ids)) end
end
finish()
return answers
