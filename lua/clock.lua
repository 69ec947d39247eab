--- Reads the clock of the script: the server's time.

local time = call('TIME')
now = time[1] * 1000000 + time[2]
now_ms = math.floor(now / 1000)
