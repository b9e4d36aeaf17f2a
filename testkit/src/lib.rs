//! Test doubles, contract suites and the namespace lab; never part of a release build.
//!
//! - [`mock`]: mockall mocks of the four traits, for unit tests that state expectations call by call.
//! - [`fake`]: hosts in memory that keep the contract, for engine tests; they run as any user.
//! - [`contract`]: the suites that fakes and real backends pass alike.
//! - [`fuzz`]: the corpora of fuzz targets, tried in a plain test run.
//! - [`model`]: random sequences of requests, and what a node should answer and hold.
//! - [`requests`]: requests as most tests make them.
//! - `lab`: hosts as network namespaces that run the real binary, with containers and probes (Linux, root).

pub mod contract;
pub mod fake;
pub mod fuzz;
pub mod mock;
pub mod model;
pub mod requests;

#[cfg(target_os = "linux")]
pub use overlayd_lab::{self as lab, uninterrupted};
