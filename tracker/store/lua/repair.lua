-- Put an operation where its record says that it belongs, if the record is still as it was seen. An operation that
-- waits gets a new ticket or joins its serial queue, so that whatever blocks it is judged again.
--
-- KEYS litter    ZSET    RQ job id -> when to remove what is left of the job
-- ARGV key       string
-- ARGV revision  string  the record's revision as it was seen; empty: there was no record
-- ARGV lease     int     microseconds, for a running operation without a lease
-- ARGV strays    ...     key in Redis, member, ...: what holds the operation and must not
-- FROM clock: digits
-- FROM lanes: LANES
-- FROM stages: FINAL
-- FROM record: read_record, policy_of, type_name
-- FROM transaction: begin, commit
-- FROM memberships: memberships_of, STATUSES
-- FROM move: move
--
-- Returns MENDED | MOVED (the record has changed) | UNKNOWN (this version does not know the record's stage or lane).
-- Writes nothing unless MENDED.

local UNFINISHED = {queued = true, parked = true, delayed = true, running = true}

local function number(text) return tonumber(text) or 0 end

local function remove_strays()
  for index = strays_start, strays_start + strays_count - 1, 2 do
    local name, member = ARGV[index], ARGV[index + 1]
    if string.sub(name, 1, #C.ids) ~= C.ids then
      call('ZREM', name, member)
    elseif call('HGET', name, member) == key then
      call('HDEL', name, member)
    end
  end
end

-- Let the set hold the operation, or not. `set` is nil where there is no such set for the operation.
local function keep(set, is_member, score)
  if not set then return end
  if is_member then call('ZADD', set, 'NX', score, key) else call('ZREM', set, key) end
end

-- Other scripts look at a set of operations that wait only while `watched` holds the set's name. So `watched` must hold
-- the name as long as the set has members.
local function keep_watched(tx, watched, name, set)
  if call('EXISTS', set) == 1 then
    call('ZADD', watched, 'NX', tx.time, name)
  else
    call('ZREM', watched, name)
  end
end

-- An operation that waits is taken out of all sets here, and enters one again by its move.
local function repair_stage_sets(tx, record, sets)
  local stage, ended = record.stage, FINAL[record.stage]
  for _, name in ipairs({'ticketed', 'former', 'suspects', 'lack', 'process', 'worker', 'parked'}) do
    keep(sets[name], false)
  end
  keep(sets.leases, stage == 'running', digits(tx.now + tonumber(lease)))
  keep(sets.due, stage == 'delayed', tx.time)
  local expires = record.expires ~= '' and record.expires or digits(tx.now + policy_of(record).retention * C.second)
  keep(sets.expiries, ended, expires)
  keep(sets.deadlines, record.start_by ~= '' and number(record.attempt) == 0 and not ended, record.start_by)
  local name = type_name(record)
  keep_watched(tx, sets.lacking, name, sets.lack)
  keep_watched(tx, sets.processes, 'process ' .. name, sets.process)
  keep_watched(tx, sets.workers, 'worker ' .. name, sets.worker)
end

local function repair_limiter(tx, record, sets)
  if record.gate == '' then return end
  local since = call('ZSCORE', sets.taken, key)
  if record.stage == 'running' and policy_of(record).concurrency then
    if not since or since == '0' then call('ZADD', sets.taken, tx.time, key) end
  elseif record.stage ~= 'queued' or since ~= '0' then
    call('ZREM', sets.taken, key)
  end
  keep_watched(tx, sets.gates, record.gate, sets.parked)
end

-- An operation that has begun comes before all that have not. An operation that waits has the position of its
-- creation, but never one before an operation that may begin.
local function repair_serial_queue(record, queue)
  if record.serial == '' then return end
  local begun = record.stage == 'running' or record.stage == 'delayed' and number(record.ticket) > 0
  local waits = record.stage == 'queued' or record.stage == 'parked'
  if not begun and not waits then
    call('ZREM', queue, key)
    return
  end
  local head = call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  local head_key, head_position = head[1], head[2]
  if head_key == key then return end
  local first = head_key and read_record(head_key)
  local position = math.max(number(record.created), number(record.not_before))
  if begun and first and (first.stage == 'running' or first.stage == 'delayed') then
    call('ZADD', queue, 'NX', digits(head_position + 1), key)
  elseif begun then
    call('ZADD', queue, digits(head_position and head_position - 1 or position), key)
  else
    if first and first.stage ~= 'parked' then position = math.max(position, head_position + 1) end
    call('ZADD', queue, 'NX', digits(position), key)
  end
end

local function repair_indexes(record, sets)
  local visible = record.hidden == '' and record.stage ~= 'tombstone'
  keep(sets.call, visible, record.created)
  keep(sets.context, visible, record.created)
  for _, status in ipairs(STATUSES) do keep(sets[status], visible and status == record.status, record.created) end
  local holder = call('HGET', sets.ids, record.id)
  if not holder or call('EXISTS', C.operation .. holder) == 0 then call('HSET', sets.ids, record.id, key) end
end

-- Give an operation that waits a new ticket, or put it where it waits for a ticket.
local function queue_again(tx, record)
  if record.stage == 'queued' then
    call('ZADD', litter, digits(tx.now + C.litter_age), key .. '-' .. record.ticket)
  end
  record.stage = 'new' -- none of its stage's sets holds it any more
  move(tx, record, 'queued')
end

local function repair(record)
  local tx, sets = begin(false), memberships_of(record)
  repair_stage_sets(tx, record, sets)
  repair_limiter(tx, record, sets)
  repair_serial_queue(record, sets.line)
  repair_indexes(record, sets)
  if record.stage == 'queued' or record.stage == 'parked' then queue_again(tx, record) end
  commit(tx)
end

local record = read_record(key)
if (record and record.revision or '') ~= revision then return 'MOVED' end
if not record and call('EXISTS', C.operation .. key) == 1 then return 'UNKNOWN' end
if record and not ((UNFINISHED[record.stage] or FINAL[record.stage]) and LANES[record.lane]) then return 'UNKNOWN' end
remove_strays()
if record then repair(record) end
return 'MENDED'
