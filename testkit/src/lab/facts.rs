use std::{fs, path::Path};

use super::Namespace;
use crate::contract::HostFacts;

/// What the commands that operators use say, one fact per line.
const COMMANDS: [&[&str]; 8] = [
    &["ip", "-oneline", "link", "show"],
    &["ip", "-oneline", "address", "show"],
    &["ip", "-4", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "-4", "rule", "show"],
    &["ip", "-6", "rule", "show"],
    &["nft", "list", "ruleset"],
    &["find", "/run", "-printf", "%p %m\\n"],
];

/// Sysctls that move by themselves.
const RESTLESS: [&str; 3] = ["nf_conntrack_count", "stable_secret", "flush"];

pub(super) fn of(host: &Namespace) -> HostFacts {
    let mut facts = HostFacts::new();
    for command in COMMANDS {
        let said = host.run(command);
        facts.extend(said.lines().map(|line| format!("{}: {}", command[0..2].join(" "), line.trim_end())));
    }
    facts.extend(host.enter(|| sysctls("/proc/sys/net".as_ref())));
    facts
}

/// `path = value` of everything readable below; the tree is that of the calling thread's network namespace.
fn sysctls(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).expect("sysctls are listed").flatten() {
        let path = entry.path();
        let restless = RESTLESS.iter().any(|name| path.ends_with(name));
        if path.is_dir() {
            lines.extend(sysctls(&path));
        } else if let (false, Ok(value)) = (restless, fs::read_to_string(&path)) {
            lines.push(format!("{} = {}", path.display(), value.trim_end()));
        }
    }
    lines
}
