//! What the machine lends the tests: a tracer that fails calls, name spaces to mount in. A test that needs
//! what is not there is skipped with a message.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Says that a test is skipped, and why: past the harness, which shows nothing that a passed test prints.
pub(crate) fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
}

/// Whether calls of a child can be traced and failed.
pub(crate) fn has_strace() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-e"];
        let mut strace = Command::new("strace");
        strace.arg("-f").args(inject).args(["signal=none", "true"]);
        strace.output().is_ok_and(|output| output.status.success())
    })
}

/// A tracer in front of a worker: it writes what it sees of `calls` to `out`, and does to them what `inject`
/// says (`error=EIO:when=3`). It counts each thread's calls by themselves. Without `--seccomp-bpf`: there only the
/// first of several signals comes through (strace 6.1).
pub(crate) fn strace(out: &Path, calls: &str, inject: &str) -> Vec<String> {
    let mut words: Vec<String> = ["strace", "-f", "-qq", "-y", "-o"].map(Into::into).into();
    words.push(out.display().to_string());
    let mut option = |text: String| words.extend(["-e".to_owned(), text]);
    option("signal=none".to_owned());
    option(format!("trace={calls}"));
    if !inject.is_empty() {
        option(format!("inject={calls}:{inject}"));
    }
    words
}

/// Runs one test of this file again where it may mount, with nobody else seeing the mounts. True inside of
/// it; false outside, after it has passed there or was skipped.
pub(crate) fn may_mount(test: &str) -> bool {
    const INSIDE: &str = "RAFTMAP_LOG_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let own = std::env::current_exe().expect("a test knows its own file");
    // As root loop devices work too; anybody else is root in a name space of their own.
    let wrappers: [&[&str]; 2] = [&["unshare", "-m"], &["unshare", "-rm"]];
    let works = |wrapper: &&&[&str]| {
        let mut command = Command::new(wrapper[0]);
        let there = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/mnt"];
        succeeds(command.args(&wrapper[1..]).args(there))
    };
    let Some(wrapper) = wrappers.iter().find(works) else {
        skip(test, "nothing can be mounted here");
        return false;
    };
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(own).args([test, "--exact", "--nocapture", "--test-threads=1"]);
    let output = command.env(INSIDE, "1").output().expect("run the test again");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    std::io::stderr().write_all(&output.stderr).expect("stderr takes it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// A small file system at `dir`, which is made.
pub(crate) fn mount_tmpfs(dir: &Path, bytes: u64) {
    std::fs::create_dir_all(dir).expect("make a directory");
    let size = format!("size={bytes}");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir));
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// Whether a command is there and succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
