//! Where a list goes on: opaque to clients, equal on all nodes.
//!
//! ```text
//!   base64url( version u8 | revision u64 BE | check u64 BE | position )
//!                           ^ all pages show this moment
//!                                             ^ over version, revision, bounds and position
//! ```
//!
//! A cursor belongs to the bounds, the direction and the separator that it was made for. Anything
//! else, and a cursor that was changed on its way, does not verify.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::error::{ApiError, Result};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 8;

/// The place behind a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The revision that all pages show.
    pub(crate) revision: u64,
    /// The state's own word for the place.
    pub(crate) position: Bytes,
}

/// What a list goes through, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) start: &'a [u8],
    pub(crate) end: Option<&'a [u8]>,
    pub(crate) separator: Option<&'a [u8]>,
    pub(crate) reverse: bool,
}

impl Cursor {
    pub(crate) fn encode(&self, scope: Scope<'_>) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.position.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        bytes.extend_from_slice(&self.check(scope).to_be_bytes());
        bytes.extend_from_slice(&self.position);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn decode(text: &[u8], scope: Scope<'_>) -> Result<Cursor> {
        let refused = || ApiError::invalid("cursor", "not a cursor of a list with these bounds");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_malformed| refused())?;
        let (head, position) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(refused)?;
        let number = |at: usize| -> Option<u64> {
            Some(u64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?))
        };
        let (Some(revision), Some(check)) = (number(1), number(9)) else { return Err(refused()) };
        let cursor = Cursor { revision, position: Bytes::copy_from_slice(position) };
        if head.first() != Some(&VERSION) || check != cursor.check(scope) {
            return Err(refused());
        }
        Ok(cursor)
    }

    fn check(&self, scope: Scope<'_>) -> u64 {
        let mut sum = Fnv::new();
        sum.part(&[VERSION, u8::from(scope.reverse)]);
        sum.part(&self.revision.to_be_bytes());
        sum.part(scope.start);
        sum.optional(scope.end);
        sum.optional(scope.separator);
        sum.part(&self.position);
        sum.0
    }
}

/// FNV-1a: fixed for ever, because a cursor may come back to another node or version.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    /// With its length, so that no two lists of parts look alike.
    fn part(&mut self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        length.to_be_bytes().iter().chain(bytes).for_each(|byte| self.byte(*byte));
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.byte(u8::from(bytes.is_some()));
        self.part(bytes.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> =
        Scope { start: b"a", end: Some(b"b"), separator: None, reverse: false };

    fn cursor() -> Cursor {
        Cursor { revision: 13, position: Bytes::from_static(b"a/9") }
    }

    #[test]
    fn a_cursor_is_read_with_the_bounds_it_was_made_for() {
        let text = cursor().encode(SCOPE);
        assert_eq!(text, "AQAAAAAAAAANrYbz3Xue9ZdhLzk");
        assert_eq!(Cursor::decode(text.as_bytes(), SCOPE).unwrap(), cursor());
    }

    #[test]
    fn other_bounds_are_refused() {
        let text = cursor().encode(SCOPE);
        for scope in [
            Scope { start: b"", ..SCOPE },
            Scope { end: None, ..SCOPE },
            Scope { end: Some(b""), ..SCOPE },
            Scope { separator: Some(b"/"), ..SCOPE },
            Scope { reverse: true, ..SCOPE },
            Scope { start: b"ab", end: Some(b""), ..SCOPE },
        ] {
            let error = Cursor::decode(text.as_bytes(), scope).unwrap_err();
            assert_eq!(error.parts().problem.field.as_deref(), Some("cursor"));
        }
    }

    #[test]
    fn a_changed_or_cut_cursor_is_refused() {
        let text = cursor().encode(SCOPE).into_bytes();
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(Cursor::decode(&changed, SCOPE).is_err(), "changed at {at}");
            assert!(Cursor::decode(&text[..at], SCOPE).is_err(), "cut at {at}");
        }
        assert!(Cursor::decode(b"%%%", SCOPE).is_err());
    }
}
