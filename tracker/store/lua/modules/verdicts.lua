-- Verdicts on tickets that a worker claims: the ticket's operation starts, is parked, or does not start by this ticket.
--
-- A claim is a table with these fields:
--   worker   name of the worker
--   lease    of each attempt, in microseconds
--   kinds    type's canonical name -> kind of handler
--   room     kind of handler -> how many more operations of the kind the worker takes
--   is_ours  whether OperationWorker claims. Else one of RQ's own workers does, which writes RQ's keys itself.
--
-- FROM clock: digits
-- FROM record: read_record, policy_of, type_name
-- FROM limiter: blocker_of_start, take_slot
-- FROM rq_executions: add_execution
-- FROM transition: change_stage
-- FROM move: park, release_unserved

-- The reply of HGETALL, and the fields that were written since. The last value of a field counts.
local function with(reply, fields)
  for _, word in ipairs(fields) do reply[#reply + 1] = word end
  return reply
end

-- Begin an attempt. Returns the fields to write: field, value, ...
local function set_attempt(tx, record, claim)
  record.attempt = digits((tonumber(record.attempt) or 0) + 1)
  local rq = claim.is_ours and '1' or ''
  local fields = {'attempt', record.attempt, 'worker', claim.worker, 'began', tx.time, 'rq', rq}
  if record.started == '' then fields[9], fields[10] = 'started', tx.time end
  if record.started ~= '' or record.vanished ~= '' then
    for _, name in ipairs({'percent', 'detail', 'vanished'}) do
      fields[#fields + 1], fields[#fields + 2] = name, ''
      record[name] = ''
    end
  end
  return fields
end

local function start(tx, claim, job, record, reply, policy)
  take_slot(tx, record, policy)
  if claim.is_ours then
    add_execution(tx, record, claim.worker, job, policy.run_within or C.run_within)
  else
    release_unserved(tx, type_name(record), 1) -- RQ's own worker has shown that it has the type
  end
  local fields = change_stage(tx, record, 'running', set_attempt(tx, record, claim), claim.lease)
  return {'CLAIMED', job, with(reply, fields)}
end

-- Begin the attempt of a queued operation, or park the operation. Returns nil if the worker has no room for it.
local function start_or_park(tx, claim, job, record, reply)
  local kind, policy = claim.kinds[type_name(record)], policy_of(record)
  local blocker, opens = 'type', nil
  if kind then blocker, opens = blocker_of_start(tx, record, policy) end
  if blocker then return {'PARKED', job, with(reply, park(tx, record, blocker, opens))} end
  local room = claim.room[kind]
  if room < 1 then return nil end
  claim.room[kind] = room - 1
  return start(tx, claim, job, record, reply, policy)
end

-- The verdict on a ticket: {word, job, ...}, as claim.lua returns it. Returns nil if the worker has no room for the
-- operation.
local function judge(tx, claim, job)
  local key, ticket = string.match(job, '^(%x+)%-(%d+)$')
  if not key or #key ~= 32 then return {'FOREIGN', job} end
  local record, reply = read_record(key)
  if not record then return {'MISSING', job} end
  if record.stage == 'running' and record.ticket == ticket and record.worker == claim.worker and not claim.is_ours then
    return {'CLAIMED', job, reply}
  end
  if record.stage ~= 'queued' or record.ticket ~= ticket then return {'STALE', job, record.stage} end
  return start_or_park(tx, claim, job, record, reply)
end
