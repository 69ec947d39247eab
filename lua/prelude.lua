--- How ids are read: for all steps but those that most turns end with.
---
--- An id has the form <client>:<counter>[*units][/lease_ms]. The client part has 16 hex digits. One unit and
--- the default lease are left out. A permit of one unit is light, one of more units is heavy. The character ~
--- is reserved: no part of an id has it.
---
--- # Implementation
---
--- Lua makes a function each time a line that defines it runs, so a turn that needs none of these functions
--- does not come here.
---
--- Lua keeps only 14 digits of a number in a concatenation, so `format(WHOLE, n)` makes the texts of large
--- numbers. A number that is an argument of a command keeps all 17 digits, but Redis formats it each time,
--- which costs more than a text. `+ 0` turns a text into a number at half the cost of tonumber.

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
