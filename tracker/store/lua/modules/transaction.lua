-- A transaction: one run of a script that changes operations.
--
-- Its state is the table `tx`, which is handed to every function that writes. `tx.now` is the time of the run as a
-- number, and `tx.time` the same as digits. The other fields are described in the modules that gather something in
-- them.
--
-- FROM clock: server_time, digits
-- FROM grouped_writes: write_groups
-- FROM tickets: push_tickets
-- FROM events: publish_events

-- Begin a transaction. `batched` is for a transaction of many operations (see grouped_writes.lua). `most_tickets` is
-- how many tickets it may push, for a transaction that pushes them at its end (see tickets.lua).
local function begin(batched, most_tickets)
  local now = server_time()
  return {
    now = now,
    time = digits(now),
    events = {},
    batched = batched,
    groups = batched and {ZREM = {}, SREM = {}, SADD = {}, ZADD = {}},
    deleted = batched and {},
    pushes = most_tickets and {},
    numbers = most_tickets and {most = most_tickets},
  }
end

-- Write what the transaction has gathered, and publish its events. Nothing may be gathered afterwards.
local function commit(tx)
  push_tickets(tx)
  write_groups(tx)
  publish_events(tx)
end
