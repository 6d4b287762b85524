-- Operations that wait for a worker that can start them. They are parked, by their type and by what they need:
--   type     a worker with the type (blocker `type`)
--   process  a worker with room for one more process (blocker `apart`), because they run apart from others
--   worker   a worker that runs nothing else (blocker `apart`)
--
-- KEYS unserved_types  ZSET    type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS apart_types     ZSET    `process <type>` or `worker <type>` -> the same, or when a worker with the type claimed
-- KEYS deadlines       ZSET    key -> when it must have started
-- FROM record: read_record, type_name

local SETS = {type = C.unserved, process = C.apart_process, worker = C.apart_worker}

local function waiting_at(need, name) return SETS[need] .. redis.sha1hex(name) end

-- Where a need of a type is noted while operations wait: a sorted set, and a member of it.
local function note_of(need, name)
  if need == 'type' then return unserved_types, name end
  return apart_types, need .. ' ' .. name
end

-- What a parked operation needs.
local function need_of(record)
  if record.blocker == 'type' then return 'type' end
  return record.apart == 'worker' and 'worker' or 'process'
end

local function forget_if_none_waits(need, name)
  if call('EXISTS', waiting_at(need, name)) == 1 then return end
  local notes, member = note_of(need, name)
  call('ZREM', notes, member)
end

local function park_for_worker(tx, record, need)
  local name = type_name(record)
  local notes, member = note_of(need, name)
  call('ZADD', waiting_at(need, name), record.created, record.key)
  call('ZADD', notes, 'NX', tx.time, member)
end

local function unpark_for_worker(record)
  local need, name = need_of(record), type_name(record)
  call('ZREM', waiting_at(need, name), record.key)
  forget_if_none_waits(need, name)
end

-- The keys of the first operations that wait.
local function first_waiting(need, name, limit) return call('ZRANGE', waiting_at(need, name), 0, limit - 1) end

-- These types in the order in which their first operations that wait were created.
local function oldest_first(need, names)
  local created = {}
  for _, name in ipairs(names) do
    created[name] = tonumber(call('ZRANGE', waiting_at(need, name), 0, 0, 'WITHSCORES')[2]) or math.huge
  end
  table.sort(names, function(one, other) return created[one] < created[other] end)
  return names
end

-- The record of an operation that waits. Returns nil if it must not start any more: the sweeper ends an operation that
-- is past its deadline.
local function waiting_record(tx, need, name, key)
  local record = read_record(key)
  if not record or record.stage ~= 'parked' then
    call('ZREM', waiting_at(need, name), key)
    return nil
  end
  local deadline = tonumber(call('ZSCORE', deadlines, key))
  return (not deadline or deadline > tx.now) and record or nil
end
