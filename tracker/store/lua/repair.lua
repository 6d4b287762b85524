-- Put an operation where its record says that it belongs, if the record is still as it was seen: what waits for a
-- worker gets a new ticket, or joins its call's line, so that whatever blocks it is judged anew.
--
-- ARGV key       string
-- ARGV revision  string  of the record as it was seen; empty: there was none
-- ARGV lease     int     microseconds, for a running operation that has none
-- ARGV strays    ...     name, member, ...: what holds it and has nothing to do with it, to be taken out
--
-- Returns MENDED | MOVED (the record is another now) | UNKNOWN (its stage or lane is none that this version knows).
-- Writes nothing unless MENDED.
-- INCLUDE memberships
local STAGES = {queued = true, parked = true, delayed = true, running = true}
local now = server_time()
local op = C.operation .. key
local record = look(op)
if (record and record.revision or '') ~= revision then return 'MOVED' end
if not record and call('EXISTS', op) == 1 then return 'UNKNOWN' end
if record and not ((STAGES[record.stage] or FINAL[record.stage]) and C.lanes[record.lane]) then return 'UNKNOWN' end

for index = strays, #ARGV, 2 do
  local name, member = ARGV[index], ARGV[index + 1]
  if string.sub(name, 1, #C.ids) == C.ids then
    if call('HGET', name, member) == key then call('HDEL', name, member) end
  else
    call('ZREM', name, member)
  end
end
if not record then return 'MENDED' end

local places = places_of(record)
local stage = record.stage
local waits = stage == 'queued' or stage == 'parked'
local ended = FINAL[stage]
local policy = policy_of(record)
local function number(text) return tonumber(text) or 0 end

local function keep(place, here, score)
  if not places[place] then return end
  if here then call('ZADD', places[place], 'NX', score, key) else call('ZREM', places[place], key) end
end

-- Whether a set of others that wait is looked at: as long as there are any.
local function keep_watched(place, others, member)
  if call('EXISTS', places[others]) == 1 then
    call('ZADD', places[place], 'NX', digits(now), member)
  else
    call('ZREM', places[place], member)
  end
end

-- A stage's own sets. What waits is taken out of all of them, and enters again below.
local function put_in_sets()
  for _, place in ipairs({'ticketed', 'suspects', 'lack', 'parked'}) do keep(place, false) end
  keep('leases', stage == 'running', digits(now + tonumber(lease)))
  keep('due', stage == 'delayed', digits(now))
  keep('expiries', ended, record.expires ~= '' and record.expires or digits(now + policy.retention * SECOND))
  keep('deadlines', record.start_by ~= '' and number(record.attempt) == 0 and not ended, record.start_by)
  keep_watched('lacking', 'lack', type_name(record))
end

local function put_in_gate()
  if record.gate == '' then return end
  local since = call('ZSCORE', places.taken, key)
  if stage == 'running' and policy.concurrency then
    if not since or since == '0' then call('ZADD', places.taken, digits(now), key) end
  elseif stage ~= 'queued' or since ~= '0' then
    call('ZREM', places.taken, key)
  end
  keep_watched('gates', 'parked', record.gate)
end

-- Whoever has begun comes first. Who waits has the place of its creation, but never before one that may begin.
local function put_in_line()
  if record.serial == '' then return end
  local line = places.line
  local begun = stage == 'running' or stage == 'delayed' and number(record.ticket) > 0
  if not begun and not waits then
    call('ZREM', line, key)
    return
  end
  local head = call('ZRANGE', line, 0, 0, 'WITHSCORES')
  if head[1] == key then return end
  local first = head[1] and look(C.operation .. head[1])
  local place = math.max(number(record.created), number(record.not_before))
  if begun and first and (first.stage == 'running' or first.stage == 'delayed') then
    call('ZADD', line, 'NX', digits(head[2] + 1), key)
  elseif begun then
    call('ZADD', line, digits(head[2] and head[2] - 1 or place), key)
  else
    if first and first.stage ~= 'parked' then place = math.max(place, head[2] + 1) end
    call('ZADD', line, 'NX', digits(place), key)
  end
end

local function put_in_indexes()
  local visible = record.hidden == '' and stage ~= 'tombstone'
  keep('call', visible, record.created)
  keep('context', visible, record.created)
  for _, status in ipairs(STATUSES) do keep(status, visible and status == record.status, record.created) end
  local holder = call('HGET', places.ids, record.id)
  if not holder or call('EXISTS', C.operation .. holder) == 0 then call('HSET', places.ids, record.id, key) end
end

put_in_sets()
put_in_gate()
put_in_line()
put_in_indexes()
if waits then
  if stage == 'queued' then call('ZADD', litter, digits(now + C.litter_age), key .. '-' .. record.ticket) end
  record.stage = 'new' -- it is in none of its stage's sets any more
  move(op, key, record, 'queued', now, 0)
end
finish()
return 'MENDED'
