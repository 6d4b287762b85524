-- Verdicts on tickets that a worker claims: the ticket's operation starts, is parked, or does not start by this ticket.
--
-- A claim is a table with these fields:
--   worker   name of the worker
--   lease    of each attempt, in microseconds
--   kinds    type's canonical name -> `coroutines` or `functions`, or `apart` if the worker runs each operation of the
--            type in a process of its own
--   room     `coroutines`, `functions` or `apart` -> how many more such operations the worker takes. `apart` is for all
--            operations that need a process of their own, whatever their handlers are
--   most     by the kind of room, how many such operations of one tenant the worker runs at most; nil if that is not
--            bounded
--   held     tenant's digest -> by the kind of room, how many such operations of the tenant the worker runs
--   alone    whether the operation that is judged is to have the worker for itself
--   is_ours  whether OperationWorker claims. Else one of RQ's own workers does, which writes RQ's keys itself.
--
-- FROM clock: digits
-- FROM record: read_record, policy_of, type_name
-- FROM limiter: blocker_of_start, take_slot
-- FROM rq_executions: add_execution
-- FROM transition: change_stage
-- FROM move: park_limited, park_waiting, release_waiting

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
  if claim.alone then fields[#fields + 1], fields[#fields + 2] = 'alone', record.attempt end
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
    local name = type_name(record) -- RQ's own worker has shown that it can start operations like this one
    release_waiting(tx, 'type', name, 1)
    if record.apart ~= '' then release_waiting(tx, record.apart, name, 1) end
  end
  local fields = change_stage(tx, record, 'running', set_attempt(tx, record, claim), claim.lease)
  return {'CLAIMED', job, with(reply, fields)}
end

-- Which room of the worker an operation takes, by its type's name and its field `apart`. Returns nil if the worker does
-- not have the type.
local function room_of(claim, name, apart)
  local kind = claim.kinds[name]
  return kind and claim.is_ours and apart ~= '' and 'apart' or kind
end

-- Whether the worker takes one more operation of the owner. `of` has the field `owner`: a record, or a tenant.
local function has_room(claim, of, kind)
  if claim.room[kind] < 1 then return false end
  local most = claim.most and claim.most[kind]
  if not most then return true end
  local held = claim.held[of.owner]
  return not held or (held[kind] or 0) < most
end

-- What an operation needs to run apart from others, as in worker_waits.lua. Returns nil if the worker has it, or if
-- the operation needs nothing. Each process of RQ's own workers runs one operation only.
local function missing_for_apart(claim, record, kind)
  if not claim.is_ours then return nil end
  if record.apart == 'worker' then return not claim.alone and 'worker' or nil end
  return kind == 'apart' and not has_room(claim, record, kind) and 'process' or nil
end

-- Begin the attempt of a queued operation, or park the operation. Returns nil if the worker has no room for it.
local function start_or_park(tx, claim, job, record, reply)
  local kind, policy = room_of(claim, type_name(record), record.apart), policy_of(record)
  if not kind then return {'PARKED', job, with(reply, park_waiting(tx, record, 'type'))} end
  local blocker, opens = blocker_of_start(tx, record, policy)
  if blocker then return {'PARKED', job, with(reply, park_limited(tx, record, blocker, opens))} end
  local need = missing_for_apart(claim, record, kind)
  if need then return {'PARKED', job, with(reply, park_waiting(tx, record, need))} end
  if not has_room(claim, record, kind) then return nil end
  claim.room[kind] = claim.room[kind] - 1
  if claim.most then
    local held = claim.held[record.owner] or {}
    claim.held[record.owner] = held
    held[kind] = (held[kind] or 0) + 1
  end
  return start(tx, claim, job, record, reply, policy)
end

-- The verdict on a ticket: {word, job, ...}, as claim.lua returns it. Returns nil if the worker has no room for the
-- operation. `is_left_behind` says whether a claim may have taken the ticket, and left the job on the queue.
local function judge(tx, claim, job)
  local key, ticket = string.match(job, '^(%x+)%-(%d+)$')
  if not key or #key ~= 32 then return {'FOREIGN', job} end
  local record, reply = read_record(key)
  if not record then return {'MISSING', job} end
  if record.stage == 'running' and record.ticket == ticket and record.worker == claim.worker and not claim.is_ours then
    return {'CLAIMED', job, reply}
  end
  if record.stage ~= 'queued' or record.ticket ~= ticket then
    return {'STALE', job, record.stage, is_left_behind = record.attempt ~= ''}
  end
  return start_or_park(tx, claim, job, record, reply)
end
