//! Transactions: read strictly, checked whole before anything is proposed.

use bytes::Bytes;
use http::StatusCode;
use raftmap_client::api::kv::LIST_LIMIT_DEFAULT;
use raftmap_client::api::{self, Bounds, TxnRequest};
use raftmap_state_machine::command::{Compare, CompareOp, RangeOp, Target, Txn, TxnOp};
use raftmap_state_machine::reply::TxnResult;
use raftmap_state_machine::{KeyRange, Op, Outcome, Settings};

use super::answer::{Answer, KV_REVISION};
use super::call::{Call, check_key, check_value, deadline};
use super::error::{ApiError, Result};
use super::json::{Json, RECORD_AROUND_BYTES};
use super::kv::{unexpected, writable_without_conditions, write};
use super::query::{Names, Params};

/// `POST /v1/txn`.
pub(crate) async fn post(call: &mut Call<'_>) -> Result<Answer> {
    let params = Params::parse(call.query(), Names::TIMEOUT)?;
    writable_without_conditions(call)?;
    let settings = call.service.settings();
    let request: TxnRequest = call.json(settings.request_bytes_max).await?;
    let txn = txn(request, &settings)?;
    let keys_only = [keys_only(&txn.failure), keys_only(&txn.success)];
    let reply = write(call, Op::Txn(txn), &params).await?;
    let Outcome::Txn { succeeded, results } = &reply.outcome else {
        return Err(unexpected(&reply));
    };
    let keys_only = &keys_only[usize::from(*succeeded)];
    let mut json = Json::with_capacity(64 + results.iter().map(room).sum::<usize>());
    json.raw("{\"succeeded\":").flag(*succeeded);
    json.raw(",\"revision\":").number(reply.revision).raw(",\"results\":");
    let mut places = 0..;
    json.list(results, |json, result| {
        let place = places.next().unwrap_or(usize::MAX);
        json.txn_result(result, !keys_only.contains(&place));
    });
    json.raw("}");
    Ok(Answer::json(StatusCode::OK, json).number(KV_REVISION, reply.revision))
}

/// The places of the operations whose records have no values.
fn keys_only(ops: &[TxnOp]) -> Vec<usize> {
    let places = ops.iter().enumerate().filter(|(_, op)| match op {
        TxnOp::Range(range) => range.keys_only,
        TxnOp::Put { .. } | TxnOp::Delete { .. } | TxnOp::Get { .. } => false,
    });
    places.map(|(place, _)| place).collect()
}

fn room(result: &TxnResult) -> usize {
    let records = match result {
        TxnResult::Put { prev, .. } => prev.as_slice(),
        TxnResult::Deleted { prev, .. } => prev,
        TxnResult::Got(item) => item.as_slice(),
        TxnResult::Range { items, .. } => items,
    };
    RECORD_AROUND_BYTES + records.iter().map(super::kv::room).sum::<usize>()
}

/// The replicated form of a request; both branches are checked.
fn txn(request: TxnRequest, settings: &Settings) -> Result<Txn> {
    let TxnRequest { compare: comparisons, success, failure } = request;
    for (length, field) in
        [(comparisons.len(), "compare"), (success.len(), "success"), (failure.len(), "failure")]
    {
        let most = settings.txn_ops_max;
        if u64::try_from(length).is_ok_and(|length| length > most) {
            let detail = format!("more than {most} of them");
            return Err(ApiError::invalid(field, detail).limit(most));
        }
    }
    Ok(Txn {
        compare: comparisons
            .into_iter()
            .map(|one| compare(one, settings))
            .collect::<Result<_>>()?,
        success: success.into_iter().map(|op| operation(op, settings)).collect::<Result<_>>()?,
        failure: failure.into_iter().map(|op| operation(op, settings)).collect::<Result<_>>()?,
    })
}

fn compare(compare: api::Compare, settings: &Settings) -> Result<Compare> {
    let api::Compare { key, target, op } = compare;
    check_key(&key, settings, "key")?;
    let target = match target {
        api::Target::Value(value) => {
            check_value(&value, settings)?;
            Target::Value(value)
        }
        api::Target::Version(number) => Target::Version(number),
        api::Target::CreateRevision(number) => Target::CreateRevision(number),
        api::Target::ModRevision(number) => Target::ModRevision(number),
        api::Target::Lease(number) => Target::Lease(number),
        api::Target::Exists(exists) => Target::Exists(exists),
    };
    let op = match op {
        api::CompareOp::Equal => CompareOp::Eq,
        api::CompareOp::NotEqual => CompareOp::Ne,
        api::CompareOp::Less => CompareOp::Lt,
        api::CompareOp::Greater => CompareOp::Gt,
    };
    Ok(Compare { key, target, op })
}

