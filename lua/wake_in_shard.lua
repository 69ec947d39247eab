--- How a client of a cluster is woken: by a message that stays within the shard of the name.

-- Publishes pairs of an id and a number. The pcalls are there because a wake-up is a hint: a server
-- that forbids to publish must not fail the script that has granted. A plain channel, whose messages go
-- to every node, is left to clients that the sharded one does not reach. Redis 6.2 has no sharded ones.
local function wake(client, words)
  local prefix, name = string.match(permits, '^(.-){(.*)}')
  local text = name .. '\n' .. table.concat(words, ' ')
  local heard = redis.pcall('SPUBLISH', prefix .. '{' .. name .. '}:wake:' .. client, text)
  if type(heard) ~= 'number' or heard == 0 then
    redis.pcall('PUBLISH', prefix .. 'wake:' .. client, text)
  end
end
