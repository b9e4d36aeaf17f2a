//! The suites that every implementation of a trait passes, fakes and real backends alike.
//!
//! Each suite is a harness trait, which says how to make a backend and how to look at its host, and one public function
//! per rule, whose name is the rule. The macro of the suite makes one test of each:
//!
//! ```ignore
//! struct Here { .. }
//! impl overlayd_testkit::contract::overlay::OverlayHarness for Here { .. }
//!
//! mod contract {
//!     // `Here::new()` is an async function that gives each test a host of its own.
//!     overlayd_testkit::overlay_contract!(super::Here::new());
//! }
//! ```
//!
//! Each test gets its own harness, and a harness its own host: a network namespace for real backends (enter it with
//! `setns` or `unshare` on the thread of the test; `#[tokio::test]` stays on that thread, and threads started from it
//! inherit the namespace).

pub mod attach;
pub mod dns;
pub mod nat;
pub mod overlay;
mod tests_of;

use std::{collections::BTreeSet, future::Future, pin::pin, task::Poll};

use ipnet::IpNet;
use overlayd_core::{contract::Error, names::LinkName};

/// What is on a host, one line per fact, such as `addr zl-web-b 10.77.1.1/26`. Two equal sets mean an unchanged host, so
/// leave out what changes by itself (counters, ages), and keep in what a backend may touch: links, addresses, routes,
/// rules, sysctls, files.
pub type HostFacts = BTreeSet<String>;

/// Polls the future at most so many times and drops it then: a call that its caller gave up half-way.
pub(crate) async fn poll_at_most<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    std::future::poll_fn(|context| {
        if left > 0 {
            left -= 1;
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
        }
        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

pub(crate) fn link(name: &str) -> LinkName {
    LinkName::new(name).expect("the suites use valid names")
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("the suites use valid ranges")
}

/// Panics with the difference when the host is not as it was.
#[track_caller]
pub(crate) fn assert_same_host(before: &HostFacts, now: &HostFacts, after_what: &str) {
    let gone: Vec<_> = before.difference(now).collect();
    let new: Vec<_> = now.difference(before).collect();
    assert!(gone.is_empty() && new.is_empty(), "after {after_what}, new: {new:#?}, gone: {gone:#?}");
}

/// Panics unless the call failed with one of these codes.
#[track_caller]
pub(crate) fn assert_code<T>(result: Result<T, Error>, codes: &[&str]) {
    match result {
        Ok(_) => panic!("expected {codes:?}, the call succeeded"),
        Err(error) => assert!(codes.contains(&error.code()), "expected {codes:?}, got {}: {error}", error.code()),
    }
}
