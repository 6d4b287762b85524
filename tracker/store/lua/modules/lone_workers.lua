-- Workers that run one operation alone, or that take no more operations to become idle for that.
--
-- At most half of the workers do so at a time, but one always may. While no other operation waits for a worker, an idle
-- worker may, too, unless it is the last one that does not. An idle worker may run several operations alone one after
-- another, until its turn has taken `lone_worker_turn`. If others wait then, the turn's place stays free for as long as
-- the turn has taken: they take at least half of the time.
--
-- KEYS apart_types   ZSET    `process <type>` or `worker <type>` -> when a worker with the type last claimed
-- KEYS lone_workers  HASH    worker -> `waits <until>` (it takes no more operations, to become idle) or `runs <since>
--                            <key>` (the operation that it began last, and when it began the first one of its turn)
-- KEYS workers       ZSET    worker -> when it last reported, in seconds
-- FROM clock: digits
-- FROM lanes: LANES

local function note(worker, words)
  call('HSET', lone_workers, worker, words)
  call('EXPIRE', lone_workers, 86400)
end

-- Whether operations wait for a worker that need none for themselves.
local function is_any_other_waiting()
  for _, lane in pairs(LANES) do
    if call('LLEN', lane.queue) > 0 then return true end
  end
  for _, member in ipairs(call('ZRANGE', apart_types, 0, -1)) do
    if string.find(member, 'process ', 1, true) == 1 then return true end
  end
  return false
end

-- What the note of a worker says now: `waits`, `runs`, or `ran` if the operation does not run there any more. With
-- `ran` come the begin and the end of the turn. Returns nil if the note means nothing any more.
local function read_note(tx, worker, words)
  local state, time, key = string.match(words, '^(%a+) (%d+) ?(%x*)$')
  if not state then return nil end
  time = tonumber(time)
  if state == 'waits' then return time > tx.now and time <= tx.now + C.lone_worker_for and 'waits' or nil end
  local stored = redis.pcall('HMGET', C.operation .. key, 'worker', 'stage', 'alone', 'attempt', 'changed')
  if stored[1] ~= worker then return nil end
  if stored[2] == 'running' and stored[3] == stored[4] then return 'runs' end
  local ended = tonumber(stored[5]) or 0
  if tx.now - ended > math.min(ended - time, C.lone_worker_rest) then return nil end
  return 'ran', time, ended
end

-- How many places are taken by other workers, one worker that waits, and what the note of this worker says. With
-- `others_wait` a place is taken until its rest is over.
local function read_notes(tx, claim, others_wait)
  local taken, waiting, ours = 0, nil, {}
  local notes = call('HGETALL', lone_workers)
  for index = 1, #notes, 2 do
    local worker = notes[index]
    local state, since, ended = read_note(tx, worker, notes[index + 1])
    if not state then
      call('HDEL', lone_workers, worker)
    elseif worker == claim.worker then
      ours = {state = state, since = since, ended = ended}
    elseif state ~= 'ran' or others_wait then
      taken, waiting = taken + 1, state == 'waits' and worker or waiting
    end
  end
  return taken, waiting, ours
end

-- How many workers may wait or run an operation alone at a time. Workers that were killed lately must not count.
local function most_at_once(tx, claim, others_wait)
  local now = math.floor(tx.now / C.second)
  local at_work = call('ZCOUNT', workers, now - C.reported_within, now + 1)
  local is_free = claim.is_idle and not others_wait
  return math.max(1, is_free and at_work - 1 or math.floor(at_work / 2))
end

-- Whether this worker may run an operation alone now, or wait until it is idle for that. An idle worker takes the place
-- of one that waits.
local function may_run_alone(tx, claim)
  local others_wait = is_any_other_waiting()
  local taken, waiting, ours = read_notes(tx, claim, others_wait)
  local goes_on = claim.is_idle and ours.state == 'ran' and ours.ended - ours.since < C.lone_worker_turn
  if ours.state == 'ran' and not goes_on and others_wait then return false end
  claim.alone_since = goes_on and ours.since or tx.now
  if ours.state == 'waits' or taken < most_at_once(tx, claim, others_wait) then return true end
  if not (claim.is_idle and waiting) then return false end
  call('HDEL', lone_workers, waiting)
  return true
end

-- Note that this worker takes no more operations until it is idle, or until it has not claimed for a while.
local function note_waiting(tx, claim) note(claim.worker, 'waits ' .. digits(tx.now + C.lone_worker_for)) end

-- Note that this worker has begun an operation alone.
local function note_running(claim, key) note(claim.worker, 'runs ' .. digits(claim.alone_since) .. ' ' .. key) end
