//! Engines against each other under a simulated clock.

mod faults;
mod handover;
mod robust;
mod sessions;
mod world;
