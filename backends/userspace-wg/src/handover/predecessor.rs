//! The older process's side of a device that goes to a successor.

use std::{sync::Arc, time::Duration};

use super::channel::{Heard, Said, Wire};
use crate::{device::Shared, noise::Moment};

/// After this long without anything on the old sessions they are given up,
const QUIET: Duration = Duration::from_millis(500);
/// and after this long whatever comes on them: the peers have had newer ones for as long.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// How a hand-over ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The device is the successor's; here it carries nothing any more.
    Given,
    /// The successor is gone and the device is ours, as before.
    Kept,
}

/// Carries on until the successor wants the device, then until it can do without us.
pub(crate) fn run(shared: &Shared, wire: &Arc<Wire>) -> End {
    match hand_over(shared, wire) {
        Ok(()) => {
            shared.give_away();
            End::Given
        }
        Err(reason) => {
            tracing::warn!(reason, "the device was not taken over; it is carried on here");
            shared.come_back();
            End::Kept
        }
    }
}

fn hand_over(shared: &Shared, wire: &Arc<Wire>) -> Result<(), &'static str> {
    const LOST: &str = "the successor is gone";
    let mut buffer = Wire::buffer();
    wait_for(&Said::Attached, wire, &mut buffer)?;
    let known = shared.stand_aside();
    wire.say_peers(&known).map_err(|_| LOST)?;
    drop(known);
    shared.follow_by(wire);
    wait_for(&Said::GiveTun, wire, &mut buffer)?;
    shared.close_tun();
    wire.say(&Said::TunGiven).map_err(|_| LOST)?;
    let last = Moment::boot_clock().after(STRAGGLERS);
    loop {
        let now = Moment::boot_clock();
        let quiet = shared.lock().last_heard().unwrap_or(now).after(QUIET).min(last);
        if quiet <= now {
            break;
        }
        match wire.hear(&mut buffer, Some(quiet.since(now))) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::End | Heard::Said(_)) | Err(_) => return Err(LOST),
        }
    }
    shared.close_udp();
    shared.forward();
    wire.say(&Said::Farewell).map_err(|_| LOST)
}

fn wait_for(what: &Said<'_>, wire: &Wire, buffer: &mut [u8]) -> Result<(), &'static str> {
    loop {
        match wire.hear(buffer, None) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Said(said)) if said == *what => return Ok(()),
            Ok(Heard::Said(_)) => return Err("the successor said something out of turn"),
            Ok(Heard::End) | Err(_) => return Err("the successor is gone"),
        }
    }
}
