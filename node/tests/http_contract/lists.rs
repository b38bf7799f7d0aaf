//! `GET /v1/kv?…`: pages, cursors, groups, counts and streams of lines.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::keys::base64;
use crate::nodes::Nodes;
use crate::wire::{At, PATIENCE, Reply};

pub(crate) async fn stories(at: &At) {
    a_list_takes_bounds_and_forms(at).await;
    a_separator_groups_what_lies_below(at).await;
    pages_show_one_moment(at).await;
    a_page_ends_by_its_bytes(at).await;
    lines_stream_the_whole_range(at).await;
    contradictions_are_refused(at).await;
}

macro_rules! on_one_node {
    ($($name:ident)*) => {
        mod on_one_node {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let nodes = super::Nodes::one().await;
                super::$name(&nodes.only()).await;
            })*
        }
    };
}

on_one_node! {
    a_list_takes_bounds_and_forms
    a_separator_groups_what_lies_below
    pages_show_one_moment
    a_page_ends_by_its_bytes
    lines_stream_the_whole_range
    contradictions_are_refused
}

/// The keys of a list, without the prefix of the test.
fn keys(at: &At, list: &Value) -> Vec<String> {
    let key = |item: &Value| {
        let key = item["key"].as_str().unwrap_or_else(|| panic!("no key in {item}"));
        key.strip_prefix(&at.prefix).expect("under the prefix").to_owned()
    };
    list["items"].as_array().expect("items").iter().map(key).collect()
}

async fn list(at: &At, query: &str) -> Value {
    at.get(&format!("/v1/kv?{query}")).await.is(200).json()
}

async fn a_list_takes_bounds_and_forms(at: &At) {
    let p = &at.prefix;
    for key in ["l/a", "l/b", "l/c", "l/d", "m", "l/%ff"] {
        at.put(&at.key(key), key).await.is(201);
    }
    let now = at.revision().await;

    let all = list(at, &format!("prefix={p}l/")).await;
    assert_eq!((&all["revision"], &all["count"]), (&json!(now), &json!(5)));
    assert_eq!(all["prefixes"], json!([]));
    assert_eq!(all.get("cursor"), None);
    let last = &all["items"][4];
    let mut name = p.clone().into_bytes();
    name.extend_from_slice(b"l/\xff");
    assert_eq!(last["key_base64"], base64(&name), "the highest byte sorts last");
    assert_eq!(all["items"][0]["value"], "l/a");
    assert_eq!(all["items"][0]["version"], 1);

    let ranged = |query: &str| format!("start={p}l/{query}");
    for (query, expected) in [
        (ranged(&format!("b&end={p}l/d")), &["l/b", "l/c"][..]),
        (ranged(&format!("b&end={p}l/c%00")), &["l/b", "l/c"]),
        (ranged(&format!("b&end={p}l/d&reverse=true")), &["l/c", "l/b"]),
        (ranged(&format!("a&end={p}l/z&limit=2&reverse=true")), &["l/d", "l/c"]),
        (ranged(&format!("d&end={p}l/a")), &[]),
        (ranged(&format!("a&end={p}l/a")), &[]),
        (format!("prefix={p}nothing"), &[]),
        (format!("prefix={p}l%2Fa"), &["l/a"]),
        (format!("prefix_base64={}", base64(format!("{p}l/a").as_bytes())), &["l/a"]),
    ] {
        assert_eq!(keys(at, &list(at, &query).await), expected, "{query}");
    }

    let bare = list(at, &format!("prefix={p}m&keys_only=true")).await;
    assert_eq!(bare["items"][0]["key"], format!("{p}m"));
    assert_eq!(bare["items"][0].get("value"), None);
    assert!(bare["items"][0]["mod_revision"].is_u64());

    let counted = list(at, &format!("prefix={p}l/&count_only=true&limit=1")).await;
    assert_eq!(counted, json!({"revision": now, "items": [], "prefixes": [], "count": 5}));

    let head = at.send("HEAD", &format!("/v1/kv?prefix={p}m"), &[], b"").await.is(200);
    assert_eq!(head.body, b"");
    assert_ne!(head.header("content-length"), "0");
}

