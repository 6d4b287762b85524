-- The indexes of a call: its operations by the order of their creation, all of them and those of one status or client
-- context. Hidden operations are in none.
--
-- FROM grouped_writes: write_member, write_score

local function index_of(record) return C.call .. record.call end
local function status_index(record, status) return C.call .. record.call .. ':status:' .. status end
local function context_index(record, context) return C.call .. record.call .. ':context:' .. context end

local function add_to_indexes(tx, record)
  local key, created = record.key, record.created
  write_score(tx, index_of(record), created, key)
  write_score(tx, status_index(record, record.status), created, key)
  if record.context ~= '' then write_score(tx, context_index(record, record.context), created, key) end
end

local function remove_from_indexes(record)
  call('ZREM', index_of(record), record.key)
  call('ZREM', status_index(record, record.status), record.key)
  if record.context ~= '' then call('ZREM', context_index(record, record.context), record.key) end
end

local function set_status(tx, record, status)
  if status == record.status then return end
  if record.hidden == '' then
    write_member(tx, 'ZREM', status_index(record, record.status), record.key)
    write_score(tx, status_index(record, status), record.created, record.key)
  end
  record.status = status
end

-- Give the operation another client context, or none (nil). An empty text is a client context.
local function set_context(record, text)
  local context = text and redis.sha1hex(text) or ''
  if record.hidden == '' then
    if record.context ~= '' then call('ZREM', context_index(record, record.context), record.key) end
    if text then call('ZADD', context_index(record, context), record.created, record.key) end
  end
  record.client_context, record.context = text, context
end
