--- Packs the state, to be written to meta.
---
--- Reads   the numbers of state.lua
--- Writes  packed
--- Twin    src/store/memory/meta.rs

local packed = struct.pack(
  State.FORMAT,
  Schema.PRESENT,
  epochs,
  grace,
  incarnation,
  last,
  extra,
  ttl,
  override,
  kicked,
  removed
)
