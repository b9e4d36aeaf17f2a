//! What a start or a pass could not do is kept as findings until one can.

use overlayd_core::{
    contract::{AttachmentId, FindingCode, FindingSubject},
    protocol::Request,
};
use overlayd_testkit::fake::{CallStage, FaultReaction};

use crate::node::Node;

#[tokio::test]
async fn what_a_pass_could_not_do_is_a_finding_until_a_pass_can() {
    let node = Node::ready().await;
    assert_eq!(node.engine.findings(), []);
    let refusal = FaultReaction::fail("no buffer space");
    node.attacher.script().always(CallStage::Entry, |call| call.verb == "ensure_network", refusal);
    node.engine.reconcile().await;
    let findings = node.engine.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].code, &findings[0].subject), (FindingCode::ReconcileFailed, &FindingSubject::Host));
    assert!(findings[0].text.starts_with("overlay and networks: set up network zl-"), "{}", findings[0].text);
    let listed = &node.status().await.findings;
    assert_eq!((listed.len(), listed[0].code.as_str(), listed[0].severity.as_str()), (1, "reconcile_failed", "error"));
    assert_eq!(listed[0].text, findings[0].text);
    node.attacher.script().calm();
    node.engine.reconcile().await;
    assert_eq!(node.engine.findings(), []);
    assert_eq!(node.status().await.findings, []);
}

#[test]
fn every_code_of_a_finding_is_in_the_document() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let document = std::fs::read_to_string(document).unwrap();
    for code in FindingCode::ALL {
        assert!(document.contains(&format!("| `{code}` |")), "{code}");
    }
}

#[tokio::test]
async fn a_container_that_a_start_could_not_attach_is_named_and_attached_by_the_next_pass() {
    let node = Node::ready().await;
    node.start_process(7);
    node.attach(7).await;
    let refusal = FaultReaction::fail("no buffer space");
    let node = node
        .crash_and_restart_on(|attacher| {
            attacher.script().once(CallStage::Entry, |call| call.verb == "attach", refusal)
        })
        .await;
    let findings = node.engine.findings();
    let subjects: Vec<_> = findings.iter().map(|finding| finding.subject.clone()).collect();
    assert_eq!(subjects, [FindingSubject::Attachment(AttachmentId::Process(7))]);
    node.engine.reconcile().await;
    assert_eq!(node.engine.findings(), []);
}

#[tokio::test]
async fn an_edge_that_is_kept_out_for_want_of_a_fence_is_a_finding() {
    let node = Node::ready().await;
    node.ok(Request::MintEdgePeer {
        name: "laptop".into(),
        ttl_secs: 900,
        allow: vec!["10.77.8.0/26".into()],
        node_endpoint: "203.0.113.80:51820".into(),
    })
    .await;
    let refusal = FaultReaction::fail("no nf_tables");
    let node = node
        .crash_and_restart_on(|attacher| {
            attacher.script().once(CallStage::Entry, |call| call.verb == "attach", refusal)
        })
        .await;
    let findings = node.engine.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].code, FindingCode::IdentityKeptOut);
    assert_eq!(findings[0].subject, FindingSubject::Attachment(AttachmentId::Edge("laptop".into())));
    node.engine.reconcile().await;
    assert_eq!(node.engine.findings(), []);
}
