-- Find what the sweeper has to act on now. Also releases operations that a limiter admits again, and notes which
-- tickets are missing from their queues.
--
-- KEYS leases         ZSET  running operation -> when its lease runs out
-- KEYS due            ZSET  delayed operation -> when it is due
-- KEYS suspects       ZSET  queued operation -> when its ticket was found missing
-- KEYS litter         ZSET  RQ job id -> when to remove what is left of the job
-- KEYS deadlines      ZSET  operation -> when it must have started
-- KEYS known_tenants  ZSET  tenant -> when it last had tickets, or was among the tokens of an API process
-- KEYS unserved_types ZSET  type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS apart_types    ZSET  `process <type>` or `worker <type>` -> the same
-- KEYS sweeps         STRING  `<number> <time>`: in how many seconds there was a sweep, and the last of them
-- ARGV limit          int   how many members of each list at most
-- ARGV patience       int   microseconds for which a ticket is missing until it counts as vanished
-- FROM clock: digits
-- FROM clock_jump_note: has_jumped
-- FROM lanes: LANES
-- FROM former_tickets: convert_former
-- FROM stale_entries: drop_stale, is_stale, ticket_of
-- FROM limiter: due_limiters
-- FROM transaction: begin, commit
-- FROM move: release_limited, release_waiting
--
-- Returns {keys whose lease ran out, keys that are due, keys whose ticket vanished, RQ job ids to clean up, keys that
-- did not start in time, how many tickets of earlier versions of one lane were converted, the server's time}. After a
-- jump of the server's clock, all lists of operations are empty for one lease.

-- Note the queued operations of a tenant whose tickets have left the queue: those with a number below `below`, at most
-- `most` of them. An entry that is left of an operation which has begun or ended, under a worker of an earlier version,
-- is removed. Returns how many entries were looked at.
local function note_missing(tx, ticketed, below, most)
  local found = call('ZRANGE', ticketed, '-inf', below, 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
  for index = 1, #found, 2 do
    local key, number = found[index], digits(tonumber(found[index + 1]))
    call('ZREM', ticketed, key)
    if not is_stale(key, number) then call('ZADD', suspects, tx.time, key) end
  end
  return #found / 2
end

-- The lowest turn of a tenant that has tickets; nil if none of the first tenants has.
local function lowest_served_turn(lane)
  local found = call('ZRANGE', lane.turns, 0, C.tenants_per_sweep - 1, 'WITHSCORES')
  for index = 1, #found, 2 do
    if call('EXISTS', lane.ticketed .. found[index]) == 1 then return tonumber(found[index + 1]) end
  end
end

-- Look at the tenants of a lane: all of them, or some by chance if they are many. Forgets a tenant that has no tickets
-- once its turn has come. Before that, it would gain a turn by coming back.
local function look_at_tenants(tx, lane, below)
  local present, left, lowest = {}, tonumber(limit), lowest_served_turn(lane)
  local found = call('ZRANDMEMBER', lane.turns, C.tenants_per_sweep, 'WITHSCORES')
  for index = 1, #found, 2 do
    local owner, turn = found[index], tonumber(found[index + 1])
    if below and left > 0 then left = left - note_missing(tx, lane.ticketed .. owner, below, left) end
    if call('EXISTS', lane.ticketed .. owner) == 1 then
      present[#present + 1], present[#present + 2] = tx.time, owner
    elseif not lowest or turn <= lowest then
      call('ZREM', lane.turns, owner)
    end
  end
  if #present > 0 then call('ZADD', known_tenants, unpack(present)) end
end

-- Note the queued operations whose tickets have left the queue.
--
-- No queue is searched. RQ's queues are first in, first out, and tickets have rising numbers: a ticket with a number
-- below that of its queue's head (any ticket, when the queue is empty) is not in the queue any more. It was claimed a
-- moment ago, or the worker that took it died. A stale entry is no ticket, and is dropped from the head before.
local function note_missing_tickets(tx)
  local converted = 0
  for _, lane in pairs(LANES) do
    converted = math.max(converted, convert_former(lane, limit))
    drop_stale(lane.queue, tonumber(limit))
    local head = call('LINDEX', lane.queue, 0)
    local _, number = ticket_of(head or '')
    look_at_tenants(tx, lane, number and '(' .. number or not head and '+inf')
  end
  return converted
end

-- Suspects whose ticket has been missing for too long. An operation that is not queued is no suspect: a worker of an
-- earlier version has claimed it.
local function vanished(tx)
  local keys = {}
  local before = digits(tx.now - tonumber(patience))
  for _, key in ipairs(call('ZRANGE', suspects, '-inf', before, 'BYSCORE', 'LIMIT', 0, limit)) do
    if redis.pcall('HMGET', C.operation .. key, 'stage')[1] == 'queued' then
      keys[#keys + 1] = key
    else
      call('ZREM', suspects, key)
    end
  end
  return keys
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

-- Count the seconds in which there was a sweep, for clock_jumped.lua. Sweeps of a full batch follow at once. A server
-- at its `maxmemory` refuses to count, and the sweep goes on.
local function count_second(tx)
  local number, time = string.match(call('GET', sweeps) or '', '^(%d+) (%d+)$')
  if not number or math.abs(tx.now - tonumber(time)) > 0.9 * C.second then
    redis.pcall('SET', sweeps, digits((tonumber(number) or 0) + 1) .. ' ' .. tx.time)
  end
end

-- The server's time, also in test mode.
local function time_of_server()
  local time = call('TIME')
  return digits(time[1] * C.second + time[2])
end

local tx = begin(false)
local converted = note_missing_tickets(tx)
call('ZREMRANGEBYSCORE', known_tenants, '-inf', digits(tx.now - C.tenant_known_for))
for _, limiter in ipairs(due_limiters(tx)) do release_limited(tx, limiter) end
try_waiting_types(tx)
commit(tx)
count_second(tx)
local jumped = has_jumped(tx.now)
return {
  jumped and {} or up_to(leases, tx.time),
  jumped and {} or up_to(due, tx.time),
  jumped and {} or vanished(tx),
  up_to(litter, tx.time),
  jumped and {} or up_to(deadlines, tx.time),
  converted,
  time_of_server(),
}
