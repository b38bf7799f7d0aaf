//! Byte strings in JSON: plain text when it is UTF-8, else base64 under a second name.
//!
//! ```text
//!   b"a"    <->  "key": "a"
//!   b"\xff" <->  "key_base64": "/w=="
//! ```

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer};

const LENIENT_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD_ALPHABET: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT_PADDING);
const URL_SAFE_ALPHABET: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT_PADDING);

/// Standard base64 with padding: the form that every reply uses.
#[must_use]
pub fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads base64 of the standard or the URL-safe alphabet (not a mixture), padded or not.
///
/// # Errors
/// A text for people when it is neither.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if url_safe { &URL_SAFE_ALPHABET } else { &STANDARD_ALPHABET };
    engine.decode(text).ok().ok_or("not base64")
}

/// Writes one byte string under `plain` or, when it is not UTF-8, under `coded`.
pub(super) fn write<S: SerializeStruct>(
    object: &mut S,
    plain: &'static str,
    coded: &'static str,
    bytes: &[u8],
) -> Result<(), S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.serialize_field(plain, text),
        Err(_) => object.serialize_field(coded, &encode_base64(bytes)),
    }
}

/// One byte string from its two possible members. `None`: neither was there.
pub(super) fn read(
    name: &'static str,
    plain: Option<String>,
    coded: Option<String>,
) -> Result<Option<Bytes>, String> {
    match (plain, coded) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(Bytes::from(text))),
        (None, Some(text)) => match decode_base64(text.as_bytes()) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(reason) => Err(format!("`{name}_base64` is {reason}")),
        },
        (Some(_), Some(_)) => Err(format!("`{name}` and `{name}_base64` exclude each other")),
    }
}

/// Like [`read`], for a member that must be there.
pub(super) fn read_required(
    name: &'static str,
    plain: Option<String>,
    coded: Option<String>,
) -> Result<Bytes, String> {
    read(name, plain, coded)?.ok_or_else(|| format!("missing member `{name}` (or `{name}_base64`)"))
}

/// Reads an optional member that, when it is there, must not be null.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_are_read_padded_or_not() {
        for text in ["/w==", "/w", "_w==", "_w"] {
            assert_eq!(decode_base64(text.as_bytes()), Ok(vec![0xff]), "{text}");
        }
        assert_eq!(decode_base64(b""), Ok(vec![]));
        for text in ["/_8=", "a", "a===", "a b=", "YQ==YQ=="] {
            assert_eq!(decode_base64(text.as_bytes()), Err("not base64"), "{text}");
        }
    }

    #[test]
    fn both_forms_at_once_are_refused() {
        let both = read("key", Some("a".into()), Some("YQ==".into()));
        assert_eq!(both, Err("`key` and `key_base64` exclude each other".into()));
        assert_eq!(read("key", None, Some("YQ==".into())), Ok(Some(Bytes::from_static(b"a"))));
        assert!(read_required("key", None, None).is_err());
    }
}
