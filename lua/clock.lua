--- The clock of every script: the server's time, read once.

local time = call('TIME')
-- In microseconds, and in milliseconds.
local now = time[1] * 1000000 + time[2]
local now_ms = floor(now / 1000)
