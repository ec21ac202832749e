//! How many requests a call comes to: one of ours may need several of the other system's.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

/// A request leaves that counts; said by the connector, from within the call.
pub fn count_request() {
    LEFT.set(LEFT.get() + 1);
}

/// What a call comes to, and how many requests it has made. What it hands to other tasks is not counted.
pub async fn counting<T>(call: impl Future<Output = T>) -> (T, u64) {
    let mut call = pin!(call);
    let mut made = 0;
    // Other calls make theirs between the polls of this one.
    let answer = poll_fn(|context| {
        let before = LEFT.get();
        let polled = call.as_mut().poll(context);
        made += LEFT.get() - before;
        polled
    })
    .await;
    (answer, made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn calls_that_take_turns_count_their_own() {
        let call = |requests: u64| async move {
            for _ in 0..requests {
                count_request();
                let mut waited = false;
                poll_fn(|_| {
                    if std::mem::replace(&mut waited, true) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
            }
        };
        let (mut one, mut other) = (Box::pin(counting(call(2))), Box::pin(counting(call(5))));
        let context = &mut Context::from_waker(Waker::noop());
        let mut told = [None, None];
        while told.contains(&None) {
            for (call, told) in
                [&mut one as &mut (dyn Future<Output = ((), u64)> + Unpin), &mut other]
                    .into_iter()
                    .zip(&mut told)
            {
                if told.is_none()
                    && let Poll::Ready(((), made)) = std::pin::Pin::new(call).poll(context)
                {
                    *told = Some(made);
                }
            }
        }
        assert_eq!(told, [Some(2), Some(5)]);
    }
}
