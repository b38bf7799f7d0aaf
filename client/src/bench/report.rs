//! What a run showed, for people and for scripts.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::{
    meter::Usage,
    plan::Plan,
    run::{Failure, Kind},
    tally::Tally,
};

/// The result of one run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// What came of it.
    pub tally: Tally,
    /// The true length of the measured window.
    pub measured: Duration,
    /// What all nodes together used inside the window, if they told.
    pub nodes: Option<Usage>,
    /// CPU seconds of the generator itself inside the window.
    pub generator_cpu_seconds: Option<f64>,
}

impl Report {
    /// Operations per second that succeeded.
    pub fn rate(&self) -> f64 {
        self.per_second(self.tally.operations())
    }

    /// CPU seconds of all nodes per 100,000 operations.
    pub fn cpu_per_100k(&self) -> Option<f64> {
        Some(self.nodes?.cpu_seconds * 100_000.0 / self.operations()?)
    }

    /// Bytes that all nodes together wrote per operation.
    pub fn write_bytes_per_operation(&self) -> Option<f64> {
        Some(self.nodes?.write_bytes / self.operations()?)
    }

    /// The report as one JSON object; latencies in microseconds.
    pub fn to_json(&self) -> Value {
        let mut kinds = serde_json::Map::new();
        for kind in Kind::ALL.into_iter().filter(|&kind| !self.tally.of(kind).is_empty()) {
            kinds.insert(kind.name().to_owned(), self.kind_json(kind));
        }
        let errors: serde_json::Map<String, Value> =
            self.tally.errors().iter().map(|(kind, &n)| (kind.to_string(), n.into())).collect();
        json!({
            "workload": self.plan.mix.name(),
            "clients": self.plan.clients,
            "seconds": self.measured.as_secs_f64(),
            "key_bytes": self.plan.keys.key_bytes(),
            "value_bytes": self.plan.value_bytes,
            "keys": self.plan.keys.count(),
            "operations": self.tally.operations(),
            "operations_per_second": self.rate(),
            "latency_us": kinds,
            "errors": errors,
            "nodes": {
                "cpu_seconds_per_100k": self.cpu_per_100k(),
                "write_bytes_per_operation": self.write_bytes_per_operation(),
                "resident_bytes_max": self.nodes.map(|n| n.resident_bytes),
            },
            "generator_cpu_us_per_operation": self.generator_micros(),
        })
    }

    fn kind_json(&self, kind: Kind) -> Value {
        let h = self.tally.of(kind);
        json!({
            "operations": h.len(),
            "operations_per_second": self.per_second(h.len()),
            "mean": h.mean(),
            "p50": h.value_at_quantile(0.50),
            "p90": h.value_at_quantile(0.90),
            "p99": h.value_at_quantile(0.99),
            "p999": h.value_at_quantile(0.999),
            "max": h.max(),
        })
    }

    fn generator_micros(&self) -> Option<f64> {
        Some(self.generator_cpu_seconds? * 1e6 / self.operations()?)
    }

    /// `None` instead of a division by zero.
    fn operations(&self) -> Option<f64> {
        let operations = self.tally.operations();
        (operations > 0).then_some(count(operations))
    }

    fn per_second(&self, operations: u64) -> f64 {
        count(operations) / self.measured.as_secs_f64().max(f64::EPSILON)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { plan, tally, measured, .. } = self;
        writeln!(
            f,
            "{} with {} clients for {:.1} s, {} B keys, {} B values",
            plan.mix.name(),
            plan.clients,
            measured.as_secs_f64(),
            plan.keys.key_bytes(),
            plan.value_bytes
        )?;
        writeln!(f, "       ops/s      p50 ms      p99 ms    p99.9 ms      max ms")?;
        for kind in Kind::ALL.into_iter().filter(|&kind| !tally.of(kind).is_empty()) {
            let h = tally.of(kind);
            let ms = |micros: u64| count(micros) / 1000.0;
            writeln!(
                f,
                "{:<4}{:>8.0}{:>12.2}{:>12.2}{:>12.2}{:>12.2}",
                kind.name(),
                self.per_second(h.len()),
                ms(h.value_at_quantile(0.50)),
                ms(h.value_at_quantile(0.99)),
                ms(h.value_at_quantile(0.999)),
                ms(h.max())
            )?;
        }
        if let (Some(cpu), Some(bytes), Some(nodes)) =
            (self.cpu_per_100k(), self.write_bytes_per_operation(), self.nodes)
        {
            writeln!(
                f,
                "nodes: {cpu:.2} CPU s per 100,000 operations, {bytes:.0} bytes written per operation, \
                 {:.1} MiB resident at most",
                nodes.resident_bytes / 1_048_576.0
            )?;
        }
        if let Some(micros) = self.generator_micros() {
            writeln!(f, "generator: {micros:.1} us CPU per operation")?;
        }
        write_errors(f, tally)
    }
}

fn write_errors(f: &mut fmt::Formatter<'_>, tally: &Tally) -> fmt::Result {
    if tally.errors().is_empty() {
        return write!(f, "errors: none");
    }
    let one = |(kind, n): (&Failure, &u64)| format!("{kind} {n}");
    let all: Vec<String> = tally.errors().iter().map(one).collect();
    write!(f, "errors: {}", all.join(", "))
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits of a count")]
fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{KeySpace, Mix};

    fn report(operations: u64) -> Report {
        let plan = Plan {
            mix: Mix::Put,
            clients: 4,
            duration: Duration::from_secs(2),
            warmup: Duration::ZERO,
            keys: KeySpace::new(16, 10).unwrap(),
            value_bytes: 256,
            threads: 1,
            timeout: Duration::from_secs(1),
        };
        let mut tally = Tally::default();
        for _ in 0..operations {
            tally.done(Kind::Put, Duration::from_millis(3));
        }
        tally.failed(Failure::Status(503));
        let nodes = Usage { cpu_seconds: 0.5, write_bytes: 1e6, resident_bytes: 1e6 };
        Report {
            plan,
            tally,
            measured: Duration::from_secs(2),
            nodes: Some(nodes),
            generator_cpu_seconds: Some(0.01),
        }
    }

    #[test]
    fn numbers_are_per_operation_and_per_second() {
        let json = report(1000).to_json();
        assert_eq!(json["operations_per_second"], 500.0);
        assert_eq!(json["nodes"]["cpu_seconds_per_100k"], 50.0);
        assert_eq!(json["nodes"]["write_bytes_per_operation"], 1000.0);
        assert_eq!(json["generator_cpu_us_per_operation"], 10.0);
        assert_eq!(json["errors"]["status 503"], 1);
        assert!(json["latency_us"].get("get").is_none());
    }

    #[test]
    fn a_run_without_operations_divides_by_nothing() {
        let report = report(0);
        assert_eq!(report.cpu_per_100k(), None);
        assert!(report.to_string().contains("status 503 1"));
    }
}
