-- Limiters: the limits of a type, of how many operations run at once (cap) and how many start per interval (rate).
--
-- The name of a limiter is the digest of its type, which records have in the field `gate`. A limiter says which
-- operations may start; the functions that take from here start them. It holds its parked operations in the order of
-- their creation. Its slots say which operations count for the cap: key -> since when the operation runs, or 0 for an
-- operation that was admitted and has not started.
--
-- The rate is a token bucket by GCRA: all that is stored is the time at which the bucket is full again. An operation
-- uses a token when it starts. From its admission until then, a token is reserved for it. So operations that waited on
-- a queue start no faster than the rate, however many they are.
--
-- KEYS limiters  ZSET    limiter -> when to look at it again; only limiters with parked operations
-- FROM clock: digits
-- FROM record: read_record, policy_of

local function parked_at(limiter) return C.limiter .. limiter .. ':parked' end
local function slots_at(limiter) return C.limiter .. limiter .. ':taken' end
local function full_at(limiter) return C.limiter .. limiter .. ':full' end

local function is_admitted(record) return call('ZSCORE', slots_at(record.gate), record.key) == '0' end

local function set_bucket_full(tx, limiter, full)
  call('SET', full_at(limiter), digits(full), 'PX', digits(math.ceil((full - tx.now) / 1000) + 1))
end

-- When the bucket is full again: now, if it is full. An empty bucket needs `per` until then. A later time was stored
-- before the server's clock jumped back: the bucket counts as empty now.
local function bucket_full(tx, limiter, policy)
  local full, latest = tonumber(call('GET', full_at(limiter))) or 0, tx.now + policy.per * C.second
  if full > latest then
    full = latest
    set_bucket_full(tx, limiter, full)
  end
  return math.max(tx.now, full)
end

-- Why the limiter admits no operation with this policy now: 'cap', or 'rate' and the time at which there is a token
-- again. Returns nil if the limiter admits one.
local function blocker_of(tx, limiter, policy)
  if policy.concurrency and call('ZCARD', slots_at(limiter)) >= policy.concurrency then return 'cap' end
  if policy.rate then
    local interval = policy.per * C.second / policy.rate
    local reserved = call('ZCOUNT', slots_at(limiter), 0, 0)
    local opens = bucket_full(tx, limiter, policy) - interval * (policy.rate - 1 - reserved)
    if opens > tx.now then return 'rate', opens end
  end
end

-- Why an operation with a ticket may not start, in the form of `blocker_of`. Parked operations start before it.
local function blocker_of_start(tx, record, policy)
  if record.gate == '' or is_admitted(record) then return nil end
  local blocker, opens = blocker_of(tx, record.gate, policy)
  if not blocker and call('EXISTS', parked_at(record.gate)) == 1 then return 'cap', tx.now end
  return blocker, opens
end

-- Note that the operation starts: it uses a token, and has a slot of the cap until it stops running.
local function take_slot(tx, record, policy)
  local limiter = record.gate
  if limiter == '' then return end
  if policy.concurrency then
    call('ZADD', slots_at(limiter), tx.time, record.key)
  else
    call('ZREM', slots_at(limiter), record.key)
  end
  if policy.rate then
    set_bucket_full(tx, limiter, bucket_full(tx, limiter, policy) + policy.per * C.second / policy.rate)
  end
end

-- Take away the slot of an operation that has left `stage`. Returns whether the limiter may admit another operation.
local function give_back_slot(record, stage)
  local had_slot = call('ZREM', slots_at(record.gate), record.key) == 1
  return (had_slot or stage == 'running') and call('EXISTS', parked_at(record.gate)) == 1
end

-- Look at the limiter again at `time`.
local function recheck(limiter, time) call('ZADD', limiters, time, limiter) end

-- Park the operation. `opens` is when the limiter may admit it, if that is known.
local function park_at_limiter(tx, record, opens)
  call('ZADD', parked_at(record.gate), record.created, record.key)
  call('ZADD', limiters, 'LT', digits(opens or tx.now + C.limiter_recheck), record.gate)
end

local function unpark_at_limiter(record)
  call('ZREM', parked_at(record.gate), record.key)
  if call('EXISTS', parked_at(record.gate)) == 0 then call('ZREM', limiters, record.gate) end
end

-- Admit the first parked operation, if the limiter admits any now. Returns the operation's record, or nil and whether
-- the limiter is done. It is not done when the first operation is not parked any more, and was only removed.
local function admit_next(tx, limiter)
  local key = call('ZRANGE', parked_at(limiter), 0, 0)[1]
  if not key then
    call('ZREM', limiters, limiter)
    return nil, true
  end
  local record = read_record(key)
  if not record or record.stage ~= 'parked' then
    call('ZREM', parked_at(limiter), key)
    return nil, false
  end
  local blocker, opens = blocker_of(tx, limiter, policy_of(record))
  if blocker then
    recheck(limiter, digits(opens or tx.now + C.limiter_recheck))
    return nil, true
  end
  call('ZADD', slots_at(limiter), 0, key)
  return record, false
end

-- The first limiters that are to be looked at now.
local function due_limiters(tx)
  return call('ZRANGE', limiters, '-inf', tx.time, 'BYSCORE', 'LIMIT', 0, C.limiter_batch)
end
