//! The suite for [`Dns`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use async_trait::async_trait;
use overlayd_core::contract::{Dns, DnsChange, DnsPlan};

use super::{assert_code, poll_at_most};

/// How the suite reaches a backend and asks it.
#[async_trait]
pub trait DnsHarness: Send {
    /// The backend under test.
    fn backend(&self) -> &dyn Dns;

    /// A socket address on this host that is free to listen on.
    fn free_address(&self) -> SocketAddr;

    /// The A and AAAA records answered for an absolute name by this server; `None` when nothing answers there.
    async fn ask(&self, server: SocketAddr, name: &str) -> Option<BTreeSet<IpAddr>>;
}

/// Every name, in any letter case, has its addresses.
pub async fn names_are_answered_as_planned<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    h.backend().apply(&plan(server, &["10.77.1.2", "fd77::2"])).await.expect("a plan");
    assert_eq!(h.ask(server, "web.atlas.local").await, Some(addresses(&["10.77.1.2", "fd77::2"])));
    assert_eq!(h.ask(server, "WEB.Atlas.local").await, Some(addresses(&["10.77.1.2", "fd77::2"])));
}

/// A name of a local zone that was never registered has no addresses.
pub async fn a_name_without_records_is_answered_empty<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    h.backend().apply(&plan(server, &["10.77.1.2"])).await.expect("a plan");
    assert_eq!(h.ask(server, "absent.atlas.local").await, Some(BTreeSet::new()));
}

/// The second call keeps everything answered.
pub async fn applying_twice_changes_nothing<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    for _ in 0..2 {
        h.backend().apply(&plan(server, &["10.77.1.2"])).await.expect("a plan");
        assert_eq!(h.ask(server, "web.atlas.local").await, Some(addresses(&["10.77.1.2"])));
    }
}

/// Records and sockets of the old plan go with it.
pub async fn a_new_plan_replaces_the_old_one<H: DnsHarness>(h: &mut H) {
    let (old, new) = (h.free_address(), h.free_address());
    h.backend().apply(&plan(old, &["10.77.1.2"])).await.expect("a plan");
    h.backend().apply(&plan(new, &["10.77.1.3"])).await.expect("another plan");
    assert_eq!(h.ask(new, "web.atlas.local").await, Some(addresses(&["10.77.1.3"])));
    if old != new {
        assert_eq!(h.ask(old, "web.atlas.local").await, None);
    }
}

/// A record outside of every zone is refused, and the old plan stays.
pub async fn a_refused_plan_leaves_the_old_one_answering<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    h.backend().apply(&plan(server, &["10.77.1.2"])).await.expect("a plan");
    let stray = BTreeMap::from([("web.elsewhere.test".to_owned(), addresses(&["10.77.1.9"]))]);
    let refused = DnsPlan { records: stray, ..plan(server, &[]) };
    assert!(h.backend().apply(&refused).await.is_err());
    assert_eq!(h.ask(server, "web.atlas.local").await, Some(addresses(&["10.77.1.2"])));
}

/// Changed names have their new addresses, the others keep theirs.
pub async fn changed_records_are_answered_beside_the_old_ones<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    h.backend().apply(&plan(server, &["10.77.1.2"])).await.expect("a plan");
    h.backend().change_records(&[set("db.atlas.local", &["10.77.1.5"])]).await.expect("a change");
    assert_eq!(h.ask(server, "db.atlas.local").await, Some(addresses(&["10.77.1.5"])));
    assert_eq!(h.ask(server, "web.atlas.local").await, Some(addresses(&["10.77.1.2"])));
}

/// The last change of a name counts, and a removed name has no addresses.
pub async fn changes_of_records_apply_in_order<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    h.backend().apply(&plan(server, &["10.77.1.2"])).await.expect("a plan");
    let gone = || DnsChange::Remove("web.atlas.local".into());
    h.backend().change_records(&[gone(), set("web.atlas.local", &["10.77.1.7"])]).await.expect("changes");
    assert_eq!(h.ask(server, "web.atlas.local").await, Some(addresses(&["10.77.1.7"])));
    for _ in 0..2 {
        h.backend().change_records(&[gone()]).await.expect("a removal");
        assert_eq!(h.ask(server, "web.atlas.local").await, Some(BTreeSet::new()));
    }
}

/// One change outside of every zone refuses the others with it.
pub async fn a_refused_change_changes_no_record<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    h.backend().apply(&plan(server, &["10.77.1.2"])).await.expect("a plan");
    let changes = [set("web.atlas.local", &["10.77.1.8"]), set("web.elsewhere.test", &["10.77.1.9"])];
    assert_code(h.backend().change_records(&changes).await, &["invalid_plan"]);
    assert_eq!(h.ask(server, "web.atlas.local").await, Some(addresses(&["10.77.1.2"])));
}

/// Records have no place to be without a plan.
pub async fn changes_without_a_plan_are_not_found<H: DnsHarness>(h: &mut H) {
    let change = [set("web.atlas.local", &["10.77.1.8"])];
    assert_code(h.backend().change_records(&change).await, &["not_found"]);
    h.backend().apply(&plan(h.free_address(), &["10.77.1.2"])).await.expect("a plan");
    h.backend().clear().await.expect("an end");
    assert_code(h.backend().change_records(&change).await, &["not_found"]);
}

/// Afterwards nothing answers, and the address can be listened on again.
pub async fn clearing_stops_answering_and_frees_the_sockets<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    h.backend().apply(&plan(server, &["10.77.1.2"])).await.expect("a plan");
    h.backend().clear().await.expect("an end");
    assert_eq!(h.ask(server, "web.atlas.local").await, None);
    h.backend().apply(&plan(server, &["10.77.1.2"])).await.expect("the same socket again");
}

/// Stopping what does not run succeeds.
pub async fn clearing_twice_succeeds<H: DnsHarness>(h: &mut H) {
    for _ in 0..2 {
        h.backend().clear().await.expect("an end");
    }
}

/// Wherever an apply is dropped, the next one does all of it.
pub async fn a_dropped_apply_does_not_spoil_the_next<H: DnsHarness>(h: &mut H) {
    let server = h.free_address();
    for polls in 1..8 {
        poll_at_most(polls, h.backend().apply(&plan(server, &["10.77.1.2"]))).await;
        h.backend().apply(&plan(server, &["10.77.1.3"])).await.expect("a plan after a dropped call");
        assert_eq!(h.ask(server, "web.atlas.local").await, Some(addresses(&["10.77.1.3"])));
        h.backend().clear().await.expect("an end");
    }
}

fn set(name: &str, texts: &[&str]) -> DnsChange {
    DnsChange::Set(name.to_owned(), addresses(texts))
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn plan(listen: SocketAddr, of_web: &[&str]) -> DnsPlan {
    DnsPlan {
        listen: vec![listen],
        zones: BTreeSet::from(["atlas.local".to_owned()]),
        records: BTreeMap::from([("web.atlas.local".to_owned(), addresses(of_web))]),
        ..DnsPlan::default()
    }
}
