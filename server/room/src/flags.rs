//! Bits of `EventMeta::flags`.

/// An ordinary event.
pub const NONE: u8 = 0;
/// It failed the rules when it came: part of the graph, shown to nobody.
pub const REJECTED: u8 = 1;
/// It passed the rules where it stands but not at the room's tip: shown to nobody.
pub const SOFT_FAILED: u8 = 2;
