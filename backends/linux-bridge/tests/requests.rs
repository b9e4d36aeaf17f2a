//! What an attach asks of the kernel, as the trace of its requests tells. Needs root.
//!
//! One test alone: the trace is that of the whole process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use common::{Bench, V4, V6, container};
use overlayd_core::contract::{AttachPlan, Attacher};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

/// Containers that are there when the cost is taken again.
const MANY: u8 = 40;

/// The requests so far: what each did, and whether it had the kernel list things.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<Vec<(String, bool)>>>);

impl Asked {
    /// The requests since the last call, in order of their names.
    fn take(&self) -> Vec<(String, bool)> {
        let mut requests = std::mem::take(&mut *self.0.lock().unwrap());
        requests.sort();
        requests
    }
}

impl<S: tracing::Subscriber> Layer<S> for Asked {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut request = Request::default();
        event.record(&mut request);
        if let Request { action, listing: Some(listing) } = request {
            self.0.lock().unwrap().push((action, listing));
        }
    }
}

#[derive(Default)]
struct Request {
    action: String,
    listing: Option<bool>,
}

impl tracing::field::Visit for Request {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "action" {
            self.action = value.into();
        }
    }

    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        if field.name() == "listing" {
            self.listing = Some(value);
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn fmt::Debug) {}
}

/// The requests that it takes to attach and to detach, none of them a listing. Numbers of links are left out.
async fn cost(bench: &Bench, plan: &AttachPlan, asked: &Asked) -> [Vec<String>; 2] {
    asked.take();
    bench.backend.attach(plan).await.unwrap();
    let attach = asked.take();
    bench.backend.detach(&plan.id).await.unwrap();
    bench.backend.settle().await.unwrap();
    let detach = asked.take();
    [attach, detach].map(|requests| {
        let listings: Vec<_> = requests.iter().filter(|(_, listing)| *listing).collect();
        assert!(listings.is_empty(), "{listings:?}");
        let mut actions: Vec<String> = requests.into_iter().map(|(action, _)| action).collect();
        // How often the kernel is asked whether it is done is a matter of luck: what is asked is compared here, and how
        // often in `cost.rs`.
        actions.sort();
        let mut asked: Vec<_> =
            actions.iter().map(|action| action.split('#').next().unwrap_or_default().to_owned()).collect();
        asked.dedup();
        asked
    })
}

#[tokio::test]
async fn an_attach_lists_nothing_and_asks_as_much_with_many_containers_as_with_none() {
    let asked = Asked::default();
    tracing::subscriber::set_global_default(Registry::default().with(asked.clone())).unwrap();
    for family in [V4, V6] {
        let bench = Bench::new(family);
        let web = bench.web();
        bench.backend.ensure_network(&web).await.unwrap();
        assert!(asked.take().iter().any(|(_, listing)| *listing), "a listing would show");
        let probe = container();
        let mut plan = bench.plan(&probe, &web, 60);
        plan.overlay = Some(bench.overlay_leg());
        let first = cost(&bench, &plan, &asked).await;
        assert!(first.iter().all(|asked| !asked.is_empty()), "{first:?}");
        let crowd: Vec<_> = (0..MANY).map(|_| container()).collect();
        for (number, one) in (2..).zip(&crowd) {
            bench.backend.attach(&bench.plan(one, &web, number)).await.unwrap();
        }
        assert_eq!(cost(&bench, &plan, &asked).await, first);
    }
}
