-- Stages: the public status that each brings, and which are final.

-- The public status that a stage brings. A record keeps its status in every other stage.
local PUBLIC_STATUS = {running = 'Running', completed = 'Completed', failed = 'Failed'}

-- The stages of an operation that has ended.
local FINAL = {completed = true, failed = true, tombstone = true}
