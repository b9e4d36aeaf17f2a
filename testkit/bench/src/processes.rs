//! What processes cost.

use std::fs;

/// Processor time in seconds, of user and system, that these processes have used so far. The kernel counts in steps of
/// 10 ms (proc_pid_stat(5)).
pub(crate) fn processor_time(pids: &[u32]) -> f64 {
    let ticks: u64 = pids.iter().filter_map(|pid| ticks(*pid)).sum();
    ticks as f64 / ticks_per_second()
}

fn ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Memory of a process that is resident, in megabytes (of 10⁶ bytes).
pub(crate) fn resident(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().split(' ').next()?.parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}
