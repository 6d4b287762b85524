-- Store new operations, index them and queue their first tickets. Each operation is judged by itself, as if the
-- creates came one after another: a create that is refused has no effect on the others.
--
-- KEYS deadlines ZSET  key -> when it must have started
-- ARGV creates   ...   for each operation: its create_header, its create_options if the header says so, and its own
--                      fields (field, value, ...). A shared_header with the fields that several operations have in
--                      common stands before the first of them.
-- PACKED shared_header
-- PACKED create_header
-- PACKED create_options
-- FROM clock: digits
-- FROM record: new_record
-- FROM transaction: begin, commit
-- FROM indexes: add_to_indexes
-- FROM transition: change_stage
--
-- Returns for each operation one of:
--   {NEW, text}                     it is stored; the text is what was added to its fields: field, value, ... with
--                                   spaces between
--   {CREATED, field, value, ...}    it was stored before with the same key: a repeated call whose reply was lost
--   {EXISTS, field, value, ...}     another create with the same id, call and body stored it
--   {CONFLICT}                      another operation has the id
--   {REUSED}                        the idempotency key is another request's
--   {FORGOTTEN}                     the operation of the idempotency key's first request is gone
-- A request whose idempotency key is remembered has the word of the first request again, and the record as it is now.
-- Writes nothing unless NEW, except for the idempotency key of a request whose reply is CREATED or EXISTS.

