-- Transitions: the change of one operation's record, and of every set and index that holds the operation.
--
-- KEYS expiries  ZSET    operation that has ended -> when the sweeper expires it
-- FROM clock: digits
-- FROM stages: PUBLIC_STATUS
-- FROM record: policy_of
-- FROM indexes: set_status, remove_from_indexes
-- FROM stage_sets: leave_stage, enter_stage
-- FROM events: add_event

-- Make the record a tombstone: remove the operation's contents. Its ids, type, times and status stay.
local function make_tombstone(tx, record)
  remove_from_indexes(record)
  call('DEL', C.history .. record.key)
  call('HDEL', record.hash, 'members', 'results', 'result_info', 'detail', 'client_context', 'cancel_reason', 'worker')
  local expires = tx.now + policy_of(record).tombstone * C.second
  call('HSET', record.hash, 'expires', digits(expires))
  call('ZADD', expiries, expires, record.key)
  call('PEXPIREAT', record.hash, math.floor((expires + C.day) / 1000))
end

-- Bring the operation to a stage, which may be the stage that it has.
--
-- `fields` are more fields to write: field, value, ... The caller has set the same fields in `record`, as far as events
-- have them. `duration` (microseconds) is the delay of a delayed operation, or the lease of a running one. The caller
-- has checked all conditions, because a script that fails halfway is not undone. Returns `fields` with all fields that
-- were written.
local function change_stage(tx, record, stage, fields, duration)
  fields = fields or {}
  local before = record.stage
  if stage ~= before then leave_stage(tx, record, stage) end
  set_status(tx, record, PUBLIC_STATUS[stage] or record.status)
  if record.hidden ~= '' and (stage == 'completed' or stage == 'failed') then
    call('HSET', record.hash, 'completed', tx.time)
    stage = 'tombstone'
  end
  if stage ~= before then stage = enter_stage(tx, record, stage, fields, duration) end
  record.stage, record.revision = stage, digits(record.revision + 1)
  local count = #fields
  fields[count + 1], fields[count + 2], fields[count + 3], fields[count + 4] = 'stage', stage, 'status', record.status
  fields[count + 5], fields[count + 6] = 'changed', tx.time
  fields[count + 7], fields[count + 8] = 'revision', record.revision
  call('HSET', record.hash, unpack(fields))
  if stage == 'tombstone' and before ~= stage then make_tombstone(tx, record) end
  add_event(tx, record, before)
  return fields
end
