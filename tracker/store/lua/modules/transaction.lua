-- A transaction: one run of a script that changes operations.
--
-- FROM clock: server_time, digits
-- FROM grouped_writes: write_groups
-- FROM tickets: push_tickets
-- FROM events: publish_events
--
-- Its state is a table, `tx`, that is handed to every function that writes: `now` and `time` are the time of the run,
-- as a number and as digits. The modules that gather writes keep them in fields that are described there.

-- Begin a transaction. `batched`: it may change many operations, so writes are grouped. `most_tickets`: how many
-- tickets it may push, where it pushes them at its end (see tickets.lua).
local function begin(batched, most_tickets)
  local now = server_time()
  return {
    now = now,
    time = digits(now),
    events = {},
    batched = batched,
    groups = batched and {ZREM = {}, SREM = {}, SADD = {}, ZADD = {}},
    deleted = batched and {},
    pushes = most_tickets and {most = most_tickets},
  }
end

-- Write what the transaction has gathered, and publish its events. Nothing may be gathered afterwards.
local function commit(tx)
  push_tickets(tx)
  write_groups(tx)
  publish_events(tx)
end
