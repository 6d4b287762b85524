-- What may not start yet is on no RQ list: it is parked, and whatever ends its wait pushes its ticket in the same
-- script. Three things park: the line of a call whose operations run one after another (only the line's head has a
-- ticket), the gate of a type with a cap or a rate, and the lack of a worker that has the type.

local move

local function parked_at(gate) return C.gate .. gate .. ':parked' end
local function taken_at(gate) return C.gate .. gate .. ':taken' end
local function lacking_at(name) return C.lack .. redis.sha1hex(name) end

-- Take a parked operation out of the set that its blocker keeps.
local function unpark(key, record)
  if record.blocker == 'cap' or record.blocker == 'rate' then
    call('ZREM', parked_at(record.gate), key)
    if call('EXISTS', parked_at(record.gate)) == 0 then call('ZREM', gates, record.gate) end
  elseif record.blocker == 'type' then
    local name = type_name(record)
    call('ZREM', lacking_at(name), key)
    if call('EXISTS', lacking_at(name)) == 0 then call('ZREM', lacking, name) end
  end
end

-- Whether the operation may have a ticket: it is the head of its call's line, or its call has none. It joins the
-- line here, at its end, and keeps its place until it has ended.
local function may_queue(key, record, now)
  if record.serial == '' then return true end
  local line = C.line .. record.call
  if not call('ZSCORE', line, key) then
    local last = call('ZRANGE', line, 0, 0, 'REV', 'WITHSCORES')
    call('ZADD', line, digits(math.max(now, (tonumber(last[2]) or 0) + 1)), key)
  end
  return call('ZRANGE', line, 0, 0)[1] == key
end

-- A gate's places: key -> since when it runs, or 0 for one that has been let through and is queued. Whoever starts
-- uses a token of the rate; who has been let through has one reserved, so that however long the queue holds them up,
-- they start no faster than the rate.
local function reserved_at(gate) return call('ZCOUNT', taken_at(gate), 0, 0) end

-- Whether the operation has been let through and not begun yet.
local function let_through(key, gate)
  return call('ZSCORE', taken_at(gate), key) == '0'
end

-- When the bucket of tokens is full again, not before now. It is kept as this one time (GCRA).
local function full_at(gate, now)
  return math.max(now, tonumber(call('GET', C.gate .. gate .. ':full')) or 0)
end

-- Why a gate lets nothing through now: 'cap', or 'rate' and when it has a token again; nil when it does.
local function blocker_of(gate, policy, now)
  if policy.concurrency and call('ZCARD', taken_at(gate)) >= policy.concurrency then return 'cap' end
  if policy.rate then
    local step = policy.per * SECOND / policy.rate
    local opens = full_at(gate, now) - step * (policy.rate - 1 - reserved_at(gate))
    if opens > now then return 'rate', opens end
  end
end

-- The operation starts: it uses a token, and holds a place of the cap until it stops running.
local function take(key, gate, policy, now)
  if policy.concurrency then
    call('ZADD', taken_at(gate), digits(now), key)
  else
    call('ZREM', taken_at(gate), key)
  end
  if policy.rate then
    local full = full_at(gate, now) + policy.per * SECOND / policy.rate
    call('SET', C.gate .. gate .. ':full', digits(full), 'PX', digits(math.ceil((full - now) / 1000) + 1))
  end
end

-- Let through a gate what it holds back, in the order of creation, as far as it does; each gets a ticket.
local function open(gate, now)
  for _ = 1, C.released_at_once do
    local key = call('ZRANGE', parked_at(gate), 0, 0)[1]
    if not key then
      call('ZREM', gates, gate)
      return
    end
    local op = C.operation .. key
    local record = look(op)
    if not record or record.stage ~= 'parked' then
      call('ZREM', parked_at(gate), key)
    else
      local policy = policy_of(record)
      local blocker, opens = blocker_of(gate, policy, now)
      if blocker then
        call('ZADD', gates, digits(opens or now + C.look_again), gate)
        return
      end
      call('ZADD', taken_at(gate), 0, key)
      move(op, key, record, 'queued', now, 0)
    end
  end
  call('ZADD', gates, digits(now), gate)
end

-- Give tickets to operations that waited for a worker with their type, but for those whose time to start is over.
local function welcome(name, now, limit)
  for _, key in ipairs(call('ZRANGE', lacking_at(name), 0, limit - 1)) do
    local op = C.operation .. key
    local record = look(op)
    if not record or record.stage ~= 'parked' then
      call('ZREM', lacking_at(name), key)
    elseif (tonumber(call('ZSCORE', deadlines, key)) or now + 1) > now then
      move(op, key, record, 'queued', now, 0)
    end
  end
  if call('EXISTS', lacking_at(name)) == 0 then call('ZREM', lacking, name) end
end

-- After a move: whoever waited for this operation may go on.
local function let_others_go(key, record, before, stage, now)
  if record.serial ~= '' and FINAL[stage] and not FINAL[before] then
    local line = C.line .. record.call
    call('ZREM', line, key)
    local head = call('ZRANGE', line, 0, 0)[1]
    local op = head and C.operation .. head
    local waiting = head and look(op)
    if waiting and waiting.stage == 'parked' and waiting.blocker == 'serial' then
      move(op, head, waiting, 'queued', now, 0)
    end
  end
  if record.gate ~= '' and (before == 'running' or (before == 'queued' and stage ~= 'running')) then
    local left = call('ZREM', taken_at(record.gate), key) == 1 or before == 'running'
    if left and call('EXISTS', parked_at(record.gate)) == 1 then open(record.gate, now) end
  end
end

-- Park an operation whose ticket was taken but that may not start. Its place among those that wait is that of its
-- creation; its gate is looked at when it `opens`, if that is known.
local function park(op, key, record, blocker, opens, now)
  if blocker == 'type' then
    local name = type_name(record)
    call('ZADD', lacking_at(name), record.created, key)
    call('ZADD', lacking, 'NX', digits(now), name)
  else
    call('ZADD', parked_at(record.gate), record.created, key)
    call('ZADD', gates, 'LT', digits(opens or now + C.look_again), record.gate)
  end
  return move(op, key, record, 'parked', now, 0, {'blocker', blocker})
end
