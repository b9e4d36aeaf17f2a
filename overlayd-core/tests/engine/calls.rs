//! Which calls the engine makes, in which order, and what it makes of their answers: against mocks.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use mockall::{Sequence, predicate::eq};
use overlayd_core::{
    contract::{self, Attached, AttachmentId, DeviceInfo, HostNetworks, TargetIdentity},
    engine::{Backends, Engine, EngineConfig},
    protocol::{AttachContainer, AttachHandle, OverlayMode, Request, Response, SetupGlobalOverlay, StatusSnapshot},
};
use overlayd_testkit::mock::{MockAttacher, MockOverlayBackend};

fn quiet_overlay() -> MockOverlayBackend {
    let mut overlay = MockOverlayBackend::new();
    overlay.expect_name().return_const("mock");
    overlay.expect_observe().returning(|| Ok(vec![]));
    overlay
}

fn quiet_attacher() -> MockAttacher {
    let mut attacher = MockAttacher::new();
    attacher.expect_name().return_const("mock");
    attacher.expect_observe().returning(|| Ok(HostNetworks::default()));
    attacher.expect_ensure_network().returning(|_| Ok(contract::NetworkInfo::default()));
    attacher
}

async fn engine(overlay: MockOverlayBackend, attacher: MockAttacher) -> (Arc<Engine>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path().to_owned());
    config.times.backend_deadline = Duration::from_millis(50);
    config.times.reconcile_interval = Duration::from_secs(3600);
    let backends = Backends {
        overlay: Arc::new(overlay),
        attacher: Arc::new(attacher),
        dns: None,
        nat: None,
        drift: Default::default(),
    };
    (Engine::start(config, backends).await.unwrap(), dir)
}

async fn attach(engine: &Engine) -> Response {
    engine.answer(Request::SetupServiceOverlay { service: "web".into(), mode: OverlayMode::Auto }).await;
    let request = AttachContainer {
        handle: AttachHandle::LinuxPid { pid: 7 },
        service: "web".into(),
        join_global: false,
        ephemeral: false,
        isolation_network: None,
        dns_server: None,
        dns_domain: None,
    };
    engine.answer(Request::AttachContainer(request)).await
}

async fn status(engine: &Engine) -> StatusSnapshot {
    match engine.answer(Request::Status).await {
        Response::Status(status) => status,
        response => panic!("{response:?}"),
    }
}

fn attached() -> contract::Result<Attached> {
    Ok(Attached { identity: TargetIdentity("start 1".into()), namespace: None })
}

#[tokio::test]
async fn the_lease_is_on_record_before_the_attacher_is_called() {
    let mut attacher = quiet_attacher();
    let seen: Arc<std::sync::OnceLock<Arc<Engine>>> = Arc::default();
    let engine_of = Arc::clone(&seen);
    attacher.expect_attach().once().returning(move |plan| {
        let address = plan.addresses().next().unwrap();
        let engine = engine_of.get().unwrap();
        // A read never waits, so that it can be asked for in the midst of a call of the engine's.
        let status = status(engine).now_or_never().unwrap();
        assert_eq!(status.services[0].attachments, 1, "{address} is given out before it is on record");
        attached()
    });
    let (engine, _dir) = engine(quiet_overlay(), attacher).await;
    assert!(seen.set(Arc::clone(&engine)).is_ok());
    assert!(matches!(attach(&engine).await, Response::Attached(_)));
}

#[tokio::test]
async fn a_failed_attach_is_cleaned_up_by_its_id_and_then_forgotten() {
    let mut attacher = quiet_attacher();
    let mut order = Sequence::new();
    let gone = |_: &contract::AttachPlan| Err(contract::Error::TargetGone("pid 7".into()));
    attacher.expect_attach().once().in_sequence(&mut order).returning(gone);
    attacher.expect_detach().with(eq(AttachmentId::Process(7))).once().in_sequence(&mut order).returning(|_| Ok(()));
    let (engine, _dir) = engine(quiet_overlay(), attacher).await;
    let Response::Err { message, .. } = attach(&engine).await else { panic!() };
    assert!(message.contains("attach pid 7") && message.contains("gone"), "{message}");
    assert_eq!(status(&engine).await.services[0].attachments, 0);
}

#[tokio::test]
async fn a_device_that_fails_is_removed_and_never_told_of_peers() {
    let mut overlay = quiet_overlay();
    let mut order = Sequence::new();
    let busy = || contract::Error::Conflict { what: "UDP port 51820".into(), by: "another program".into() };
    overlay.expect_ensure_device().once().in_sequence(&mut order).returning(move |_| Err(busy()));
    overlay.expect_remove_device().once().in_sequence(&mut order).returning(|_| Ok(()));
    overlay.expect_change_peers().never();
    let (engine, _dir) = engine(overlay, quiet_attacher()).await;
    let Response::Err { message, .. } = engine.answer(setup()).await else { panic!() };
    assert!(message.contains("UDP port 51820 is taken: another program"), "{message}");
}

#[tokio::test]
async fn the_device_is_made_with_the_nodes_own_key_and_gives_its_mtu_to_networks() {
    let mut overlay = quiet_overlay();
    overlay.expect_ensure_device().once().returning(|plan| {
        let public_key = plan.private_key.public_key();
        Ok(DeviceInfo { name: plan.name.clone(), public_key, listen_port: plan.listen_port, mtu: 1380 })
    });
    overlay.expect_change_peers().returning(|_, _| Ok(()));
    let mut attacher = quiet_attacher();
    attacher.expect_attach().once().withf(|plan| plan.service.as_ref().unwrap().mtu == 1380).returning(|_| attached());
    let (engine, _dir) = engine(overlay, attacher).await;
    assert_eq!(engine.answer(setup()).await, Response::BridgeName { name: "zl-atlas-n1-g".into() });
    assert!(matches!(attach(&engine).await, Response::Attached(_)));
}

fn setup() -> Request {
    Request::SetupGlobalOverlay(SetupGlobalOverlay {
        deployment: "atlas".into(),
        instance_id: "n1".into(),
        cluster_cidr: "10.77.0.0/16".into(),
        slice_cidr: Some("10.77.4.0/26".into()),
        wg_port: 51820,
        ..SetupGlobalOverlay::default()
    })
}
