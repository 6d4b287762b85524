-- The note of a jump of the server's clock. For one lease after a jump, no operation is judged by the time.
--
-- KEYS judge_after  STRING  `<time> <sum>`: when operations are judged by the time again; the sum of all jumps

-- Whether the clock has jumped a moment ago. A time that is too far ahead was noted before a jump back.
local function has_jumped(now)
  local time = tonumber(string.match(call('GET', judge_after) or '', '^%d+'))
  return time and time > now and time <= now + C.longest_lease
end
