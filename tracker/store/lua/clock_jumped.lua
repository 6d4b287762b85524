-- Note that the server's clock has jumped: for one lease, no operation is judged by the time (see find_overdue.lua).
-- Times that would be too late after a jump back are set again.
--
-- KEYS judge_after     STRING  `<time> <jump>`: before this time, no operation is judged by the time
-- KEYS leases          ZSET    running operation -> when its lease runs out
-- KEYS suspects        ZSET    queued operation -> when its ticket was found missing
-- KEYS limiters        ZSET    limiter -> when to look at it again
-- KEYS unserved_types  ZSET    type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS apart_types     ZSET    `process <type>` or `worker <type>` -> the same
-- ARGV jump            int     microseconds, negative for a jump back
-- ARGV lease           int     microseconds
-- FROM clock: digits, server_time
--
-- Returns the time, or an empty text if another process has noted the same jump.
local now = server_time()

-- Whether the note is about this jump: a jump of the same length, noticed a moment ago.
local function is_noted()
  local time, noted = string.match(call('GET', judge_after) or '', '^(%d+) (-?%d+)$')
  if not time then return false end
  local since = now + tonumber(lease) - tonumber(time)
  return since >= 0 and since < 3 * C.second and math.abs(tonumber(jump) - tonumber(noted)) < C.second
end

-- Set all scores above `most` to `most`.
local function lower(set, most)
  local members = call('ZRANGE', set, '(' .. digits(most), '+inf', 'BYSCORE')
  for _, member in ipairs(members) do call('ZADD', set, most, member) end
end

if is_noted() then return '' end
call('SET', judge_after, digits(now + tonumber(lease)) .. ' ' .. jump)
lower(leases, now + tonumber(lease))
for _, set in ipairs({suspects, limiters, unserved_types, apart_types}) do lower(set, now) end
return digits(now)
