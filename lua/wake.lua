--- How a client is woken.

-- Publishes pairs of an id and a number. The pcall is there because a wake-up is a hint: a server
-- that forbids PUBLISH must not fail the script that has granted.
local function wake(client, words)
  local prefix, name = string.match(permits, '^(.-){(.*)}')
  redis.pcall('PUBLISH', prefix .. 'wake:' .. client, name .. '\n' .. table.concat(words, ' '))
end
