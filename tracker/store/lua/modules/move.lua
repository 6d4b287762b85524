-- INCLUDE clock
-- The moves that every transition is made of, and the keys that they take. Records and what hangs on one (a call's
-- line, a type's gate, an attempt's history) are found by name, as nobody knows beforehand which are concerned.
--
-- KEYS leases    ZSET    key -> when the lease runs out
-- KEYS due       ZSET    key -> when it is due
-- KEYS deadlines ZSET    key -> when it must have started
-- KEYS expiries  ZSET    key -> when the sweeper ends it
-- KEYS suspects  ZSET    key -> when its ticket was missed
-- KEYS gates     ZSET    gate -> when to look at it again; gates with parked operations only
-- KEYS lacking   ZSET    type -> since when operations of it wait for a worker that has it
-- KEYS tickets   STRING  number of the last ticket
-- KEYS queues    SET     RQ's queues
-- KEYS litter    ZSET    RQ job id -> when to remove what is left of it
-- KEYS events    PUBSUB  where every change is told
-- KEYS wake      PUBSUB  where idle workers hear that a queue is no longer empty

local call = redis.call
local SECOND = 1000000
local DAY = 86400 * SECOND
local STATUS = {running = 'Running', completed = 'Completed', failed = 'Failed'}
local FINAL = {completed = true, failed = true, tombstone = true}

local call_digest = remembering(redis.sha1hex)

-- What a record does not store: what can be told from the rest, and fields that it does not have, which are empty.
local UNSTORED = {
  id = function(record) -- the server's own: the key as a UUID
    return string.gsub(record.key, '^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)', '%1-%2-%3-%4-')
  end,
  owner = function(record) return redis.sha1hex(record.tenant) end,
  call = function(record) return call_digest(record.tenant .. '\n' .. record.call_id) end,
  context = function(record)
    return rawget(record, 'client_context') and redis.sha1hex(record.client_context) or ''
  end,
}
local RECORD = {__index = function(record, name)
  local value = UNSTORED[name] and UNSTORED[name](record) or ''
  rawset(record, name, value)
  return value
end}

-- A record that has no fields yet, with those empty that are asked for each time or are always there: a table that is
-- made with more than 16 does not have to grow.
local function blank()
  return setmetatable({hidden = '', gate = '', serial = '', rq = '', lane = '', policy = '', blocker = '', started = '',
    start_by = '', vanished = '', cancel_requested = '', attempt = '', tried = '', token = '', key = '', tenant = '',
    call_id = '', type = ''}, RECORD)
end

-- The record as a table, and as HGETALL has it; nil when there is none.
local function look(op)
  local flat = call('HGETALL', op)
  if #flat == 0 then return nil end
  local record = blank()
  for index = 1, #flat, 2 do record[flat[index]] = flat[index + 1] end
  if not rawget(record, 'stage') then return nil end
  return record, flat
end

-- Writes to sets that many operations share. A script that moves many gathers them, and makes one command of those that
-- are alike; nothing reads these sets before `write_gathered`.
local gathered, gathering = {}, false -- command -> key -> its words, as `count` many: the first two are these

local removed = {} -- keys

local function group_of(command, key)
  local keys = gathered[command]
  if not keys then
    keys = {}
    gathered[command] = keys
  end
  local group = keys[key]
  if not group then
    group = {command, key, count = 2}
    keys[key] = group
  end
  return group
end

-- Add or remove a member of a set, or remove one of a sorted set.
local function share(command, key, member)
  if not gathering then
    call(command, key, member)
    return
  end
  local group = group_of(command, key)
  group.count = group.count + 1
  group[group.count] = member
end

-- Add a member to a sorted set.
local function share_scored(key, score, member)
  if not gathering then
    call('ZADD', key, score, member)
    return
  end
  local group = group_of('ZADD', key)
  local count = group.count
  group[count + 1], group[count + 2], group.count = score, member, count + 2
end

