//! Who may know what: the table of DESIGN §1 and ARCHITECTURE.md, kept by machine.
//!
//! Crates are checked in the dependency graph, files by the names that they write.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// The crates that `package` is built from, its own tests and benchmarks aside.
fn dependencies(package: &str) -> String {
    let tree = ["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none"];
    let output = Command::new(env!("CARGO")).args(tree).current_dir(root()).output();
    let output = output.expect("run cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

fn knows(package: &str, crate_name: &str) -> bool {
    let name = |line: &str| line.split_ascii_whitespace().next() == Some(crate_name);
    dependencies(package).lines().skip(1).any(name)
}

#[test]
fn crates_depend_in_one_direction() {
    for (package, forbidden) in [
        ("raftmap-log-store", "fjall"),
        ("raftmap-log-store", "axum"),
        ("raftmap-log-store", "raftmap-state-machine"),
        ("raftmap-log-store", "raftmap-client"),
        ("raftmap-state-machine", "axum"),
        ("raftmap-state-machine", "reqwest"),
        ("raftmap-state-machine", "raftmap-log-store"),
        ("raftmap-state-machine", "raftmap-client"),
        ("raftmap-client", "openraft"),
        ("raftmap-client", "fjall"),
        ("raftmap-client", "axum"),
        ("raftmap-client", "raftmap-node"),
    ] {
        assert!(!knows(package, forbidden), "{package} must not know {forbidden}");
    }
    assert!(knows("raftmap-node", "openraft"), "the check itself works");
}

/// In the files below `dir`, `word` may be written only in the files that `allowed` names.
struct Rule {
    dir: &'static str,
    word: &'static str,
    allowed: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule { dir: "log-store/src", word: "openraft", allowed: &["raft.rs", "raft/"] },
    Rule { dir: "log-store/src", word: "tokio", allowed: &["raft.rs", "raft/"] },
    Rule { dir: "log-store/src", word: "SystemTime", allowed: &[] },
    Rule { dir: "log-store/src", word: "std::fs", allowed: &["disk/", "disk.rs"] },
    Rule { dir: "state-machine/src", word: "openraft", allowed: &["raft.rs", "raft/"] },
    Rule {
        dir: "state-machine/src",
        word: "fjall::",
        allowed: &["store", "generation", "view", "snapshot", "install", "checkpoint", "durable"],
    },
    Rule { dir: "state-machine/src", word: "SystemTime::now", allowed: &[] },
    Rule { dir: "state-machine/src", word: "HashMap", allowed: &[] },
    Rule { dir: "node/src", word: "fjall::", allowed: &[] },
    Rule { dir: "node/src", word: "axum", allowed: &["http/", "raft/server", "node.rs"] },
    Rule { dir: "client/src/api", word: "reqwest", allowed: &[] },
    Rule { dir: "client/src/api", word: "tokio", allowed: &[] },
];

#[test]
fn files_name_only_what_they_may_know() {
    for rule in RULES {
        let dir = root().join(rule.dir);
        for file in rust_files(&dir) {
            let name = file.strip_prefix(&dir).unwrap().display().to_string();
            if rule.allowed.iter().any(|allowed| name.starts_with(allowed)) {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let line = text.lines().position(|line| is_code(line) && line.contains(rule.word));
            let place = format!("{}/{name}:{}", rule.dir, line.unwrap_or(0) + 1);
            assert!(line.is_none(), "{place} names {}", rule.word);
        }
    }
}

fn is_code(line: &str) -> bool {
    !line.trim_start().starts_with("//")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Files that the map of the code names are there: `dir/{a,b}.rs`, `dir/file.rs` and `dir/` in backticks.
#[test]
fn the_map_of_the_code_names_files_that_are_there() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let crates = ["log-store/", "state-machine/", "node/", "client/"];
    let named =
        map.split('`').skip(1).step_by(2).filter(|name| crates.iter().any(|c| name.starts_with(c)));
    let mut found = 0;
    for path in named.flat_map(expand) {
        assert!(root().join(&path).exists(), "ARCHITECTURE.md names {path}, which is not there");
        found += 1;
    }
    assert!(found > 40, "only {found} names were found");
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expand(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let Some((list, after)) = rest.split_once('}') else { return vec![name.to_owned()] };
    list.split(',').map(|one| format!("{before}{one}{after}")).collect()
}