async fn a_separator_groups_what_lies_below(at: &At) {
    let p = &at.prefix;
    for key in ["s/a", "s/b/1", "s/b/2", "s/c/1/2", "s/d", "s/%ff/1"] {
        at.put(&at.key(key), "").await.is(201);
    }
    let grouped = list(at, &format!("prefix={p}s/&separator=/")).await;
    assert_eq!(keys(at, &grouped), ["s/a", "s/d"]);
    let mut odd = p.clone().into_bytes();
    odd.extend_from_slice(b"s/\xff/");
    assert_eq!(
        grouped["prefixes"],
        json!([{"prefix": format!("{p}s/b/")}, {"prefix": format!("{p}s/c/")},
               {"prefix_base64": base64(&odd)}])
    );
    assert_eq!(grouped["count"], 5);

    // Groups count towards the limit, and a page goes on behind a whole group.
    for reverse in [false, true] {
        let query = format!("prefix={p}s/&separator=/&limit=1&reverse={reverse}");
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = list(at, &format!("{query}{cursor}")).await;
            assert_eq!(page["count"], 1);
            let (items, prefixes) = (&page["items"][0]["key"], &page["prefixes"][0]);
            let text = items.as_str().or(prefixes["prefix"].as_str()).unwrap_or("odd");
            names.push(text.strip_prefix(p.as_str()).unwrap_or(text).to_owned());
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let mut expected = vec!["s/a", "s/b/", "s/c/", "s/d", "odd"];
        if reverse {
            expected.reverse();
        }
        assert_eq!(names, expected);
    }
}

async fn pages_show_one_moment(at: &At) {
    let p = &at.prefix;
    for key in 0..5 {
        at.put(&at.key(&format!("page/{key}")), "first").await.is(201);
    }
    let query = format!("prefix={p}page/");
    let first = list(at, &format!("{query}&limit=2")).await;
    assert_eq!(keys(at, &first), ["page/0", "page/1"]);
    let revision = first["revision"].clone();
    for key in 0..5 {
        at.put(&at.key(&format!("page/{key}")), "second").await.is(200);
    }
    at.delete(&at.key("page/2")).await.is(200);
    at.put(&at.key("page/00"), "new").await.is(201);

    let cursor = first["cursor"].as_str().unwrap();
    let second = list(at, &format!("{query}&limit=9&cursor={cursor}")).await;
    assert_eq!(keys(at, &second), ["page/2", "page/3", "page/4"]);
    assert!(second["items"].as_array().unwrap().iter().all(|item| item["value"] == "first"));
    assert_eq!(second["revision"], revision);
    assert_eq!(second.get("cursor"), None);

    let pinned = revision.as_u64().unwrap();
    at.get(&format!("/v1/kv?{query}&cursor={cursor}&revision={pinned}")).await.is(200);
    for (other, field) in [
        (format!("prefix={p}page/1&cursor={cursor}"), "cursor"),
        (format!("start={p}page/&cursor={cursor}"), "cursor"),
        (format!("{query}&reverse=true&cursor={cursor}"), "cursor"),
        (format!("{query}&separator=/&cursor={cursor}"), "cursor"),
        (format!("{query}&cursor=x{cursor}"), "cursor"),
        (format!("{query}&cursor="), "cursor"),
        (format!("{query}&cursor={cursor}&revision={}", pinned + 1), "revision"),
    ] {
        at.get(&format!("/v1/kv?{other}")).await.invalid(field);
    }
}

async fn a_page_ends_by_its_bytes(at: &At) {
    let value = vec![b'v'; 1 << 20];
    for key in 0..6 {
        at.put(&at.key(&format!("big{key}")), &value).await.is(201);
    }
    let query = format!("prefix={}big", at.prefix);
    let first = list(at, &query).await;
    let count = first["count"].as_u64().unwrap();
    assert!((3..=4).contains(&count), "4 MiB a page, not {count}");
    let cursor = first["cursor"].as_str().unwrap();
    let second = list(at, &format!("{query}&cursor={cursor}")).await;
    assert_eq!(second["count"], 6 - count);
    assert_eq!(second.get("cursor"), None);
}

fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    let text = reply.text();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn lines_stream_the_whole_range(at: &At) {
    let p = &at.prefix;
    const COUNT: u64 = 2_500;
    for first in (0..COUNT).step_by(500) {
        let put = |key| format!(r#"{{"put":{{"key":"{p}line/{key:05}","value":"v"}}}}"#);
        let puts: Vec<String> = (first..first + 500).map(put).collect();
        let body = format!(r#"{{"success":[{}]}}"#, puts.join(","));
        at.post("/v1/txn", body).await.is(200);
    }
    let now = at.revision().await;
    let stream = async |query: &str| {
        let target = format!("/v1/kv?{query}");
        lines(&at.send("GET", &target, &[("accept", "application/x-ndjson")], b"").await.is(200))
    };

    let all = stream(&format!("prefix={p}line/")).await;
    assert_eq!(all.len() as u64, COUNT + 1);
    assert_eq!(all[7]["key"], format!("{p}line/00007"));
    assert_eq!(all.last(), Some(&json!({"end": true, "revision": now, "count": COUNT})));
    let ordered = all[..all.len() - 1].is_sorted_by_key(|line| line["key"].as_str());
    assert!(ordered, "the lines are in order");

    let backwards =
        stream(&format!("prefix={p}line/&reverse=true&keys_only=true&limit=1200")).await;
    assert_eq!(backwards[0]["key"], format!("{p}line/02499"));
    assert_eq!(backwards[0].get("value"), None);
    assert_eq!(backwards.last(), Some(&json!({"end": true, "revision": now, "count": 1200})));

    let counted = stream(&format!("prefix={p}line/&count_only=true")).await;
    assert_eq!(counted, [json!({"end": true, "revision": now, "count": COUNT})]);
    let empty = stream(&format!("prefix={p}no-line/")).await;
    assert_eq!(empty, [json!({"end": true, "revision": now, "count": 0})]);

    let target = format!("/v1/kv?prefix={p}line/&separator=/");
    let accept = [("accept", "application/x-ndjson")];
    at.send("GET", &target, &accept, b"").await.invalid("separator");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_moment_is_gone_is_cut_off() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    let value = vec![b'v'; 1 << 20];
    for key in 0..40 {
        at.put(&format!("/v1/kv/cut{key:02}"), &value).await.is(201);
    }
    let mut socket = at.connect().await;
    let request =
        "GET /v1/kv?prefix=cut HTTP/1.1\r\nhost: x\r\naccept: application/x-ndjson\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 1000];
    socket.read_exact(&mut begin).await.unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200 OK"));
    at.delete("/v1/kv?all=true").await.is(200);

    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(rest.len() < 40 << 20, "it ended early");
    assert!(!rest.windows(6).any(|six| six == b"\"end\":"), "and does not say that it is whole");
    assert!(!rest.ends_with(b"0\r\n\r\n"), "not even in its framing");
}

async fn contradictions_are_refused(at: &At) {
    for (query, field) in [
        ("prefix=a&start=b", "prefix"),
        ("prefix=a&end=b", "prefix"),
        ("prefix=a&prefix_base64=YQ", "prefix_base64"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=1&limit=1", "limit"),
        ("separator=", "separator"),
        ("reverse=yes", "reverse"),
        ("count_only=true&separator=/", "separator"),
        ("key=a", "key"),
        ("ttl=1s", "ttl"),
        ("all=true", "all"),
        ("prev=true", "prev"),
        ("key_base64=YQ&prefix=a", "prefix"),
        ("key_base64=YQ&limit=1", "limit"),
        ("key_base64=", "key_base64"),
        ("key_base64=%", "key_base64"),
    ] {
        at.get(&format!("/v1/kv?{query}")).await.invalid(field);
    }
    at.get(&format!("{}?key_base64=YQ", at.key("a"))).await.invalid("key_base64");
}
