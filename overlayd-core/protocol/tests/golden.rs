//! The wire against the golden files of the published protocol.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use overlayd_protocol::{EdgeConfig, EdgeTokenError, Frame, Response, StatusSnapshot};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

#[derive(serde::Deserialize)]
struct Canonical {
    name: String,
    frame: Box<RawValue>,
}

#[derive(serde::Deserialize)]
struct Lenient {
    name: String,
    input: Box<RawValue>,
    canonical: Box<RawValue>,
}

#[derive(serde::Deserialize)]
struct Rejected {
    name: String,
    input: String,
    why: String,
}

#[derive(serde::Deserialize)]
struct Token {
    name: String,
    config: Box<RawValue>,
    token: String,
}

#[derive(serde::Deserialize)]
struct RejectedToken {
    name: String,
    token: String,
    kind: String,
}

/// The lines of a golden file, which must be as many as the file is known to have.
fn golden<T: serde::de::DeserializeOwned>(file: &str, count: usize) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines: Vec<T> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), count, "{file}");
    lines
}

fn reencode(name: &str, body: &str) -> String {
    let frame = Frame::decode(body.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
    String::from_utf8(frame.encode().unwrap()).unwrap()
}

#[test]
fn every_canonical_frame_is_written_byte_for_byte() {
    for (file, count) in [("requests.jsonl", 59), ("responses.jsonl", 26), ("events.jsonl", 4), ("additions.jsonl", 8)]
    {
        for Canonical { name, frame } in golden(file, count) {
            assert_eq!(reencode(&name, frame.get()), frame.get(), "{name}");
        }
    }
}

#[test]
fn every_tolerated_spelling_means_its_canonical_frame() {
    for Lenient { name, input, canonical } in golden("lenient.jsonl", 55) {
        assert_eq!(reencode(&name, input.get()), canonical.get(), "{name}");
    }
}

#[test]
fn everything_the_published_decoder_refuses_is_refused() {
    for Rejected { name, input, why } in golden("rejected.jsonl", 93) {
        let decoded = Frame::decode(input.as_bytes());
        assert!(decoded.is_err(), "{name} was read as {decoded:?}, but {why}");
    }
}

#[test]
fn edge_tokens_are_written_and_read_as_published() {
    for Token { name, config, token } in golden("edge_tokens.jsonl", 3) {
        let config: EdgeConfig = serde_json::from_str(config.get()).unwrap();
        assert_eq!(config.to_token().unwrap().reveal(), token, "{name}");
        assert_eq!(EdgeConfig::from_token(&token).unwrap(), config, "{name}");
    }
}

#[test]
fn a_bad_edge_token_is_refused_for_the_published_reason() {
    for RejectedToken { name, token, kind } in golden("edge_tokens_rejected.jsonl", 15) {
        let found = match EdgeConfig::from_token(&token).expect_err(&name) {
            EdgeTokenError::Prefix => "prefix",
            EdgeTokenError::Decode(_) => "decode",
            EdgeTokenError::Parse(_) => "parse",
            EdgeTokenError::UnsupportedVersion(_) => "unsupported_version",
        };
        assert_eq!(found, kind, "{name}");
    }
}

#[test]
fn secrets_in_frames_stay_out_of_debug() {
    let mut frames = 0;
    for Canonical { name, frame } in golden("responses.jsonl", 26) {
        let value: Value = serde_json::from_str(frame.get()).unwrap();
        let Some(secret) = value["response"]["private_key"].as_str() else { continue };
        let shown = format!("{:?}", Frame::decode(frame.get().as_bytes()).unwrap());
        assert!(!shown.contains(secret), "{name}: {shown}");
        frames += 1;
    }
    assert_eq!(frames, 4);
    for Canonical { name, frame } in golden("requests.jsonl", 59) {
        let shown = format!("{:?}", Frame::decode(frame.get().as_bytes()).unwrap());
        assert!(!shown.contains("s3cr3t") && !shown.contains("shared-cluster-key"), "{name}: {shown}");
    }
}

/// The replies that have added members, as the published client knows them: it passes over what it does not know.
#[derive(Debug, serde::Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum PublishedReply {
    Err { message: String },
    Status { interface: Option<String>, peer_count: u32, service_count: u32 },
}

#[test]
fn added_members_of_a_reply_leave_what_the_published_client_reads() {
    let mut read = 0;
    for Canonical { name, frame } in golden("additions.jsonl", 8) {
        let value: Value = serde_json::from_str(frame.get()).unwrap();
        let Ok(reply) = PublishedReply::deserialize(&value["response"]) else { continue };
        match reply {
            PublishedReply::Err { message } => assert_eq!(message, "unknown peer; add it first", "{name}"),
            PublishedReply::Status { interface, peer_count, service_count } => {
                assert_eq!((interface.as_deref(), peer_count, service_count), (Some("zl-atlas-n1-g"), 0, 1), "{name}");
            }
        }
        read += 1;
    }
    assert_eq!(read, 2);
}

#[test]
fn a_reply_without_added_members_is_written_as_published() {
    let err = Response::Err { message: "no".into(), code: None };
    assert_eq!(serde_json::to_string(&err).unwrap(), r#"{"result":"err","message":"no"}"#);
    let status = Response::Status(StatusSnapshot::default());
    assert_eq!(serde_json::to_string(&status).unwrap(), r#"{"result":"status","peer_count":0,"service_count":0}"#);
}
