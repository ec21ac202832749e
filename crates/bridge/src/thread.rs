use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::bell::Bell;
use crate::log::Pen;
use crate::request::{self, Duty, Make};
use crate::signals::Blocked;

/// Threads that one network thread may start for what blocks, which is looking up names.
const BLOCKING: usize = 8;

/// The usual size for a thread of Rust, whatever the environment says.
const STACK: usize = 2 << 20;

/// What a thread is told to do.
pub(crate) enum Order<T> {
    CarryOut(Make<T>, Duty<T>),
    /// Panics outside of any request, as a defect of this crate or its runtime would.
    #[cfg(test)]
    Die,
}

/// A network thread, as the main thread sees it.
pub(crate) struct Thread<T> {
    orders: Sender<Order<T>>,
    dead: Arc<AtomicBool>,
    /// Requests that it has and that have not been answered.
    pub(crate) load: usize,
}

/// Dropped as the last thing of a thread, however it ends.
struct Knell {
    dead: Arc<AtomicBool>,
    bell: Arc<Bell>,
}

impl Drop for Knell {
    fn drop(&mut self) {
        self.dead.store(true, Ordering::Release);
        self.bell.ring();
    }
}

impl<T: Send + 'static> Thread<T> {
    /// Starts a thread that can hold this many orders.
    pub(crate) fn start(
        number: usize,
        room: usize,
        stop: Arc<AtomicBool>,
        bell: Arc<Bell>,
        pen: Pen,
    ) -> io::Result<Self> {
        let name = format!("sync_ext net {number}");
        let for_helpers = pen.clone();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name(format!("sync_ext dns {number}"))
            .max_blocking_threads(BLOCKING)
            .thread_stack_size(STACK)
            .on_thread_start(move || for_helpers.clone().take_over())
            .build()?;
        let (orders, inbox) = mpsc::channel(room);
        let dead = Arc::new(AtomicBool::new(false));
        let knell = Knell { dead: Arc::clone(&dead), bell };

        let blocked = Blocked::all()?;
        let started = thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            // Declared first, so that it is dropped when the runtime and all requests are gone.
            let _knell = knell;
            pen.take_over();
            run(runtime, inbox, &stop);
        });
        drop(blocked);
        // Detached: nobody ever waits for a thread to end.
        drop(started?);
        Ok(Self { orders, dead, load: 0 })
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Never waits; gives the order back where the thread is dead.
    pub(crate) fn give(&self, order: Order<T>) -> Result<(), Order<T>> {
        self.orders.try_send(order).map_err(mpsc::error::TrySendError::into_inner)
    }
}

fn run<T: Send + 'static>(runtime: Runtime, inbox: Receiver<Order<T>>, stop: &AtomicBool) {
    // Unwinding through the runtime would drop it the way that waits.
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(serve(inbox, stop))));
    // Drops the requests, and with them their sockets, and waits for no name that is being looked up.
    runtime.shutdown_background();
    drop(ended);
}

async fn serve<T: Send + 'static>(mut inbox: Receiver<Order<T>>, stop: &AtomicBool) {
    while let Some(order) = inbox.recv().await {
        if stop.load(Ordering::Acquire) {
            return;
        }
        match order {
            Order::CarryOut(make, duty) => {
                tokio::spawn(async move { duty.fulfil(request::carry_out(make).await) });
            }
            #[cfg(test)]
            Order::Die => panic!("told to die"),
        }
    }
}
