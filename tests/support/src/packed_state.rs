//! The numbers of a semaphore as `lua/state.lua` packs them, for data that clients would take too long to make.

/// Sets in `KEYS[1]`, which is `meta`, the units beyond one for each permit to `ARGV[1]`.
pub const SET_EXTRA: &str = "
    local format = '<BBBddddddd'
    local state = { struct.unpack(format, redis.call('HGET', KEYS[1], 'state')) }
    state[6] = tonumber(ARGV[1])
    return redis.call('HSET', KEYS[1], 'state', struct.pack(format, unpack(state)))
";

/// Returns the state of a semaphore without heavy permits, an override or kicks.
pub fn packed(incarnation: u64, last: u64, ttl: u64) -> Vec<u8> {
    const SCHEMA: u8 = 1;
    const NO_EPOCHS: u8 = 0;
    const NO_GRACE: u8 = 0;
    let (extra, limit_override, kicked, removed) = (0.0, -1.0, 0.0, 0.0);
    let numbers =
        [incarnation as f64, last as f64, extra, ttl as f64, limit_override, kicked, removed];
    let mut packed = vec![SCHEMA, NO_EPOCHS, NO_GRACE];
    packed.extend(numbers.into_iter().flat_map(f64::to_le_bytes));
    packed
}
