//! Members of a request that a person got wrong. The daemon ignores unknown ones, as the protocol has it; a person who wrote
//! one has most likely misspelt another.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The first member, as `handle.pid`, whose value is of the wrong type: with another value in its place, reading gets further.
/// The parser cannot tell, since a request is known by its `op` and is read from a buffer without positions.
pub(super) fn first_wrong<T: DeserializeOwned>(asked: &Value) -> Option<String> {
    let complaint = complaint::<T>(asked)?;
    let mut leaves = Vec::new();
    collect_leaves(asked, "", &mut leaves);
    let wrong = leaves.into_iter().find(|pointer| {
        [(json!(1), "integer `1`"), (json!("1"), "string \"1\""), (json!(true), "boolean `true`")]
            .into_iter()
            .any(|(sample, shown)| gets_further::<T>(asked, pointer, sample, &complaint, shown))
    })?;
    Some(wrong.trim_start_matches('/').replace('/', "."))
}

/// Whether the sample in place of this member is accepted: then the complaint is another one, and not about the sample.
fn gets_further<T: DeserializeOwned>(
    asked: &Value,
    pointer: &str,
    sample: Value,
    complaint: &str,
    shown: &str,
) -> bool {
    let mut changed = asked.clone();
    if let Some(member) = changed.pointer_mut(pointer) {
        *member = sample;
    }
    self::complaint::<T>(&changed).is_none_or(|other| other != complaint && !other.contains(shown))
}

fn complaint<T: DeserializeOwned>(asked: &Value) -> Option<String> {
    serde_json::from_value::<T>(asked.clone()).err().map(|error| error.to_string())
}

/// JSON pointers (RFC 6901) to all values that hold no others, but for `op`.
fn collect_leaves(value: &Value, pointer: &str, leaves: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                collect_leaves(member, &format!("{pointer}/{name}"), leaves);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                collect_leaves(item, &format!("{pointer}/{at}"), leaves);
            }
        }
        _ if pointer == "/op" => {}
        _ => leaves.push(pointer.to_owned()),
    }
}

/// The first member, as `handle.pidd`, that `asked` has and `understood` has not. What is left out of the wire when it is
/// empty may be given as empty.
pub(super) fn first_unknown(asked: &Value, understood: &Value) -> Option<String> {
    match (asked, understood) {
        (Value::Object(asked), Value::Object(understood)) => asked.iter().find_map(|(name, value)| {
            let Some(known) = understood.get(name) else { return (!is_empty(value)).then(|| name.clone()) };
            let stray = first_unknown(value, known)?;
            let dot = if stray.starts_with('[') { "" } else { "." };
            Some(format!("{name}{dot}{stray}"))
        }),
        (Value::Array(asked), Value::Array(understood)) => {
            let mut pairs = asked.iter().zip(understood).enumerate();
            pairs.find_map(|(at, (asked, understood))| Some(format!("[{at}].{}", first_unknown(asked, understood)?)))
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
        first_unknown(&serde_json::from_str(text).unwrap(), &serde_json::to_value(&request).unwrap())
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

    #[test]
    fn a_member_of_the_wrong_type_is_named() {
        let wrong = |text: &str| first_wrong::<Request>(&serde_json::from_str(text).unwrap());
        let text = r#"{"op":"detach_container","handle":{"platform":"linux_pid","pid":"5"}}"#;
        assert_eq!(wrong(text).unwrap(), "handle.pid");
        let two = r#"{"op":"setup_global_overlay","deployment":"d","instance_id":7,"cluster_cidr":"c","wg_port":1}"#;
        assert_eq!(wrong(two).unwrap(), "instance_id");
        assert_eq!(wrong(r#"{"op":"make_coffee","cups":1}"#), None, "no value makes it a request");
    }
}
