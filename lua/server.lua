--- Reads which server runs the script. Another one is told by another id, and so is one that was started again.
---
--- Writes  id, unless INFO does not tell

local info = redis.pcall('INFO', 'server')
local run_id = type(info) == 'string' and string.match(info, 'run_id:(' .. ServerId.PATTERN .. ')')
if run_id then id = tonumber(run_id, 16) end
