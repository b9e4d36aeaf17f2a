//! The older process's side: it starts its successor, gives it everything, and lets it go.

use std::{
    os::fd::AsFd,
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use overlayd_core::contract::HandoverPart;

use super::{
    VARIABLE,
    channel::UpgradeChannel,
    into_descriptors,
    message::{HANDOVER_VERSION, UpgradeMessage},
};

/// Time to start and to read the settings.
const ABLE: Duration = Duration::from_secs(10);
/// Time to open the store and to catch up with a host that has many containers.
const SERVING: Duration = Duration::from_secs(60);
/// Names the process that the service manager's watchdog waits for; the successor is another one.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The process that is to replace this one. It is killed when this is dropped before [`SuccessorProcess::release`].
#[derive(Debug)]
pub(crate) struct SuccessorProcess {
    channel: UpgradeChannel,
    /// `None` once it may live on without this process.
    child: Option<Child>,
}

impl SuccessorProcess {
    /// Starts `program` as this process was started, and waits until it is able to take over.
    pub(crate) async fn start(program: &Path) -> Result<Self> {
        let (channel, theirs) = UpgradeChannel::pair().context("could not make a channel to the successor")?;
        #[expect(clippy::disallowed_methods, reason = "the daemon's own program, as its own successor")]
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).stdin(theirs);
        // The PID guards against a variable that is inherited further, by a program that the successor starts.
        command.env(VARIABLE, std::process::id().to_string()).env_remove(WATCHDOG_PID);
        let child = command.spawn().with_context(|| format!("could not start {}", program.display()))?;
        // The other end of the channel would stay open in `command`, and its end unseen.
        drop(command);
        let mut successor = Self { channel, child: Some(child) };
        let able = tokio::time::timeout(ABLE, successor.becomes_able()).await;
        let able = able.unwrap_or_else(|_| bail!("it did not answer within {} s", ABLE.as_secs()));
        able.with_context(|| format!("{} cannot succeed this daemon, which goes on", program.display()))?;
        Ok(successor)
    }

    /// Its PID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    async fn becomes_able(&mut self) -> Result<()> {
        match self.hear().await? {
            UpgradeMessage::Able { handover: HANDOVER_VERSION, version } => {
                tracing::info!(pid = self.pid(), version, "the successor is able to take over");
                Ok(())
            }
            UpgradeMessage::Able { handover, version } => bail!(
                "release {version} uses version {handover} of the handover protocol, and this daemon version {HANDOVER_VERSION}; \
                 restart the daemon instead"
            ),
            other => bail!("it sent {other:?} out of turn"),
        }
    }

    /// Gives it the listening socket and the devices, and waits until it serves.
    pub(crate) async fn take_over(&mut self, listener: impl AsFd, devices: Vec<HandoverPart>) -> Result<()> {
        // The listener goes first: it is the one part without which the successor could do nothing at all.
        const LOST: &str = "could not hand over to the successor";
        self.channel.send(&UpgradeMessage::Listener, &[listener.as_fd()]).await.context(LOST)?;
        for device in devices {
            let (name, descriptors) = into_descriptors(device)?;
            let borrowed: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
            self.channel.send(&UpgradeMessage::Device { name }, &borrowed).await.context(LOST)?;
            // Closed here: while this process has a copy of the successor's end of a device's channel, the successor's death
            // would go unnoticed.
        }
        self.channel.send(&UpgradeMessage::Go, &[]).await.context(LOST)?;
        let heard = tokio::time::timeout(SERVING, self.hear()).await;
        match heard.unwrap_or_else(|_| bail!("the successor did not serve within {} s", SERVING.as_secs()))? {
            UpgradeMessage::Serving => Ok(()),
            other => bail!("the successor sent {other:?} out of turn"),
        }
    }

    /// Resolves when the successor is gone.
    pub(crate) async fn lost(&self) {
        while let Ok(Some(_)) = self.channel.receive().await {}
    }

    /// Lets it live on without this process.
    pub(crate) fn release(mut self) {
        self.child = None;
    }

    async fn hear(&mut self) -> Result<UpgradeMessage> {
        match self.channel.receive().await.context("could not hear the successor")? {
            Some((UpgradeMessage::Unable { reason }, _)) => bail!("{reason}"),
            Some((message, _)) => Ok(message),
            None => bail!("{}", self.end()),
        }
    }

    /// How the process that hung up ended.
    fn end(&mut self) -> String {
        let Some(mut child) = self.child.take() else { return "it is gone".to_owned() };
        // One that closed its standard input and lives on is no successor.
        let killed = child.kill();
        match killed.and_then(|()| child.wait()) {
            Ok(status) => format!("it ended ({status}); its messages are in the daemon's log"),
            Err(error) => format!("it ended, and its exit status could not be read: {error}"),
        }
    }
}

impl Drop for SuccessorProcess {
    fn drop(&mut self) {
        if self.child.is_some() {
            tracing::warn!(pid = self.pid(), end = self.end(), "the successor is given up");
        }
    }
}
