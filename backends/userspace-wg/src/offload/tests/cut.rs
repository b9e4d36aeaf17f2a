use proptest::prelude::*;

use super::world::{ACK, CWR, FIN, PSH, Packet, any_packet, assert_intact, cut};
use crate::offload::{FrameOffload, FrameSplit, PartialChecksum, SLACK, SegmentKind, VNET_HEADER};

proptest! {
    #[test]
    fn segments_hold_the_payload_of_the_frame_and_are_whole_packets(packet in any_packet(), size in 8u16..3000) {
        let (header, frame) = packet.frame(size);
        let segments = cut(&header, &frame).unwrap();
        let mut payload = Vec::new();
        for segment in &segments {
            assert_intact(segment);
            prop_assert!(segment.len() <= packet.headers() + usize::from(size));
            payload.extend_from_slice(&segment[packet.headers()..]);
        }
        prop_assert_eq!(payload, packet.payload);
    }

    #[test]
    fn a_frame_of_one_segment_is_the_packet_itself(packet in any_packet()) {
        let (header, frame) = packet.frame(9000);
        prop_assert_eq!(cut(&header, &frame).unwrap(), [packet.bytes()]);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(header: [u8; VNET_HEADER], frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        cut(&header, &frame);
    }
}

fn flags(segments: &[Vec<u8>]) -> Vec<u8> {
    segments.iter().map(|segment| segment[20 + 13]).collect()
}

#[test]
fn segments_of_a_stream_count_on_and_only_the_last_pushes_or_ends() {
    let packet = Packet { flags: ACK | PSH | FIN | CWR, ..Packet::tcp4(&[7; 2500]) };
    let (header, frame) = packet.frame(1000);
    let segments = cut(&header, &frame).unwrap();
    assert_eq!(flags(&segments), [ACK | CWR, ACK, ACK | PSH | FIN]);
    let numbers: Vec<_> = segments.iter().map(|s| (s[4..6].to_vec(), s[24..28].to_vec())).collect();
    let number = |step: u32| {
        let id = packet.id.wrapping_add(step as u16).to_be_bytes().to_vec();
        (id, packet.sequence.wrapping_add(step * 1000).to_be_bytes().to_vec())
    };
    assert_eq!(numbers, [number(0), number(1), number(2)], "both wrap around");
}

#[test]
fn a_packet_with_an_unfinished_checksum_is_completed() {
    for packet in [Packet::tcp4(b"word"), Packet::udp4(b"odd"), Packet { v6: Some(()), ..Packet::udp4(b"") }] {
        let (mut header, frame) = packet.frame(9);
        header[1] = 0;
        assert_eq!(cut(&header, &frame).unwrap(), [packet.bytes()]);
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_its_other_zero() {
    let zero = (0..=u16::MAX)
        .map(|word| Packet::udp4(&word.to_be_bytes()))
        .find(|packet| packet.bytes()[26..28] == [0xff, 0xff])
        .unwrap();
    let mut long = zero.clone();
    long.payload.extend_from_slice(&zero.payload);
    let (header, frame) = long.frame(2);
    let segments = cut(&header, &frame).unwrap();
    assert!(segments.iter().all(|segment| segment[26..28] == [0xff, 0xff]));
}

#[test]
fn frames_that_contradict_their_header_are_refused() {
    let (_, frame) = Packet::tcp4(&[1; 3000]).frame(1000);
    let at = |start, offset| Some(PartialChecksum { start, offset });
    let refused =
        |checksum, segments, frame: &[u8]| FrameSplit::of(&FrameOffload { checksum, segments }, frame).is_none();
    assert!(!refused(at(20, 16), Some(SegmentKind::Tcp4(1000)), &frame));
    assert!(refused(None, Some(SegmentKind::Tcp4(1000)), &frame), "nothing to complete");
    assert!(refused(at(24, 16), Some(SegmentKind::Tcp4(1000)), &frame), "TCP is elsewhere");
    assert!(refused(at(20, 6), Some(SegmentKind::Tcp4(1000)), &frame), "the checksum is elsewhere");
    assert!(refused(at(20, 16), Some(SegmentKind::Tcp6(1000)), &frame), "the other family");
    assert!(refused(at(20, 16), Some(SegmentKind::Tcp4(0)), &frame), "segments of nothing");
    assert!(refused(at(20, 16), Some(SegmentKind::Tcp4(1000)), &frame[..39]), "cut short");
    assert!(refused(at(2999, 60), None, &frame), "beyond the end");
    assert!(FrameOffload::parse(&[1, 3, 0, 0, 9, 0, 0, 0, 0, 0]).is_none(), "fragmentation was never offered");
}

#[test]
fn what_lies_behind_a_frame_stays() {
    let (header, mut frame) = Packet::tcp4(&[1; 50]).frame(20);
    let offload = FrameOffload::parse(&header).unwrap();
    let cut = FrameSplit::of(&offload, &frame).unwrap();
    frame.extend([0xcc; SLACK]);
    cut.each(&mut frame, |slot, len| slot[len..].fill(0));
    assert!(frame.ends_with(&[0xcc; SLACK]));
}
