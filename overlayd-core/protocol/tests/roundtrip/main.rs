//! Properties of the encoding that hold for every frame, not only for those in the golden files.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod strategies;

use overlayd_protocol::{EdgeConfig, Frame, salvage_id};
use proptest::prelude::*;

use self::strategies::{edge, frame, request, response};

proptest! {
    #[test]
    fn every_frame_survives_its_encoding(frame in frame()) {
        let body = frame.encode().unwrap();
        prop_assert_eq!(Frame::decode(&body).unwrap(), frame);
    }

    #[test]
    fn the_tag_a_log_shows_is_the_tag_on_the_wire(id: u64, request in request(), response in response()) {
        prop_assert_eq!(&serde_json::to_value(&request).unwrap()["op"], request.op());
        prop_assert_eq!(&serde_json::to_value(&response).unwrap()["result"], response.result());
        let body = Frame::Request { id, request }.encode().unwrap();
        prop_assert_eq!(salvage_id(&body), Some(id));
    }

    #[test]
    fn members_in_another_order_and_unknown_ones_change_nothing(frame in frame()) {
        // A JSON value sorts its members, which is hardly ever the canonical order.
        let mut value = serde_json::to_value(&frame).unwrap();
        value["unknown"] = serde_json::json!({ "x": [1, null] });
        let body = serde_json::to_vec(&value).unwrap();
        prop_assert_eq!(Frame::decode(&body).unwrap(), frame);
    }

    #[test]
    fn every_configuration_of_the_known_version_survives_its_token(config in edge()) {
        let config = EdgeConfig { version: EdgeConfig::VERSION, ..config };
        let token = config.to_token().unwrap();
        prop_assert_eq!(format!("{:?}", token), "(redacted)");
        prop_assert_eq!(EdgeConfig::from_token(token.reveal()).unwrap(), config);
    }
}
