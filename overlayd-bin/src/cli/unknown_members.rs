//! Members of a request that nobody reads. The daemon ignores them, as the protocol has it; a person who wrote one has
//! most likely misspelt another.

use serde_json::Value;

/// The first member, as `handle.pidd`, that `asked` has and `understood` has not. What is left out of the wire when it is
/// empty may be given as empty.
pub(super) fn first_stray(asked: &Value, understood: &Value) -> Option<String> {
    match (asked, understood) {
        (Value::Object(asked), Value::Object(understood)) => asked.iter().find_map(|(name, value)| {
            let Some(known) = understood.get(name) else { return (!is_empty(value)).then(|| name.clone()) };
            let stray = first_stray(value, known)?;
            let dot = if stray.starts_with('[') { "" } else { "." };
            Some(format!("{name}{dot}{stray}"))
        }),
        (Value::Array(asked), Value::Array(understood)) => {
            let mut pairs = asked.iter().zip(understood).enumerate();
            pairs.find_map(|(at, (asked, understood))| Some(format!("[{at}].{}", first_stray(asked, understood)?)))
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use overlayd_core::protocol::Request;

    use super::*;

    fn stray(text: &str) -> Option<String> {
        let request: Request = serde_json::from_str(text).unwrap();
        first_stray(&serde_json::from_str(text).unwrap(), &serde_json::to_value(&request).unwrap())
    }

    #[test]
    fn a_misspelt_member_is_named_wherever_it_is() {
        let attach = |more: &str| {
            format!(
                r#"{{"op":"attach_container","handle":{{"platform":"linux_pid","pid":7}},"service":"web","join_global":false{more}}}"#
            )
        };
        assert_eq!(stray(&attach("")), None);
        assert_eq!(stray(&attach(r#","isolation_network":null"#)), None);
        assert_eq!(stray(&attach(r#","isolation_netwrok":"job""#)).unwrap(), "isolation_netwrok");
        let nested = r#"{"op":"detach_container","handle":{"platform":"linux_pid","pid":7,"pidd":8}}"#;
        assert_eq!(stray(nested).unwrap(), "handle.pidd");
        let listed = r#"{"op":"publish_ports","handle":{"platform":"linux_pid","pid":7},
                         "ports":[{"protocol":"tcp","host_port":1,"container_port":2,"hostip":"192.0.2.1"}]}"#;
        assert_eq!(stray(listed).unwrap(), "ports[0].hostip");
        assert_eq!(stray(r#"{"op":"mint_edge_peer","name":"a","ttl_secs":1,"allow":[],"node_endpoint":"a:1"}"#), None);
    }
}
