-- Shared by every script; joined in front of it when the crate is compiled.
--
-- KEYS[1] permits  ZSET  permit id -> lease deadline, server milliseconds (+0.5 once kicked)
-- KEYS[2] queue    ZSET  waiter id -> ticket
-- KEYS[3] clients  ZSET  client id -> until when it is presumed alive, server milliseconds
-- KEYS[4] meta     HASH  inc, last, limit, extra, ttl, kicked (no marked permit has a later deadline),
--                         removed (the last number when a permit was kicked out at once),
--                         <client> (its epoch), l:<client> (its label)
--
-- An id reads <client>:<counter>[*units][/lease_ms]; the client part is 16 hex digits.
-- Numbers over 1e14 lose digits when Lua concatenates them: format(WHOLE, n) writes them into texts.
-- As arguments of redis.call they keep all (Redis prints 17 digits), but cost more.

local DEFAULT_LEASE_MS = 30000
local TTL_SLACK_MS = 10000
local META_OUTLIVES_MS = 60000
local CHUNK = 64

-- Lua writes '%d' by way of a C long, which has 32 bits on some servers; '%.0f' takes twice as long.
local WHOLE = struct.size('l') == 8 and '%d' or '%.0f'

local floor, max, min = math.floor, math.max, math.min
local find, sub, match, format = string.find, string.sub, string.match, string.format

-- Behind the client, the colon and one digit of the counter. Plain finds: no pattern per id.
local function units_of(id)
  local at = find(id, '*', 19, true)
  return at and match(id, '^%d+', at + 1) + 0 or 1
end

local function lease_of(id)
  local at = find(id, '/', 19, true)
  return at and sub(id, at + 1) + 0 or DEFAULT_LEASE_MS
end

local function client_of(id)
  return sub(id, 1, 16)
end

-- Redis writes the half millisecond of a kicked permit's score, and no fraction otherwise.
local function is_kicked(score)
  return find(score, '.', 1, true) ~= nil
end

-- Wake-ups are hints: a server that forbids PUBLISH must not fail the script that granted.
local function wake(client, words)
  local prefix, name = match(KEYS[1], '^(.-){(.*)}')
  redis.pcall('PUBLISH', prefix .. 'wake:' .. client, name .. '\n' .. table.concat(words, ' '))
end
