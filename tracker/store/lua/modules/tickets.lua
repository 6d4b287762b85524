-- Tickets: the RQ jobs by which workers learn of operations that may start. A ticket is the job of one attempt.
--
-- A transaction that creates many operations pushes their tickets at its end, all tickets of a lane by one command, for
-- speed (`make bench-instructions`: create, 16 at once, -16 %). Until then it may not read a queue. `tx.pushes` has the
-- tickets of each lane: `jobs`, their job ids, and `scores`, by the tenant's digest the number and key of each as ZADD
-- takes them. `tx.numbers` has the numbers that were reserved for the tickets. Every other transaction has neither, and
-- pushes each ticket at once.
--
-- KEYS tickets        STRING  number of the last ticket
-- KEYS queues         SET     RQ's queues
-- KEYS wake           PUBSUB  where idle workers hear that a queue is no longer empty
-- KEYS known_tenants  ZSET    tenant -> when it last had tickets
-- FROM clock: digits, iso
-- FROM lanes: LANES

-- The number of a new ticket. A number is never used twice. Some of the reserved numbers may never be used.
local function next_number(tx)
  local numbers = tx.numbers
  if not numbers then return call('INCR', tickets) end
  if not numbers.last then
    numbers.last = call('INCRBY', tickets, numbers.most)
    numbers.next = numbers.last - numbers.most + 1
  end
  numbers.next = numbers.next + 1
  return numbers.next - 1
end

-- Write RQ's hash of a ticket's job. For speed, the fields that are the same in all jobs are copied from another key
-- rather than written (`make bench-instructions`: create, -8 %; 16 at once, -21 %).
local function write_job(tx, job, lane)
  if call('COPY', C.ticket_template, C.job .. job) == 0 then
    call('HSET', C.ticket_template, unpack(C.ticket_fields))
    call('COPY', C.ticket_template, C.job .. job)
  end
  local time = iso(tx.now)
  call('HSET', C.job .. job, 'created_at', time, 'enqueued_at', time, 'origin', lane.name)
end

-- Put jobs at the end of their lane's RQ queue. `scores` has what ZADD takes, by the tenant's digest. RQ's
-- Queue.enqueue_job adds the queue to the set of queues each time; the set has the queue while the queue is not empty.
-- The turn of a tenant that is new in the lane is negative until a claim gives it another.
local function enqueue(tx, lane, jobs, scores)
  local wakes = call('RPUSH', lane.queue, unpack(jobs)) == #jobs
  if wakes then call('SADD', queues, lane.queue) end
  for owner, of_tenant in pairs(scores) do
    call('ZADD', lane.ticketed .. owner, unpack(of_tenant))
    if call('ZADD', lane.turns, 'NX', '-' .. tx.time, owner) == 1 then
      call('ZADD', known_tenants, tx.time, owner)
      wakes = true
    end
  end
  if wakes then call('PUBLISH', wake, lane.name) end
end

-- Push a ticket at the end of the transaction. The jobs of a lane are equal then, so that one is a copy of another.
local function push_later(tx, lane, job, ticket, record)
  local push = tx.pushes[lane]
  if push then
    call('COPY', C.job .. push.jobs[1], C.job .. job)
  else
    write_job(tx, job, lane)
    push = {jobs = {}, scores = {}}
    tx.pushes[lane] = push
  end
  local jobs, scores = push.jobs, push.scores[record.owner] or {}
  push.scores[record.owner] = scores
  jobs[#jobs + 1], scores[#scores + 1], scores[#scores + 2] = job, ticket, record.key
end

-- Give the operation a ticket. Returns its number.
local function push_ticket(tx, record)
  local lane, key = LANES[record.lane], record.key
  local ticket = digits(next_number(tx))
  local job = key .. '-' .. ticket
  if tx.pushes then
    push_later(tx, lane, job, ticket, record)
  else
    write_job(tx, job, lane)
    enqueue(tx, lane, {job}, {[record.owner] = {ticket, key}})
  end
  return ticket
end

local function push_tickets(tx)
  if not tx.pushes then return end
  for _, lane in pairs(LANES) do
    local push = tx.pushes[lane]
    if push then enqueue(tx, lane, push.jobs, push.scores) end
  end
end