-- Remove keys that are of no use any more.
local function remove(...)
  if not gathering then
    call('DEL', ...)
    return
  end
  for index = 1, select('#', ...) do removed[#removed + 1] = (select(index, ...)) end
end

local function write_gathered()
  for _, keys in pairs(gathered) do
    for _, group in pairs(keys) do
      local count = group.count
      for first = 3, count, 1000 do call(group[1], group[2], unpack(group, first, math.min(first + 999, count))) end
    end
  end
  for first = 1, #removed, 1000 do call('DEL', unpack(removed, first, math.min(first + 999, #removed))) end
end

-- INCLUDE tickets
-- INCLUDE events

-- The end of every script that moves: what it gathered is written, what it did is told.
local function finish()
  push_gathered()
  write_gathered()
  publish()
end

-- The stored policy, with the defaults that records leave out.
local function policy_of(record)
  local policy = record.policy == '' and {} or cjson.decode(record.policy)
  policy.retention = policy.retention or C.retention
  policy.tombstone = policy.tombstone or C.tombstone
  return policy
end

local canonical = remembering(function(name) return string.lower((string.gsub(name, '^#', ''))) end)
local function type_name(record) return canonical(record.type) end

local function unindex(key, record)
  local index = C.call .. record.call
  call('ZREM', index, key)
  call('ZREM', index .. ':status:' .. record.status, key)
  if record.context ~= '' then call('ZREM', index .. ':context:' .. record.context, key) end
end

-- Let the operation have another client context, or none.
local function rename(key, record, context)
  local index = C.call .. record.call .. ':context:'
  local digest = context and redis.sha1hex(context) or ''
  if record.hidden == '' then
    if record.context ~= '' then call('ZREM', index .. record.context, key) end
    if context then call('ZADD', index .. digest, record.created, key) end
  end
  record.client_context, record.context = context, digest
end

-- Leave only what a tombstone needs: who it was and how it ended.
local function bury(op, key, record, now)
  unindex(key, record)
  call('DEL', C.history .. key)
  call('HDEL', op, 'members', 'results', 'result_info', 'detail', 'client_context', 'cancel_reason', 'worker')
  local ends = now + policy_of(record).tombstone * SECOND
  call('HSET', op, 'expires', digits(ends))
  call('ZADD', expiries, digits(ends), key)
  call('PEXPIREAT', op, digits((ends + DAY) / 1000))
end

-- INCLUDE limiter

-- Remove what RQ knows of an execution that our own worker claimed.
local function forget_execution(key, record)
  local job = key .. '-' .. record.ticket
  local execution = job .. ':' .. key
  remove(C.job .. job, C.execution .. execution, C.executions .. job)
  share('ZREM', C.lanes[record.lane].started, execution)
  share('SREM', C.rq_worker .. record.worker .. ':executions', execution)
end

-- Take the operation out of the sets that its stage keeps. A ticket that is of no use any more is noted as litter,
-- unless RQ's part of it is ours to remove: whoever popped it cleans up, but may die first.
local function leave(key, record, stage, now)
  if record.stage == 'running' then
    share('ZREM', leases, key)
    if record.rq ~= '' then
      forget_execution(key, record)
    else
      call('ZADD', litter, digits(now + C.litter_age), key .. '-' .. record.ticket)
    end
  elseif record.stage == 'queued' then
    if stage == 'running' then
      share('ZREM', C.lanes[record.lane].ticketed, key)
      share('ZREM', suspects, key)
    else -- it may be released again in the same breath
      call('ZREM', C.lanes[record.lane].ticketed, key)
      call('ZREM', suspects, key)
      call('ZADD', litter, digits(now + C.litter_age), key .. '-' .. record.ticket)
    end
  elseif record.stage == 'delayed' then
    call('ZREM', due, key)
  elseif record.stage == 'parked' then
    unpark(key, record)
  elseif FINAL[record.stage] then
    call('ZREM', expiries, key)
  end
  if record.start_by ~= '' and (stage == 'running' or FINAL[stage]) then call('ZREM', deadlines, key) end
end

-- Put the operation into the sets that its new stage keeps. Returns the stage (what should queue may have to park)
-- and the fields to set.
local function enter(op, key, record, stage, now, length)
  if stage == 'queued' and not may_queue(key, record, now) then return 'parked', {'blocker', 'serial'} end
  if stage == 'queued' then
    local fields = {'ticket', push_ticket(key, record, now)}
    if record.blocker ~= '' then fields[3], fields[4] = 'blocker', '' end
    return stage, fields
  end
  if stage == 'delayed' then
    call('ZADD', due, digits(now + length), key)
  elseif stage == 'running' then
    share_scored(leases, digits(now + length), key)
  elseif stage == 'completed' or stage == 'failed' then
    local policy = policy_of(record)
    local ends = now + policy.retention * SECOND
    share_scored(expiries, digits(ends), key)
    local gone = digits((ends + policy.tombstone * SECOND + DAY) / 1000)
    call('PEXPIREAT', op, gone)
    if record.tried ~= '' then call('PEXPIREAT', C.history .. key, gone) end
    return stage, {'completed', digits(now), 'expires', digits(ends)}
  end
  return stage, {}
end

-- Take the record from its stage to another and tell everybody; release what it blocked. `length` (microseconds) is
-- the wait of a delayed operation or the lease of a running one, `extra` more fields to set. All checks have been
-- made; every write below succeeds, and the script ends with `finish`. Returns the stage and what was written: field,
-- value, …
function move(op, key, record, stage, now, length, extra)
  local before = record.stage
  local status = STATUS[stage] or record.status
  if stage ~= before then leave(key, record, stage, now) end
  if status ~= record.status then
    if record.hidden == '' then
      local index = C.call .. record.call .. ':status:'
      share('ZREM', index .. record.status, key)
      share_scored(index .. status, record.created, key)
    end
    record.status = status
  end
  local fields = {}
  if record.hidden ~= '' and (stage == 'completed' or stage == 'failed') then
    call('HSET', op, 'completed', digits(now))
    stage = 'tombstone'
  end
  if stage ~= before then stage, fields = enter(op, key, record, stage, now, length) end
  local revision = digits(tonumber(record.revision) + 1)
  local written = extra or {}
  local count = #written
  for index = 1, #fields do written[count + index] = fields[index] end
  count = count + #fields
  written[count + 1], written[count + 2], written[count + 3], written[count + 4] = 'stage', stage, 'status', status
  written[count + 5], written[count + 6] = 'changed', digits(now)
  written[count + 7], written[count + 8] = 'revision', revision
  call('HSET', op, unpack(written))
  if stage == 'tombstone' and before ~= stage then bury(op, key, record, now) end
  tell(key, record, stage, revision, now, written)
  if stage ~= before then let_others_go(key, record, before, stage, now) end
  return stage, written
end
