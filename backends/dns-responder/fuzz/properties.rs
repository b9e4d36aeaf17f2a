//! What must hold for any input; the fuzzer searches for one that breaks it, and the tests replay the corpus.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use domain::base::Message;
use overlayd_core::contract::DnsPlan;
use overlayd_dns_responder::{ForwardOutcome, QueryTransport, QueryVerdict, ZoneView, answer, forwarded};

/// Largest answers, in bytes.
const DATAGRAM: usize = 1232;
const STREAM: usize = 65_535;
/// What the message to an upstream carries.
const ID: u16 = 0x5a17;

/// For any query, and any answer of an upstream, what goes out is a whole answer to the client, within the limit of its
/// transport, or nothing; and another responder does not answer it again. The input is a byte that says how it came
/// in, the length of the query, the query, and an upstream's answer.
pub(crate) fn message(data: &[u8]) {
    let [how, len, rest @ ..] = data else { return };
    let (query, said) = rest.split_at(rest.len().min(usize::from(*len)));
    let transport = if how & 1 == 0 { QueryTransport::Udp } else { QueryTransport::Tcp };
    // What was there before must not show.
    let mut reply = vec![0xee; 7];
    match answer(&VIEW, query, transport, &mut reply) {
        QueryVerdict::Drop => {}
        QueryVerdict::Reply => check(query, transport, &reply),
        QueryVerdict::Forward(wanted) => {
            let asked = wanted.to_message(ID).expect("what was asked of us can be asked of others");
            assert_eq!(Message::from_octets(&asked).expect("a whole header").header_counts().qdcount(), 1);
            let answered =
                wanted.understood(said, ID).map(|answer| ForwardOutcome::Answered(Arc::new(answer), (*how).into()));
            for outcome in
                [Some(ForwardOutcome::Failed), Some(ForwardOutcome::NoUpstream), answered].into_iter().flatten()
            {
                let verdict = forwarded(query, transport, &outcome, &mut reply);
                assert!(matches!(verdict, QueryVerdict::Reply), "{verdict:?} to what is worth asking others");
                check(query, transport, &reply);
            }
        }
    }
}

/// One local zone with a name, one with more addresses than a datagram holds, and one that others know.
static VIEW: LazyLock<ZoneView> = LazyLock::new(|| {
    let plan = DnsPlan {
        zones: BTreeSet::from(["atlas.local".to_owned()]),
        reverse: BTreeSet::from(["10.77.0.0/16".parse().expect("a range")]),
        split: BTreeMap::from([("corp.example".to_owned(), vec!["192.0.2.53:53".parse().expect("a server")])]),
        records: BTreeMap::from([
            (
                "web.atlas.local".to_owned(),
                BTreeSet::from(["10.77.1.2", "fd77::2"].map(|ip| ip.parse().expect("an address"))),
            ),
            ("many.atlas.local".to_owned(), (0..200).map(|last| IpAddr::from([10, 77, 9, last])).collect()),
        ]),
        ..DnsPlan::default()
    };
    ZoneView::of(&plan).expect("a plan that can be answered from")
});

fn check(query: &[u8], transport: QueryTransport, reply: &[u8]) {
    let message = Message::from_octets(reply).expect("a whole header");
    let (header, asked) = (message.header(), Message::from_octets(query).expect("a header was answered").header());
    assert!(header.qr(), "an answer says that it is one");
    assert_eq!((header.id(), header.opcode()), (asked.id(), asked.opcode()), "it is the answer to this query");
    let limit = if transport == QueryTransport::Udp { DATAGRAM } else { STREAM };
    assert!(reply.len() <= limit, "{} bytes over {transport:?}", reply.len());
    assert!(message.question().all(|question| question.is_ok()), "a torn question");
    for section in [message.answer(), message.authority(), message.additional()] {
        assert!(section.expect("sections that can be found").all(|record| record.is_ok()), "a torn record");
    }
    let silence = answer(&VIEW, reply, transport, &mut Vec::new());
    assert!(matches!(silence, QueryVerdict::Drop), "an answer was answered");
}
