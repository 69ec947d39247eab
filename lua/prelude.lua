-- Shared by every script; joined in front of it when the crate is compiled.
--
-- KEYS[1] permits  ZSET  permit id -> lease deadline, server milliseconds (+0.5 once kicked)
-- KEYS[2] queue    ZSET  waiter id -> ticket
-- KEYS[3] clients  ZSET  client id -> until when it is presumed alive, server milliseconds
-- KEYS[4] meta     HASH  inc, last, limit, extra, ttl, e:<client> (epoch), l:<client> (label)
--
-- An id reads <client>:<counter>[*units][/lease_ms]; the client part is 16 hex digits.
-- Numbers over 1e14 lose digits when Lua concatenates them, so they go out through big().

local DEFAULT_LEASE_MS = 30000
local META_OUTLIVES_MS = 60000
local CHUNK = 64

local function big(n)
  return string.format('%.0f', n)
end

local function units_of(id)
  local units = string.match(id, '%*(%d+)')
  return units and tonumber(units) or 1
end

local function lease_of(id)
  local lease = string.match(id, '/(%d+)$')
  return lease and tonumber(lease) or DEFAULT_LEASE_MS
end

local function client_of(id)
  return string.sub(id, 1, 16)
end

-- Wake-ups are hints: a server that forbids PUBLISH must not fail the script that granted.
local function wake(channel, client, words)
  local name = string.match(KEYS[1], '{(.*)}')
  redis.pcall('PUBLISH', channel .. client, name .. '\n' .. table.concat(words, ' '))
end
