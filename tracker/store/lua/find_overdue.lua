-- What the sweeper has to act on now. Lists nothing by scanning: RQ's queues are strictly first in, first out, and a
-- ticket's number is its place, so a ticket below the number at its queue's head (or any, when the queue is empty)
-- has left the queue. Unclaimed, it becomes a suspect; a suspect for long enough has vanished.
--
-- ARGV limit      int   most members per duty
-- ARGV patience   int   microseconds from suspect to vanished
--
-- Returns {keys whose lease ran out, keys that are due, keys whose ticket vanished, RQ job ids to clean up, keys that
-- did not start in time}. Writes which tickets are suspects, and opens gates that let somebody through again.
-- INCLUDE move
local now = server_time()
local upto = digits(now)

for _, lane in pairs(C.lanes) do
  local head = call('LINDEX', lane.queue, 0)
  local below = head and string.match(head, '^%x+%-(%d+)$')
  if not head or below then
    local upper = below and '(' .. below or '+inf'
    for _, key in ipairs(call('ZRANGE', lane.ticketed, '-inf', upper, 'BYSCORE', 'LIMIT', 0, limit)) do
      call('ZREM', lane.ticketed, key)
      call('ZADD', suspects, upto, key)
    end
  end
end
for _, gate in ipairs(call('ZRANGE', gates, '-inf', upto, 'BYSCORE', 'LIMIT', 0, 20)) do open(gate, now) end
for _, name in ipairs(call('ZRANGE', lacking, '-inf', digits(now - C.probe_after), 'BYSCORE', 'LIMIT', 0, 20)) do
  welcome(name, now, 1) -- RQ's own workers say nothing of their types: one operation asks whether any has this one
  call('ZADD', lacking, 'XX', upto, name)
end
finish()

local function until_now(set, time)
  return call('ZRANGE', set, '-inf', time, 'BYSCORE', 'LIMIT', 0, limit)
end
return {until_now(leases, upto), until_now(due, upto), until_now(suspects, digits(now - tonumber(patience))),
  until_now(litter, upto), until_now(deadlines, upto)}
