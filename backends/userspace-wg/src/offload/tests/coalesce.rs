use proptest::prelude::*;

use super::world::{ACK, PSH, Packet, any_packet, cut, gathered};
use crate::offload::MergePolicy;

proptest! {
    #[test]
    fn what_was_cut_is_put_together_and_cut_again_the_same(packet in any_packet(), size in 200u16..3000) {
        let (header, frame) = packet.frame(size);
        let segments = cut(&header, &frame).unwrap();
        let frames = gathered(&segments, MergePolicy::TcpAndUdp);
        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(frames[0].2, segments.len());
        prop_assert_eq!(cut(&frames[0].0, &frames[0].1).unwrap(), segments.clone());
        if segments.len() > 1 {
            prop_assert_eq!(&frames[0].0, &header);
            prop_assert_eq!(&frames[0].1, &frame, "the very frame that the sender's host made");
        }
    }

    #[test]
    fn whatever_arrives_leaves_in_order_and_unchanged(
        packets in proptest::collection::vec((any_packet(), 0usize..4, 200u16..2000), 1..5),
        changes in proptest::collection::vec((any::<u16>(), any::<u16>(), 1u8..), 0..4),
    ) {
        let mut arrived: Vec<Vec<u8>> = Vec::new();
        for (packet, times, size) in packets {
            let (header, frame) = packet.frame(size);
            for _ in 0..times {
                arrived.extend(cut(&header, &frame).unwrap());
            }
        }
        for (packet, byte, bits) in changes {
            if !arrived.is_empty() {
                let number = usize::from(packet) % arrived.len();
                let len = arrived[number].len();
                arrived[number][usize::from(byte) % len.min(60)] ^= bits;
            }
        }
        let frames = gathered(&arrived, MergePolicy::TcpAndUdp);
        let left: Vec<_> = frames.iter().flat_map(|(header, frame, _)| cut(header, frame).unwrap()).collect();
        prop_assert_eq!(left, arrived);
    }
}

/// Two packets that follow each other, the second one changed: the frames that become of them.
fn frames_of(change: impl FnOnce(&mut Packet)) -> usize {
    let first = Packet::tcp4(&[1; 100]);
    follow(first, change)
}

fn follow(first: Packet, change: impl FnOnce(&mut Packet)) -> usize {
    let mut second = first.clone();
    second.sequence = first.sequence.wrapping_add(first.payload.len() as u32);
    second.id = first.id.wrapping_add(1);
    change(&mut second);
    gathered(&[first.bytes(), second.bytes()], MergePolicy::TcpAndUdp).len()
}

#[test]
fn packets_that_differ_in_more_than_their_place_are_not_put_together() {
    assert_eq!(frames_of(|_| {}), 1);
    assert_eq!(frames_of(|second| second.port += 1), 2, "another stream");
    assert_eq!(frames_of(|second| second.hops -= 1), 2, "another way");
    assert_eq!(frames_of(|second| second.id = 7), 2, "a packet is missing in between");
    assert_eq!(frames_of(|second| second.sequence += 1), 2, "out of order");
    assert_eq!(frames_of(|second| second.sequence = second.sequence.wrapping_sub(200)), 2, "sent again");
    assert_eq!(frames_of(|second| second.acknowledged += 1), 2, "acknowledges more");
    assert_eq!(frames_of(|second| second.window += 1), 2, "offers another window");
    assert_eq!(frames_of(|second| second.options[11] += 1), 2, "another time stamp");
    assert_eq!(frames_of(|second| second.options.truncate(4)), 2, "fewer options");
    assert_eq!(frames_of(|second| second.payload.push(1)), 2, "longer than the first");
    assert_eq!(frames_of(|second| second.payload.clear()), 2, "an acknowledgement alone");
    assert_eq!(follow(Packet::udp4(&[1; 100]), |_| {}), 1);
    assert_eq!(follow(Packet::udp4(&[1; 100]), |second| second.port += 1), 2);
}

#[test]
fn a_segment_with_a_flag_that_means_something_is_left_alone() {
    for flag in [0x01, 0x02, 0x04, 0x20, 0x40, 0x80] {
        assert_eq!(frames_of(|second| second.flags |= flag), 2, "{flag:#x} on the second");
        assert_eq!(follow(Packet { flags: ACK | flag, ..Packet::tcp4(&[1; 100]) }, |_| {}), 2, "{flag:#x} on both");
    }
    assert_eq!(frames_of(|second| second.flags |= PSH), 1, "the last one may push");
    assert_eq!(follow(Packet { flags: ACK | PSH, ..Packet::tcp4(&[1; 100]) }, |_| {}), 2, "and only the last");
}

#[test]
fn nothing_follows_a_segment_that_is_shorter_than_the_first() {
    let mut packets = Vec::new();
    let mut next = Packet::tcp4(&[]);
    for len in [100, 100, 50, 100, 100] {
        next.payload = vec![9; len];
        packets.push(next.bytes());
        next.sequence = next.sequence.wrapping_add(len as u32);
        next.id = next.id.wrapping_add(1);
    }
    let frames = gathered(&packets, MergePolicy::Tcp);
    assert_eq!(frames.iter().map(|frame| frame.2).collect::<Vec<_>>(), [3, 2]);
}

#[test]
fn a_broken_checksum_is_passed_on_as_it_is() {
    for broken in [0, 1] {
        let mut packets = [Packet::tcp4(&[1; 100]).bytes(), {
            let first = Packet::tcp4(&[2; 100]);
            Packet { sequence: first.sequence.wrapping_add(100), id: first.id.wrapping_add(1), ..first }.bytes()
        }];
        packets[broken][90] ^= 1;
        let frames = gathered(&packets, MergePolicy::Tcp);
        assert_eq!(frames.iter().map(|frame| frame.1.clone()).collect::<Vec<_>>(), packets);
    }
}

#[test]
fn a_frame_holds_no_more_than_an_ip_packet_can() {
    let mut packets = Vec::new();
    for number in 0..60u16 {
        let first = Packet::tcp4(&[1; 1400]);
        let sequence = first.sequence.wrapping_add(u32::from(number) * 1400);
        packets.push(Packet { sequence, id: first.id.wrapping_add(number), ..first }.bytes());
    }
    let frames = gathered(&packets, MergePolicy::Tcp);
    assert_eq!(frames.len(), 2);
    assert!(frames.iter().all(|frame| frame.1.len() <= 65_535));
}

#[test]
fn datagrams_stay_single_for_a_kernel_that_knows_no_frames_of_them() {
    let packets = [Packet::udp4(&[1; 100]).bytes(), Packet { id: 0xffff, ..Packet::udp4(&[2; 100]) }.bytes()];
    assert_eq!(gathered(&packets, MergePolicy::Tcp).len(), 2);
    assert_eq!(gathered(&packets, MergePolicy::TcpAndUdp).len(), 1);
}
