//! Points of a daemon of its own, as its environment says.

use std::{
    fs::File,
    io::Write,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

const TRACE: &str = "OVERLAYD_CRASH_TRACE";
const AT: &str = "OVERLAYD_CRASH_AT";

/// What the environment asks for.
struct Orders {
    trace: Option<File>,
    at: Option<usize>,
    passed: AtomicUsize,
}

/// Whether the environment asks for points of this process.
pub fn is_ordered() -> bool {
    [TRACE, AT].iter().any(|name| std::env::var_os(name).is_some())
}

/// Notes that the process is at this point, and ends it here if it is the one.
pub(super) fn reach(side: &str, what: &str) {
    static ORDERS: OnceLock<Orders> = OnceLock::new();
    let orders = ORDERS.get_or_init(Orders::read);
    let number = orders.passed.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(mut trace) = orders.trace.as_ref() {
        // The test that asked for the list counts its lines.
        drop(writeln!(trace, "{side} {what}"));
    }
    if orders.at == Some(number) {
        eprintln!("crash point {number}: {side} {what}");
        std::process::abort();
    }
}

impl Orders {
    #[expect(clippy::expect_used, reason = "an order that cannot be read is a test that cannot go on")]
    fn read() -> Self {
        let trace = std::env::var_os(TRACE);
        let trace = trace.map(|path| File::options().create(true).append(true).open(path).expect("a trace file"));
        let at = std::env::var(AT).ok().map(|at| at.parse().expect("a number in OVERLAYD_CRASH_AT"));
        Self { trace, at, passed: AtomicUsize::new(0) }
    }
}
