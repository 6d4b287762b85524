-- The lanes of priority: each has an RQ queue.

-- A record's `lane` -> these fields of the lane:
--   name      of its RQ queue, as RQ calls it; `queue` is the key
--   ticketed  beginning of the names of its sorted sets of queued operations, one for each tenant
--   former    the sorted set in which earlier versions have the queued operations of all tenants
--   turns     the sorted set of tenants that have tickets in the lane
--   started   RQ's registry of jobs that run; `failed` of those that failed
local LANES = C.lanes
