-- What the changes of one script are told as (`tracker/feed.py` reads it): a line for each, gathered by tenant, and
-- one message for all, which is published and kept in the tenant's feed.
local messages = {}
local TOLD = {attempt = true, percent = true, detail = true, canceled = true, cancel_requested = true,
  result_info = true}
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
    lines = {}
    messages[record.tenant] = lines
  end
  local id = rawget(record, 'id')
  local more = (id and ',"i":"' .. id .. '"' or '') .. (gone and '' or more_of(record, stage))
  lines[#lines + 1] = key .. '\t' .. record.call_id .. '\t[' .. revision .. ',"' .. (gone and 'tombstone' or stage)
    .. '",' .. (attempt == '' and '0' or attempt) .. ',' .. digits(now)
    .. (more == '' and ']' or ',{' .. string.sub(more, 2) .. '}]')
end

local function publish()
  for tenant, lines in pairs(messages) do
    local owner = redis.sha1hex(tenant)
    local feed = C.feed .. owner
    for first = 1, #lines, C.told_at_once do
      local text = concat(lines, '\n', first, math.min(first + C.told_at_once - 1, #lines))
      local id = call('XADD', feed, 'MAXLEN', '~', C.feed_length, '*', '', text)
      call('PUBLISH', events, owner .. '\t' .. id .. '\n' .. text)
    end
    if call('TTL', feed) < C.feed_for / 2 then call('EXPIRE', feed, C.feed_for) end
  end
end
