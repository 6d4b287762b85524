-- Claims of parked operations that run apart from others, each in a process of its own or alone on a worker.
--
-- A claim is a table as verdicts.lua describes it, with more fields:
--   is_idle   whether the worker runs nothing
--   verdicts  on the tickets, as claim.lua returns them
--   state     as claim.lua returns it
--
-- KEYS apart_types  ZSET    `process <type>` or `worker <type>` -> when a worker with the type last claimed, or when
--                           one of the operations that wait was queued to find a worker
-- FROM lanes: LANES
-- FROM lone_workers: may_run_alone, note_running, note_waiting
-- FROM record: read_record
-- FROM ticket_readers: delete_job
-- FROM worker_waits: first_waiting, forget_if_none_waits, oldest_first, waiting_record
-- FROM transition: change_stage
-- FROM verdicts: has_room, room_of, start_or_park

-- Whether there is room for a parked operation of the type. An operation that another worker has parked by its type may
-- need no process of its own here.
local function may_begin(claim, name, key)
  local stored = redis.pcall('HMGET', C.operation .. key, 'apart', 'tenant')
  return has_room(claim, {owner = redis.sha1hex(stored[2] or '')}, room_of(claim, name, stored[1] or ''))
end

-- Begin the attempt of a parked operation. Its ticket is taken off the queue at once: otherwise older tickets could
-- take the room first. Returns whether the attempt began.
local function claim_parked(tx, claim, key, record)
  change_stage(tx, record, 'queued')
  if record.stage ~= 'queued' then return false end -- it has to wait for its serial queue
  local queued, reply = read_record(key)
  local job = key .. '-' .. queued.ticket
  call('LREM', LANES[queued.lane].queue, -1, job)
  local verdict = start_or_park(tx, claim, job, queued, reply)
  claim.verdicts[#claim.verdicts + 1] = verdict
  if verdict[1] ~= 'CLAIMED' then delete_job(job) end
  return verdict[1] == 'CLAIMED'
end

-- Begin attempts of the parked operations of a type that have this need, as far as there is room, `limit` at most.
-- Returns the key of the last one that began, or nil.
local function claim_waiting(tx, claim, need, name, limit)
  local began, last = 0, nil
  for _, key in ipairs(first_waiting(need, name, claim.most and C.window or C.read_size)) do
    if began == limit then break end
    local record = may_begin(claim, name, key) and waiting_record(tx, need, name, key)
    if record and claim_parked(tx, claim, key, record) then began, last = began + 1, key end
  end
  forget_if_none_waits(need, name)
  return last
end

-- Claim a parked operation of these types that is to have the worker for itself, if the worker is idle. Returns whether
-- this claim must take nothing else.
local function claim_alone(tx, claim, names)
  local room = claim.room
  if #names == 0 or room.coroutines + room.functions + room.apart < 1 then return false end
  if not may_run_alone(tx, claim) then return false end
  if not claim.is_idle then
    note_waiting(tx, claim)
    return true
  end
  local began = nil
  claim.alone = true
  for _, name in ipairs(oldest_first('worker', names)) do
    began = began or claim_waiting(tx, claim, 'worker', name, 1)
  end
  claim.alone = false
  if began then note_running(claim, began) end
  return began ~= nil
end

-- Claim the parked operations that run apart, as far as there is room.
local function claim_apart(tx, claim)
  local names = {process = {}, worker = {}}
  for _, member in ipairs(call('ZRANGE', apart_types, 0, -1)) do
    local need, name = string.match(member, '^(%a+) (.+)$')
    if claim.kinds[name] then
      table.insert(names[need], name)
      call('ZADD', apart_types, 'XX', tx.time, member) -- the sweeper need not look for a worker
    end
  end
  if claim_alone(tx, claim, names.worker) then
    claim.state = 'ALONE'
    return
  end
  for _, name in ipairs(names.process) do
    local may_start = claim.room.apart > 0 or claim.kinds[name] ~= 'apart'
    if may_start then claim_waiting(tx, claim, 'process', name, math.max(1, claim.room.apart)) end
  end
end
