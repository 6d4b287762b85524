-- Note that the server's clock has jumped: for one lease, no operation is judged by the time. Times that would be too
-- late after a jump back are set again.
--
-- A process that was suspended itself takes that for a jump of the server's clock. Others have swept meanwhile, so the
-- number of seconds with a sweep tells.
--
-- Several processes notice a jump, some of them late. The note has the sum of all jumps. A caller says which sum it
-- knew before the jump, so the script knows what others have noted since.
--
-- KEYS judge_after     STRING  `<time> <sum>`: when operations are judged by the time again; the sum of all jumps
-- KEYS leases          ZSET    running operation -> when its lease runs out
-- KEYS suspects        ZSET    queued operation -> when its ticket was found missing
-- KEYS limiters        ZSET    limiter -> when to look at it again
-- KEYS unserved_types  ZSET    type -> since when operations of it wait, or when one was last queued to find a worker
-- KEYS apart_types     ZSET    `process <type>` or `worker <type>` -> the same
-- KEYS workers         ZSET    worker -> when it last reported, in seconds
-- KEYS sweeps          STRING  `<number> <time>`: in how many seconds there was a sweep, and the last of them
-- KEYS sweeper         STRING  token of the process that has the sweeper's lock
-- ARGV jump            int     microseconds since the caller knew that sum, negative for a jump back
-- ARGV known           int     the sum that the caller knew
-- ARGV counted         int     the number of seconds with a sweep that the caller knew
-- ARGV passed          int     the microseconds since then by the caller's clock
-- ARGV lease           int     microseconds
-- FROM clock: digits, server_time
-- FLAGS allow-oom
--
-- Returns {sum, time, left}: the sum of all jumps, the time, and the part of the jump that nobody had noted before: 0,
-- or the microseconds by which the caller has to shift other times.
local now = server_time()
local sum = tonumber(string.match(call('GET', judge_after) or '', '^%d+ (-?%d+)$')) or 0
local left = tonumber(jump) - (sum - tonumber(known))

-- Set all scores above `most` to `most`.
local function lower(set, most)
  local members = call('ZRANGE', set, '(' .. digits(most), '+inf', 'BYSCORE')
  for _, member in ipairs(members) do call('ZADD', set, most, member) end
end

-- Whether others have swept for longer than the caller's clock has run.
local function has_slept()
  local swept = (tonumber(string.match(call('GET', sweeps) or '', '^%d+')) or 0) - tonumber(counted)
  return swept * C.second > tonumber(passed) + 5 * C.second
end

if math.abs(left) < C.second or has_slept() then return {digits(sum), digits(now), '0'} end
call('SET', judge_after, digits(now + tonumber(lease)) .. ' ' .. digits(sum + left))
lower(leases, now + tonumber(lease))
for _, set in ipairs({suspects, limiters, unserved_types, apart_types}) do lower(set, now) end
lower(workers, math.floor(now / C.second))
call('PEXPIRE', sweeper, 5000) -- after a jump back, a lock whose holder is dead would last as long as the jump
return {digits(sum + left), digits(now), digits(left)}
