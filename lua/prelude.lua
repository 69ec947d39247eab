--- What every script begins with: the keys, how ids are read, how a client is woken.
---
--- KEYS[1]  permits  ZSET  permit id -> end of its lease, + 0.5 once it is kicked
--- KEYS[2]  queue    ZSET  waiter id -> its ticket
--- KEYS[3]  clients  ZSET  client id -> until when the client counts as alive
--- KEYS[4]  meta     HASH  with these fields:
---   inc         incarnation: when this hash was made, in microseconds
---   last        the last number given out, token or ticket
---   limit       the limit override, where there is one
---   extra       units in use beyond one for each permit
---   ttl         when the first three keys expire
---   kicked      no kicked permit has a later deadline
---   removed     `last` at the time when a kick last removed a permit at once
---   <client>    the epoch of a client
---   l:<client>  its label
---
--- Instants are the server's, in milliseconds unless said otherwise. A name like `Flag.MORE` is a constant
--- of the crate. Its literal replaces the name when the parts are joined.
---
--- An id has the form <client>:<counter>[*units][/lease_ms]. The client part has 16 hex digits. One unit and
--- the default lease are left out. A permit of one unit is light, one of more units is heavy.
---
--- # Implementation
---
--- Lua keeps only 14 digits of a number in a concatenation, so `format(WHOLE, n)` makes the texts of large
--- numbers. A number that is an argument of a command keeps all 17 digits, but Redis formats it each time,
--- which costs more than a text. `+ 0` turns a text into a number at half the cost of tonumber.

local call, ARGV = redis.call, ARGV
local permits, queue, clients, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- How many members go into one command.
local CHUNK = 64

-- Lua formats '%d' as a C long, which has 32 bits on some servers. '%.0f' takes twice as long.
local WHOLE = struct.size('l') == 8 and '%d' or '%.0f'

local floor, max, min = math.floor, math.max, math.min
local find, sub, match, format = string.find, string.sub, string.match, string.format

-- The search begins at position 19: after the client, the colon and the first digit of the counter. A plain
-- find is enough for ids without units, and needs no pattern.
local function units_of(id)
  local at = find(id, '*', 19, true)
  return at and match(id, '^%d+', at + 1) + 0 or 1
end

local function lease_of(id)
  local at = find(id, '/', 19, true)
  return at and sub(id, at + 1) + 0 or Span.DEFAULT_LEASE
end

local function client_of(id)
  return sub(id, 1, 16)
end

-- Redis prints a fraction only for the score of a kicked permit.
local function is_kicked(score)
  return find(score, '.', 1, true) ~= nil
end

-- Publishes pairs of an id and a number. The pcall is there because a wake-up is a hint: a server
-- that forbids PUBLISH must not fail the script that has granted.
local function wake(client, words)
  local prefix, name = match(permits, '^(.-){(.*)}')
  redis.pcall('PUBLISH', prefix .. 'wake:' .. client, name .. '\n' .. table.concat(words, ' '))
end
