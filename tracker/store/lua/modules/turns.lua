-- Turns: which tenant has its next ticket claimed, in a lane in which several tenants have tickets.
--
-- This is stride scheduling (Waldspurger and Weihl, "Stride Scheduling", 1995). Each tenant has a turn, a number. The
-- tenant with the lowest is next. A ticket that is taken raises the number by the stride, which is smaller for a tenant
-- with more weight. A tenant that comes to the lane has a negative turn, the latest the lowest. The next claim in turn
-- gives it the lowest turn of the others. A tenant without tickets keeps its turn until it would be next. So no tenant
-- gains by coming often with few tickets.
--
-- The turns of a lane are a table:
--   lane     as in LANES
--   tenants  in the order of their turns; a tenant is a table as new_tenant has it
--   size     how many tickets of a tenant are read at a time
--   most     how many tickets of a tenant the claim may skip because the worker has no room for them
--   time     the turn of the tenant that was served last; nil if none was
--
-- FROM clock: digits

local STRIDE = 1000000

-- `after` is the lower bound of the numbers of tickets to read, as ZRANGE takes it.
local function new_tenant(owner, turn, weight, after)
  return {owner = owner, turn = turn, stride = STRIDE / weight, after = after, found = {}, position = 1, skipped = 0,
    closed = false, changed = false}
end

-- The lowest turn of a tenant that is not new. `tenants` are the first of the lane, by their turns.
local function lowest_turn(lane, tenants)
  for _, tenant in ipairs(tenants) do
    if tenant.turn > 0 then return tenant.turn end
  end
  return tonumber(call('ZRANGE', lane.turns, '(0', '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]) or STRIDE
end

-- The turns of a lane. `found` are the first tenants with their turns. `weights` has the weights that are not 1, by
-- tenant. Tickets with a number below `head`, which is the number of the queue's first ticket, have left the queue:
-- somebody has taken them. `room` is for how many operations the worker has room.
local function read_turns(lane, found, weights, room, head)
  local tenants = {}
  for index = 1, #found, 2 do
    local owner = found[index]
    tenants[#tenants + 1] = new_tenant(owner, tonumber(found[index + 1]), weights[owner] or 1, head or '-inf')
  end
  local lowest = tenants[1].turn <= 0 and lowest_turn(lane, tenants)
  for _, tenant in ipairs(tenants) do
    if tenant.turn > 0 then break end
    tenant.turn, tenant.changed = lowest, true
  end
  local count = #tenants
  return {lane = lane, tenants = tenants, size = math.ceil(room / count) + 1, most = math.ceil(C.window / count)}
end

-- The tenant whose turn it is, or nil if the claim takes no more tickets. Of equal turns the first counts: a tenant
-- that has just come is before the others.
local function next_tenant(turns)
  local next = nil
  for _, tenant in ipairs(turns.tenants) do
    if not tenant.closed and (not next or tenant.turn < next.turn) then next = tenant end
  end
  return next
end

-- Forget a tenant that has no tickets, not even tickets that are missing from the queue.
local function forget_tenant(turns, tenant)
  if call('EXISTS', turns.lane.ticketed .. tenant.owner) == 1 then return end
  call('ZREM', turns.lane.turns, tenant.owner)
  tenant.changed = false
end

-- The job of the tenant's next ticket, and its operation. Without another ticket, closes the tenant and returns nil.
local function next_ticket(turns, tenant)
  if tenant.position > #tenant.found then
    local is_first = #tenant.found == 0
    tenant.found = call('ZRANGE', turns.lane.ticketed .. tenant.owner, tenant.after, '+inf', 'BYSCORE', 'LIMIT', 0,
      turns.size, 'WITHSCORES')
    tenant.position = 1
    if #tenant.found == 0 then
      tenant.closed = true
      if is_first then forget_tenant(turns, tenant) end
      return nil
    end
  end
  local key, number = tenant.found[tenant.position], digits(tonumber(tenant.found[tenant.position + 1]))
  tenant.position, tenant.after = tenant.position + 2, '(' .. number
  return key .. '-' .. number, key
end

-- Note that a ticket of the tenant was taken.
local function pass_turn(turns, tenant)
  turns.time = tenant.turn
  tenant.turn, tenant.changed = tenant.turn + tenant.stride, true
end

-- Note that the worker has no room for a ticket of the tenant. Looks at more of its tickets only if `deep`.
local function skip_ticket(turns, tenant, deep)
  tenant.skipped = tenant.skipped + 1
  tenant.closed = not deep or tenant.skipped >= turns.most
end

-- Store the turns. A tenant that was not served because there was no room for its tickets has no claim to more later.
local function write_turns(turns)
  local scores = {}
  for _, tenant in ipairs(turns.tenants) do
    if turns.time and tenant.turn < turns.time then tenant.turn, tenant.changed = turns.time, true end
    if tenant.changed then scores[#scores + 1], scores[#scores + 2] = tenant.turn, tenant.owner end
  end
  if #scores > 0 then call('ZADD', turns.lane.turns, 'XX', unpack(scores)) end
end
