-- Every set, index and queue that may ever hold an operation, by the names that scripts' replies and
-- tracker/maintenance/placement.py use.
--
-- KEYS suspects       ZSET  queued operation -> when its ticket was found missing
-- KEYS leases         ZSET  running operation -> when its lease runs out
-- KEYS due            ZSET  delayed operation -> when it is due
-- KEYS expiries       ZSET  operation that has ended -> when the sweeper expires it
-- KEYS deadlines      ZSET  operation -> when it must have started
-- KEYS limiters       ZSET  limiter -> when to look at it again
-- KEYS unserved_types ZSET  type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS apart_types    ZSET  `process <type>` or `worker <type>` -> the same
-- FROM lanes: LANES
-- FROM record: type_name
-- FROM indexes: index_of, status_index, context_index
-- FROM serial_queue: serial_queue_of
-- FROM limiter: parked_at, slots_at
-- FROM worker_waits: waiting_at

local STATUSES = {'NotStarted', 'Running', 'Completed', 'Failed'}

-- Name -> key. `turn` holds the operation's tenant, `gates` its limiter, `ids` its public id. `lacking` holds its type;
-- `processes` and `workers` hold its type and what it needs. All others hold its key.
local function memberships_of(record)
  local lane = LANES[record.lane] or LANES['']
  local found = {ticketed = lane.ticketed .. record.owner, former = lane.former, turn = lane.turns,
    ticket = lane.queue, suspects = suspects, leases = leases, due = due, expiries = expiries, deadlines = deadlines,
    lack = waiting_at('type', type_name(record)), lacking = unserved_types,
    process = waiting_at('process', type_name(record)), processes = apart_types,
    worker = waiting_at('worker', type_name(record)), workers = apart_types,
    call = index_of(record), ids = C.ids .. record.owner}
  for _, status in ipairs(STATUSES) do found[status] = status_index(record, status) end
  if record.context ~= '' then found.context = context_index(record, record.context) end
  if record.serial ~= '' then found.line = serial_queue_of(record) end
  if record.gate ~= '' then
    found.parked, found.taken, found.gates = parked_at(record.gate), slots_at(record.gate), limiters
  end
  return found
end
