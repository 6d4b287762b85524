-- Begin attempts: take tickets from the queues, lanes in turn, raise each operation's `attempt` and set its lease.
-- Decided here, because whoever claims has not read the records yet. What must not start now is parked.
--
-- ARGV worker     string  who claims
-- ARGV batch      string  names this claim: the same one again (its answer was lost) answers what it claimed
-- ARGV lease      int     microseconds
-- ARGV coroutines int     how many operations with a coroutine handler at most
-- ARGV functions  int     how many with a plain function
-- ARGV kinds      string  JSON object: type's canonical name -> "coroutines" or "functions"
-- ARGV turn       int     how many have been claimed before, for the lanes' turns
-- ARGV deep       0|1     look past tickets that there is no room for
-- ARGV jobs       ...     RQ job ids that the fetcher holds already; with none, they are taken from the queues
--
-- Returns {state, opens, waiting, {word, job, {field, value, ...}}, ...}. `state` is OPEN | LEFT (tickets are left that
-- there is no room for) | MORE (ended before the queues did) | SUSPENDED (by `rq suspend`: nothing was claimed). `opens`
-- is in how many microseconds the first closed gate opens, or empty; `waiting` how many tickets the queues still hold,
-- where they were looked at. Words: CLAIMED | PARKED | STALE (another ticket, already claimed, or ended) | MISSING |
-- FOREIGN (no ticket of ours); the record's fields follow CLAIMED and PARKED.
-- INCLUDE move
local now = server_time()
local kind_of = cjson.decode(kinds)
local left = {coroutines = tonumber(coroutines), functions = tonumber(functions)}
local answer = {'OPEN', '', 0}
local VERDICTS = #answer + 1
local ours = #ARGV < jobs -- nobody handed us tickets, so RQ's part of them is ours as well
local memory = C.batch .. worker

