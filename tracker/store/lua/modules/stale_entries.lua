-- Stale entries: jobs on an RQ queue that are no tickets any more. Their operation has begun or ended, or has another
-- ticket. A claim that takes a ticket from deep within a queue leaves such an entry behind, and so does a cancel. A
-- stale entry is dropped when it is the head of its queue.
--
-- FROM ticket_readers: delete_job

-- The key and the number of a ticket, both as texts. Returns nil for a job that is no ticket.
local function ticket_of(job)
  local key, number = string.match(job, '^(%x+)%-(%d+)$')
  if key and #key == 32 then return key, number end
end

local function is_stale(key, number)
  local stored = redis.pcall('HMGET', C.operation .. key, 'stage', 'ticket')
  return stored[1] ~= 'queued' or stored[2] ~= number
end

-- Take a job off a queue, if it is near one of the queue's ends. RQ's queues can only be searched entry by entry.
local function take_if_near(queue, job)
  for _, rank in ipairs({1, -1}) do
    if call('LPOS', queue, job, 'RANK', rank, 'MAXLEN', C.window) then
      call('LREM', queue, rank, job)
      return
    end
  end
end

-- How many of the jobs, from the first on, are not to stay on their queue. `on_foreign` is called with each job that is
-- no ticket. Without it, such a job stays.
local function count_stale(jobs, on_foreign)
  for index, job in ipairs(jobs) do
    local key, number = ticket_of(job)
    if not key then
      if not on_foreign then return index - 1 end
      on_foreign(job)
    elseif is_stale(key, number) then
      delete_job(job)
    else
      return index - 1
    end
  end
  return #jobs
end

-- Drop the stale entries at the head of a queue, `limit` at most. Returns whether all of them are dropped.
local function drop_stale(queue, limit, on_foreign)
  for _ = 1, limit, C.read_size do
    local jobs = call('LRANGE', queue, 0, C.read_size - 1)
    local count = count_stale(jobs, on_foreign)
    if count > 0 then call('LTRIM', queue, count, -1) end
    if count < C.read_size then return true end
  end
  return false
end
