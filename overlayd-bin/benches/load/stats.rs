//! Figures: taken down, printed as they come, and written as JSON.

use std::time::Duration;

use serde_json::{Value, json};

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Value>);

/// How long each of many calls took, and all of them together.
#[derive(Debug, Clone)]
pub(crate) struct Timed {
    /// In order of length.
    each: Vec<Duration>,
    total: Duration,
}

impl Timed {
    pub(crate) fn new(mut each: Vec<Duration>, total: Duration) -> Self {
        each.sort_unstable();
        Self { each, total }
    }

    fn quantile(&self, per_mille: usize) -> f64 {
        let last = self.each.len().saturating_sub(1);
        self.each.get(last * per_mille / 1000).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }
}

impl Report {
    /// Notes how long calls took.
    pub(crate) fn timed(&mut self, case: &str, clients: usize, timed: &Timed) {
        let rate = timed.each.len() as f64 / timed.total.as_secs_f64();
        let [p50, p99, max] = [500, 990, 1000].map(|per_mille| timed.quantile(per_mille));
        println!("{case:<46} {clients:>2} clients  p50 {p50:>8.3} ms  p99 {p99:>8.3}  max {max:>8.3}  {rate:>9.0}/s");
        self.0.push(json!({
            "case": case, "clients": clients, "n": timed.each.len(),
            "p50_ms": p50, "p99_ms": p99, "max_ms": max, "per_second": rate,
        }));
    }

    /// Notes one number.
    pub(crate) fn figure(&mut self, case: &str, value: f64, unit: &str) {
        println!("{case:<60} {value:>12.3} {unit}");
        self.0.push(json!({ "case": case, "value": value, "unit": unit }));
    }

    pub(crate) fn json(&self) -> String {
        format!("{:#}\n", Value::Array(self.0.clone()))
    }
}
