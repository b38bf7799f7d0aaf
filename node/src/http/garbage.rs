//! Whatever a client sends is understood or refused, never a panic.

use bytes::Bytes;
use http::header::{ACCEPT, HeaderMap, HeaderValue, IF_MATCH};
use proptest::prelude::*;
use raftmap_client::api::bytes::encode_base64;
use raftmap_client::api::{MemberAdd, TxnRequest};

use super::accept::{Form, choose};
use super::call::{from_json, key_in_path};
use super::cursor::{Cursor, Scope};
use super::query::{Names, Params};
use super::tags;

const EVERY: Names = Names::TIMEOUT
    .and(Names::KEY)
    .and(Names::BOUNDS)
    .and(Names::READ)
    .and(Names::REVISION)
    .and(Names::DEADLINE)
    .and(Names::PREV)
    .and(Names::LIST)
    .and(Names::ALL);

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn any_query_is_read_or_refused(query in "(([a-z_]{1,13}|prefix|limit|ttl|cursor)=[ -~]{0,20}&?){0,4}") {
        let _ = Params::parse(Some(&query), EVERY);
    }

    #[test]
    fn bytes_come_through_a_query_and_a_path_unchanged(
        bytes in proptest::collection::vec(any::<u8>(), 1..50),
    ) {
        let query = format!("prefix={}&end_base64={}", percent_encoded(&bytes), encode_base64(&bytes));
        let params = Params::parse(Some(&query), EVERY).unwrap();
        prop_assert_eq!(params.prefix.as_deref(), Some(&bytes[..]));
        prop_assert_eq!(params.end.as_deref(), Some(&bytes[..]));
        prop_assert_eq!(&key_in_path(&percent_encoded(&bytes)).unwrap()[..], &bytes[..]);
    }

    #[test]
    fn any_header_is_read_or_refused(value in "[\\*W/\"0-9, a-z;=.]{0,30}") {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&value).unwrap();
        headers.insert(IF_MATCH, value.clone());
        headers.insert(ACCEPT, value);
        let _ = tags::condition(&headers);
        let _ = choose(&headers, &[Form::Raw, Form::Json]);
    }

    #[test]
    fn any_body_is_read_or_refused(
        body in "[\\[\\]{}:,\"\\\\a-c0-9.]{0,60}|\\{\"success\":\\[[\\[\\]{}:,\"pute ]{0,40}",
    ) {
        let _ = from_json::<TxnRequest>(body.as_bytes());
        let _ = from_json::<MemberAdd>(body.as_bytes());
    }

    #[test]
    fn a_cursor_comes_back_and_any_other_text_does_not(
        position in proptest::collection::vec(any::<u8>(), 0..40),
        revision in 1_u64..,
        other in "[A-Za-z0-9_-]{0,60}",
    ) {
        let scope = Scope { start: b"a", end: None, separator: None, reverse: false };
        let cursor = Cursor { revision, position: Bytes::from(position) };
        let text = cursor.encode(scope);
        prop_assert_eq!(Cursor::decode(text.as_bytes(), scope).unwrap(), cursor);
        prop_assert!(Cursor::decode(other.as_bytes(), scope).is_err() || other == text);
    }
}
