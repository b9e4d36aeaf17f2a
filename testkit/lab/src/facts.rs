use std::{
    fs,
    io::ErrorKind,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};

use super::HostFacts;
use super::Namespace;

/// What is asked of `ip` in addition to links and addresses, with the option that says for which family.
const ROUTING: [&str; 2] = ["route show table all", "rule show"];

/// Sysctls that move by themselves.
const RESTLESS: [&str; 3] = ["nf_conntrack_count", "stable_secret", "flush"];

/// How long the kernel may take over the state of links: it notes a change of carrier at most once a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the programs that operators use say, one fact per line, and what can be read. Hosts are looked at often, so no
/// program is started that is not needed: in a guest each one takes as long as hundreds of files.
pub(super) fn of(host: &Namespace) -> HostFacts {
    let mut facts = HostFacts::new();
    let mut note = |name: &str, said: &str| {
        let lines = said.lines().filter_map(without_owner);
        facts.extend(lines.map(|line| format!("{name}: {}", line.trim_end())));
    };
    note("ip -oneline", &settled_links(host));
    note("ip -4", &host.ip(&["-4"], &ROUTING));
    note("ip -6", &host.ip(&["-6"], &ROUTING));
    note("nft list", &host.enter_and_run(&["nft", "list", "ruleset"], ""));
    facts.extend(host.enter(|| {
        let mut lines = Vec::new();
        let all = open(CWD, "/proc/sys/net").expect("sysctls are listed");
        sysctls(&all, "/proc/sys/net", &mut lines);
        lines
    }));
    facts.extend(files(&Path::new("/proc").join(host.pid().to_string()).join("root"), "run"));
    facts
}

/// Links and addresses once they are settled, or patience has ended.
fn settled_links(host: &Namespace) -> String {
    let start = Instant::now();
    loop {
        let said = host.ip(&["-oneline"], &["link show", "address show"]);
        if settled(&said) || start.elapsed() > PATIENCE {
            return said;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the state of every link has followed its carrier, as the kernel brings it about some time later: `LOWER_UP` is
/// the carrier, and `NO-CARRIER` stands where by the state the link is not running. Of a link that is up, a moment between
/// the two has both or neither, and would change by itself.
fn settled(said: &str) -> bool {
    let flags = |link: &str| link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(f, _)| f.to_owned());
    said.lines().filter_map(flags).all(|flags| {
        let has = |flag| flags.split(',').any(|f| f == flag);
        !has("UP") || has("LOWER_UP") != has("NO-CARRIER")
    })
}

/// A line without what nft says of the process that holds a table: that changes with the process, not with the host.
fn without_owner(line: &str) -> Option<&str> {
    let of_table = line.starts_with("\tflags ");
    (!of_table).then(|| line.split(" # progname ").next().unwrap_or(line))
}

/// `path = value` of everything readable below; the tree is that of the calling thread's network namespace. There are
/// hundreds of files, so each is opened, read and closed, and nothing else is asked of it.
fn sysctls(directory: &OwnedFd, path: &str, lines: &mut Vec<String>) {
    let mut buffer = [0; 4096];
    for entry in Dir::read_from(directory).expect("sysctls are listed").flatten() {
        let name = entry.file_name().to_string_lossy();
        if name == "." || name == ".." || RESTLESS.contains(&name.as_ref()) {
            continue;
        }
        let path = format!("{path}/{name}");
        if entry.file_type() == FileType::Directory {
            // That of an interface goes with it.
            if let Ok(directory) = open(directory, name.as_ref()) {
                sysctls(&directory, &path, lines);
            }
            continue;
        }
        // What only some may read is not compared. A value is read at once.
        let value = open(directory, name.as_ref()).and_then(|file| rustix::io::read(&file, &mut buffer));
        if let Ok(length) = value {
            lines.push(format!("{path} = {}", String::from_utf8_lossy(&buffer[..length]).trim_end()));
        }
    }
}

fn open(directory: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The file and all below it, with their modes.
fn files(root: &Path, path: &str) -> Vec<String> {
    let file = root.join(path);
    let metadata = match fs::symlink_metadata(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        metadata => metadata.unwrap_or_else(|error| panic!("{}: {error}", file.display())),
    };
    let mut facts = vec![format!("find /run: /{path} {:o}", metadata.mode() & 0o7777)];
    if metadata.is_dir() {
        let entries = fs::read_dir(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let names = entries.flatten().map(|entry| entry.file_name());
        facts.extend(names.flat_map(|name| files(root, &format!("{path}/{}", name.to_string_lossy()))));
    }
    facts
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
