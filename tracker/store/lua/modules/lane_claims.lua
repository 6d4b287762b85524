-- Claims from the lanes: from the head of a lane's queue if one tenant has tickets there, else from several tenants in
-- turn.
--
-- A claim is a table as verdicts.lua describes it, with more fields:
--   deep      whether it looks past tickets that there is no room for
--   weights   by the tenant's digest, the weights that are not 1
--   state     as claim.lua returns it
--   verdicts  on the tickets, as claim.lua returns them
--   judged    how many tickets were judged
--
-- FROM former_tickets: convert_former
-- FROM stale_entries: drop_stale, take_if_near, ticket_of
-- FROM ticket_readers: delete_job, fail_foreign_job, next_job, skip_job, take_job, trim
-- FROM turns: next_tenant, next_ticket, pass_turn, read_turns, skip_ticket, write_turns
-- FROM verdicts: has_room, judge

-- Note a verdict. An entry that a claim has left behind is expected, so that nobody is told.
local function add_verdict(claim, verdict)
  if not verdict.is_left_behind then claim.verdicts[#claim.verdicts + 1] = verdict end
end

local function note_skipped(claim)
  if claim.state == 'OPEN' then claim.state = 'LEFT' end
end

-- Claim from the head of the queue: judge its tickets until one is claimed. Returns whether one was claimed.
local function claim_from_head(tx, claim, reader, size)
  while not reader.closed do
    local job = next_job(reader, size)
    if not job or claim.judged == C.judge_limit then
      if job then claim.state = 'MORE' end
      reader.closed = true
      return false
    end
    local verdict = judge(tx, claim, job)
    claim.judged = claim.judged + 1
    if verdict then
      local word = verdict[1]
      take_job(reader, job)
      if word == 'FOREIGN' then fail_foreign_job(tx, reader.lane, job) elseif word ~= 'CLAIMED' then delete_job(job) end
      add_verdict(claim, verdict)
      if word == 'CLAIMED' then return true end
    else
      skip_job(reader)
      note_skipped(claim)
      reader.closed = not claim.deep or reader.skipped == C.window
    end
  end
  return false
end

-- Judge a ticket of a tenant. Returns the verdict's word, or nil if there was no room.
local function judge_in_turn(tx, claim, turns, tenant, job, key)
  local verdict = judge(tx, claim, job)
  claim.judged = claim.judged + 1
  if not verdict then
    skip_ticket(turns, tenant, claim.deep)
    note_skipped(claim)
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
  add_verdict(claim, verdict)
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
    if tenant.closed then note_skipped(claim) end
  end
end

-- Find out whether several tenants have tickets in the lane. `size` is for how many operations the claim has room.
local function read_lane(claim, reader, size)
  local head = next_job(reader, size)
  if not head then
    reader.closed = true
    return
  end
  local _, number = ticket_of(head)
  reader.turns = read_turns(reader.lane, claim.weights, claim.deep and C.window or size + 8, size, number)
  if not reader.turns then return end
  close_full(claim, reader.turns)
  convert_former(reader.lane, C.read_size)
end

-- Claim the next operation of a lane. Returns whether there was one.
local function claim_next(tx, claim, reader, size)
  if not reader.is_read then
    reader.is_read = true
    read_lane(claim, reader, size)
  end
  if reader.turns then return claim_in_turn(tx, claim, reader) end
  return claim_from_head(tx, claim, reader, size)
end

-- Remove the entries at the head of the queue that were taken, and store the turns. Returns how many entries are left.
local function finish_lane(tx, claim, reader)
  local lane = reader.lane
  if not reader.turns then
    trim(reader)
    return call('LLEN', lane.queue)
  end
  write_turns(reader.turns)
  local function on_foreign(job)
    fail_foreign_job(tx, lane, job)
    add_verdict(claim, {'FOREIGN', job})
  end
  if not drop_stale(lane.queue, C.judge_limit, on_foreign) then claim.state = 'MORE' end
  return call('LLEN', lane.queue)
end
