-- Claim operations: take tickets from the queues, and begin an attempt of each ticket's operation. An operation that
-- must not start now is parked. This script decides that, because the worker has not read the records.
--
-- KEYS limiters       ZSET    limiter -> when to look at it again
-- KEYS unserved_types ZSET    type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS apart_types    ZSET    `process <type>` or `worker <type>` -> the same, for operations that wait to run apart
-- ARGV worker         string  who claims
-- ARGV batch          string  names this claim. When the reply was lost, a claim by the same name has the same reply
-- ARGV lease          int     microseconds
-- ARGV coroutines     int     how many operations with a coroutine handler at most
-- ARGV functions      int     how many operations with a plain function at most
-- ARGV apart          int     how many operations that need a process of their own at most
-- ARGV idle           0|1     whether the worker runs nothing
-- ARGV kinds          string  JSON object: type's canonical name -> "coroutines", "functions" or "apart"
-- ARGV turn           int     how many operations the worker has claimed before. The lanes' turns depend on it
-- ARGV deep           0|1     look past tickets that there is no room for
-- ARGV shares         string  JSON object of what tenants may take: `weights` as in lane_claims.lua, `most` and `held`
--                             as in verdicts.lua. Empty: all weights are 1, and no tenant is bounded
-- ARGV jobs           ...     RQ job ids that the caller has taken from the queues; with none, this script takes
--                             tickets from the queues
-- FROM clock: digits
-- FROM lanes: LANES
-- FROM transaction: begin, commit
-- FROM rq_executions: executions_of
-- FROM limiter: due_limiters
-- FROM move: release_limited, release_waiting
-- FROM verdicts: judge
-- LATER apart_claims: claim_apart
-- FROM ticket_readers: new_reader, trim
-- FROM lane_claims: claim_next
--
-- Returns {state, opens, waiting, {word, job, {field, value, ...}}, ...}. `state` is OPEN | LEFT (tickets are left that
-- there is no room for) | MORE (the claim ended before the end of the queues) | SUSPENDED (by `rq suspend`: nothing was
-- claimed) | AGAIN (the claim was sent before, and this is what it took) | ALONE (the claim takes no other operation:
-- one is to have the worker for itself, and was claimed or waits
-- until the worker is idle). `opens` is in how many microseconds the first limiter may admit an operation, or empty.
-- `waiting` is how many entries are on the queues. Words: CLAIMED | PARKED | STALE (the operation has another ticket,
-- runs or has ended) | MISSING (it has no record) | FOREIGN (the job is no ticket). The record's fields follow CLAIMED
-- and PARKED.

local ORDER = C.lane_order
local FIRST = C.first_lanes

-- A claim as verdicts.lua, apart_claims.lua and lane_claims.lua describe it.
local function new_claim()
  local of_tenants = shares == '' and {weights = {}} or cjson.decode(shares)
  return {
    worker = worker,
    lease = tonumber(lease),
    room = {coroutines = tonumber(coroutines), functions = tonumber(functions), apart = tonumber(apart)},
    kinds = cjson.decode(kinds),
    is_ours = jobs_count == 0,
    is_idle = idle == '1',
    deep = deep == '1',
    weights = of_tenants.weights,
    most = of_tenants.most,
    held = of_tenants.held,
    state = 'OPEN',
    verdicts = {},
    judged = 0,
  }
end

