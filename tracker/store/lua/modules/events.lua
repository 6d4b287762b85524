-- Events: what a transaction did to operations, for those who follow them. tracker/events/feed.py reads the events and
-- describes their form.
--
-- Each change of an operation is one line. All lines of a tenant are one message, which is added to the tenant's feed
-- and published. `tx.events` gathers the lines: tenant -> `kept` and `published`, two lists.
--
-- KEYS events    PUBSUB  where every event is published
-- FROM stages: FINAL

-- The members that the event of any operation may have, as JSON, each after a comma. An id that the server made is not
-- stored, and is left out.
local function members_of(record)
  local id, members = rawget(record, 'id'), ''
  if id then members = ',"i":"' .. id .. '"' end
  if record.percent ~= '' then members = members .. ',"p":' .. record.percent end
  if record.detail ~= '' then members = members .. ',"d":' .. cjson.encode(record.detail) end
  if record.cancel_requested ~= '' then members = members .. ',"q":' .. record.cancel_requested end
  return members
end

-- The members that only the event of an ended operation has. `began` is the time at which its last attempt began, if
-- the operation ends by this change. A long result is published without its message.
local function result_members(record, began)
  local result, members = record.result_info, record.canceled == '1' and ',"c":1' or ''
  if #result > C.largest_published_result then result = string.match(result, '^%[%-?%d+,%-?%d+,') .. '""]' end
  if began then members = members .. ',"b":' .. began end
  if result ~= '' then members = members .. ',"f":' .. result end
  return members .. ',"k":"' .. record.type .. '"'
end

-- The members of an attempt's end that are published and not kept. With them, those who wait for the end need not read
-- the record. Empty if a part is too long to be published: then they have to read the record.
local function published_members(record)
  local results, longest = record.results, C.largest_published_result
  if #results > longest or #record.result_info > longest then return '' end
  return ',"r":' .. (results == '' and '{}' or results) .. ',"x":' .. record.expires
end

local function add_lines(tx, tenant, kept, published)
  local lines = tx.events[tenant]
  if not lines then
    lines = {kept = {}, published = {}}
    tx.events[tenant] = lines
  end
  local count = #lines.kept + 1
  lines.kept[count], lines.published[count] = kept, published
end

-- A line without the members, and without the brackets that close it.
local function line_of(tx, record, stage)
  return record.key .. '\t' .. record.call_id .. '\t[' .. record.revision .. ',"' .. stage .. '",'
    .. (record.attempt == '' and '0' or record.attempt) .. ',' .. tx.time
end

-- Add the event that clients cannot see the operation any more.
local function add_last_event(tx, record)
  local id = rawget(record, 'id')
  local line = line_of(tx, record, 'tombstone') .. (id and ',{"i":"' .. id .. '"}]' or ']')
  add_lines(tx, record.tenant, line, line)
end

-- Add the event of a change. The record has changed already; its stage was `before`. Only one event of a hidden
-- operation is added: that of the change that hides it (`record.hiding`).
local function add_event(tx, record, before)
  if record.hidden ~= '' and not rawget(record, 'hiding') then return end
  if record.hidden ~= '' or record.stage == 'tombstone' then return add_last_event(tx, record) end
  local line, members, only_published = line_of(tx, record, record.stage), members_of(record), ''
  if FINAL[record.stage] then
    local began = record.stage ~= before and rawget(record, 'began')
    members = members .. result_members(record, began)
    if began then only_published = published_members(record) end
  end
  if members == '' then
    add_lines(tx, record.tenant, line .. ']', line .. ']')
  else
    line = line .. ',{' .. string.sub(members, 2)
    add_lines(tx, record.tenant, line .. '}]', line .. only_published .. '}]')
  end
end

-- The position of the last line that is in one message with the line at `first`.
local function last_of_message(lines, first)
  local last, size = first, #lines[first]
  while lines[last + 1] and last - first + 1 < C.events_per_message do
    size = size + #lines[last + 1] + 1
    if size > C.message_bytes then break end
    last = last + 1
  end
  return last
end

local function publish_events(tx)
  for tenant, lines in pairs(tx.events) do
    local owner = redis.sha1hex(tenant)
    local feed = C.feed .. owner
    local first = 1
    while lines.kept[first] do
      local last = last_of_message(lines.kept, first)
      local kept = table.concat(lines.kept, '\n', first, last)
      local id = call('XADD', feed, 'MAXLEN', '~', C.feed_length, '*', '', kept)
      call('PUBLISH', events, owner .. '\t' .. id .. '\n' .. table.concat(lines.published, '\n', first, last))
      first = last + 1
    end
    if call('TTL', feed) < C.feed_for / 2 then call('EXPIRE', feed, C.feed_for) end
  end
end
