//! Bugs planted on purpose, one at a time, to show that the tests find them.
//!
//! They exist only with the feature `planted`, which the log's own tests switch on; without it `has` is
//! `false` before the compiler, and nothing of them is left.

use crate::config::LogConfig;

/// One bug. Each was once a real one in some log.
#[cfg_attr(not(feature = "planted"), expect(unreachable_pub, reason = "only tests name them"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Planted {
    /// A commit is told without a sync.
    SkipSync,
}

impl Planted {
    /// All of them.
    #[cfg(feature = "planted")]
    pub const ALL: &[Self] = &[Self::SkipSync];
}

impl LogConfig {
    /// Whether this bug is planted.
    #[cfg(feature = "planted")]
    pub(crate) fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    /// Never.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "the same call with and without the feature")]
    pub(crate) const fn has(&self, _: Planted) -> bool {
        false
    }
}
