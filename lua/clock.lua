-- The one clock of every script: Redis's own time in microseconds.
local function now_micros()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
