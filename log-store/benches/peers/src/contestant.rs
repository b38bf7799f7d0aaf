//! What is compared.

use std::sync::Arc;

use bytes::Bytes;

/// Bytes of an entry's payload.
pub(crate) const PAYLOAD: usize = 256;

/// Payloads that no compression makes smaller; they come round again after a MiB.
pub(crate) struct Payloads(Bytes);

impl Payloads {
    pub(crate) fn new() -> Self {
        let mut bytes = vec![0; 1 << 20];
        rand::Rng::fill(&mut rand::rng(), &mut bytes[..]);
        Self(bytes.into())
    }

    pub(crate) fn get(&self, number: u64) -> Bytes {
        let slots = self.0.len() / PAYLOAD;
        let at = usize::try_from(number).expect("64 bits") % slots * PAYLOAD;
        self.0.slice(at..at + PAYLOAD)
    }
}

/// A log, driven in the ways that are compared. All of them return only for what is durable.
pub(crate) trait Contestant {
    /// One caller: appends `size` entries and waits for the sync that covers them.
    fn batch(&mut self, size: u64);

    /// For many threads at once; none when it is not compared in that way.
    fn threads(&self) -> Option<Arc<dyn FromThreads>> {
        None
    }

    /// For one caller that does not wait; none when a call always waits.
    fn caller(&mut self) -> Option<&mut dyn FromOneCaller> {
        None
    }
}

/// Called from many threads at once.
pub(crate) trait FromThreads: Send + Sync {
    /// Appends one entry and waits until it is durable.
    fn one(&self, producer: u64, payload: Bytes);
}

/// Called from one thread.
pub(crate) trait FromOneCaller {
    /// Appends one entry; `done` is called when it is durable.
    fn submit(&mut self, payload: Bytes, done: Box<dyn FnOnce() + Send>);
}
