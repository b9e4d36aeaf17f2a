//! What must hold for any input; the fuzzer searches for one that breaks it, and the tests replay the corpus.

use overlayd_core::protocol::{EdgeConfig, Frame, salvage_id};

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
