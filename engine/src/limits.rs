//! Every bound of the engine and the relations between bounds.

/// Distinct tags in a partition, by default.
pub const TAGS: u32 = 1_000_000;
/// Bytes of a tag's name, by default.
pub const TAG_BYTES: u32 = 1_024;
/// Rows held inside `max_delay` for one tag, by default.
pub const HELD_ROWS: u32 = 10_000;
/// Samples of one member that wait for a tick; beyond them the oldest is forgotten.
pub const SEEN_SAMPLES: usize = 100_000;
/// Rows out of reach that must agree before progress follows them.
pub const JUMPERS: usize = 3;
/// Tags whose last future row is remembered, so that a repeated one is told once; beyond them a repeated row gives its
/// event again, with the same id.
pub const FUTURE_TAGS: usize = 65_536;
/// Tags whose records share a page of state.
pub const PAGE_TAGS: usize = 64;
/// Windows that share one allocation.
pub const WINDOWS_PER_CHUNK: usize = 64;

const _: () = assert!(TAG_BYTES as usize <= 64 * 1024 && PAGE_TAGS.is_power_of_two());
