-- Claims from the lanes: from the head of a lane's queue if one tenant has tickets there, else from several tenants in
-- turn.
--
-- A claim is a table as verdicts.lua describes it, with more fields:
--   deep      whether it looks past tickets that there is no room for
--   weights   by the tenant's digest, the weights that are not 1
--   state     as claim.lua returns it
--   verdicts  on the tickets, as claim.lua returns them
--   judged    how many tickets were judged
--   in_turn   the functions of turn_claims.lua, once a lane has tickets of several tenants
--
-- FROM ticket_readers: delete_job, fail_foreign_job, next_job, skip_job, take_job
-- FROM verdicts: judge
-- LATER turn_claims: turn_claims

-- How many more tenants a claim looks at than it has room for, because some may have nothing that it can take.
local MORE_TENANTS = 8

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
      if not verdict.is_left_behind then claim.verdicts[#claim.verdicts + 1] = verdict end
      if word == 'CLAIMED' then return true end
    else
      skip_job(reader)
      if claim.state == 'OPEN' then claim.state = 'LEFT' end
      reader.closed = not claim.deep or reader.skipped == C.window
    end
  end
  return false
end

-- Claim the next operation of a lane. Returns whether there was one. `size` is for how many operations there is room.
local function claim_next(tx, claim, reader, size)
  if not reader.is_read then
    reader.is_read = true
    local head = next_job(reader, size)
    reader.closed = not head
    local most = claim.deep and C.window or size + MORE_TENANTS
    local tenants = head and call('ZRANGE', reader.lane.turns, 0, most - 1, 'WITHSCORES')
    if tenants and #tenants > 2 then
      claim.in_turn = claim.in_turn or turn_claims()
      reader.turns = claim.in_turn.read(claim, reader.lane, tenants, head, size)
    end
  end
  if reader.turns then return claim.in_turn.claim_next(tx, claim, reader) end
  return claim_from_head(tx, claim, reader, size)
end
