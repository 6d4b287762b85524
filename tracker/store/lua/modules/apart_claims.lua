-- Claims of parked operations that run apart from others, each in a process of its own or alone on a worker.
--
-- A claim is a table as verdicts.lua describes it, with more fields:
--   is_idle   whether the worker runs nothing
--   verdicts  on the tickets, as claim.lua returns them
--   state     as claim.lua returns it
--
-- KEYS apart_types  ZSET    `process <type>` or `worker <type>` -> when a worker with the type last claimed, or when
--                           one of the operations that wait was queued to find a worker
-- KEYS lone_worker  STRING  `waits <worker> <until> -` (the worker takes no more operations, to run one alone), `runs
--                           <worker> <since> <operation>`, or `rests - <until> -`
-- FROM clock: digits
-- FROM lanes: LANES
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

local function note_lone_worker(state, worker, time, key)
  call('SET', lone_worker, table.concat({state, worker, digits(time), key or '-'}, ' '), 'EX', 86400)
end

local function is_any_queued()
  for _, lane in pairs(LANES) do
    if call('LLEN', lane.queue) > 0 then return true end
  end
  return false
end

-- Whether this worker may run an operation alone now, or wait until it is idle for that. One worker at a time does so.
-- If operations are queued then, none does so afterwards for as long as the operation has run.
local function may_run_alone(tx, claim)
  local state, worker, time, key = string.match(call('GET', lone_worker) or '', '^(%a+) (.+) (%d+) (%S+)$')
  time = tonumber(time)
  if state == 'waits' then return worker == claim.worker or time <= tx.now or claim.is_idle end
  if state == 'runs' then
    local stored = redis.pcall('HMGET', C.operation .. key, 'stage', 'alone', 'attempt')
    if stored[1] == 'running' and stored[2] == stored[3] then return false end
    note_lone_worker('rests', '-', tx.now + math.min(tx.now - time, C.lone_worker_rest))
    return not is_any_queued()
  end
  return state == nil or time <= tx.now or not is_any_queued()
end

-- Claim a parked operation of these types that is to have the worker for itself, if the worker is idle. Returns whether
-- this claim must take nothing else.
local function claim_alone(tx, claim, names)
  local room = claim.room
  if #names == 0 or room.coroutines + room.functions + room.apart < 1 then return false end
  if not may_run_alone(tx, claim) then return false end
  if not claim.is_idle then
    note_lone_worker('waits', claim.worker, tx.now + C.lone_worker_for)
    return true
  end
  local began = nil
  claim.alone = true
  for _, name in ipairs(oldest_first('worker', names)) do
    began = began or claim_waiting(tx, claim, 'worker', name, 1)
  end
  claim.alone = false
  if began then note_lone_worker('runs', claim.worker, tx.now, began) end
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
