//! What the nodes spend: CPU time, bytes written, memory.
//!
//! Two sources of the same three numbers: a node's own metrics, or `/proc` for processes of this machine. The
//! latter measures any server with the same yardstick, which a comparison needs.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Sub,
    time::Duration,
};

/// How long a node may take to tell its metrics; the measured window waits for it at both ends.
const METRICS_TIMEOUT: Duration = Duration::from_secs(1);

/// Ticks per second in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The node's metrics that are read, from its `/metrics`.
const CPU_METRIC: &str = "raftmap_process_cpu_seconds_total";
const WRITE_METRIC: &str = "raftmap_process_write_bytes_total";
const RESIDENT_METRIC: &str = "raftmap_process_resident_bytes";

/// What one or more processes have used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Bytes sent to the storage layer.
    pub write_bytes: f64,
    /// The largest resident memory among the processes, now.
    pub resident_bytes: f64,
}

impl Usage {
    fn add(self, other: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            write_bytes: self.write_bytes + other.write_bytes,
            resident_bytes: self.resident_bytes.max(other.resident_bytes),
        }
    }
}

impl Sub for Usage {
    type Output = Usage;

    /// What was used since `earlier`; memory is that of now.
    fn sub(self, earlier: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            write_bytes: self.write_bytes - earlier.write_bytes,
            resident_bytes: self.resident_bytes,
        }
    }
}

/// Where the usage of the nodes comes from.
#[derive(Debug, Clone)]
pub enum Meter {
    /// The metrics of these nodes.
    Metrics(Vec<SocketAddr>),
    /// These processes of this machine.
    Processes(Vec<u32>),
}

impl Meter {
    /// All nodes together, or `None` if one of them does not tell.
    pub fn read(&self) -> Option<Usage> {
        let each: Option<Vec<Usage>> = match self {
            Meter::Metrics(addrs) => addrs.iter().map(|&a| metrics(a).ok().flatten()).collect(),
            Meter::Processes(pids) => pids.iter().map(|pid| process(&pid.to_string())).collect(),
        };
        each.filter(|nodes| !nodes.is_empty())
            .map(|nodes| nodes.into_iter().fold(Usage::default(), Usage::add))
    }
}

/// CPU seconds of this process, for the report: it shares the machine with what it measures.
pub fn own_cpu_seconds() -> Option<f64> {
    cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn process(pid: &str) -> Option<Usage> {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    Some(Usage {
        cpu_seconds: cpu_seconds(&file("stat")?)?,
        write_bytes: field(&file("io")?, "write_bytes:")?,
        resident_bytes: field(&file("status")?, "VmRSS:")? * 1024.0,
    })
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The command's name may hold blanks; what follows its closing parenthesis is fields 3 and up.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |n: usize| fields.get(n - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
}

/// The number behind `name` on the line that starts with it.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn metrics(addr: SocketAddr) -> io::Result<Option<Usage>> {
    let mut stream = TcpStream::connect_timeout(&addr, METRICS_TIMEOUT)?;
    stream.set_read_timeout(Some(METRICS_TIMEOUT))?;
    stream.set_write_timeout(Some(METRICS_TIMEOUT))?;
    // Version 1.0 keeps the reply in one piece and ends it with the connection.
    write!(stream, "GET /metrics HTTP/1.0\r\nhost: {addr}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(usage_in(&text))
}

fn usage_in(text: &str) -> Option<Usage> {
    let sample = |name: &str| {
        let mut samples = text.lines().filter_map(|line| line.strip_prefix(name));
        // With labels or without; never a longer name that begins alike.
        samples.find(|rest| rest.starts_with([' ', '{']))?.rsplit(' ').next()?.trim().parse().ok()
    };
    Some(Usage {
        cpu_seconds: sample(CPU_METRIC)?,
        write_bytes: sample(WRITE_METRIC)?,
        resident_bytes: sample(RESIDENT_METRIC)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn this_process_can_be_measured() {
        let usage = Meter::Processes(vec![std::process::id()]).read().unwrap();
        assert!(usage.resident_bytes > 0.0);
        assert!(own_cpu_seconds().is_some());
    }

    #[test]
    fn a_process_that_is_gone_tells_nothing() {
        assert_eq!(Meter::Processes(vec![u32::MAX]).read(), None);
        assert_eq!(Meter::Processes(Vec::new()).read(), None);
    }

    #[test]
    fn usage_is_found_in_prometheus_text() {
        let text = "HTTP/1.0 200 OK\r\n\r\n# TYPE raftmap_process_cpu_seconds_total counter\n\
            raftmap_process_cpu_seconds_total 1.5\n\
            raftmap_process_write_bytes_total{node=\"1\"} 2048\n\
            raftmap_process_resident_bytes 1e6\n";
        let expected = Usage { cpu_seconds: 1.5, write_bytes: 2048.0, resident_bytes: 1e6 };
        assert_eq!(usage_in(text), Some(expected));
        assert_eq!(usage_in("raftmap_process_cpu_seconds_total 1.5\n"), None);
    }
}
