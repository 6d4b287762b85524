-- Ticket readers: how a claim takes tickets from the RQ queues. There is one reader for each lane.
--
-- A reader is a table with these fields:
--   lane      as in LANES
--   jobs      the part of the queue that was read last
--   position  of the next job in `jobs`
--   taken     how many jobs at the head of the queue were taken, and are not removed yet
--   skipped   how many jobs at the head of the queue stay there
--   closed    whether it has no more tickets for this claim
--   is_read   whether it is known if several tenants have tickets in the lane
--   turns     their turns, as in turns.lua; nil if one tenant has all tickets
--
-- FROM clock: iso

local function new_reader(lane)
  return {lane = lane, jobs = {}, position = 1, taken = 0, skipped = 0, closed = false, is_read = false}
end

-- Remove the jobs that were taken from the head of the queue, all by one command.
local function trim(reader)
  if reader.taken > 0 then call('LTRIM', reader.lane.queue, reader.taken, -1) end
  reader.taken = 0
end

-- The next job, or nil at the queue's end. Reads `size` jobs at a time.
local function next_job(reader, size)
  if reader.position > #reader.jobs then
    trim(reader)
    reader.jobs = call('LRANGE', reader.lane.queue, reader.skipped, reader.skipped + size - 1)
    reader.position = 1
  end
  return reader.jobs[reader.position]
end

-- Take the next job off the queue.
local function take_job(reader, job)
  reader.position = reader.position + 1
  if reader.skipped == 0 then
    reader.taken = reader.taken + 1
  else
    call('LREM', reader.lane.queue, 1, job)
  end
end

-- Leave the next job on the queue.
local function skip_job(reader)
  reader.position = reader.position + 1
  trim(reader)
  reader.skipped = reader.skipped + 1
end

-- Mark a job that is no ticket as failed, in RQ's form, so that RQ's tools show it.
local function fail_foreign_job(tx, lane, job)
  if call('EXISTS', C.job .. job) == 0 then return end
  call('HSET', C.job .. job, 'status', 'failed', 'ended_at', iso(tx.now), 'exc_info', 'Not a ticket of an operation.')
  call('EXPIRE', C.job .. job, C.foreign_job_expires)
  call('ZADD', lane.failed, math.floor(tx.now / C.second) + C.foreign_job_expires, job)
end

-- Delete the hash of a job that was taken and not claimed, unless the job runs: then its id was on the queue twice.
local function delete_job(job)
  if call('EXISTS', C.executions .. job) == 0 then call('DEL', C.job .. job) end
end
