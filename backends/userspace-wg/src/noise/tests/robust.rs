//! Input that no correct peer sends.

use std::time::Duration;

use proptest::prelude::*;

use super::world::{World, packet};

/// What a hostile or broken network does with a datagram.
#[derive(Debug, Clone)]
enum Mischief {
    Flip(usize, u8),
    FrameSplit(usize),
    Repeat,
    Lose,
    Wait(u64),
    Honest,
}

fn mischief() -> impl Strategy<Value = Mischief> {
    prop_oneof![
        (any::<usize>(), 1u8..).prop_map(|(at, bits)| Mischief::Flip(at, bits)),
        any::<usize>().prop_map(Mischief::FrameSplit),
        Just(Mischief::Repeat),
        Just(Mischief::Lose),
        (0u64..200).prop_map(Mischief::Wait),
        Just(Mischief::Honest),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_datagram_makes_the_tunnel_panic(datagrams in proptest::collection::vec(
        (0u8..6, proptest::collection::vec(any::<u8>(), 0..200)), 1..20)) {
        let mut world = World::connected();
        for (kind, mut datagram) in datagrams {
            if datagram.len() >= 4 {
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            world.b.receive(world.now, world.a.address, &datagram);
        }
        world.a_sends(64);
        prop_assert_eq!(world.b.delivered.len(), 1, "the session is unharmed");
    }

    #[test]
    fn whatever_the_network_does_the_peers_talk_again_and_nothing_false_arrives(
        steps in proptest::collection::vec((mischief(), any::<bool>()), 1..40),
    ) {
        let mut world = World::new();
        for (step, from_a) in steps {
            let sent = if from_a {
                world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64))
            } else {
                world.b.send(world.now, &packet("10.0.0.2", "10.0.0.1", 64))
            };
            let sent = disturb(&mut world, &step, sent);
            if from_a { world.carry(sent, Vec::new()) } else { world.carry(Vec::new(), sent) }
        }
        world.live(Duration::from_secs(20));
        let before = world.b.delivered.len();
        world.a_sends(64);
        world.live(Duration::from_secs(20));
        prop_assert!(world.b.delivered.len() > before);
        prop_assert!(world.b.delivered.iter().all(|got| *got == packet("10.0.0.1", "10.0.0.2", 64)));
        prop_assert!(world.a.delivered.iter().all(|got| *got == packet("10.0.0.2", "10.0.0.1", 64)));
    }
}

fn disturb(world: &mut World, step: &Mischief, mut sent: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    match step {
        Mischief::Flip(at, bits) => sent.iter_mut().for_each(|datagram| {
            let at = at % datagram.len();
            datagram[at] ^= bits;
        }),
        Mischief::FrameSplit(at) => sent.iter_mut().for_each(|datagram| datagram.truncate(at % datagram.len())),
        Mischief::Repeat => sent.extend(sent.clone()),
        Mischief::Lose => sent.clear(),
        Mischief::Wait(seconds) => world.live(Duration::from_secs(*seconds)),
        Mischief::Honest => {}
    }
    sent
}