-- The verdicts of this worker's last claim, on operations that still run. Returns nil if that claim had another name.
-- `last_claim` is what `remember` has stored.
local function repeated(last_claim)
  local words = {}
  for word in string.gmatch(last_claim or '', '%S+') do words[#words + 1] = word end
  if words[1] ~= batch then return nil end
  local verdicts = {}
  for index = 2, #words do
    local job = words[index]
    local key = string.match(job, '^%x+')
    local stored = redis.pcall('HMGET', C.operation .. key, 'worker', 'stage', 'ticket')
    if stored[1] == worker and stored[2] == 'running' and key .. '-' .. stored[3] == job then
      verdicts[#verdicts + 1] = {'CLAIMED', job, call('HGETALL', C.operation .. key)}
    end
  end
  return verdicts
end

-- Keep the claim for `repeated`. The executions of a worker that is lost expire after a day without a claim.
local function remember(claim)
  local words = {batch}
  for _, verdict in ipairs(claim.verdicts) do
    if verdict[1] == 'CLAIMED' then words[#words + 1] = verdict[2] end
  end
  if #words == 1 then return end
  call('SET', C.last_claim .. worker, table.concat(words, ' '), 'EX', 600)
  call('EXPIRE', executions_of(worker), 86400)
end

-- Claim the next ticket: from the lane whose turn it is, else from the others in order of priority. Returns whether
-- there was one.
local function claim_one(tx, claim, readers, first, size)
  if claim_next(tx, claim, readers[first], size) then return true end
  for _, lane in ipairs(ORDER) do
    if lane ~= first and claim_next(tx, claim, readers[lane], size) then return true end
  end
  return false
end

-- Whether the claim looks for more tickets. If the only room left is for operations that run apart, it looks only if
-- the worker always runs a type so. Other operations that run apart are rare, and nearly all of them are parked.
local function looks_further(claim)
  if claim.room.coroutines > 0 or claim.room.functions > 0 then return true end
  if claim.room.apart < 1 then return false end
  for _, kind in pairs(claim.kinds) do
    if kind == 'apart' then return true end
  end
  return false
end

-- Claim tickets while there is room. Returns how many are left on the queues.
local function claim_all(tx, claim)
  local readers, room, slot, waiting = {}, claim.room, tonumber(turn), 0
  for lane, queue in pairs(LANES) do readers[lane] = new_reader(queue) end
  local size = claim.deep and C.read_size or math.min(C.read_size, math.max(1, room.coroutines + room.functions))
  repeat
    if not looks_further(claim) then break end
    slot = slot + 1
  until not claim_one(tx, claim, readers, FIRST[slot % #FIRST + 1], size)
  for _, reader in pairs(readers) do
    if reader.turns then claim.in_turn.finish(tx, claim, reader) else trim(reader) end
    waiting = waiting + call('LLEN', reader.lane.queue)
  end
  if waiting > 0 and claim.state == 'OPEN' then claim.state = 'LEFT' end
  return waiting
end

-- Queue the parked operations that may start now, so that this claim may take them.
local function release_parked(tx, claim)
  for _, name in ipairs(call('ZRANGE', unserved_types, 0, -1)) do
    local room = claim.room[claim.kinds[name]] or 0
    if room > 0 then release_waiting(tx, 'type', name, room) end
  end
  for _, limiter in ipairs(due_limiters(tx)) do release_limited(tx, limiter) end
end

-- In how many microseconds the first limiter is to be looked at again; empty if no limiter holds an operation back.
local function opens_in(tx)
  local time = call('ZRANGE', limiters, 0, 0, 'WITHSCORES')[2]
  return time and digits(math.max(0, time - tx.now)) or ''
end

-- Claim the tickets that one of RQ's own workers has taken from the queues.
local function claim_jobs()
  local tx = begin(false)
  local claim = new_claim()
  local reply = {claim.state, '', 0}
  for index = jobs_start, jobs_start + jobs_count - 1 do reply[#reply + 1] = judge(tx, claim, ARGV[index]) end
  commit(tx)
  return reply
end

local function claim_from_queues()
  local last_claim, suspended = unpack(call('MGET', C.last_claim .. worker, C.suspended))
  local verdicts = repeated(last_claim)
  if verdicts then return {'AGAIN', '', 0, unpack(verdicts)} end
  if suspended then return {'SUSPENDED', '', 0} end
  local claim = new_claim()
  local tx = begin(claim.room.coroutines + claim.room.functions > 1)
  release_parked(tx, claim)
  if call('EXISTS', apart_types) == 1 then claim_apart(tx, claim) end
  local waiting = claim.state == 'ALONE' and 0 or claim_all(tx, claim)
  commit(tx)
  remember(claim)
  return {claim.state, opens_in(tx), waiting, unpack(claim.verdicts)}
end

if jobs_count > 0 then return claim_jobs() end
return claim_from_queues()
