-- INCLUDE clock
-- The moves that every transition is made of, and the keys that they take:
--
-- KEYS leases    ZSET    key -> when the lease runs out
-- KEYS due       ZSET    key -> when it is due
-- KEYS expiries  ZSET    key -> when the sweeper ends it
-- KEYS ticketed  ZSET    key -> ticket
-- KEYS suspects  ZSET    key -> when its ticket was missed
-- KEYS tickets   STRING  number of the last ticket
-- KEYS queue     LIST    RQ's queue
-- KEYS queues    SET     RQ's queues
-- KEYS litter    ZSET    RQ job id -> when to remove what is left of it
-- KEYS events    PUBSUB  where every transition is told

local DAY = 86400 * 1000000

-- What a move needs to know of a record, read in one command. Returns nil when there is none.
local function look(op)
  local names = {'stage', 'status', 'attempt', 'ticket', 'revision', 'created', 'owner', 'call', 'context', 'id',
    'hidden', 'cancel_requested', 'policy', 'worker', 'type', 'token'}
  local values = redis.call('HMGET', op, unpack(names))
  if not values[1] then return nil end
  local record = {}
  for index, name in ipairs(names) do record[name] = values[index] or '' end
  return record
end

-- Put a ticket for the operation on RQ's queue, as Queue.enqueue_job would. Numbers are never used twice.
local function push_ticket(op, key, now)
  local ticket = digits(redis.call('INCR', tickets))
  local job = key .. '-' .. ticket
  local stamp = iso(now)
  redis.call('SADD', queues, queue)
  redis.call('HSET', C.job .. job, 'created_at', stamp, 'enqueued_at', stamp, 'origin', C.queue_name,
    'description', job, unpack(C.ticket_fields))
  redis.call('RPUSH', queue, job)
  redis.call('ZADD', ticketed, ticket, key)
  redis.call('HSET', op, 'ticket', ticket)
end

local function unindex(key, record)
  local call = C.call .. record.call
  redis.call('ZREM', call, key)
  redis.call('ZREM', call .. ':status:' .. record.status, key)
  if record.context ~= '' then redis.call('ZREM', call .. ':context:' .. record.context, key) end
end

-- Leave only what a tombstone needs: who it was and how it ended.
local function bury(op, key, record, now)
  unindex(key, record)
  redis.call('HDEL', op, 'members', 'result_info', 'detail', 'client_context', 'cancel_reason', 'worker')
  local ends = now + cjson.decode(record.policy).tombstone * 1000000
  redis.call('HSET', op, 'expires', digits(ends))
  redis.call('ZADD', expiries, digits(ends), key)
  redis.call('PEXPIREAT', op, digits((ends + DAY) / 1000))
end

-- Take the operation out of the set that its stage keeps. A ticket that is of no use any more is noted as litter:
-- whoever popped it cleans up, but may die first.
local function leave(key, record, stage, now)
  if record.stage == 'running' or (record.stage == 'queued' and stage ~= 'running') then
    redis.call('ZADD', litter, digits(now + C.litter_age), key .. '-' .. record.ticket)
  end
  if record.stage == 'queued' then
    redis.call('ZREM', ticketed, key)
    redis.call('ZREM', suspects, key)
  elseif record.stage == 'delayed' then
    redis.call('ZREM', due, key)
  elseif record.stage == 'running' then
    redis.call('ZREM', leases, key)
  else
    redis.call('ZREM', expiries, key)
  end
end

local STATUS = {running = 'Running', completed = 'Completed', failed = 'Failed'}

local function enter(op, key, record, stage, now, length)
  if stage == 'queued' then
    push_ticket(op, key, now)
  elseif stage == 'delayed' then
    redis.call('ZADD', due, digits(now + length), key)
  elseif stage == 'running' then
    redis.call('ZADD', leases, digits(now + length), key)
  elseif stage == 'tombstone' then
    bury(op, key, record, now)
  else
    local policy = cjson.decode(record.policy)
    local ends = now + policy.retention * 1000000
    redis.call('HSET', op, 'completed', digits(now), 'expires', digits(ends))
    redis.call('ZADD', expiries, digits(ends), key)
    redis.call('PEXPIREAT', op, digits((ends + policy.tombstone * 1000000 + DAY) / 1000))
  end
end

local function tell(key, revision, stage, status)
  redis.call('PUBLISH', events, key .. ' ' .. revision .. ' ' .. stage .. ' ' .. status)
end

-- Take the record from its stage to another and tell everybody. `length` (microseconds) is the wait of a delayed
-- operation or the lease of a running one. All checks have been made; every write below succeeds.
local function move(op, key, record, stage, now, length)
  local status = STATUS[stage] or record.status
  if stage ~= record.stage then leave(key, record, stage, now) end
  if status ~= record.status then
    if record.hidden == '' then
      redis.call('ZREM', C.call .. record.call .. ':status:' .. record.status, key)
      redis.call('ZADD', C.call .. record.call .. ':status:' .. status, record.created, key)
    end
    record.status = status
  end
  if record.hidden ~= '' and (stage == 'completed' or stage == 'failed') then
    redis.call('HSET', op, 'completed', digits(now))
    stage = 'tombstone'
  end
  if stage ~= record.stage then enter(op, key, record, stage, now, length) end
  local revision = redis.call('HINCRBY', op, 'revision', 1)
  redis.call('HSET', op, 'stage', stage, 'status', status, 'changed', digits(now))
  tell(key, digits(revision), stage, status)
end
