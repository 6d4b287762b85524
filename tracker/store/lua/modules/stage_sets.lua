-- The sets that hold operations by their stages, for the sweeper and for claims.
--
-- KEYS leases    ZSET    running operation -> when its lease runs out
-- KEYS due       ZSET    delayed operation -> when it is due
-- KEYS deadlines ZSET    operation -> when it must have started
-- KEYS expiries  ZSET    operation that has ended -> when the sweeper expires it
-- KEYS suspects  ZSET    queued operation -> when its ticket was found missing
-- KEYS litter    ZSET    RQ job id -> when to remove what is left of the job
-- FROM clock: digits
-- FROM lanes: LANES
-- FROM stages: FINAL
-- FROM record: policy_of
-- FROM grouped_writes: write_member, write_score
-- FROM tickets: push_ticket
-- FROM serial_queue: join_serial_queue
-- FROM limiter: unpark_at_limiter
-- FROM worker_waits: unpark_for_worker
-- FROM rq_executions: remove_execution

-- Let the sweeper remove what RQ has of the operation's last job. The worker that took the job from the queue removes
-- it too, but may die before.
local function add_litter(tx, record)
  call('ZADD', litter, tx.now + C.litter_age, record.key .. '-' .. record.ticket)
end

local function leave_running(tx, record)
  write_member(tx, 'ZREM', leases, record.key)
  if record.rq ~= '' then
    remove_execution(tx, record)
  else
    add_litter(tx, record)
  end
end

local function leave_queued(tx, record, stage)
  local ticketed, former = LANES[record.lane].ticketed .. record.owner, LANES[record.lane].former
  if stage == 'running' then
    write_member(tx, 'ZREM', ticketed, record.key, former)
    write_member(tx, 'ZREM', suspects, record.key)
  else -- not grouped, because the same transaction may queue the operation again
    if call('ZREM', ticketed, record.key) == 0 then call('ZREM', former, record.key) end
    call('ZREM', suspects, record.key)
    add_litter(tx, record)
  end
end

local function leave_parked(record)
  if record.blocker == 'cap' or record.blocker == 'rate' then
    unpark_at_limiter(record)
  elseif record.blocker == 'type' or record.blocker == 'apart' then
    unpark_for_worker(record)
  end
end

-- Take the operation out of the sets of its stage. `stage` is the stage that it enters next.
local function leave_stage(tx, record, stage)
  local before = record.stage
  if before == 'running' then
    leave_running(tx, record)
  elseif before == 'queued' then
    leave_queued(tx, record, stage)
  elseif before == 'delayed' then
    call('ZREM', due, record.key)
  elseif before == 'parked' then
    leave_parked(record)
  elseif FINAL[before] then
    call('ZREM', expiries, record.key)
  end
  if record.start_by ~= '' and (stage == 'running' or FINAL[stage]) then call('ZREM', deadlines, record.key) end
end

-- Let the sweeper expire the operation after its retention. In case no sweeper runs, Redis itself removes the record a
-- day after the end of its tombstone.
local function keep_until_expired(tx, record, fields)
  local policy, count = policy_of(record), #fields
  local expires = tx.now + policy.retention * C.second
  write_score(tx, expiries, expires, record.key)
  local removed = math.floor((expires + policy.tombstone * C.second + C.day) / 1000)
  call('PEXPIREAT', record.hash, removed)
  if record.tried ~= '' then call('PEXPIREAT', C.history .. record.key, removed) end
  record.expires = digits(expires)
  fields[count + 1], fields[count + 2], fields[count + 3], fields[count + 4] =
    'completed', tx.time, 'expires', record.expires
end

local function enter_queued(tx, record, fields)
  local count = #fields
  if not join_serial_queue(tx, record) then
    fields[count + 1], fields[count + 2] = 'blocker', 'serial'
    return 'parked'
  end
  fields[count + 1], fields[count + 2] = 'ticket', push_ticket(tx, record)
  if record.blocker ~= '' then fields[count + 3], fields[count + 4] = 'blocker', '' end
  return 'queued'
end

-- Put the operation into the sets of the stage, and append the fields to write to `fields`. `duration` is that of the
-- lease or of the delay. Returns the stage, which is `parked` instead of `queued` if the operation may not start yet.
local function enter_stage(tx, record, stage, fields, duration)
  if stage == 'queued' then return enter_queued(tx, record, fields) end
  if stage == 'delayed' then
    call('ZADD', due, tx.now + duration, record.key)
  elseif stage == 'running' then
    write_score(tx, leases, tx.now + duration, record.key)
  elseif stage == 'completed' or stage == 'failed' then
    keep_until_expired(tx, record, fields)
  end
  return stage
end
