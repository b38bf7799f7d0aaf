//! The rows that a group wrote, over the ones it found.
