//! The engine against hosts in memory: what an orchestrator sees, and what is left on the host.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod adoption;
mod attach;
mod calls;
mod client_example;
mod concurrency;
mod drift;
mod findings;
mod issued;
mod modes;
mod names;
mod node;
mod overlay;
mod peers;
mod ports;
mod restart;
mod service_names;
mod validation;
