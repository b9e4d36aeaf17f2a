//! What must hold for any input; the fuzzer searches for one that breaks it, and the tests replay the corpus.

use overlayd_core::{
    contract::Target,
    protocol::{EdgeConfig, Frame, Request, Response, salvage_id},
};
use overlayd_testkit::fake::FakeMachine;

/// Any body is a frame or it is not, and says so without panicking. A frame means the same after re-encoding, its
/// canonical form is stable, and a request's id can be read without decoding it.
pub(crate) fn frame(body: &[u8]) {
    let salvaged = salvage_id(body);
    let Ok(frame) = Frame::decode(body) else { return };
    let canonical = frame.encode().expect("what was decoded can be encoded");
    let again = Frame::decode(&canonical).expect("the canonical form can be decoded");
    assert_eq!(again, frame);
    assert_eq!(again.encode().expect("what was decoded can be encoded"), canonical);
    if let Frame::Request { id, .. } = frame {
        assert_eq!(salvage_id(&canonical), Some(id));
        assert!(salvaged.is_none_or(|salvaged| salvaged == id), "another id was read than the one decoded");
    }
}

/// Any text is a token or it is not, and says so without panicking; so does any payload behind the prefix. A token's
/// configuration survives being written again.
pub(crate) fn edge_token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for token in [text.to_owned(), format!("zledge1.{text}")] {
        let Ok(config) = EdgeConfig::from_token(&token) else { continue };
        let again = config.to_token().expect("what was decoded can be encoded");
        assert_eq!(EdgeConfig::from_token(again.reveal()).expect("what was encoded can be decoded"), config);
    }
}

/// Most requests of one input.
const REQUESTS: usize = 24;

/// Any sequence of requests, one a line, is answered; what was answered with success is there after a restart, and a teardown
/// leaves nothing. A line `!` ends the daemon and starts another one.
pub(crate) fn requests(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut machine = FakeMachine::default();
        for pid in 1..=64 {
            machine.attacher.start(&Target::Process(pid));
        }
        let mut engine = machine.start().await;
        for line in data.split(|byte| *byte == b'\n').take(REQUESTS) {
            if line == b"!" {
                FakeMachine::crash(engine).await;
                engine = machine.start().await;
            } else if let Ok(mut request) = serde_json::from_slice::<Request>(line) {
                if let Request::MintEdgePeer { ttl_secs, .. } = &mut request {
                    // None shall be over before the end.
                    *ttl_secs = 1 << 30;
                }
                engine.answer(request).await;
            }
        }
        let before = machine.host();
        FakeMachine::crash(engine).await;
        let engine = machine.start().await;
        assert_eq!(machine.host(), before, "a restart changed the host");
        assert_eq!(engine.answer(Request::TeardownGlobalOverlay).await, Response::Ok);
        assert!(machine.host().is_empty(), "a teardown left {:?}", machine.host());
    });
}
