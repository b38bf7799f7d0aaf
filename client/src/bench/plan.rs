//! What a run does: how many clients, which operations, which keys.

use std::time::Duration;

use super::run::Kind;

/// Which operations a run is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Puts only.
    Put,
    /// Gets only.
    Get,
    /// Both; the number is the share of gets in percent, 0 to 100.
    Mixed(u8),
}

impl Mix {
    /// The kind of the next operation; `draw` is any random number.
    pub(super) fn kind(self, draw: u64) -> Kind {
        match self {
            Mix::Put => Kind::Put,
            Mix::Get => Kind::Get,
            Mix::Mixed(reads) if draw % 100 < u64::from(reads) => Kind::Get,
            Mix::Mixed(_) => Kind::Put,
        }
    }

    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Mix::Put => "put",
            Mix::Get => "get",
            Mix::Mixed(_) => "mixed",
        }
    }
}

/// A run of the load generator.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The operations.
    pub mix: Mix,
    /// Requests in flight; each client has one.
    pub clients: usize,
    /// The measured window.
    pub duration: Duration,
    /// Load before the window that is not counted.
    pub warmup: Duration,
    /// The keys.
    pub keys: KeySpace,
    /// Bytes of a value. They are random, so that compression finds nothing in them.
    pub value_bytes: usize,
    /// Threads of the generator; each drives its share of the clients.
    pub threads: usize,
    /// A request without a reply after this long is an error of kind `timeout`.
    pub timeout: Duration,
}

/// Keys of one length: a prefix and a number in decimal digits, drawn evenly.
#[derive(Debug, Clone)]
pub struct KeySpace {
    prefix: Vec<u8>,
    digits: usize,
    count: u64,
}

impl KeySpace {
    /// `count` keys of `bytes` bytes each; `None` if so many keys do not fit in so few bytes, or there are none.
    pub fn new(bytes: usize, count: u64) -> Option<KeySpace> {
        let digits = count.checked_sub(1)?.max(1).ilog10() as usize + 1;
        let room = bytes.checked_sub(digits)?;
        let name: &[u8] = b"bench/";
        // Short keys get less of the name, long ones are filled up behind it.
        let mut prefix = name[..room.min(name.len())].to_vec();
        prefix.resize(room, b'0');
        Some(KeySpace { prefix, digits, count })
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of each key.
    pub fn key_bytes(&self) -> usize {
        self.prefix.len() + self.digits
    }

    /// Key number `n` (modulo the count).
    pub fn key(&self, n: u64) -> Vec<u8> {
        let mut key = self.prefix.clone();
        key.resize(self.key_bytes(), b'0');
        self.write_digits(n, &mut key[self.prefix.len()..]);
        key
    }

    /// The number's place within a key.
    pub fn digits_at(&self) -> std::ops::Range<usize> {
        self.prefix.len()..self.key_bytes()
    }

    /// Writes number `n` (modulo the count) into the digits of a key.
    pub fn write_digits(&self, n: u64, digits: &mut [u8]) {
        let mut rest = n % self.count;
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
            rest /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_length_asked_for() {
        for (bytes, count) in [(16, 100_000), (7, 10), (1, 10), (64, 1)] {
            let keys = KeySpace::new(bytes, count).unwrap();
            assert_eq!(keys.key(0).len(), bytes);
            assert_eq!(keys.key(count - 1).len(), bytes);
            assert_eq!(keys.key(0) == keys.key(count - 1), count == 1);
        }
    }

    #[test]
    fn numbers_stand_in_the_last_digits() {
        let keys = KeySpace::new(16, 100_000).unwrap();
        assert_eq!(keys.key(42), b"bench/0000000042");
        assert_eq!(keys.key(100_042), b"bench/0000000042");
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        assert!(KeySpace::new(2, 1000).is_none());
        assert!(KeySpace::new(16, 0).is_none());
    }

    #[test]
    fn a_mix_holds_its_share_of_reads() {
        let reads = (0..1000u64).filter(|&n| Mix::Mixed(30).kind(n) == Kind::Get).count();
        assert_eq!(reads, 300);
    }
}
