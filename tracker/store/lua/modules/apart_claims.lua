-- Claims of parked operations that run apart from others, each in a process of its own or alone on a worker.
--
-- A claim is a table as verdicts.lua describes it, with more fields:
--   is_idle   whether the worker runs nothing
--   verdicts  on the tickets, as claim.lua returns them
--   state     as claim.lua returns it
--
-- KEYS apart_types  ZSET    `process <type>` or `worker <type>` -> since when operations wait, or when one was last
--                           queued to find a worker
-- KEYS lone_worker  STRING  the worker that takes no more operations, to run one alone, and until when this counts
-- FROM clock: digits
-- FROM lanes: LANES
-- FROM record: read_record
-- FROM ticket_readers: delete_job
-- FROM move: release_waiting
-- FROM verdicts: start_or_park

-- Begin attempts of parked operations that run apart, `limit` at most. Their tickets are taken off the queues at once,
-- so that others, which stand there already, do not take the room before. Returns whether an attempt began.
local function claim_waiting(tx, claim, need, name, limit)
  local began = false
  for _, key in ipairs(release_waiting(tx, need, name, limit)) do
    local record, reply = read_record(key)
    local job = key .. '-' .. record.ticket
    call('LREM', LANES[record.lane].queue, -1, job)
    local verdict = start_or_park(tx, claim, job, record, reply)
    claim.verdicts[#claim.verdicts + 1] = verdict
    if verdict[1] == 'CLAIMED' then began = true else delete_job(job) end
  end
  return began
end

-- Whether this worker is the one that takes no more operations, to run one alone. Only one worker at a time is.
local function is_lone_worker(tx, worker)
  local holder, ends = string.match(call('GET', lone_worker) or '', '^(.+) (%d+)$')
  if holder and holder ~= worker and tonumber(ends) > tx.now then return false end
  call('SET', lone_worker, worker .. ' ' .. digits(tx.now + C.lone_worker_for), 'PX', C.lone_worker_for / 1000)
  return true
end

-- Claim the parked operation that is to have the worker for itself, if the worker runs nothing. Returns whether this
-- claim must take nothing else.
local function claim_alone(tx, claim, name)
  if not is_lone_worker(tx, claim.worker) then return false end
  if not claim.is_idle then return true end
  claim.alone = true
  local began = claim_waiting(tx, claim, 'worker', name, 1)
  claim.alone = false
  call('DEL', lone_worker)
  return began
end

-- Claim the parked operations that run apart, as far as there is room.
local function claim_apart(tx, claim)
  for _, member in ipairs(call('ZRANGE', apart_types, 0, -1)) do
    local need, name = string.match(member, '^(%a+) (.+)$')
    if not claim.kinds[name] then -- another worker has the type
    elseif need == 'process' and claim.room.apart > 0 then
      claim_waiting(tx, claim, need, name, claim.room.apart)
    elseif need == 'worker' and #claim.verdicts == 0 and claim.room.apart > 0 and claim_alone(tx, claim, name) then
      claim.state = 'ALONE'
      return
    end
  end
end
