-- Moves: the transition of an operation, and of the operations that waited for it. Limiters, serial queues and
-- worker_waits.lua say which operations may start; the functions here queue them.
--
-- FROM stages: FINAL
-- FROM record: read_record
-- FROM serial_queue: leave_serial_queue
-- FROM limiter: admit_next, give_back_slot, park_at_limiter, recheck
-- FROM worker_waits: first_waiting, forget_if_none_waits, park_for_worker, waiting_record
-- FROM transition: change_stage

-- Queue the parked operations that the limiter admits now.
local function release_limited(tx, limiter)
  for _ = 1, C.release_limit do
    local record, done = admit_next(tx, limiter)
    if done then return end
    if record then change_stage(tx, record, 'queued') end
  end
  recheck(limiter, tx.time) -- more may be admitted, by the next script that looks at limiters
end

-- Queue the first operations of a type that wait for a worker.
local function release_waiting(tx, need, name, limit)
  for _, key in ipairs(first_waiting(need, name, limit)) do
    local record = waiting_record(tx, need, name, key)
    if record then change_stage(tx, record, 'queued') end
  end
  forget_if_none_waits(need, name)
end

-- Queue the next operation of the serial queue whose head has ended, if it waits for nothing else.
local function release_serial(tx, record)
  local key = leave_serial_queue(record)
  local head = key and read_record(key)
  if head and head.stage == 'parked' and head.blocker == 'serial' then change_stage(tx, head, 'queued') end
end

-- Bring the operation to a stage as `change_stage` does, and queue the operations that waited for it.
local function move(tx, record, stage, fields, duration)
  local before = record.stage
  fields = change_stage(tx, record, stage, fields, duration)
  stage = record.stage
  if record.serial ~= '' and FINAL[stage] and not FINAL[before] then release_serial(tx, record) end
  if record.gate ~= '' and (before == 'running' or before == 'queued') and stage ~= before and stage ~= 'running' then
    if give_back_slot(record, before) then release_limited(tx, record.gate) end
  end
  return fields
end

-- Park a queued operation that its limiter does not admit. `blocker` is 'cap' or 'rate'; `opens` is when the limiter
-- may admit it, if that is known.
local function park_limited(tx, record, blocker, opens)
  park_at_limiter(tx, record, opens)
  return move(tx, record, 'parked', {'blocker', blocker})
end

-- Park a queued operation that the worker cannot start. `need` is what it needs, as in worker_waits.lua.
local function park_waiting(tx, record, need)
  park_for_worker(tx, record, need)
  return move(tx, record, 'parked', {'blocker', need == 'type' and 'type' or 'apart'})
end
