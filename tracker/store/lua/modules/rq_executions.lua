-- Executions: what RQ shows of the attempts that OperationWorker runs, in the form of rq/executions.py.
--
-- FROM clock: iso
-- FROM lanes: LANES
-- FROM grouped_writes: write_member, write_score, delete_keys

-- Seconds from the longest time that an attempt may take to the time at which RQ takes it for abandoned. RQ's own
-- clean-up must not end an execution: the sweeper does that, when the lease has run out.
local PATIENCE = 3600

local function executions_of(worker) return C.rq_worker .. worker .. ':executions' end

-- The time of the transaction in the two forms that RQ stores.
local function rq_time(tx)
  if not tx.iso then
    tx.iso = iso(tx.now)
    tx.seconds = string.format('%.6f', tx.now / C.second)
  end
  return tx.iso, tx.seconds
end

-- Add the execution of a job that the worker has claimed. The attempt may take `run_within` seconds.
local function add_execution(tx, record, worker, job, run_within)
  local key, lane = record.key, LANES[record.lane]
  local execution, ends = job .. ':' .. key, math.floor(tx.now / C.second) + math.ceil(run_within + PATIENCE)
  local time, seconds = rq_time(tx)
  call('HSET', C.job .. job, 'status', 'started', 'started_at', time, 'last_heartbeat', time, 'worker_name', worker)
  call('HSET', C.execution .. execution, 'id', key, 'job_id', job, 'created_at', seconds, 'last_heartbeat', seconds,
    'worker_name', worker)
  call('ZADD', C.executions .. job, ends + 60, key) -- 60 s later, as RQ's ExecutionRegistry.add
  write_score(tx, lane.started, ends, execution)
  write_member(tx, 'SADD', executions_of(worker), execution)
end

-- Remove what `add_execution` wrote, and the job.
local function remove_execution(tx, record)
  local key = record.key
  local job = key .. '-' .. record.ticket
  local execution = job .. ':' .. key
  delete_keys(tx, C.job .. job, C.execution .. execution, C.executions .. job)
  write_member(tx, 'ZREM', LANES[record.lane].started, execution)
  write_member(tx, 'SREM', executions_of(record.worker), execution)
end
