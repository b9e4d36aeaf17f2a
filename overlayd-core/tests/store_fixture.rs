//! A store that an earlier release has written opens unchanged, and means what it meant.
//!
//! `fixtures/state-format-2.redb` was written by release 0.1 with one of every kind of record, and
//! `fixtures/state-format-2.jsonl` has its records as JSON, in the order of their keys.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};

use overlayd_core::{
    contract::AttachmentId,
    desired::{Change, Desired, DeviceScope, EdgeAccess},
    store::Store,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy, because opening a store may write to it.
fn copy_of_the_store() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    std::fs::copy(fixture("state-format-2.redb"), &path).unwrap();
    (directory, path)
}

fn lines(records: &[Change]) -> String {
    records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
}

#[tokio::test]
async fn every_record_of_the_present_release_is_read_and_written_as_it_was() {
    let (_directory, path) = copy_of_the_store();
    let expected = std::fs::read_to_string(fixture("state-format-2.jsonl")).unwrap();
    let (store, records) = Store::open(&path).unwrap();
    assert_eq!(lines(&records), expected);
    // Were a key of the file to change, the old row would stay next to the new one.
    store.commit(&records).durable().await.unwrap();
    drop(store);
    assert_eq!(lines(&Store::open(&path).unwrap().1), expected);
}

#[test]
fn its_records_mean_what_they_meant() {
    let (_directory, path) = copy_of_the_store();
    let mut desired = Desired::load(Store::open(&path).unwrap().1);
    assert_eq!(desired.node_ip(), Some("10.77.4.1".parse().unwrap()));
    assert_eq!(desired.attachments().len(), 5);
    let process = desired.attachment(&AttachmentId::Process(7)).unwrap();
    assert_eq!(process.global_ip, Some("10.77.4.2".parse().unwrap()));
    assert_eq!(desired.published().count(), 1);
    assert_eq!(desired.host_aliases().collect::<Vec<_>>(), ["10.77.4.4".parse::<std::net::IpAddr>().unwrap()]);
    let peers = [DeviceScope::Global, DeviceScope::service("db")].map(|scope| desired.peers_of(scope).count());
    assert_eq!(peers, [2, 1]);
    assert_eq!(desired.edges()["laptop"].access, EdgeAccess::WholeOverlay);
    assert!(matches!(desired.edges()["phone"].access, EdgeAccess::Only(_)));
    // 2 to 5, 7 and 8 are leased, and 6 rests.
    assert_eq!(desired.pick_slice_ip(1_700_000_000), Some("10.77.4.9".parse().unwrap()));
}
