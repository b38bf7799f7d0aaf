//! Replies as JSON, written by hand: the shapes of `raftmap_client::api`, straight from the state's
//! own types into one buffer, without a tree or a copy in between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use raftmap_state_machine::Item;
use raftmap_state_machine::reply::TxnResult;

/// What a record is about as long as besides its key and value.
pub(crate) const RECORD_AROUND_BYTES: usize = 128;

/// A JSON text that grows.
pub(crate) struct Json(BytesMut);

impl Json {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Json(BytesMut::with_capacity(bytes))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> bytes::Bytes {
        self.0.freeze()
    }

    /// Text that is JSON already.
    pub(crate) fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        push_number(&mut self.0, number);
        self
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.raw(if flag { "true" } else { "false" })
    }

    /// A member whose value is a byte string: `"name":"text"` or `"name_base64":"…"`.
    pub(crate) fn bytes(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        self.raw("\"").raw(name);
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                self.raw("\":\"");
                self.escaped(text);
            }
            Err(_) => {
                self.raw("_base64\":\"");
                self.base64(bytes);
            }
        }
        self.raw("\"")
    }

    /// A record; its value only if `with_value`.
    pub(crate) fn record(&mut self, item: &Item, with_value: bool) -> &mut Self {
        self.raw("{").bytes("key", &item.key);
        if with_value {
            self.raw(",").bytes("value", &item.value);
        }
        self.raw(",\"create_revision\":").number(item.create_revision);
        self.raw(",\"mod_revision\":").number(item.mod_revision);
        self.raw(",\"version\":").number(item.version);
        if item.lease > 0 {
            self.raw(",\"lease\":").number(item.lease);
        }
        if let Some(ttl_ms) = item.ttl_ms {
            self.raw(",\"ttl_ms\":").number(ttl_ms);
        }
        self.raw("}")
    }

    /// Records in a list.
    pub(crate) fn records(&mut self, items: &[Item], with_values: bool) -> &mut Self {
        self.list(items, |json, item| {
            json.record(item, with_values);
        })
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut one: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.raw("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            one(self, item);
        }
        self.raw("]")
    }

    /// One result of a transaction; `with_values` is what its operation asked for.
    pub(crate) fn txn_result(&mut self, result: &TxnResult, with_values: bool) -> &mut Self {
        match result {
            TxnResult::Put { created, prev } => {
                self.raw("{\"put\":{\"created\":").flag(*created).prev(prev.as_ref()).raw("}}")
            }
            TxnResult::Deleted { deleted, prev } => {
                self.raw("{\"delete\":{\"deleted\":").number(*deleted).prevs(prev).raw("}}")
            }
            TxnResult::Got(None) => self.raw("{\"get\":null}"),
            TxnResult::Got(Some(item)) => self.raw("{\"get\":").record(item, true).raw("}"),
            TxnResult::Range { items, count } => self
                .raw("{\"range\":{\"items\":")
                .records(items, with_values)
                .raw(",\"count\":")
                .number(*count)
                .raw("}}"),
        }
    }

    /// `,"prev":{…}` if there was a record.
    pub(crate) fn prev(&mut self, prev: Option<&Item>) -> &mut Self {
        match prev {
            Some(item) => self.raw(",\"prev\":").record(item, true),
            None => self,
        }
    }

    /// `,"prev":[…]` if there were records.
    pub(crate) fn prevs(&mut self, prev: &[Item]) -> &mut Self {
        if prev.is_empty() { self } else { self.raw(",\"prev\":").records(prev, true) }
    }

    fn base64(&mut self, bytes: &[u8]) {
        let at = self.0.len();
        self.0.put_bytes(0, bytes.len().div_ceil(3) * 4);
        let place = self.0.get_mut(at..).unwrap_or_default();
        STANDARD.encode_slice(bytes, place).expect("the place is as long as the text");
    }

    fn escaped(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
            let (plain, from) = rest.split_at(at);
            self.0.extend_from_slice(plain);
            self.escape(from[0]);
            rest = &from[1..];
        }
        self.0.extend_from_slice(rest);
    }

    fn escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match byte {
            b'"' => self.raw("\\\""),
            b'\\' => self.raw("\\\\"),
            b'\n' => self.raw("\\n"),
            b'\r' => self.raw("\\r"),
            b'\t' => self.raw("\\t"),
            control => {
                self.raw("\\u00");
                self.0.put_u8(HEX[usize::from(control >> 4)]);
                self.0.put_u8(HEX[usize::from(control & 15)]);
                self
            }
        };
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Writes `number` in decimal digits.
pub(crate) fn push_number(to: &mut BytesMut, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raftmap_client::api::{Record, TxnResult as ApiResult};

    use super::*;

    fn item(key: &'static [u8], value: &'static [u8]) -> Item {
        Item {
            key: Bytes::from_static(key),
            value: Bytes::from_static(value),
            create_revision: 2,
            mod_revision: u64::MAX,
            version: 10,
            lease: 0,
            ttl_ms: None,
        }
    }

    fn read_back(item: &Item, with_value: bool) -> Record {
        let mut json = Json::with_capacity(0);
        json.record(item, with_value);
        serde_json::from_slice(&json.into_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_what_the_clients_types_read() {
        let odd: &[u8] = b"\x00\x01\x1f \"\\/\n\r\t\x7f\xc3\xa9";
        for (key, value) in
            [(&b"a"[..], &b"x"[..]), (odd, odd), (b"\xff", b""), (b"k", b"\xff\xfe\xfd\xfc")]
        {
            let item = Item { key: Bytes::copy_from_slice(key), ..item(b"", b"") };
            let item = Item { value: Bytes::copy_from_slice(value), ..item };
            let record = read_back(&item, true);
            assert_eq!((&record.key[..], record.value.as_deref()), (key, Some(value)));
            assert_eq!(read_back(&item, false).value, None);
        }
        let leased = Item { lease: 7, ttl_ms: Some(0), ..item(b"a", b"") };
        let record = read_back(&leased, true);
        assert_eq!((record.lease, record.ttl_ms), (Some(7), Some(0)));
        assert_eq!(
            (record.create_revision, record.mod_revision, record.version),
            (2, u64::MAX, 10)
        );
    }

    #[test]
    fn what_is_written_is_byte_for_byte_what_serde_writes() {
        let item = item(b"k\x02\"", b"\x80");
        let mut json = Json::with_capacity(0);
        json.record(&item, true);
        let theirs = serde_json::to_string(&read_back(&item, true)).unwrap();
        assert_eq!(String::from_utf8_lossy(&json.into_bytes()), theirs);
    }

    #[test]
    fn results_of_a_transaction_are_what_the_clients_types_read() {
        let record = item(b"a", b"x");
        for (result, expected) in [
            (TxnResult::Put { created: true, prev: None }, r#"{"put":{"created":true}}"#),
            (TxnResult::Deleted { deleted: 0, prev: vec![] }, r#"{"delete":{"deleted":0}}"#),
            (TxnResult::Got(None), r#"{"get":null}"#),
            (TxnResult::Range { items: vec![], count: 3 }, r#"{"range":{"items":[],"count":3}}"#),
        ] {
            let mut json = Json::with_capacity(0);
            json.txn_result(&result, true);
            assert_eq!(String::from_utf8_lossy(&json.into_bytes()), expected);
        }
        for result in [
            TxnResult::Put { created: false, prev: Some(record.clone()) },
            TxnResult::Deleted { deleted: 2, prev: vec![record.clone(), record.clone()] },
            TxnResult::Got(Some(record.clone())),
            TxnResult::Range { items: vec![record.clone(), record.clone()], count: 2 },
        ] {
            let mut json = Json::with_capacity(0);
            json.txn_result(&result, true);
            let text = json.into_bytes();
            let read: ApiResult = serde_json::from_slice(&text).unwrap();
            assert_eq!(serde_json::to_vec(&read).unwrap(), text);
        }
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let mut text = BytesMut::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string().as_bytes());
        }
    }
}
