//! The older process's side of a device that goes to a successor.

use std::{sync::Arc, time::Duration};

use overlayd_core::contract::HandoverOutcome;

use super::{
    channel::{ChannelEvent, HandoverChannel},
    message::HandoverMessage,
};
use crate::{device::SharedDevice, noise::SteadyTime};

/// The old sessions are given up after this long without anything on them.
const QUIET: Duration = Duration::from_millis(500);
/// They are given up after this long in any case: the peers have had newer sessions for as long.
const STRAGGLERS: Duration = Duration::from_secs(2);
/// Why a handover ends when the channel does.
const SUCCESSOR_GONE: &str = "the successor is gone";

/// Carries on until the successor wants the device, then until it can do without this process.
pub(super) fn run(shared: &SharedDevice, channel: &Arc<HandoverChannel>) -> HandoverOutcome {
    match hand_over(shared, channel) {
        Ok(()) => {
            shared.end_handover();
            HandoverOutcome::Done
        }
        Err(reason) => {
            tracing::warn!(reason, "the device was not taken over; it is carried on here");
            shared.cancel_handover();
            HandoverOutcome::SuccessorGone
        }
    }
}

fn hand_over(shared: &SharedDevice, channel: &Arc<HandoverChannel>) -> Result<(), &'static str> {
    let mut buffer = HandoverChannel::buffer();
    wait_for(&HandoverMessage::Attached, channel, &mut buffer)?;
    // The peers go before any traffic: the successor must know who a forwarded datagram may come from.
    let peers = shared.begin_handover();
    channel.send_peers(&peers).map_err(|_| SUCCESSOR_GONE)?;
    drop(peers);
    shared.forward_to(channel.clone());
    wait_for(&HandoverMessage::GiveTun, channel, &mut buffer)?;
    shared.close_tun();
    channel.send(&HandoverMessage::TunGiven).map_err(|_| SUCCESSOR_GONE)?;
    wait_until_quiet(shared, channel, &mut buffer)?;
    shared.close_udp();
    // What the last batch left is passed on before the message that says that nothing more comes.
    shared.forward();
    channel.send(&HandoverMessage::Farewell).map_err(|_| SUCCESSOR_GONE)
}

/// Waits until peers no longer use the old sessions: they move to the new ones with their next packet.
fn wait_until_quiet(shared: &SharedDevice, channel: &HandoverChannel, buffer: &mut [u8]) -> Result<(), &'static str> {
    let last = SteadyTime::boot_clock().after(STRAGGLERS);
    loop {
        let now = SteadyTime::boot_clock();
        let quiet = shared.lock().last_received().unwrap_or(now).after(QUIET).min(last);
        if quiet <= now {
            return Ok(());
        }
        // The successor has nothing more to say, so a wait that ends early means that it is gone.
        match channel.receive(buffer, Some(quiet.since(now))) {
            Ok(ChannelEvent::Timeout) => {}
            Ok(ChannelEvent::Closed | ChannelEvent::Message(_)) | Err(_) => return Err(SUCCESSOR_GONE),
        }
    }
}

fn wait_for(expected: &HandoverMessage<'_>, channel: &HandoverChannel, buffer: &mut [u8]) -> Result<(), &'static str> {
    loop {
        match channel.receive(buffer, None) {
            Ok(ChannelEvent::Timeout) => {}
            Ok(ChannelEvent::Message(message)) if message == *expected => return Ok(()),
            Ok(ChannelEvent::Message(_)) => return Err("the successor sent an unexpected message"),
            Ok(ChannelEvent::Closed) | Err(_) => return Err(SUCCESSOR_GONE),
        }
    }
}
