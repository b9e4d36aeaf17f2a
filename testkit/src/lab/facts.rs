use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::Namespace;
use crate::contract::HostFacts;

/// What the commands that operators use say, one fact per line. Links come first.
const COMMANDS: [&str; 8] = [
    "ip -oneline link show",
    "ip -oneline address show",
    "ip -4 route show table all",
    "ip -6 route show table all",
    "ip -4 rule show",
    "ip -6 rule show",
    "nft list ruleset",
    "find /run -printf '%p %m\\n'",
];

/// Stands after what each command said.
const END: &str = "-- end --\n";

/// Sysctls that move by themselves.
const RESTLESS: [&str; 3] = ["nf_conntrack_count", "stable_secret", "flush"];

/// How long the kernel may take over the state of links: it notes a change of carrier at most once a second.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn of(host: &Namespace) -> HostFacts {
    let start = Instant::now();
    let mut said = say(host);
    while start.elapsed() < PATIENCE && !settled(&said) {
        thread::sleep(Duration::from_millis(20));
        said = say(host);
    }
    let mut facts = HostFacts::new();
    for (command, said) in COMMANDS.iter().zip(said.split(END)) {
        let name = command.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
        let lines = said.lines().filter_map(without_owner);
        facts.extend(lines.map(|line| format!("{name}: {}", line.trim_end())));
    }
    facts.extend(host.enter(|| sysctls("/proc/sys/net".as_ref())));
    facts
}

/// What all commands say, run by one shell: hosts are looked at often.
fn say(host: &Namespace) -> String {
    let script: Vec<String> =
        COMMANDS.iter().map(|command| format!("{command} && echo '{}'", END.trim_end())).collect();
    host.run(&["sh", "-c", &script.join(" && ")])
}

/// Whether the state of every link has followed its carrier, as the kernel brings it about some time later: `LOWER_UP` is
/// the carrier, and `NO-CARRIER` stands where by the state the link is not running. Of a link that is up, a moment between
/// the two has both or neither, and would change by itself.
fn settled(said: &str) -> bool {
    let links = said.split(END).next().unwrap_or_default();
    let flags = |link: &str| link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(f, _)| f.to_owned());
    links.lines().filter_map(flags).all(|flags| {
        let has = |flag| flags.split(',').any(|f| f == flag);
        !has("UP") || has("LOWER_UP") != has("NO-CARRIER")
    })
}

/// A line without what nft says of the process that holds a table: that changes with the process, not with the host.
fn without_owner(line: &str) -> Option<&str> {
    let of_table = line.starts_with("\tflags ");
    (!of_table).then(|| line.split(" # progname ").next().unwrap_or(line))
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

#[cfg(test)]
mod tests {
    use super::settled;

    #[test]
    fn a_link_whose_state_lags_behind_its_carrier_has_not_settled() {
        let link = |flags| settled(&format!("4: web-b: <{flags}> mtu 1420 qdisc noqueue state UNKNOWN mode DEFAULT"));
        assert!(link("BROADCAST,MULTICAST,UP,LOWER_UP") && link("NO-CARRIER,BROADCAST,MULTICAST,UP"));
        assert!(link("BROADCAST,MULTICAST"), "a link that is down has neither");
        assert!(!link("BROADCAST,MULTICAST,UP"), "the carrier is gone, the state does not say so yet");
        assert!(!link("NO-CARRIER,BROADCAST,MULTICAST,UP,LOWER_UP"), "the carrier is back");
    }
}
