--- The clock of every script: the server's time in microseconds, read once.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