fn operation(op: api::TxnOp, settings: &Settings) -> Result<TxnOp> {
    Ok(match op {
        api::TxnOp::Put(api::TxnPut { key, value, ttl, lease, prev }) => {
            check_key(&key, settings, "key")?;
            check_value(&value, settings)?;
            if lease == Some(0) {
                return Err(ApiError::invalid("lease", "must be at least 1"));
            }
            TxnOp::Put { key, value, deadline: deadline(ttl, lease)?, prev }
        }
        api::TxnOp::Delete(api::TxnDelete { bounds, prev }) => {
            TxnOp::Delete { range: removed(bounds, settings)?, prev }
        }
        api::TxnOp::Get(api::TxnGet { key }) => {
            check_key(&key, settings, "key")?;
            TxnOp::Get { key }
        }
        api::TxnOp::Range(range) => TxnOp::Range(RangeOp {
            range: key_range(range.bounds),
            limit: range.limit.unwrap_or(LIST_LIMIT_DEFAULT),
            reverse: range.reverse,
            keys_only: range.keys_only,
            count_only: range.count_only,
        }),
    })
}

/// The range of a delete; never by accident everything.
fn removed(bounds: Bounds, settings: &Settings) -> Result<KeyRange> {
    if let Bounds::Key(key) = &bounds {
        check_key(key, settings, "key")?;
    }
    let range = key_range(bounds);
    if range.start.is_empty() && range.end.is_none() {
        return Err(ApiError::invalid("start", "a transaction does not clear the store"));
    }
    Ok(range)
}

fn key_range(bounds: Bounds) -> KeyRange {
    match bounds {
        Bounds::All => KeyRange::all(),
        Bounds::Key(key) => KeyRange::single(&key),
        Bounds::Prefix(prefix) => KeyRange::prefix(prefix),
        Bounds::Range { start, end } => KeyRange { start: start.unwrap_or_else(Bytes::new), end },
    }
}

#[cfg(test)]
mod tests {
    use raftmap_client::api::Code;

    use super::super::call::from_json;
    use super::*;

    fn read(text: &str, settings: &Settings) -> Result<Txn> {
        txn(from_json(text.as_bytes())?, settings)
    }

    #[test]
    fn both_branches_are_checked_before_anything_runs() {
        let settings = Settings {
            key_bytes_max: 3,
            value_bytes_max: 3,
            txn_ops_max: 2,
            ..Settings::default()
        };
        for (text, code) in [
            (r#"{"success":[{"get":{"key":""}}]}"#, Code::InvalidArgument),
            (r#"{"failure":[{"get":{"key":"long"}}]}"#, Code::KeyTooLarge),
            (r#"{"failure":[{"delete":{"key":"long"}}]}"#, Code::KeyTooLarge),
            (r#"{"failure":[{"put":{"key":"a","value":"long"}}]}"#, Code::ValueTooLarge),
            (r#"{"failure":[{"put":{"key":"a","value":"","lease":0}}]}"#, Code::InvalidArgument),
            (r#"{"success":[{"delete":{"start":""}}]}"#, Code::InvalidArgument),
            (
                r#"{"compare":[{"key":"","target":"version","op":"=","value":1}]}"#,
                Code::InvalidArgument,
            ),
            (
                r#"{"compare":[{"key":"a","target":"value","op":"=","value":"long"}]}"#,
                Code::ValueTooLarge,
            ),
        ] {
            assert_eq!(read(text, &settings).expect_err(text).code(), code, "{text}");
        }
        let get = r#"{"get":{"key":"a"}}"#;
        let error = read(&format!(r#"{{"failure":[{get},{get},{get}]}}"#), &settings).unwrap_err();
        assert_eq!(error.parts().problem.limit, Some(2));
        assert_eq!(error.parts().problem.field.as_deref(), Some("failure"));
        assert_eq!(read("{}", &settings).unwrap(), Txn::default());
    }
}
