//! The processes the demo consists of. Each makes namespaces of its own, says so on standard output, and becomes what
//! it is told to be.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
};

use crate::cli::args::{DemoPart, Part};

/// What a part says once its namespaces exist.
pub(super) const READY: &str = "ready";
/// Where `wg(8)` looks for control sockets.
const CONTROL_DIR: &str = "/var/run/wireguard";
/// File with the log of a host's daemon, in the host's directory.
pub(super) const LOG: &str = "daemon.log";

/// Becomes the part; returns when the part is over.
pub(crate) fn run(part: &DemoPart) -> Result<()> {
    if !part.keep {
        set_pdeathsig(Signal::SIGKILL).context("could not tie this process to the demo")?;
    }
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("could not make namespaces")?;
    raise_loopback()?;
    match part.part {
        Part::Switch | Part::Container => wait(part.keep),
        Part::Host => become_daemon(part.state.as_deref().context("a host needs --state")?),
    }
}

fn raise_loopback() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let netlink = nlink::Connection::<nlink::Route>::new()?;
        netlink.set_link_up("lo").await
    })?;
    Ok(())
}

/// Waits for the demo to close our standard input, or, when it is to be outlived, for ever.
fn wait(keep: bool) -> Result<()> {
    announce()?;
    if keep {
        // Whoever reads what the demo says must not wait for us.
        nix::unistd::dup2_stderr(fs::File::options().write(true).open("/dev/null")?)?;
    }
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    if keep {
        // Nobody unparks this thread; only a signal ends the part.
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the demo starts this executable as its daemons")]
fn become_daemon(state: &Path) -> Result<()> {
    hide_run_directory()?;
    let log = fs::File::create(state.join(LOG))?;
    announce()?;
    let failure = Command::new(std::env::current_exe()?)
        .args(["run", "--control-dir", CONTROL_DIR, "--data-dir"])
        .arg(state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .exec();
    bail!("could not become the daemon: {failure}")
}

/// Gives this host a `/run` of its own, so that the control sockets of its devices are nobody else's.
fn hide_run_directory() -> Result<()> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("could not make the mounts private")?;
    let run = fs::canonicalize("/var/run").context("could not find /var/run")?;
    mount(Some("tmpfs"), &run, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755,size=1m"))
        .with_context(|| format!("could not mount a tmpfs on {}", run.display()))
}

fn announce() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{READY}")?;
    Ok(out.flush()?)
}
