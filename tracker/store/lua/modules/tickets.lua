-- Tickets: what RQ's queues hold of an operation that may start.

-- Tickets that are pushed later, those of a lane by one command: only by a script that reads no queue, and knows how
-- many it may push. Others push each at once.
local pushed_later -- lane -> its jobs, and ticket, key, ticket, key, ... as `scored`
local numbers = {next = 1, last = 0} -- of tickets, taken beforehand

local function push_later(most)
  pushed_later = {}
  numbers.wanted = most
end

-- The number of a ticket; some of those that were taken beforehand may never be used.
local function number()
  if numbers.next > numbers.last then
    local wanted = numbers.wanted or 1
    numbers.last = call('INCRBY', tickets, wanted)
    numbers.next = numbers.last - wanted + 1
  end
  numbers.next = numbers.next + 1
  return digits(numbers.next - 1)
end

-- RQ's hash of a ticket's job. What is the same for all is copied: that costs less than to send it through Lua. Jobs of
-- one lane that are pushed together are the same.
local function write_job(job, lane, now)
  local hash = C.job .. job
  local jobs = pushed_later and pushed_later[lane]
  if jobs then
    call('COPY', C.job .. jobs[1], hash)
    return
  end
  if call('COPY', C.ticket, hash) == 0 then
    call('HSET', C.ticket, unpack(C.ticket_fields))
    call('COPY', C.ticket, hash)
  end
  local stamp = iso(now)
  call('HSET', hash, 'created_at', stamp, 'enqueued_at', stamp, 'origin', lane.name)
end

-- Put a ticket for the operation on its lane's RQ queue, as Queue.enqueue_job would. Numbers are never used twice.
local function push_ticket(key, record, now)
  local lane = C.lanes[record.lane]
  local ticket = number()
  local job = key .. '-' .. ticket
  write_job(job, lane, now)
  if not pushed_later then
    call('SADD', queues, lane.queue)
    if call('RPUSH', lane.queue, job) == 1 then call('PUBLISH', wake, lane.name) end
    call('ZADD', lane.ticketed, ticket, key)
    return ticket
  end
  local jobs = pushed_later[lane]
  if not jobs then
    jobs = {scored = {}}
    pushed_later[lane] = jobs
  end
  local scored = jobs.scored
  jobs[#jobs + 1], scored[#scored + 1], scored[#scored + 2] = job, ticket, key
  return ticket
end

local function push_gathered()
  for lane, jobs in pairs(pushed_later or {}) do
    call('SADD', queues, lane.queue)
    if call('RPUSH', lane.queue, unpack(jobs)) == #jobs then call('PUBLISH', wake, lane.name) end
    call('ZADD', lane.ticketed, unpack(jobs.scored))
  end
end
