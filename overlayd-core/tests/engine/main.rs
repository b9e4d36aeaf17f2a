//! The engine against hosts in memory: what an orchestrator sees, and what is left on the host.

mod attach;
mod concurrency;
mod node;
mod overlay;
mod peers;
mod restart;