local function claimed_before()
  local words = {}
  for word in string.gmatch(call('GET', memory) or '', '%S+') do words[#words + 1] = word end
  if words[1] ~= batch then return false end
  for index = 2, #words do
    local key = string.match(words[index], '^%x+')
    local stored = call('HMGET', C.operation .. key, 'worker', 'stage', 'ticket')
    if stored[1] == worker and stored[2] == 'running' and key .. '-' .. stored[3] == words[index] then
      answer[#answer + 1] = {'CLAIMED', words[index], call('HGETALL', C.operation .. key)}
    end
  end
  return true
end

-- Show RQ the execution, in its own form, and an hour longer than it may take, so that RQ never judges it.
local seconds = string.format('%.6f', now / SECOND)
local executions = C.rq_worker .. worker .. ':executions'
local judged_at = remembering(function(run_within) -- when RQ would: the execution, and the job's set of executions
  local at = math.floor(now / SECOND) + math.ceil(run_within + 3600)
  return {string.format('%d', at), string.format('%d', at + 60)}
end)

local function show_rq(key, record, job, policy)
  local execution = job .. ':' .. key
  local stamp, at = iso(now), judged_at(policy.run_within or C.run_within)
  call('HSET', C.job .. job, 'status', 'started', 'started_at', stamp, 'last_heartbeat', stamp, 'worker_name', worker)
  call('HSET', C.execution .. execution, 'id', key, 'job_id', job, 'created_at', seconds, 'last_heartbeat', seconds,
    'worker_name', worker)
  call('ZADD', C.executions .. job, at[2], key)
  share_scored(C.lanes[record.lane].started, at[1], execution)
  share('SADD', executions, execution)
end

-- The record as it now is, as HGETALL would have it: a field that stands there twice is as it is the second time.
local function with(flat, written)
  for _, word in ipairs(written) do flat[#flat + 1] = word end
  return flat
end

local function start(op, key, record, flat, job, policy)
  if ours then
    show_rq(key, record, job, policy)
  else
    welcome(type_name(record), now, 1) -- one of RQ's own workers has shown that it has the type
  end
  local extra = {'attempt', digits((tonumber(record.attempt) or 0) + 1), 'worker', worker, 'began', digits(now),
    'rq', ours and '1' or ''}
  if record.started == '' then extra[#extra + 1], extra[#extra + 2] = 'started', digits(now) end
  if record.started ~= '' or record.vanished ~= '' then
    for _, name in ipairs({'percent', 'detail', 'vanished'}) do extra[#extra + 1], extra[#extra + 2] = name, '' end
  end
  local _, written = move(op, key, record, 'running', now, tonumber(lease), extra)
  return {'CLAIMED', job, with(flat, written)}
end

-- What becomes of one ticket. Returns nil when this worker has no room for its kind: it stays where it is.
local function judge(job)
  local key, ticket = string.match(job, '^(%x+)%-(%d+)$')
  if not key or #key ~= 32 then return {'FOREIGN', job} end
  local op = C.operation .. key
  local record, flat = look(op)
  if not record then return {'MISSING', job} end
  if record.stage == 'running' and record.ticket == ticket and record.worker == worker and not ours then
    return {'CLAIMED', job, flat}
  end
  if record.stage ~= 'queued' or record.ticket ~= ticket then return {'STALE', job, record.stage} end
  local kind = kind_of[type_name(record)]
  local policy = policy_of(record)
  local blocker, opens
  if not kind then
    blocker = 'type'
  elseif record.gate ~= '' and not let_through(key, record.gate) then
    blocker, opens = blocker_of(record.gate, policy, now)
    if not blocker and call('EXISTS', parked_at(record.gate)) == 1 then blocker, opens = 'cap', now end
  end
  if blocker then
    local _, written = park(op, key, record, blocker, opens, now)
    return {'PARKED', job, with(flat, written)}
  end
  if left[kind] < 1 then return nil end
  left[kind] = left[kind] - 1
  if record.gate ~= '' then take(key, record.gate, policy, now) end
  return start(op, key, record, flat, job, policy)
end

-- Take a ticket off its queue. Who popped it cleans up; what runs (its ticket was there twice) keeps its job.
local function drop(lane, job, word)
  if lane.skipped == 0 then
    lane.taken = (lane.taken or 0) + 1
  else
    call('LREM', lane.queue, 1, job)
  end
  if word == 'FOREIGN' and call('EXISTS', C.job .. job) == 1 then
    call('HSET', C.job .. job, 'status', 'failed', 'ended_at', iso(now), 'exc_info', 'Not a ticket of an operation.')
    call('EXPIRE', C.job .. job, C.foreign_for)
    call('ZADD', lane.failed, math.floor(now / SECOND) + C.foreign_for, job)
  elseif word ~= 'FOREIGN' and word ~= 'CLAIMED' and call('EXISTS', C.executions .. job) == 0 then
    call('DEL', C.job .. job)
  end
end

local judged = 0
local chunk = deep == '1' and C.chunk or math.min(C.chunk, left.coroutines + left.functions) -- tickets read at a time

-- What was taken from the head of the list leaves it in one go.
local function trim(lane)
  if (lane.taken or 0) > 0 then call('LTRIM', lane.queue, lane.taken, -1) end
  lane.taken = 0
end

-- Hand on the next ticket of a lane. Where there is no room for its kind, looks past it at a bounded part of the list,
-- if asked to. Returns whether one was claimed.
local function next_of(lane)
  lane.skipped = lane.skipped or 0
  while not lane.closed do
    if not lane.seen or lane.at > #lane.seen then -- what was seen and not skipped leaves the list
      trim(lane)
      lane.seen, lane.at = call('LRANGE', lane.queue, lane.skipped, lane.skipped + chunk - 1), 1
      lane.closed = #lane.seen == 0
    elseif judged == C.most_judged then
      answer[1], lane.closed = 'MORE', true
    else
      local job = lane.seen[lane.at]
      local verdict = judge(job)
      judged = judged + 1
      lane.at = lane.at + 1
      if verdict then
        drop(lane, job, verdict[1])
        answer[#answer + 1] = verdict
        if verdict[1] == 'CLAIMED' then return true end
      else
        trim(lane)
        lane.skipped = lane.skipped + 1
        if answer[1] == 'OPEN' then answer[1] = 'LEFT' end
        lane.closed = deep ~= '1' or lane.skipped == C.window
      end
    end
  end
  return false
end

if not ours then
  for index = jobs, #ARGV do answer[#answer + 1] = judge(ARGV[index]) end
  finish()
  return answer
end
if claimed_before() then return answer end
gathering = true
if call('EXISTS', C.suspended) == 1 then return {'SUSPENDED', '', 0} end
for _, name in ipairs(call('ZRANGE', lacking, 0, -1)) do
  local room = left[kind_of[name]] or 0
  if room > 0 then welcome(name, now, room) end
end
for _, gate in ipairs(call('ZRANGE', gates, '-inf', digits(now), 'BYSCORE', 'LIMIT', 0, 20)) do open(gate, now) end

local slot = tonumber(turn)
local going = true
while going and (left.coroutines > 0 or left.functions > 0) do
  slot = slot + 1
  going = false
  for _, name in ipairs(C.turns[slot % #C.turns + 1]) do
    if next_of(C.lanes[name]) then
      going = true
      break
    end
  end
end
for _, lane in pairs(C.lanes) do
  trim(lane)
  answer[3] = answer[3] + call('LLEN', lane.queue)
end
finish()
local jobs_claimed = {batch}
for index = VERDICTS, #answer do
  if answer[index][1] == 'CLAIMED' then jobs_claimed[#jobs_claimed + 1] = answer[index][2] end
end
if #jobs_claimed > 1 then
  call('SET', memory, table.concat(jobs_claimed, ' '), 'EX', 600)
  call('EXPIRE', executions, 86400)
end
local gate = call('ZRANGE', gates, 0, 0, 'WITHSCORES')
if gate[2] then answer[2] = digits(math.max(0, gate[2] - now)) end
return answer
