//! What the service manager is told.

use sd_notify::NotifyState;

/// The service manager, where one started this process (`sd_notify(3)`); without one, nothing is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceManager;

impl ServiceManager {
    /// Requests are answered from now on.
    pub(crate) fn ready(self) {
        self.tell(NotifyState::Ready);
    }

    /// Requests are still answered.
    pub(crate) fn alive(self) {
        self.tell(NotifyState::Watchdog);
    }

    /// The daemon is about to end.
    pub(crate) fn stopping(self) {
        self.tell(NotifyState::Stopping);
    }

    /// From now on the process `pid` is the daemon.
    pub(crate) fn succeeded_by(self, pid: u32) {
        self.tell(NotifyState::MainPid(pid));
    }

    fn tell(self, state: NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "could not tell the service manager");
        }
    }
}
