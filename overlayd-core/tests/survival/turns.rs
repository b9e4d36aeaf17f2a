//! Clients that ask at the same time, whose turn it is follows from a number: what happens is the same every time.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use overlayd_core::{crash::Plan, engine::Engine, protocol::Request, protocol::Response};
use overlayd_testkit::fuzz::RandomSource;
use tokio::sync::Notify;

/// A request under way.
struct Client<'a> {
    future: Pin<Box<dyn Future<Output = Response> + 'a>>,
    ready: Arc<Ready>,
    reply: Option<Response>,
}

/// Whether a request can go on.
struct Ready {
    is: AtomicBool,
    tell: Arc<Notify>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.is.store(true, Ordering::SeqCst);
        self.tell.notify_one();
    }
}

/// Asks all of these at the same time. At every crash point, and wherever a request waits, `turns` says who goes on of those
/// who can; what is on its way to the disk gets there first.
pub(crate) async fn ask(engine: &Engine, requests: Vec<Request>, turns: u64) -> Vec<Response> {
    let tell = Arc::new(Notify::new());
    let mut clients: Vec<Client<'_>> =
        requests.into_iter().map(|request| Client::new(engine, request, &tell)).collect();
    let mut random = RandomSource::new(turns);
    loop {
        while engine.is_recording() {
            thread::yield_now();
        }
        let can: Vec<usize> = (0..clients.len()).filter(|number| clients[*number].can_go_on()).collect();
        if can.is_empty() {
            if clients.iter().all(|client| client.reply.is_some()) {
                return clients.into_iter().filter_map(|client| client.reply).collect();
            }
            // The engine's own tasks, or a clock.
            tell.notified().await;
            continue;
        }
        clients[can[random.below(can.len())]].go_on();
        tokio::task::yield_now().await;
    }
}

impl<'a> Client<'a> {
    fn new(engine: &'a Engine, request: Request, tell: &Arc<Notify>) -> Self {
        let asking = async move {
            let reply = Plan::in_turns().run(engine.answer(request)).await;
            reply.unwrap_or_else(|| panic!("a plan without an end ended a request"))
        };
        let ready = Arc::new(Ready { is: AtomicBool::new(true), tell: Arc::clone(tell) });
        Self { future: Box::pin(asking), ready, reply: None }
    }

    fn can_go_on(&self) -> bool {
        self.reply.is_none() && self.ready.is.load(Ordering::SeqCst)
    }

    fn go_on(&mut self) {
        self.ready.is.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.ready));
        if let Poll::Ready(reply) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.reply = Some(reply);
        }
    }
}
