//! How a release ended.

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Released {
    /// This release freed the units.
    Freed,
    /// The permit had been lost or released before. Nothing changed.
    AlreadyGone,
}
