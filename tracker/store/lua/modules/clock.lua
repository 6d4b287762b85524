-- The Redis server's clock, and the forms in which scripts store a time.
--
-- A time is a whole number of microseconds since 1970.

-- In test mode, a key holds an offset that moves the clock.
local function server_time()
  local time = call('TIME')
  local now = tonumber(time[1]) * C.second + tonumber(time[2])
  if C.test_clock then now = now + tonumber(call('GET', C.test_clock) or 0) end
  return now
end

-- The decimal digits of a whole number, for texts, records and replies. tostring() rounds to 14 digits, and a time has
-- 16. An argument of `call` may stay a number.
local function digits(number) return string.format('%d', number) end

-- RQ's form of a time: 2026-01-31T12:34:56.789012Z.
--
-- Scripts have no os.date. The date is computed from the days since 1970, in eras of 400 years (Howard Hinnant,
-- "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
local function iso(time)
  local seconds = math.floor(time / C.second)
  local days = math.floor(seconds / 86400)
  local second_of_day = seconds - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day, math.floor(second_of_day / 3600),
    math.floor(second_of_day / 60) % 60, second_of_day % 60, time - seconds * C.second)
end
