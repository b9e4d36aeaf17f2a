//! Engines against each other under a simulated clock.

mod aside;
mod faults;
mod robust;
mod sessions;
mod world;
