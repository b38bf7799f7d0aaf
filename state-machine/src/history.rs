//! Historic versions, merged with the live ones.
