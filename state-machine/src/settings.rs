//! What the whole cluster agrees on besides the keys: limits, retention, quotas.
//!
//! Settings are replicated and change by a command alone, because apply reads them (S1). Flags of a node only seed them
//! when a cluster is formed.

use crate::codec::{Decoder, Encode};
use crate::error::Malformed;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MINUTE_MS: u64 = 60_000;

/// The longest key that any settings may allow. A history row holds the key with every zero byte doubled and some 30
/// bytes around it, and the cold tier takes row keys of 65,535 bytes.
pub const KEY_BYTES_CEILING: u64 = 16 * KIB;
/// The longest value that any settings may allow.
pub const VALUE_BYTES_CEILING: u64 = 64 * MIB;
/// The largest request that any settings may allow.
pub const REQUEST_BYTES_CEILING: u64 = 128 * MIB;
/// What a request carries besides one key and one value.
const REQUEST_BYTES_AROUND: u64 = KIB;

const _: () = assert!(2 * KEY_BYTES_CEILING + 64 < 65_535);
const _: () =
    assert!(KEY_BYTES_CEILING + VALUE_BYTES_CEILING + REQUEST_BYTES_AROUND < REQUEST_BYTES_CEILING);

/// The replicated settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Longest key in bytes. 1 to [`KEY_BYTES_CEILING`], default 4096.
    pub key_bytes_max: u64,
    /// Longest value in bytes. 1 to [`VALUE_BYTES_CEILING`], default 8 MiB.
    pub value_bytes_max: u64,
    /// Longest list in a transaction. 1 to 65,536, default 1024.
    pub txn_ops_max: u64,
    /// Longest command in bytes. At least a key, a value and 1 KiB, at most [`REQUEST_BYTES_CEILING`], default 16 MiB.
    pub request_bytes_max: u64,
    /// Most bytes in the reply of a transaction or of a range delete with `prev`. 1 KiB to 64 MiB, default 4 MiB.
    pub reply_bytes_max: u64,
    /// Most keys that one command may delete or count. 1 to 1,000,000, default 10,000.
    pub range_delete_max: u64,
    /// Most keys of one lease. 1 to 1,000,000, default 10,000.
    pub lease_keys_max: u64,
    /// Most keys in the store. At least 1, default none.
    pub keys_max: Option<u64>,
    /// Most bytes of keys and values in the store. At least 1, default none.
    pub quota_bytes: Option<u64>,
    /// TTL in milliseconds of keys that are written without one. At least 1, default none.
    pub default_ttl_ms: Option<u64>,
    /// How long changes are kept, in milliseconds. Default 10 minutes.
    pub history_age_ms: u64,
    /// How many bytes of changes are kept. Default 1 GiB.
    pub history_bytes: u64,
    /// How long replies are kept for repeats, in milliseconds. At least 60 s, default 10 minutes.
    pub idempotency_ttl_ms: u64,
    /// How many replies are kept for repeats. At least 1, default 4,000,000.
    pub idempotency_entries_max: u64,
    /// How many bytes of replies are kept for repeats. At least 1 MiB, default 1 GiB.
    pub idempotency_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key_bytes_max: 4096,
            value_bytes_max: 8 * MIB,
            txn_ops_max: 1024,
            request_bytes_max: 16 * MIB,
            reply_bytes_max: 4 * MIB,
            range_delete_max: 10_000,
            lease_keys_max: 10_000,
            keys_max: None,
            quota_bytes: None,
            default_ttl_ms: None,
            history_age_ms: 10 * MINUTE_MS,
            history_bytes: GIB,
            idempotency_ttl_ms: 10 * MINUTE_MS,
            idempotency_entries_max: 4_000_000,
            idempotency_bytes_max: GIB,
        }
    }
}

/// A setting out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {bounds}")]
pub struct SettingProblem {
    /// The setting, as the API names it.
    pub field: &'static str,
    /// What it must be.
    pub bounds: String,
}

impl Settings {
    /// Everything that is out of bounds, in the order of the fields.
    ///
    /// # Errors
    /// The list of problems, never empty.
    pub fn validate(&self) -> Result<(), Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let mut within = |field, value: u64, min: u64, max: u64| {
            if value < min || value > max {
                let bounds = if max == u64::MAX {
                    format!("at least {min}")
                } else {
                    format!("{min} to {max}")
                };
                problems.push(SettingProblem { field, bounds });
            }
        };
        let request_min = self
            .key_bytes_max
            .saturating_add(self.value_bytes_max)
            .saturating_add(REQUEST_BYTES_AROUND);
        within("key_bytes_max", self.key_bytes_max, 1, KEY_BYTES_CEILING);
        within("value_bytes_max", self.value_bytes_max, 1, VALUE_BYTES_CEILING);
        within("txn_ops_max", self.txn_ops_max, 1, 65_536);
        within("request_bytes_max", self.request_bytes_max, request_min, REQUEST_BYTES_CEILING);
        within("reply_bytes_max", self.reply_bytes_max, KIB, 64 * MIB);
        within("range_delete_max", self.range_delete_max, 1, 1_000_000);
        within("lease_keys_max", self.lease_keys_max, 1, 1_000_000);
        within("keys_max", self.keys_max.unwrap_or(1), 1, u64::MAX);
        within("quota_bytes", self.quota_bytes.unwrap_or(1), 1, u64::MAX);
        within("default_ttl", self.default_ttl_ms.unwrap_or(1), 1, u64::MAX);
        within("idempotency_ttl", self.idempotency_ttl_ms, MINUTE_MS, u64::MAX);
        within("idempotency_entries_max", self.idempotency_entries_max, 1, u64::MAX);
        within("idempotency_bytes_max", self.idempotency_bytes_max, MIB, u64::MAX);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.push(FORMAT);
        to.put_varint(self.key_bytes_max);
        to.put_varint(self.value_bytes_max);
        to.put_varint(self.txn_ops_max);
        to.put_varint(self.request_bytes_max);
        to.put_varint(self.reply_bytes_max);
        to.put_varint(self.range_delete_max);
        to.put_varint(self.lease_keys_max);
        to.put_optional(self.keys_max);
        to.put_optional(self.quota_bytes);
        to.put_optional(self.default_ttl_ms);
        to.put_varint(self.history_age_ms);
        to.put_varint(self.history_bytes);
        to.put_varint(self.idempotency_ttl_ms);
        to.put_varint(self.idempotency_entries_max);
        to.put_varint(self.idempotency_bytes_max);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        if from.u8()? != FORMAT {
            return from.malformed();
        }
        Ok(Self {
            key_bytes_max: from.varint()?,
            value_bytes_max: from.varint()?,
            txn_ops_max: from.varint()?,
            request_bytes_max: from.varint()?,
            reply_bytes_max: from.varint()?,
            range_delete_max: from.varint()?,
            lease_keys_max: from.varint()?,
            keys_max: from.optional()?,
            quota_bytes: from.optional()?,
            default_ttl_ms: from.optional()?,
            history_age_ms: from.varint()?,
            history_bytes: from.varint()?,
            idempotency_ttl_ms: from.varint()?,
            idempotency_entries_max: from.varint()?,
            idempotency_bytes_max: from.varint()?,
        })
    }
}

const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_bounds() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let settings = Settings {
            key_bytes_max: 0,
            request_bytes_max: 1,
            keys_max: Some(0),
            idempotency_ttl_ms: 59_999,
            ..Settings::default()
        };
        let fields: Vec<_> =
            settings.validate().unwrap_err().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["key_bytes_max", "request_bytes_max", "keys_max", "idempotency_ttl"]);
    }
}
