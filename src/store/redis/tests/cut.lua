-- Cuts a script short: the write with the number in `test:cut` fails. Then all such writes to its key fail, too,
-- if `test:cut_for_good` is there. `test:writes` tells how many writes there were.
local server, writes, failing = redis, 0, nil
local cut = tonumber(server.call('GET', 'test:cut') or '0')
local is_write = { HSET = 1, HDEL = 1, ZADD = 1, ZREM = 1, PEXPIREAT = 1, PERSIST = 1 }
local function fails(command, key)
  if cut == 0 or not is_write[command] then return false end
  writes = writes + 1
  server.call('SET', 'test:writes', writes)
  if writes == cut then
    failing = server.call('EXISTS', 'test:cut_for_good') == 1 and command .. key
    return true
  end
  return failing == command .. key
end
local redis = {
  error_reply = server.error_reply,
  call = function(command, ...)
    if fails(command, (...)) then error('a cut') end
    return server.call(command, ...)
  end,
  pcall = function(command, ...)
    if fails(command, (...)) then return server.error_reply('ERR a cut') end
    return server.pcall(command, ...)
  end,
}
