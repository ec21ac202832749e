//! What needs a thread to die, which no request can bring about.

use std::future::pending;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Bridge, Full, Options, Outcome};

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Takes replies until there are so many, tending as the worker does.
fn take(bridge: &mut Bridge<u64>, count: usize) -> (Vec<(u64, Outcome<u64>)>, usize) {
    let (mut replies, mut replaced) = (Vec::new(), 0);
    until("replies", || {
        bridge.clear();
        replaced += bridge.tend().unwrap();
        while let Some(reply) = bridge.try_recv() {
            replies.push((reply.token, reply.outcome));
        }
        replies.len() >= count
    });
    replies.sort_by_key(|(token, _)| *token);
    (replies, replaced)
}

#[test]
fn a_dead_thread_is_replaced_and_each_of_its_requests_is_lost_once() {
    let mut bridge = Bridge::new(Options { threads: 2, in_flight: 20 }).unwrap();
    for token in 0..20 {
        bridge.submit(token, || Box::pin(pending())).unwrap();
    }
    // Requests are spread evenly: the even tokens went to the first thread.
    bridge.kill(0);
    let (replies, mut replaced) = take(&mut bridge, 10);
    assert_eq!(replies, (0..20).step_by(2).map(|n| (n, Outcome::Lost)).collect::<Vec<_>>());
    until("a new thread", || {
        replaced += bridge.tend().unwrap();
        replaced == 1
    });
    assert_eq!(bridge.in_flight(), 10);
    assert!(bridge.try_recv().is_none());
    let said = bridge.said();
    assert!(said.iter().any(|line| line.contains("told to die")), "{said:?}");

    for token in 100..110 {
        bridge.submit(token, move || Box::pin(async move { token })).unwrap();
    }
    let (replies, _) = take(&mut bridge, 10);
    assert_eq!(replies, (100..110).map(|n| (n, Outcome::Done(n))).collect::<Vec<_>>());
    assert_eq!(bridge.in_flight(), 10);
}

#[test]
fn what_comes_after_the_death_of_the_only_thread_is_lost_or_turned_away() {
    let mut bridge = Bridge::new(Options { threads: 1, in_flight: 1_000 }).unwrap();
    bridge.kill(0);
    let mut accepted = 0;
    until("being turned away", || match bridge.submit(accepted, || Box::pin(pending())) {
        Ok(()) => {
            accepted += 1;
            false
        }
        Err(Full) => true,
    });
    let (replies, _) = take(&mut bridge, usize::try_from(accepted).unwrap());
    assert_eq!(replies, (0..accepted).map(|n| (n, Outcome::Lost)).collect::<Vec<_>>());
    bridge.submit(7, || Box::pin(async { 7 })).unwrap();
    assert_eq!(take(&mut bridge, 1).0, [(7, Outcome::Done(7))]);
    assert_eq!(bridge.in_flight(), 0);
}

#[test]
fn threads_that_die_again_and_again_cost_nothing_but_their_own_requests() {
    let mut bridge = Bridge::new(Options { threads: 3, in_flight: 30 }).unwrap();
    let (mut submitted, mut replies, mut replaced) = (0, Vec::new(), 0);
    for round in 0..200 {
        while bridge
            .submit(submitted, {
                let token = submitted;
                move || {
                    Box::pin(async move {
                        tokio::task::yield_now().await;
                        token
                    })
                }
            })
            .is_ok()
        {
            submitted += 1;
        }
        bridge.kill(round % 3);
        // Fewer than half where all were dead just now.
        let within = bridge.in_flight().min(15);
        let (mut some, n) = take(&mut bridge, within);
        replies.append(&mut some);
        replaced += n;
    }
    let rest = bridge.in_flight();
    replies.append(&mut take(&mut bridge, rest).0);
    replies.sort_by_key(|(token, _)| *token);
    assert_eq!(
        replies.iter().map(|(t, _)| *t).collect::<Vec<_>>(),
        (0..submitted).collect::<Vec<_>>()
    );
    assert!(replaced > 50, "{replaced}");
    assert!(replies.iter().any(|(_, outcome)| *outcome != Outcome::Lost));
}

/// A death must wake the main thread also where no request was in flight.
#[test]
fn a_death_rings() {
    let mut bridge: Bridge<u64> = Bridge::new(Options::default()).unwrap();
    bridge.kill(0);
    let mut fds = [PollFd::new(bridge.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(60_000_u16)), Ok(1));
    assert_eq!(bridge.tend().unwrap(), 1);
}
