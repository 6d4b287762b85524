-- Tickets: the RQ jobs by which workers learn of operations that may start. A ticket is one attempt's job.
--
-- KEYS tickets   STRING  number of the last ticket
-- KEYS queues    SET     RQ's queues
-- KEYS wake      PUBSUB  where idle workers hear that a queue is no longer empty
-- FROM clock: digits, iso
-- FROM lanes: LANES
--
-- `tx.pushes` is for a transaction that knows how many tickets it may push, and reads no queue: it pushes all tickets
-- of a lane by one command, in `push_tickets`. Any other transaction pushes each ticket at once.

-- The number of a new ticket. A number is never used twice; a transaction may leave some of its numbers unused.
local function next_number(tx)
  local reserved = tx.pushes
  if not reserved then return call('INCR', tickets) end
  if not reserved.last then
    reserved.last = call('INCRBY', tickets, reserved.most)
    reserved.next = reserved.last - reserved.most + 1
  end
  reserved.next = reserved.next + 1
  return reserved.next - 1
end

-- Write RQ's hash of a ticket's job. The fields that are the same in all jobs are copied within the server, because a
-- copy costs less than the command that sends them.
local function write_job(tx, job, lane)
  if call('COPY', C.ticket_template, C.job .. job) == 0 then
    call('HSET', C.ticket_template, unpack(C.ticket_fields))
    call('COPY', C.ticket_template, C.job .. job)
  end
  local time = iso(tx.now)
  call('HSET', C.job .. job, 'created_at', time, 'enqueued_at', time, 'origin', lane.name)
end

-- Put jobs at the end of their lane's RQ queue, as RQ's Queue.enqueue_job does.
local function enqueue(lane, jobs, scores)
  call('SADD', queues, lane.queue)
  if call('RPUSH', lane.queue, unpack(jobs)) == #jobs then call('PUBLISH', wake, lane.name) end
  call('ZADD', lane.ticketed, unpack(scores))
end

-- Push the first of a transaction's tickets to its lane later, with all others of the lane. Their jobs are equal.
local function push_later(tx, lane, job, ticket, key)
  local push = tx.pushes[lane]
  if push then
    call('COPY', C.job .. push.jobs[1], C.job .. job)
  else
    write_job(tx, job, lane)
    push = {jobs = {}, scores = {}}
    tx.pushes[lane] = push
  end
  local jobs, scores = push.jobs, push.scores
  jobs[#jobs + 1], scores[#scores + 1], scores[#scores + 2] = job, ticket, key
end

-- Give the operation a ticket. Returns its number.
local function push_ticket(tx, record)
  local lane, key = LANES[record.lane], record.key
  local ticket = digits(next_number(tx))
  local job = key .. '-' .. ticket
  if tx.pushes then
    push_later(tx, lane, job, ticket, key)
  else
    write_job(tx, job, lane)
    enqueue(lane, {job}, {ticket, key})
  end
  return ticket
end

local function push_tickets(tx)
  if not tx.pushes then return end
  for _, lane in pairs(LANES) do
    local push = tx.pushes[lane]
    if push then enqueue(lane, push.jobs, push.scores) end
  end
end
