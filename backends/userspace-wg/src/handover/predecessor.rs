//! The older process's side of a device that goes to a successor.

use std::{sync::Arc, time::Duration};

use super::channel::{ChannelEvent, HandoverChannel, HandoverMessage};
use crate::{device::SharedDevice, noise::SteadyTime};

/// After this long without anything on the old sessions they are given up,
const QUIET: Duration = Duration::from_millis(500);
/// and after this long whatever comes on them: the peers have had newer ones for as long.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// How a hand-over ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandoverEnd {
    /// The device is the successor's; here it carries nothing any more.
    ReceivedDevice,
    /// The successor is gone and the device is ours, as before.
    Aborted,
}

/// Carries on until the successor wants the device, then until it can do without us.
pub(crate) fn run(shared: &SharedDevice, channel: &Arc<HandoverChannel>) -> HandoverEnd {
    match hand_over(shared, channel) {
        Ok(()) => {
            shared.end_handover();
            HandoverEnd::ReceivedDevice
        }
        Err(reason) => {
            tracing::warn!(reason, "the device was not taken over; it is carried on here");
            shared.cancel_handover();
            HandoverEnd::Aborted
        }
    }
}

fn hand_over(shared: &SharedDevice, channel: &Arc<HandoverChannel>) -> Result<(), &'static str> {
    const LOST: &str = "the successor is gone";
    let mut buffer = HandoverChannel::buffer();
    wait_for(&HandoverMessage::Attached, channel, &mut buffer)?;
    let exported = shared.begin_handover();
    channel.send_peers(&exported).map_err(|_| LOST)?;
    drop(exported);
    shared.forward_to(channel);
    wait_for(&HandoverMessage::GiveTun, channel, &mut buffer)?;
    shared.close_tun();
    channel.send(&HandoverMessage::TunGiven).map_err(|_| LOST)?;
    let last = SteadyTime::boot_clock().after(STRAGGLERS);
    loop {
        let now = SteadyTime::boot_clock();
        let quiet = shared.lock().last_received().unwrap_or(now).after(QUIET).min(last);
        if quiet <= now {
            break;
        }
        match channel.receive(&mut buffer, Some(quiet.since(now))) {
            Ok(ChannelEvent::Nothing) => {}
            Ok(ChannelEvent::HandoverEnd | ChannelEvent::HandoverMessage(_)) | Err(_) => return Err(LOST),
        }
    }
    shared.close_udp();
    shared.forward();
    channel.send(&HandoverMessage::Farewell).map_err(|_| LOST)
}

fn wait_for(what: &HandoverMessage<'_>, channel: &HandoverChannel, buffer: &mut [u8]) -> Result<(), &'static str> {
    loop {
        match channel.receive(buffer, None) {
            Ok(ChannelEvent::Nothing) => {}
            Ok(ChannelEvent::HandoverMessage(said)) if said == *what => return Ok(()),
            Ok(ChannelEvent::HandoverMessage(_)) => return Err("the successor said something out of turn"),
            Ok(ChannelEvent::HandoverEnd) | Err(_) => return Err("the successor is gone"),
        }
    }
}
