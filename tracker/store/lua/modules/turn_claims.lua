-- Claims from a lane in which several tenants have tickets. A claim is a table as lane_claims.lua describes it.
--
-- FROM former_tickets: convert_former
-- FROM stale_entries: drop_stale, take_if_near, ticket_of
-- FROM ticket_readers: delete_job, fail_foreign_job
-- FROM turns: next_tenant, next_ticket, pass_turn, read_turns, skip_ticket, write_turns
-- FROM verdicts: has_room, judge

-- Judge a ticket of a tenant. Returns the verdict's word, or nil if there was no room.
local function judge_in_turn(tx, claim, turns, tenant, job, key)
  local verdict = judge(tx, claim, job)
  claim.judged = claim.judged + 1
  if not verdict then
    skip_ticket(turns, tenant, claim.deep)
    if claim.state == 'OPEN' then claim.state = 'LEFT' end
    return nil
  end
  local word = verdict[1]
  if word == 'CLAIMED' or word == 'PARKED' then
    pass_turn(turns, tenant)
  else -- a worker of an earlier version has claimed it, and does not know the set of the tenant
    call('ZREM', turns.lane.ticketed .. tenant.owner, key)
  end
  if word ~= 'CLAIMED' then delete_job(job) end
  take_if_near(turns.lane.queue, job)
  if not verdict.is_left_behind then claim.verdicts[#claim.verdicts + 1] = verdict end
  return word
end

-- Claim from the tenants in turn: judge their tickets until one is claimed. Returns whether one was claimed.
local function claim_in_turn(tx, claim, reader)
  local turns = reader.turns
  while not reader.closed do
    local tenant = next_tenant(turns)
    if not tenant or claim.judged == C.judge_limit then
      if tenant then claim.state = 'MORE' end
      reader.closed = true
      return false
    end
    local job, key = next_ticket(turns, tenant)
    if job and judge_in_turn(tx, claim, turns, tenant, job, key) == 'CLAIMED' then return true end
  end
  return false
end

-- Close the tenants that have as many of the worker's slots as they may have.
local function close_full(claim, turns)
  if not claim.most then return end
  for _, tenant in ipairs(turns.tenants) do
    tenant.closed = true
    for kind in pairs(claim.room) do
      if has_room(claim, tenant, kind) then tenant.closed = false end
    end
    if tenant.closed and claim.state == 'OPEN' then claim.state = 'LEFT' end
  end
end

-- The turns of a lane. `tenants` are its first tenants, as ZRANGE returns them with their scores. `head` is the first
-- job of the queue. `room` is for how many operations the claim has room.
local function open_turns(claim, lane, tenants, head, room)
  local _, number = ticket_of(head)
  local turns = read_turns(lane, tenants, claim.weights, room, number)
  close_full(claim, turns)
  convert_former(lane, C.read_size)
  return turns
end

-- Store the turns, and drop the stale entries at the head of the queue.
local function finish_turns(tx, claim, reader)
  local lane = reader.lane
  local function on_foreign(job)
    fail_foreign_job(tx, lane, job)
    claim.verdicts[#claim.verdicts + 1] = {'FOREIGN', job}
  end
  write_turns(reader.turns)
  if not drop_stale(lane.queue, C.judge_limit, on_foreign) then claim.state = 'MORE' end
end

-- The functions by which other modules claim in turn. Few claims need them, so that they are made later.
local function turn_claims() return {read = open_turns, claim_next = claim_in_turn, finish = finish_turns} end
