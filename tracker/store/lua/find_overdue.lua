-- Find what the sweeper has to act on now. Also releases operations that a limiter admits again, and notes which
-- tickets are missing from their queues.
--
-- KEYS leases         ZSET  running operation -> when its lease runs out
-- KEYS due            ZSET  delayed operation -> when it is due
-- KEYS suspects       ZSET  queued operation -> when its ticket was found missing
-- KEYS litter         ZSET  RQ job id -> when to remove what is left of the job
-- KEYS deadlines      ZSET  operation -> when it must have started
-- KEYS unserved_types ZSET  type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS apart_types    ZSET  `process <type>` or `worker <type>` -> the same
-- ARGV limit          int   how many members of each list at most
-- ARGV patience       int   microseconds for which a ticket is missing until it counts as vanished
-- FROM clock: digits
-- FROM lanes: LANES
-- FROM limiter: due_limiters
-- FROM transaction: begin, commit
-- FROM move: release_limited, release_waiting
--
-- Returns {keys whose lease ran out, keys that are due, keys whose ticket vanished, RQ job ids to clean up, keys that
-- did not start in time}.

-- Note the queued operations whose tickets have left the queue.
--
-- No queue is searched. RQ's queues are first in, first out, and tickets have rising numbers: a ticket with a number
-- below that of its queue's head (any ticket, when the queue is empty) is not in the queue any more. It was claimed a
-- moment ago, or the worker that took it died.
local function note_missing_tickets(tx)
  for _, lane in pairs(LANES) do
    local head = call('LINDEX', lane.queue, 0)
    local number = head and string.match(head, '^%x+%-(%d+)$')
    if number or not head then
      local below = number and '(' .. number or '+inf'
      for _, key in ipairs(call('ZRANGE', lane.ticketed, '-inf', below, 'BYSCORE', 'LIMIT', 0, limit)) do
        call('ZREM', lane.ticketed, key)
        call('ZADD', suspects, tx.time, key)
      end
    end
  end
end

-- RQ's own workers do not say what they can start. One operation of each type that waits for a worker is queued now
-- and then, to find out whether a worker starts it.
local function try_waiting_types(tx)
  local before = digits(tx.now - C.probe_after)
  for _, notes in ipairs({unserved_types, apart_types}) do
    for _, member in ipairs(call('ZRANGE', notes, '-inf', before, 'BYSCORE', 'LIMIT', 0, 20)) do
      local need, name = string.match(member, '^(%a+) (.+)$')
      release_waiting(tx, need or 'type', name or member, 1)
      call('ZADD', notes, 'XX', tx.time, member)
    end
  end
end

local function up_to(set, time) return call('ZRANGE', set, '-inf', time, 'BYSCORE', 'LIMIT', 0, limit) end

local tx = begin(false)
note_missing_tickets(tx)
for _, limiter in ipairs(due_limiters(tx)) do release_limited(tx, limiter) end
try_waiting_types(tx)
commit(tx)
return {
  up_to(leases, tx.time),
  up_to(due, tx.time),
  up_to(suspects, digits(tx.now - tonumber(patience))),
  up_to(litter, tx.time),
  up_to(deadlines, tx.time),
}
