-- What the changes of one script are told as (`tracker/events/feed.py` reads it): a line for each, gathered by tenant, and
-- one message for all, which is published and kept in the tenant's feed.
local messages = {} -- tenant -> lines to keep, and `heard`: the same as they are published
local TOLD = {attempt = true, percent = true, detail = true, canceled = true, cancel_requested = true,
  result_info = true, results = true, expires = true}
local rawget, concat = rawget, table.concat

-- What only some changes have to tell, as members of a JSON object, each with a comma before it. Results are stored as
-- JSON; one that is too long is told without its message.
local function more_of(record, stage)
  local percent, detail = rawget(record, 'percent'), rawget(record, 'detail')
  local asked, more = rawget(record, 'cancel_requested'), ''
  if percent and percent ~= '' then more = more .. ',"p":' .. percent end
  if detail and detail ~= '' then more = more .. ',"d":' .. cjson.encode(detail) end
  if asked and asked ~= '' then more = more .. ',"q":' .. asked end
  if not FINAL[stage] then return more end
  local began = record.stage ~= stage and rawget(record, 'began') -- else it has ended before, and is only changed
  local result = rawget(record, 'result_info') or ''
  if #result > C.told_result then result = string.match(result, '^%[%-?%d+,%-?%d+,') .. '""]' end
  return more .. (rawget(record, 'canceled') == '1' and ',"c":1' or '') .. (began and ',"b":' .. began or '')
    .. (result ~= '' and ',"f":' .. result or '') .. ',"k":"' .. record.type .. '"'
end

-- What is published of an attempt's end, but not kept, so that who waits for it need not read the record: what the
-- handler has set, and when the record expires. Nothing where not all of it can be told.
local function rest_of(record, stage)
  if not FINAL[stage] or record.stage == stage or not rawget(record, 'began') then return '' end
  local results, result = rawget(record, 'results') or '', rawget(record, 'result_info') or ''
  if #results > C.told_result or #result > C.told_result then return '' end
  return ',"r":' .. (results == '' and '{}' or results) .. ',"x":' .. record.expires
end

-- Tell that the record has become this by what was written: field, value, … Of a hidden one only that it has gone is
-- told, once.
local function tell(key, record, stage, revision, now, written)
  for index = 1, #written, 2 do
    if TOLD[written[index]] then record[written[index]] = written[index + 1] end
  end
  local gone = stage == 'tombstone'
  if record.hidden ~= '' then
    if not rawget(record, 'hiding') then return end
    gone = true
  end
  local attempt = rawget(record, 'attempt') or ''
  local lines = messages[record.tenant]
  if not lines then
    lines = {heard = {}}
    messages[record.tenant] = lines
  end
  local id = rawget(record, 'id')
  local more = (id and ',"i":"' .. id .. '"' or '') .. (gone and '' or more_of(record, stage))
  local rest = gone and '' or rest_of(record, stage)
  local line = key .. '\t' .. record.call_id .. '\t[' .. revision .. ',"' .. (gone and 'tombstone' or stage)
    .. '",' .. (attempt == '' and '0' or attempt) .. ',' .. digits(now)
    .. (more == '' and '' or ',{' .. string.sub(more, 2))
  local kept = line .. (more == '' and ']' or '}]')
  lines[#lines + 1] = kept
  lines.heard[#lines] = rest == '' and kept or line .. rest .. '}]'
end

local function publish()
  for tenant, lines in pairs(messages) do
    local owner = redis.sha1hex(tenant)
    local feed = C.feed .. owner
    for first = 1, #lines, C.told_at_once do
      local last = math.min(first + C.told_at_once - 1, #lines)
      local id = call('XADD', feed, 'MAXLEN', '~', C.feed_length, '*', '', concat(lines, '\n', first, last))
      call('PUBLISH', events, owner .. '\t' .. id .. '\n' .. concat(lines.heard, '\n', first, last))
    end
    if call('TTL', feed) < C.feed_for / 2 then call('EXPIRE', feed, C.feed_for) end
  end
end
