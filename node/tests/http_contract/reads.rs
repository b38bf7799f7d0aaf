//! What a read may ask of the state: how new, as of when, how long to wait.

use crate::nodes::Nodes;
use crate::wire::At;

pub(crate) async fn stories(at: &At) {
    a_read_sees_an_earlier_revision(at).await;
    a_read_waits_for_a_revision(at).await;
    a_stale_read_tells_its_age(at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_on_one_node() {
    let nodes = Nodes::one().await;
    stories(&nodes.only()).await;
}

async fn a_read_sees_an_earlier_revision(at: &At) {
    let key = at.key("history");
    let first = at.put(&key, "one").await.is(201).number("kv-revision");
    at.put(&key, "two").await.is(200);
    at.delete(&key).await.is(200);
    let now = at.put(&key, "four").await.is(201).number("kv-revision");

    let as_of = |revision: u64| format!("{key}?revision={revision}");
    let got = at.get(&as_of(first)).await.is(200);
    assert_eq!(got.text(), "one");
    assert_eq!(got.header("etag"), format!("\"{first}\""));
    assert_eq!(got.number("kv-revision"), now, "the store's present revision");
    assert_eq!(at.get(&as_of(first + 1)).await.is(200).number("kv-version"), 2);
    at.get(&as_of(first + 2)).await.refused(404, "not_found");
    assert_eq!(at.get(&as_of(now)).await.is(200).text(), "four");
    at.get(&as_of(first - 1)).await.refused(404, "not_found");

    let problem = at.get(&as_of(now + 1)).await.invalid("revision");
    assert_eq!(problem["revision"], now);
    at.get(&as_of(u64::MAX)).await.invalid("revision");
    at.get(&as_of(0)).await.invalid("revision");

    let list = format!("/v1/kv?prefix={}history&revision={first}", at.prefix);
    let page = at.get(&list).await.is(200);
    assert_eq!(page.json()["items"][0]["value"], "one");
    assert_eq!(page.json()["revision"], first, "a list's own revision is the pinned one");
    assert_eq!(page.number("kv-revision"), now);
    let future = format!("/v1/kv?revision={}", now + 1);
    assert_eq!(at.get(&future).await.invalid("revision")["revision"], now);
}

async fn a_read_waits_for_a_revision(at: &At) {
    let key = at.key("waited");
    let revision = at.put(&key, "x").await.is(201).number("kv-revision");
    for consistency in ["linearizable", "stale"] {
        let target = format!("{key}?consistency={consistency}&min_revision={revision}");
        assert_eq!(at.get(&target).await.is(200).text(), "x");
        let beyond = revision + 1_000_000;
        let target = format!("{key}?consistency={consistency}&min_revision={beyond}&timeout=50ms");
        at.get(&target).await.refused(504, "timeout");
    }
    at.get(&format!("{key}?min_revision=0")).await.is(200);
}

async fn a_stale_read_tells_its_age(at: &At) {
    let key = at.key("stale");
    let revision = at.put(&key, "x").await.is(201).number("kv-revision");
    let stale = format!("{key}?consistency=stale&min_revision={revision}");
    let got = at.get(&stale).await.is(200);
    got.number("kv-staleness-ms");
    assert_eq!(got.text(), "x");
    at.get(&format!("{stale}&max_staleness=1h")).await.is(200);
    at.get(&format!("{stale}&max_staleness=0ms")).await.refused(503, "too_stale");
    let list = format!("/v1/kv?prefix={}stale&consistency=stale", at.prefix);
    at.get(&list).await.is(200).number("kv-staleness-ms");
    let absent = at.get(&format!("{}?consistency=stale", at.key("stale-absent"))).await;
    absent.number("kv-staleness-ms");
    absent.refused(404, "not_found");

    assert_eq!(at.get(&key).await.find("kv-staleness-ms"), None);
    at.get(&format!("{key}?max_staleness=1s")).await.invalid("max_staleness");
    at.get(&format!("{key}?consistency=eventual")).await.invalid("consistency");
}
