//! The bounds that a systemd unit sets, for a process that no systemd starts: its capabilities and its system calls.
#![allow(unsafe_code)]

use std::{collections::BTreeSet, os::unix::process::CommandExt, path::Path, process::Command};

use seccompiler::{BpfProgram, TargetArch, apply_filter, compile_from_json};

/// What a unit allows.
#[derive(Debug, Clone)]
pub(super) struct ConfinementBounds {
    /// As `setpriv` wants them, `-all,+net_admin`.
    pub(super) capabilities: String,
    filter: BpfProgram,
}

impl ConfinementBounds {
    /// Those of the unit in this file; panics where it says something that is not understood.
    pub(super) fn of_unit(path: &Path) -> Self {
        let unit = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let values = |key: &str| -> Vec<String> {
            let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            lines.map(str::to_owned).collect()
        };
        let mut capabilities = "-all".to_owned();
        for name in values("CapabilityBoundingSet").iter().flat_map(|line| line.split_whitespace()) {
            let name = name.strip_prefix("CAP_").expect("the unit lists capabilities");
            capabilities.push_str(&format!(",+{}", name.to_lowercase()));
        }
        let mut calls = BTreeSet::new();
        for line in values("SystemCallFilter") {
            match line.strip_prefix('~') {
                Some(denied) => {
                    let denied = expanded(denied);
                    calls.retain(|call| !denied.contains(call));
                }
                None => calls.extend(expanded(&line)),
            }
        }
        Self { capabilities, filter: compiled(&calls) }
    }

    /// Has the program, and all that it starts, get `EPERM` for every system call that is not allowed, as the unit does.
    pub(super) fn bind(&self, command: &mut Command) {
        let filter = self.filter.clone();
        let apply = move || apply_filter(&filter).map_err(std::io::Error::other);
        // SAFETY: between fork and exec the closure only makes two system calls with memory that was prepared before.
        unsafe { command.pre_exec(apply) };
    }
}

/// The system calls that these words stand for; groups begin with `@`.
fn expanded(words: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for word in words.split_whitespace() {
        if word.starts_with('@') {
            calls.extend(group(word).iter().flat_map(|member| expanded(member)));
        } else {
            calls.insert(word.to_owned());
        }
    }
    calls
}

/// The members of a group, as systemd itself knows them.
fn group(name: &str) -> Vec<String> {
    let mut command = super::namespace::program("systemd-analyze");
    let output = command.args(["--no-pager", "syscall-filter", name]).output().expect("systemd-analyze (systemd) runs");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let members = said.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.map(str::to_owned).collect()
}

/// Calls that another architecture has are passed over.
fn compiled(calls: &BTreeSet<String>) -> BpfProgram {
    let known: Vec<&String> = calls.iter().filter(|call| program(&[call]).is_some()).collect();
    assert!(known.len() > 100, "systemd's groups were not understood: {known:?}");
    program(&known).expect("each of them is known")
}

fn program(calls: &[&String]) -> Option<BpfProgram> {
    let calls: Vec<String> = calls.iter().map(|call| format!(r#"{{"syscall":"{call}"}}"#)).collect();
    let json = format!(
        r#"{{"main":{{"mismatch_action":{{"errno":1}},"match_action":"allow","filter":[{}]}}}}"#,
        calls.join(",")
    );
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture with such filters");
    compile_from_json(json.as_bytes(), arch).ok()?.remove("main")
}
