//! What the process tells about itself: its log lines, and figures read when they are asked for.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts logging to stderr. The second call in a process does nothing.
///
/// # Errors
/// A filter that cannot be read.
pub fn init_logging(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter(&config.log_level))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let _ = match config.log_format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    Ok(())
}

/// A bare level is about this program: what its libraries tell at `info` is about themselves. A
/// filter with targets (`info,openraft=debug`) is taken as it is.
fn filter(level: &str) -> String {
    if level.contains([',', '=']) {
        return level.to_owned();
    }
    // openraft warns of every client that went away before its answer, and of every attempt to
    // reach a peer that is down, ten a second; the transport says once that it is, and is back.
    let quiet = ["raft::responder", "core::heartbeat", "replication"];
    let quiet: String = quiet.map(|module| format!(",openraft::{module}=error")).concat();
    format!("{level},openraft=warn{quiet},fjall=warn,lsm_tree=warn")
}

/// The process's metrics; one recorder for all nodes of a process.
pub(crate) fn recorder() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _ = metrics::set_global_recorder(recorder);
        handle
    })
}

/// What the kernel knows of this process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessFigures {
    /// User and system time, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Memory in use.
    pub(crate) resident_bytes: u64,
    /// Bytes that it caused to be written to storage.
    pub(crate) write_bytes: u64,
    /// Open file descriptors.
    pub(crate) open_fds: u64,
}

impl ProcessFigures {
    /// Reads them from `/proc`; what cannot be read is 0.
    pub(crate) fn read() -> ProcessFigures {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
        let fds = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        ProcessFigures {
            cpu_seconds: read("stat").and_then(|text| cpu_seconds(&text)).unwrap_or(0.0),
            resident_bytes: read("status")
                .and_then(|text| field(&text, "VmRSS:"))
                .map_or(0, |kib| kib * 1024),
            write_bytes: read("io").and_then(|text| field(&text, "write_bytes:")).unwrap_or(0),
            open_fds: u64::try_from(fds).unwrap_or(u64::MAX),
        }
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted behind the parenthesised name, in ticks of 10 ms.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_figures_are_read() {
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes > 0 && figures.open_fds > 0);
        let stat = "7 (a b) c) S 1 1 1 0 -1 4 1 2 3 4 150 50 0 0 20 0 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }
}
