//! The service manager's watchdog: fed as long as requests are answered.

use std::{sync::Arc, time::Duration};

use overlayd_core::{
    engine::Engine,
    protocol::{Request, Response},
};

use super::service_manager::ServiceManager;

/// Signs of life per period of the service manager's watchdog, so that a late one does no harm.
const PER_PERIOD: u32 = 3;

/// Shows the service manager that requests are answered, for as long as they are; does nothing when it does not ask.
pub(crate) async fn feed(engine: Arc<Engine>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut beat = tokio::time::interval(period / PER_PERIOD);
    // After a standstill one sign of life is due, not all that were missed.
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if answers_within(period / PER_PERIOD, engine.answer(Request::Status)).await {
            ServiceManager.alive();
        } else {
            tracing::error!("no status within a third of the watchdog's period; the service manager is not told");
        }
    }
}

async fn answers_within(bound: Duration, reply: impl Future<Output = Response>) -> bool {
    matches!(tokio::time::timeout(bound, reply).await, Ok(Response::Status(_)))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use overlayd_core::protocol::StatusSnapshot;

    use super::*;

    #[tokio::test]
    async fn only_a_status_in_time_is_a_sign_of_life() {
        let status = Response::Status(StatusSnapshot::default());
        assert!(answers_within(Duration::from_secs(60), ready(status)).await);
        assert!(!answers_within(Duration::from_millis(1), pending()).await);
        let refused = Response::err("store", "the store is gone");
        assert!(!answers_within(Duration::from_secs(60), ready(refused)).await);
    }
}
