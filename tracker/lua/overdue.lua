-- What the sweeper has to act on now. Lists nothing by scanning: RQ's queue is strictly first in, first out, and a
-- ticket's number is its place, so a ticket below the number at the queue's head (or any, when the queue is empty)
-- has left the queue. Unclaimed, it becomes a suspect; a suspect for long enough has vanished.
--
-- KEYS leases     ZSET  key -> when the lease runs out
-- KEYS due        ZSET  key -> when it is due
-- KEYS ticketed   ZSET  key -> ticket
-- KEYS suspects   ZSET  key -> when its ticket was missed
-- KEYS queue      LIST  RQ's queue
-- KEYS litter     ZSET  RQ job id -> when to remove what is left of it
-- ARGV limit      int   most members per duty
-- ARGV patience   int   microseconds from suspect to vanished
--
-- Returns {keys whose lease ran out, keys that are due, keys whose ticket vanished, RQ job ids to clean up}.
-- Writes only which tickets are suspects.
-- INCLUDE clock
local now = server_time()
local upto = digits(now)

local head = redis.call('LINDEX', queue, 0)
local below = head and string.match(head, '^%x+%-(%d+)$')
if not head or below then
  local missed = redis.call('ZRANGE', ticketed, '-inf', below and '(' .. below or '+inf', 'BYSCORE', 'LIMIT', 0, limit)
  for _, key in ipairs(missed) do
    redis.call('ZREM', ticketed, key)
    redis.call('ZADD', suspects, upto, key)
  end
end

local function until_now(set, time)
  return redis.call('ZRANGE', set, '-inf', time, 'BYSCORE', 'LIMIT', 0, limit)
end
return {until_now(leases, upto), until_now(due, upto), until_now(suspects, digits(now - tonumber(patience))),
  until_now(litter, upto)}
