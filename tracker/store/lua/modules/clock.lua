-- Time by the Redis server, in microseconds; a test may add an offset, where the scripts are compiled for it.
local function server_time()
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  if C.test_clock then
    now = now + tonumber(redis.call('GET', C.test_clock) or 0)
  end
  return now
end

-- The same for the same input, which comes again and again, computed once.
local function remembering(compute)
  local known = {}
  return function(given)
    local output = known[given]
    if output == nil then
      output = compute(given)
      known[given] = output
    end
    return output
  end
end

-- A whole number in full: tostring() would round it to 14 digits.
local digits = remembering(function(number)
  return string.format('%d', number)
end)

-- RQ's form of a time: 2026-01-31T12:34:56.789012Z. Civil date from days since the epoch, by eras of 400 years
-- (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
local iso = remembering(function(micros)
  local seconds = math.floor(micros / 1000000)
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day, math.floor(rest / 3600),
    math.floor(rest / 60) % 60, rest % 60, micros - seconds * 1000000)
end)
