-- Write lifecycle changes, each if its operation is still as the caller saw it. A change that is refused does not
-- affect the others.
--
-- KEYS leases  ZSET  running operation -> when its lease runs out
-- ARGV brief   0|1   reply with the words alone, without the records
-- ARGV changes ...   for each change: its change_header, the entry for the history of attempts (or empty), and its
--                    fields: field, value, ... The field `forget` removes the field that it names.
-- PACKED change_header
-- FROM record: read_record
-- FROM transaction: begin, commit
-- FROM indexes: remove_from_indexes, set_context
-- FROM move: move
--
-- Returns for each change one of:
--   {OK, field, value, ...}  it is written, now or by an earlier call with the same token whose reply was lost
--   {MISSING}                the operation has no record
--   {CONFLICT}               the operation is not as the caller saw it
--   {CANCEL}                 a cancel was requested meanwhile, so the operation must not start again
-- Writes nothing unless OK.

local function number_text(text) return text == '' and '0' or text end

-- Why the change must not be written, or nil.
local function refusal(tx, change, record)
  if record.stage ~= change.seen_stage or number_text(record.attempt) ~= change.seen_attempt
    or number_text(record.ticket) ~= change.seen_ticket
    or (change.seen_revision ~= '-' and record.revision ~= change.seen_revision) then
    return 'CONFLICT'
  end
  if change.lease_ran_out == '1' and (tonumber(call('ZSCORE', leases, change.key)) or 0) > tx.now then
    return 'CONFLICT'
  end
  local starts_again = change.stage == 'queued' or change.stage == 'delayed'
  if record.stage == 'running' and starts_again and record.cancel_requested ~= '' then return 'CANCEL' end
  return nil
end

-- Remove one entry of a history: the oldest that is not charged, else the oldest. Entries of earlier versions have no
-- mark; of those, the ones that a worker handed back are not charged.
local function shorten(history)
  for _, entry in ipairs(call('LRANGE', history, 0, -1)) do
    if string.find(entry, '"uncharged":true', 1, true) or string.find(entry, '"outcome":"hand_back"', 1, true) then
      call('LREM', history, 1, entry)
      return
    end
  end
  call('LPOP', history)
end

-- Add an ended attempt to the history. A full history loses its oldest entry that was not charged, or else its oldest.
local function add_to_history(tx, record, entry)
  local history = C.history .. record.key
  if call('RPUSH', history, tx.time .. ' ' .. entry) > C.history_limit then shorten(history) end
  record.tried = '1'
end

-- Apply what a field changes beside the record's hash. Returns whether the field is stored.
local function apply_field(record, field, value)
  if field == 'client_context' then
    set_context(record, value)
  elseif field == 'hidden' and record.hidden == '' then
    remove_from_indexes(record)
    record.hidden, record.hiding = '1', true
  elseif field == 'forget' then
    set_context(record, nil)
    call('HDEL', record.hash, value)
    return false
  end
  return true
end

-- The fields to write (field, value, ...), which are set in the record, too.
local function set_fields(tx, change, record)
  local fields = {'token', change.token}
  local count = 2
  if change.entry ~= '' then fields[3], fields[4], count = 'tried', '1', 4 end
  if change.timestamp_field ~= '-' then
    fields[count + 1], fields[count + 2], count = change.timestamp_field, tx.time, count + 2
    record[change.timestamp_field] = tx.time
  end
  for index = change.first, change.last, 2 do
    local field, value = ARGV[index], ARGV[index + 1]
    if apply_field(record, field, value) then
      fields[count + 1], fields[count + 2], count = field, value, count + 2
      record[field] = value
    end
  end
  return fields
end

local function reply_ok(record)
  if brief == '1' then return {'OK'} end
  return {'OK', unpack(call('HGETALL', record.hash))}
end

local function write(tx, change)
  local record = read_record(change.key)
  if not record then return {'MISSING'} end
  if record.token == change.token then return reply_ok(record) end
  local refused = refusal(tx, change, record)
  if refused then return {refused} end
  if change.entry ~= '' then add_to_history(tx, record, change.entry) end
  move(tx, record, change.stage, set_fields(tx, change, record), tonumber(change.delay))
  if change.stage == 'running' and change.timestamp_field == 'cancel_requested' then
    call('PUBLISH', C.control .. record.worker, 'cancel ' .. change.key .. ' ' .. record.attempt)
  end
  return reply_ok(record)
end

-- The changes in order. `first` and `last` are the positions of a change's fields in ARGV.
local function read_changes()
  local changes = {}
  local at, last = changes_start, changes_start + changes_count - 1
  while at <= last do
    local change = unpack_change_header(ARGV[at])
    change.entry, change.first = ARGV[at + 1], at + 2
    change.last = change.first + change.count - 1
    changes[#changes + 1] = change
    at = change.last + 1
  end
  return changes
end

local changes = read_changes()
local tx = begin(#changes > 1)
local replies = {}
for index, change in ipairs(changes) do replies[index] = write(tx, change) end
commit(tx)
return replies
