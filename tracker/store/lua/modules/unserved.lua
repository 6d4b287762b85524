-- Unserved operations: operations of a type that no worker had when they were claimed. They are parked until a worker
-- shows that it has the type.
--
-- KEYS unserved_types  ZSET    type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS deadlines       ZSET    key -> when it must have started
-- FROM record: read_record, type_name

local function unserved_at(name) return C.unserved .. redis.sha1hex(name) end

-- A type is unserved as long as an operation of it waits.
local function forget_if_served(name)
  if call('EXISTS', unserved_at(name)) == 0 then call('ZREM', unserved_types, name) end
end

local function park_unserved(tx, record)
  local name = type_name(record)
  call('ZADD', unserved_at(name), record.created, record.key)
  call('ZADD', unserved_types, 'NX', tx.time, name)
end

local function unpark_unserved(record)
  local name = type_name(record)
  call('ZREM', unserved_at(name), record.key)
  forget_if_served(name)
end

-- The keys of the first operations that wait for a worker with the type.
local function first_unserved(name, limit) return call('ZRANGE', unserved_at(name), 0, limit - 1) end

-- The record of an operation that waits. Returns nil if it must not start any more: the sweeper ends an operation that
-- is past its deadline.
local function unserved_record(tx, name, key)
  local record = read_record(key)
  if not record or record.stage ~= 'parked' then
    call('ZREM', unserved_at(name), key)
    return nil
  end
  local deadline = tonumber(call('ZSCORE', deadlines, key))
  return (not deadline or deadline > tx.now) and record or nil
end