-- The creates in order. `first` and `last` are the positions of an operation's own fields in ARGV.
local function read_creates()
  local creates, shared = {}, nil
  local at, last = creates_start, creates_start + creates_count - 1
  while at <= last do
    local header = unpack_shared_header(ARGV[at])
    if header then
      shared = header
      shared.fields = {unpack(ARGV, at + 1, at + header.count)}
      at = at + header.count + 1
    else
      local new = unpack_create_header(ARGV[at])
      if new.has_options == '1' then
        at = at + 1
        new.options = unpack_create_options(ARGV[at])
      end
      new.shared, new.first, new.last = shared, at + 1, at + new.count
      creates[#creates + 1] = new
      at = new.last + 1
    end
  end
  return creates
end

-- The public ids that the creates ask for. Returns owner -> tenant, a table with these fields:
--   holders  id -> key of the operation that has the id, also if this run stores it
--   added    id, key, ... of the operations that this run stores
local function read_ids(creates)
  local tenants = {}
  for _, new in ipairs(creates) do
    local owner = new.shared.owner
    local tenant = tenants[owner] or {asked = {}, holders = {}, added = {}}
    tenants[owner] = tenant
    tenant.asked[#tenant.asked + 1] = new.id
  end
  for owner, tenant in pairs(tenants) do
    local found = call('HMGET', C.ids .. owner, unpack(tenant.asked))
    for index, id in ipairs(tenant.asked) do tenant.holders[id] = found[index] end
  end
  return tenants
end

local function write_ids(tenants)
  for owner, tenant in pairs(tenants) do
    if #tenant.added > 0 then call('HSET', C.ids .. owner, unpack(tenant.added)) end
  end
end

-- Remember the operation that the request with this idempotency key has made, and the fingerprint of the request.
local function remember(options, word, key)
  if not options or options.idempotency_key == '-' then return end
  call('SET', C.idempotency .. options.idempotency_key, word .. ' ' .. key .. ' ' .. options.fingerprint,
    'EX', options.remember_for)
end

-- The reply to a request whose idempotency key is remembered, or nil.
local function repeated(options)
  if options.idempotency_key == '-' then return nil end
  local memory = redis.pcall('GET', C.idempotency .. options.idempotency_key)
  if not memory then return nil end
  local word, key, fingerprint = string.match(type(memory) == 'string' and memory or '', '^(%S+) (%S+) (%S+)$')
  if fingerprint ~= options.fingerprint then return {'REUSED'} end
  local stored = redis.pcall('HGETALL', C.operation .. key)
  if stored.err then return {word, 'key', key} end
  if #stored == 0 then return {'FORGOTTEN'} end
  return {word, unpack(stored)}
end

-- The reply to a create whose id is taken, or nil. An id is free again when Redis itself has removed the record
-- because no sweeper ran in time.
local function taken(new, tenant)
  local holder = tenant.holders[new.id]
  if not holder then return nil end
  local stored = redis.pcall('HMGET', C.operation .. holder, 'digest', 'stage', 'hidden')
  local digest, stage, hidden = stored[1], stored[2], stored[3]
  if not stage then return call('EXISTS', C.operation .. holder) == 1 and {'CONFLICT'} or nil end
  if digest ~= new.digest or stage == 'tombstone' or hidden == '1' then return {'CONFLICT'} end
  local word = holder == new.key and 'CREATED' or 'EXISTS'
  remember(new.options, word, holder)
  return {word, unpack(call('HGETALL', C.operation .. holder))}
end

-- The order of creation within a call: the time, or the lowest later number that is free. `newest`: call -> the last
-- number of this run.
local function creation_order(tx, newest, of_call)
  local last = newest[of_call] or tonumber(call('ZRANGE', C.call .. of_call, 0, 0, 'REV', 'WITHSCORES')[2]) or 0
  newest[of_call] = math.max(tx.now, last + 1)
  return digits(newest[of_call])
end

-- The microseconds until the operation is to be queued, and whether the create asks for a delay and not for a time.
local function delay_of(tx, options)
  if not options then return 0, false end
  local delay, until_time = tonumber(options.delay), tonumber(options.not_before) - tx.now
  return math.max(delay, until_time, 0), delay > math.max(until_time, 0)
end

-- The fields of a new operation that the caller has sent: field, value, ...
local function requested_fields(new)
  local fields = {'key', new.key, 'digest', new.digest, unpack(new.shared.fields)}
  local count = #fields
  for index = new.first, new.last do
    count = count + 1
    fields[count] = ARGV[index]
  end
  return fields
end

local function record_of(new, fields, created)
  local record = new_record(new.key)
  for index = 1, #fields, 2 do record[fields[index]] = fields[index + 1] end
  record.stage, record.status, record.revision, record.created = 'new', 'NotStarted', '0', created
  record.owner, record.call = new.shared.owner, new.shared.call
  record.context = new.context == '-' and '' or new.context
  return record
end

local function store(tx, new, tenant, newest)
  local fields = requested_fields(new)
  local wait, is_delay = delay_of(tx, new.options)
  local created, requested = creation_order(tx, newest, new.shared.call), #fields
  local record = record_of(new, fields, created)
  tenant.holders[new.id] = new.key
  tenant.added[#tenant.added + 1], tenant.added[#tenant.added + 2] = new.id, new.key
  add_to_indexes(tx, record)
  fields[requested + 1], fields[requested + 2] = 'created', created
  if wait > 0 then fields[requested + 3], fields[requested + 4] = 'not_before', digits(tx.now + wait) end
  if new.shared.start_within ~= '0' then
    local start_by = digits(tx.now + wait + new.shared.start_within)
    call('ZADD', deadlines, start_by, new.key)
    fields[#fields + 1], fields[#fields + 2] = 'start_by', start_by
  end
  change_stage(tx, record, wait > 0 and 'delayed' or 'queued', fields, wait)
  if is_delay then call('HSET', record.hash, 'relative', '1') end -- for shift_times.lua
  return {'NEW', table.concat(fields, ' ', requested + 1)}
end

local creates = read_creates()
local tenants = read_ids(creates)
local batched = #creates > 1
local tx = begin(batched, batched and #creates)
local newest, replies = {}, {}
for index, new in ipairs(creates) do
  local tenant = tenants[new.shared.owner]
  local reply = new.options and repeated(new.options) or taken(new, tenant)
  if not reply then
    remember(new.options, 'CREATED', new.key)
    reply = store(tx, new, tenant, newest)
  end
  replies[index] = reply
end
write_ids(tenants)
commit(tx)
return replies
