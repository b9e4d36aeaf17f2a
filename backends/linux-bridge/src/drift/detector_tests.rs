use overlayd_core::names::InstanceId;
use overlayd_netlink::{
    Netns, OwnChanges,
    link::{self, NewBridge},
};

use super::*;
use crate::rules::TableProtection;

#[test]
fn what_could_not_be_told_is_looked_up_and_is_newer_than_what_was_told() {
    let home = Netns::create().expect("root is needed");
    let instance = InstanceId::of_data_dir("/told".as_ref());
    let shared =
        home.run(|| HostContext::open(instance, TableProtection::None, OwnChanges::default())).unwrap().unwrap();
    let (shared, signal) = (Arc::new(shared), DriftSignal::default());
    let mut judge = DriftDetector::new(shared.clone(), Arc::default(), signal.clone()).unwrap();
    assert_eq!(judge.links().unwrap(), []);

    let bridge = NewBridge { name: "br", mac: None, group: shared.marks.network_group() };
    shared.rtnl.run(bridge.request()).unwrap();
    shared.rtnl.run(link::change("br").alias(&shared.marks.network()).request()).unwrap();
    let bridge = shared.link("br").unwrap().unwrap();
    assert_eq!(judge.links().unwrap(), [], "nobody has told of it");

    judge.hear_all(vec![NetworkEvent::Overrun, NetworkEvent::LinkGone(bridge.clone(), ChangedBy::Another)]);
    assert_eq!(judge.links().unwrap(), std::slice::from_ref(&bridge));
    assert!(!signal.take().changed.is_empty(), "whoever puts things right has to look, too");

    shared.rtnl.run(link::delete("br")).unwrap();
    assert_eq!(judge.links().unwrap(), [bridge]);
    judge.miss();
    assert_eq!(judge.links().unwrap(), []);
}
