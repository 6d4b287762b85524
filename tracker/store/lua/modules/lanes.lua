-- The lanes of priority: each has an RQ queue.

-- A record's `lane` -> the lane's RQ queue (`name` as RQ calls it, `queue` as a key), its sorted set of queued
-- operations (`ticketed`), and RQ's registries of its jobs (`started`, `failed`).
local LANES = C.lanes
