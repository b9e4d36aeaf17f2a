//! Any bytes may come in; what goes out is an answer to them or nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use domain::base::{Message, iana::Opcode};
use overlayd_core::contract::DnsPlan;
use proptest::prelude::*;

use super::*;
use crate::wire::UpstreamAnswer;

fn view() -> ZoneView {
    let plan = DnsPlan {
        zones: BTreeSet::from(["atlas.local".to_owned()]),
        reverse: BTreeSet::from(["10.77.0.0/16".parse().unwrap()]),
        records: BTreeMap::from([
            ("web.atlas.local".to_owned(), BTreeSet::from(["10.77.1.2".parse().unwrap(), "fd77::2".parse().unwrap()])),
            ("many.atlas.local".to_owned(), (0..200).map(|last| IpAddr::from([10, 77, 9, last])).collect()),
        ]),
        ..DnsPlan::default()
    };
    ZoneView::of(&plan).unwrap()
}

/// Answers, and checks what holds of every answer.
fn answered(message: &[u8], transport: QueryTransport) -> Option<Vec<u8>> {
    let mut out = vec![0xee; 7];
    let verdict = match answer(&view(), message, transport, &mut out) {
        QueryVerdict::Forward(_) => forwarded(message, transport, &ForwardOutcome::Failed, &mut out),
        verdict => verdict,
    };
    if matches!(verdict, QueryVerdict::Drop) {
        return None;
    }
    let reply = Message::from_octets(out.clone()).expect("a whole header");
    assert!(reply.header().qr());
    assert_eq!(reply.header().id().to_be_bytes(), message[..2]);
    assert_eq!(reply.header().opcode(), Opcode::from_int(message[2] >> 3 & 15));
    assert!(out.len() <= if transport == QueryTransport::Udp { 1232 } else { 65_535 });
    for section in [reply.answer(), reply.authority(), reply.additional()] {
        assert!(section.expect("sections that can be found").all(|record| record.is_ok()), "a torn record");
    }
    Some(out)
}

/// A query with OPT record for `web.atlas.local`.
fn query() -> Vec<u8> {
    let mut bytes = b"\x5a\x17\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01".to_vec();
    bytes.extend_from_slice(b"\x03web\x05atlas\x05local\x00\x00\x01\x00\x01");
    bytes.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
    bytes
}

#[test]
fn odd_messages_are_answered_or_ignored() {
    let header = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".as_slice();
    let code = |tail: &[u8]| {
        let reply = answered(&[header, tail].concat(), QueryTransport::Udp).unwrap();
        reply[3] & 15
    };
    assert_eq!(code(b""), 1, "no question");
    assert_eq!(code(b"\xc0\x0c\x00\x01\x00\x01"), 1, "a name that points at itself");
    assert_eq!(code(b"\xc0\x00\x00\x01\x00\x01"), 1, "a name that points at the header");
    assert_eq!(code(b"\x41a\x00\x00\x01\x00\x01"), 1, "a label of an unknown kind");
    assert_eq!(code(&[[63; 64].repeat(5).as_slice(), b"\x00\x00\x01\x00\x01"].concat()), 1, "a name of 320 bytes");
    assert_eq!(code(b"\x00\x00\x01\x00\x01"), 2, "the root is for others");
    assert_eq!(answered(&header[..11], QueryTransport::Udp), None, "half a header");
    let mut answer = query();
    answer[2] |= 0x80;
    assert_eq!(answered(&answer, QueryTransport::Udp), None, "answers are not answered");
    let mut two_opts = [query(), query()[query().len() - 11..].to_vec()].concat();
    two_opts[11] = 2;
    assert_eq!(answered(&two_opts, QueryTransport::Udp).unwrap()[3] & 15, 1, "two OPT records");
}

proptest! {
    #[test]
    fn any_bytes_are_answered_or_ignored(message in proptest::collection::vec(any::<u8>(), 0..200)) {
        for transport in [QueryTransport::Udp, QueryTransport::Tcp] {
            answered(&message, transport);
        }
    }

    #[test]
    fn a_damaged_query_is_answered_or_ignored(at in 0..60_usize, byte: u8, len in 0..60_usize, swap in 0..60_usize) {
        let mut message = query();
        let end = message.len() - 1;
        message[at.min(end)] = byte;
        message.swap(swap.min(end), at.min(end));
        message.truncate(message.len().max(1) - len.min(message.len() - 1) / 2);
        answered(&message, QueryTransport::Udp);
    }

    #[test]
    fn any_bytes_from_an_upstream_are_an_answer_or_not(tail in proptest::collection::vec(any::<u8>(), 0..200), counts: [u8; 3]) {
        let mut message = query();
        message.truncate(message.len() - 11);
        message[2] |= 0x80;
        (message[7], message[9], message[11]) = (counts[0] % 4, counts[1] % 4, counts[2] % 4);
        message.extend_from_slice(&tail);
        let query = query();
        let asked = DnsQuery::parse(&query, QueryTransport::Udp).unwrap();
        if let Ok(answer) = UpstreamAnswer::read(&message, 0x5a17, &asked.to_forward()) {
            let mut out = Vec::new();
            answer.write(&asked, 3, &mut out);
            let reply = Message::from_octets(out).unwrap();
            for section in [reply.answer(), reply.authority(), reply.additional()] {
                prop_assert!(section.unwrap().all(|record| record.is_ok()));
            }
        }
    }
}
