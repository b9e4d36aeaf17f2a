use overlayd_core::contract::{PeerChange, PeerEndpoint, PeerPlan};

use super::*;

fn key(seed: u8) -> PublicKey {
    PublicKey::from_bytes([seed; 32])
}

fn plan(seed: u8, ranges: &[&str]) -> PeerPlan {
    PeerPlan {
        public_key: key(seed),
        preshared_key: None,
        endpoint: PeerEndpoint::Keep,
        allowed_ips: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        keepalive: None,
    }
}

fn set(seed: u8, ranges: &[&str]) -> PeerChange {
    PeerChange::Set(plan(seed, ranges))
}

fn cache(peers: &[(u8, &[&str])]) -> PeerCache {
    let mut cache = PeerCache::new(1, None);
    for (seed, ranges) in peers {
        cache.note(key(*seed), PeerSettings::after(&plan(*seed, ranges), None));
    }
    cache
}

/// Who holds what after the steps, in a kernel that knows nothing but the rules of `wireguard.h`.
fn after(start: &[(u8, &[&str])], steps: &[KernelStep]) -> Vec<(PublicKey, Vec<IpNet>)> {
    let mut kernel = cache(start);
    for step in steps {
        match step {
            KernelStep::Put(plan) => {
                let mut known = PeerSettings::after(plan, kernel.peer(&plan.public_key));
                known.ranges.extend(kernel.peer(&plan.public_key).into_iter().flat_map(|peer| peer.ranges.clone()));
                kernel.note(plan.public_key, known);
            }
            KernelStep::Remove(key) => kernel.forget(key),
        }
    }
    let keys = (0..=u8::MAX).map(key).chain([PARKING_PEER]);
    keys.filter_map(|key| kernel.peer(&key).map(|known| (key, known.ranges.iter().copied().collect()))).collect()
}

fn holds(seed: u8, ranges: &[&str]) -> (PublicKey, Vec<IpNet>) {
    (key(seed), ranges.iter().map(|range| range.parse().unwrap()).collect())
}

#[test]
fn a_range_that_nobody_takes_over_leaves_without_touching_the_others() {
    let start: &[(u8, &[&str])] = &[(1, &["10.0.0.0/24", "10.0.1.0/24"])];
    let batch = ChangeBatch::new(&mut cache(start), &[set(1, &["10.0.0.0/24"])]);
    assert_eq!(after(start, &batch.steps), [holds(1, &["10.0.0.0/24"])]);
    assert!(!batch.steps.contains(&KernelStep::Remove(key(1))), "the peer keeps its session");
}

#[test]
fn a_range_moves_straight_to_the_peer_that_claims_it_in_the_same_batch() {
    let start: &[(u8, &[&str])] = &[(1, &["10.0.0.0/24", "10.0.1.0/24"])];
    let batch = ChangeBatch::new(&mut cache(start), &[set(1, &["10.0.0.0/24"]), set(2, &["10.0.1.0/24"])]);
    assert_eq!(batch.steps, [KernelStep::Put(plan(1, &["10.0.0.0/24"])), KernelStep::Put(plan(2, &["10.0.1.0/24"]))]);
}

#[test]
fn a_peer_goes_after_its_successor_has_its_ranges() {
    let start: &[(u8, &[&str])] = &[(1, &["10.0.0.0/24"])];
    let batch = ChangeBatch::new(&mut cache(start), &[PeerChange::Remove(key(1)), set(2, &["10.0.0.0/24"])]);
    assert_eq!(batch.steps, [KernelStep::Put(plan(2, &["10.0.0.0/24"])), KernelStep::Remove(key(1))]);
}

#[test]
fn a_peer_that_is_removed_and_set_again_starts_anew() {
    let start: &[(u8, &[&str])] = &[(1, &["10.0.0.0/24", "10.0.1.0/24"])];
    let batch = ChangeBatch::new(&mut cache(start), &[PeerChange::Remove(key(1)), set(1, &["10.0.0.0/24"])]);
    assert_eq!(batch.steps, [KernelStep::Remove(key(1)), KernelStep::Put(plan(1, &["10.0.0.0/24"]))]);
}

#[test]
fn a_peer_that_is_set_after_its_removal_and_removed_again_is_gone() {
    let changes = [set(1, &[]), PeerChange::Remove(key(1)), set(1, &[]), PeerChange::Remove(key(1))];
    let batch = ChangeBatch::new(&mut cache(&[]), &changes);
    assert!(after(&[], &batch.steps).is_empty());
}

#[test]
fn ranges_are_compared_without_their_host_bits() {
    let start: &[(u8, &[&str])] = &[(1, &["10.0.0.0/24"])];
    let batch = ChangeBatch::new(&mut cache(start), &[set(1, &["10.0.0.7/24"])]);
    assert_eq!(batch.steps, [KernelStep::Put(plan(1, &["10.0.0.7/24"]))]);
}

#[test]
fn undoing_a_batch_restores_every_range_and_peer() {
    let start: &[(u8, &[&str])] = &[(1, &["10.0.0.0/24", "10.0.1.0/24"]), (2, &["10.0.2.0/24"]), (3, &["10.0.3.0/24"])];
    let changes = [
        set(4, &["10.0.1.0/24", "10.0.4.0/24"]),
        set(2, &["10.0.5.0/24"]),
        PeerChange::Remove(key(3)),
        set(1, &["10.0.3.0/24"]),
    ];
    let batch = ChangeBatch::new(&mut cache(start), &changes);
    for reached in 0..=batch.steps.len() {
        let steps: Vec<KernelStep> = batch.steps[..reached].iter().chain(&batch.undo).cloned().collect();
        assert_eq!(after(start, &steps), after(start, &[]), "after {reached} steps");
    }
}
