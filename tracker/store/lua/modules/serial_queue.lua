-- Serial queues: the operations of a call that run one after another.
--
-- A serial queue is a sorted set of keys by their positions. Only its head may have a ticket. An operation stays in the
-- queue until it has ended.

local function serial_queue_of(record) return C.serial_queue .. record.call end

local function head_of(queue) return call('ZRANGE', queue, 0, 0)[1] end

-- Join the queue at its end, unless the operation is in it. Returns whether the operation may have a ticket: it is
-- the head, or not serial.
local function join_serial_queue(tx, record)
  if record.serial == '' then return true end
  local queue = serial_queue_of(record)
  if not call('ZSCORE', queue, record.key) then
    local last = call('ZRANGE', queue, 0, 0, 'REV', 'WITHSCORES')
    call('ZADD', queue, math.max(tx.now, (tonumber(last[2]) or 0) + 1), record.key)
  end
  return head_of(queue) == record.key
end

-- Leave the queue. Returns the key of the operation that is its head now, if there is any.
local function leave_serial_queue(record)
  local queue = serial_queue_of(record)
  call('ZREM', queue, record.key)
  return head_of(queue)
end
