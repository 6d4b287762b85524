-- Write lifecycle changes, each if its operation is still where the caller saw it. One that is refused does not
-- touch its neighbours.
--
-- ARGV brief    0|1  answer the words alone, without the records
-- ARGV changes  ...  for each change: head, entry (of the attempt's history, or empty), and as many words as the head
--                    says: field, value, … The head holds, between spaces and with - for nothing: key, seen_stage,
--                    seen_attempt, seen_ticket, seen_revision (to insist on), lease_ran_out (1: refuse when the lease
--                    was renewed after all), stage (where it goes), delay (microseconds, when it becomes delayed),
--                    token (names this change: the same one again, its answer lost, is OK and writes nothing), stamp
--                    (a field that takes the time), count (of the words). The field `forget` removes the one it names.
--
-- Returns for each: {OK, field, value, ...} | {MISSING} | {CONFLICT} | {CANCEL} (a cancel was asked for meanwhile: it
-- must not start again). Writes nothing unless OK.
-- INCLUDE move
local now = server_time()

local function written(op)
  if brief == '1' then return {'OK'} end
  return {'OK', unpack(call('HGETALL', op))}
end

local function write(change, first, last)
  local op = C.operation .. change.key
  local record = look(op)
  if not record then return {'MISSING'} end
  if record.token == change.token then return written(op) end
  if record.stage ~= change.seen_stage or (record.attempt == '' and '0' or record.attempt) ~= change.seen_attempt
    or (record.ticket == '' and '0' or record.ticket) ~= change.seen_ticket
    or (change.seen_revision ~= '-' and record.revision ~= change.seen_revision) then
    return {'CONFLICT'}
  end
  if change.lease_ran_out == '1' and (tonumber(call('ZSCORE', leases, change.key)) or 0) > now then
    return {'CONFLICT'}
  end
  local again = change.stage == 'queued' or change.stage == 'delayed'
  if record.stage == 'running' and again and record.cancel_requested ~= '' then return {'CANCEL'} end

  if change.entry ~= '' then
    call('RPUSH', C.history .. change.key, digits(now) .. ' ' .. change.entry)
    call('LTRIM', C.history .. change.key, -C.history_limit, -1)
  end
  local extra = {'token', change.token}
  if change.entry ~= '' then extra[3], extra[4], record.tried = 'tried', '1', '1' end
  if change.stamp ~= '-' then extra[#extra + 1], extra[#extra + 2] = change.stamp, digits(now) end
  for index = first, last, 2 do
    local field, value = ARGV[index], ARGV[index + 1]
    if field == 'client_context' then
      rename(change.key, record, value)
    elseif field == 'forget' then
      rename(change.key, record, nil)
      call('HDEL', op, value)
    end
    if field ~= 'forget' then extra[#extra + 1], extra[#extra + 2] = field, value end
    if field == 'hidden' and record.hidden == '' then
      unindex(change.key, record)
      record.hidden, record.hiding = '1', true
    end
  end
  move(op, change.key, record, change.stage, now, tonumber(change.delay), extra)
  if change.stage == 'running' and change.stamp == 'cancel_requested' then
    call('PUBLISH', C.control .. record.worker, 'cancel ' .. change.key .. ' ' .. record.attempt)
  end
  return written(op)
end

local HEAD = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local answers = {}
local at = changes
gathering = brief == '1' -- a record that is answered is whole, and so is what is told of it
while at <= #ARGV do
  local change, count, first = {entry = ARGV[at + 1]}, nil, at + 2
  change.key, change.seen_stage, change.seen_attempt, change.seen_ticket, change.seen_revision, change.lease_ran_out,
    change.stage, change.delay, change.token, change.stamp, count = string.match(ARGV[at], HEAD)
  at = first + tonumber(count)
  answers[#answers + 1] = write(change, first, at - 1)
end
finish()
return answers
