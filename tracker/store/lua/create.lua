-- Store new operations, index them, tell about them and put their first tickets on the queue: one atomic step. Each is
-- judged by itself, as if they came one after another; one that is refused does not touch its neighbours.
--
-- ARGV creates    ...     for each: head, and as many words as it says: field, value, ... of the record. The head holds,
--                         between spaces and with - for nothing: key (the internal one), id (the public one), digest
--                         (of the call and the body, to tell a repeat from a conflict), context (the client context's
--                         digest), count (of the words); and where it asks for any of these: delay (microseconds from
--                         now before which it must not start), not_before (the same as a time; the later one counts),
--                         once (digest of the client's name for this request), told (digest of what it asks for, to
--                         tell a repeat from another request of that name), seconds (that the name is remembered).
--                         What those that follow have in common comes before them, by a head of its own: =, owner (the
--                         tenant's digest), call (the call's digest), start_in (microseconds within which each must have
--                         started, or 0), count (of the words after it: field, value, ... of each record)
--
-- Returns for each: {NEW, text} (what was added to the fields: field, value, ... between spaces) | {CREATED, field,
-- value, ...} (it was new before, and is so now) | {EXISTS, field, value, ...} | {CONFLICT} | {REUSED} (the name is
-- another request's) | {FORGOTTEN} (its first answer's operation is not there any more). Writes nothing unless NEW, but
-- the name of a request that EXISTS answers. A name that is remembered answers the first word again, and the record as
-- it now is. The same key again (a repeated call whose answer was lost) is CREATED, and writes nothing.
-- INCLUDE move
local COMMON = '^= (%S+) (%S+) (%S+) (%S+)$'
local HEAD = '^(%S+) (%S+) (%S+) (%S+) (%S+)(.*)$'
local WISHES = '^ (%S+) (%S+) (%S+) (%S+) (%S+)$'
local now = server_time()
local wanted, names = {}, {} -- `names`: owner -> public ids that are asked for
local at, common = creates, nil
while at <= #ARGV do
  local owner, of_call, start_in, shared = string.match(ARGV[at], COMMON)
  if owner then
    common = {owner = owner, call = of_call, start_in = start_in, unpack(ARGV, at + 1, at + shared)}
    names[owner] = names[owner] or {}
    at = at + shared + 1
  else
    local key, id, digest, context, count, preferences = string.match(ARGV[at], HEAD)
    local asked, last = names[common.owner], at + count
    preferences = preferences ~= '' and {string.match(preferences, WISHES)} or nil
    wanted[#wanted + 1] = {key = key, id = id, digest = digest, context = context, preferences = preferences, common = common,
      first = at + 1, last = last}
    asked[#asked + 1] = id
    at = last + 1
  end
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

local function remember(once, word, holder)
  if once then call('SET', C.once .. once.digest, word .. ' ' .. holder .. ' ' .. once.told, 'EX', once.seconds) end
end

-- The answer to one that is not new, or nil.
local function known(new, once)
  local memory = once and call('GET', C.once .. once.digest)
  if memory then
    local word, first, asked = string.match(memory, '^(%S+) (%S+) (%S+)$')
    if asked ~= once.told then return {'REUSED'} end
    local stored = call('HGETALL', C.operation .. first)
    if #stored == 0 then return {'FORGOTTEN'} end
    return {word, unpack(stored)}
  end
  local holder = holders[new.common.owner][new.id]
  local there = holder and call('HMGET', C.operation .. holder, 'digest', 'stage', 'hidden')
  if there and there[2] then -- else the id is free, or its record outlived every sweeper and Redis let it go
    if there[1] ~= new.digest or there[2] == 'tombstone' or there[3] == '1' then return {'CONFLICT'} end
    local word = holder == new.key and 'CREATED' or 'EXISTS'
    remember(once, word, holder)
    return {word, unpack(call('HGETALL', C.operation .. holder))}
  end
end

-- Store one that is new, after `wait` microseconds to be queued.
local function store(new, wait)
  local key, common = new.key, new.common
  local ids, of_call = taken[common.owner], C.call .. common.call
  local created = next_place(of_call)
  holders[common.owner][new.id], ids[#ids + 1], ids[#ids + 2] = key, new.id, key
  share_scored(of_call, created, key)
  share_scored(of_call .. ':status:NotStarted', created, key)
  if new.context ~= '-' then share_scored(of_call .. ':context:' .. new.context, created, key) end

  local extra = {'key', key, 'digest', new.digest, unpack(common)}
  local given = #extra
  for index = new.first, new.last do
    given = given + 1
    extra[given] = ARGV[index]
  end
  local record = blank()
  record.stage, record.status, record.revision, record.created = 'new', 'NotStarted', '0', created
  record.owner, record.call = common.owner, common.call
  for index = 1, given, 2 do record[extra[index]] = extra[index + 1] end
  extra[given + 1], extra[given + 2] = 'created', created
  if wait > 0 then extra[given + 3], extra[given + 4] = 'not_before', digits(now + wait) end
  if common.start_in ~= '0' then
    local start_by = digits(now + wait + tonumber(common.start_in))
    call('ZADD', deadlines, start_by, key)
    extra[#extra + 1], extra[#extra + 2] = 'start_by', start_by
  end
  local _, written = move(C.operation .. key, key, record, wait > 0 and 'delayed' or 'queued', now, wait, extra)
  return {'NEW', concat(written, ' ', given + 1)}
end

local function create(new)
  local once, wait = nil, 0
  if new.preferences then
    local delay, not_before, digest, told, seconds = unpack(new.preferences)
    if digest ~= '-' then once = {digest = digest, told = told, seconds = seconds} end
    wait = math.max(tonumber(delay), tonumber(not_before) - now, 0)
  end
  local answer = known(new, once)
  if answer then return answer end
  remember(once, 'CREATED', new.key)
  return store(new, wait)
end

local answers = {}
gathering = #wanted > 1
if gathering then push_later(#wanted) end
for index, new in ipairs(wanted) do answers[index] = create(new) end
for owner, ids in pairs(taken) do
  if #ids > 0 then call('HSET', C.ids .. owner, unpack(ids)) end
end
finish()
return answers
