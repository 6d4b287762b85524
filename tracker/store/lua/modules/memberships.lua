-- INCLUDE move
-- Every place that an operation may ever be in, by what scripts and `tracker/maintenance/placement.py` call it.
local STATUSES = {'NotStarted', 'Running', 'Completed', 'Failed'}

local function places_of(record)
  local lane = C.lanes[record.lane] or C.lanes['']
  local index = C.call .. record.call
  local places = {ticketed = lane.ticketed, ticket = lane.queue, suspects = suspects, leases = leases, due = due,
    expiries = expiries, deadlines = deadlines, lack = lacking_at(type_name(record)), lacking = lacking,
    call = index, ids = C.ids .. record.owner}
  for _, status in ipairs(STATUSES) do places[status] = index .. ':status:' .. status end
  if record.context ~= '' then places.context = index .. ':context:' .. record.context end
  if record.serial ~= '' then places.line = C.line .. record.call end
  if record.gate ~= '' then
    places.parked, places.taken, places.gates = parked_at(record.gate), taken_at(record.gate), gates
  end
  return places
end
