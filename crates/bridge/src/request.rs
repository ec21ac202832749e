use std::any::Any;
use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::task::Poll;

use crate::bell::Bell;
use crate::{BoxFuture, Outcome};

pub(crate) type Make<T> = Box<dyn FnOnce() -> BoxFuture<'static, T> + Send>;

/// What a thread sends back.
pub(crate) struct Sent<T> {
    pub(crate) serial: u64,
    pub(crate) outcome: Outcome<T>,
}

/// The way back to the main thread.
pub(crate) struct Way<T> {
    pub(crate) replies: SyncSender<Sent<T>>,
    pub(crate) bell: Arc<Bell>,
}

impl<T> Clone for Way<T> {
    fn clone(&self) -> Self {
        Self { replies: self.replies.clone(), bell: Arc::clone(&self.bell) }
    }
}

/// The duty to answer a request. Dropped unfulfilled, it answers that the request is lost.
pub(crate) struct Duty<T> {
    serial: u64,
    way: Option<Way<T>>,
}

impl<T> Duty<T> {
    pub(crate) fn new(serial: u64, way: Way<T>) -> Self {
        Self { serial, way: Some(way) }
    }

    pub(crate) fn fulfil(mut self, outcome: Outcome<T>) {
        self.answer(outcome);
    }

    fn answer(&mut self, outcome: Outcome<T>) {
        let Some(way) = self.way.take() else { return };
        // Never full: it has room for a reply of every request that is in flight. Where the bridge is
        // gone nobody waits any more.
        let _ = way.replies.try_send(Sent { serial: self.serial, outcome });
        way.bell.ring();
    }
}

impl<T> Drop for Duty<T> {
    fn drop(&mut self) {
        self.answer(Outcome::Lost);
    }
}

/// Carries a request out, catching its panics wherever it has them: while it is made, while it runs,
/// and while it is dropped.
pub(crate) async fn carry_out<T>(make: Make<T>) -> Outcome<T> {
    let mut future = match catch_unwind(AssertUnwindSafe(make)) {
        Ok(future) => future,
        Err(payload) => {
            discard(payload);
            return Outcome::Lost;
        }
    };
    let outcome =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Outcome::Done(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => {
                discard(payload);
                Poll::Ready(Outcome::Lost)
            }
        })
        .await;
    // The answer stands, also where the rest of the request panics on its way out.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
        discard(payload);
    }
    outcome
}

/// Drops what a panic was thrown with, which may panic again; that second one is left where it is.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again);
    }
}
