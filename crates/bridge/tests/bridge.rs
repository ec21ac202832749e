mod echo;

use std::fs;
use std::future::pending;
use std::os::fd::AsFd;
use std::panic::panic_any;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bridge::{Bridge, Full, Options, Outcome, Reply};
use connector::{Connector, FaultKind, Record};
use echo::{Echo, Manner};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// As the worker waits: for the descriptor, then clear, tend, and take all there is. Fails where
/// nothing rings for a reply.
fn wait<T: Send + 'static>(bridge: &mut Bridge<T>) -> Vec<Reply<T>> {
    assert!(readable(bridge, 60_000), "nothing rang");
    bridge.clear();
    bridge.tend().unwrap();
    std::iter::from_fn(|| bridge.try_recv()).collect()
}

fn readable<T: Send + 'static>(bridge: &Bridge<T>, milliseconds: u16) -> bool {
    let mut fds = [PollFd::new(bridge.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(milliseconds)).unwrap() == 1
}

fn wait_for<T: Send + 'static>(bridge: &mut Bridge<T>, count: usize) -> Vec<Reply<T>> {
    let mut replies = Vec::new();
    while replies.len() < count {
        replies.append(&mut wait(bridge));
    }
    replies
}

fn fetch(
    bridge: &mut Bridge<Result<Vec<Option<Record>>, connector::Fault>>,
    token: u64,
    echo: &Arc<Echo>,
) -> Result<(), Full> {
    let echo = Arc::clone(echo);
    bridge.submit(token, move || {
        Box::pin(async move { echo.fetch("account", &[], &[token.to_string()]).await })
    })
}

#[test]
fn each_of_20000_requests_is_answered_once_with_its_own_answer() {
    let mut bridge = Bridge::new(Options { threads: 2, in_flight: 100 }).unwrap();
    let echo = Arc::new(Echo::new(Manner::Answer, Duration::ZERO));
    let (mut next, mut replies) = (0, Vec::new());
    while replies.len() < 20_000 {
        while next < 20_000 && fetch(&mut bridge, next, &echo).is_ok() {
            next += 1;
        }
        assert!(bridge.in_flight() <= 100);
        replies.append(&mut wait(&mut bridge));
    }
    replies.sort_by_key(|reply| reply.token);
    for (n, reply) in replies.iter().enumerate() {
        assert_eq!(reply.token, n as u64);
        let Outcome::Done(Ok(records)) = &reply.outcome else { panic!("{reply:?}") };
        assert_eq!(records[0].as_ref().unwrap().id, n.to_string());
    }
    assert_eq!(echo.calls(), 20_000);
    assert_eq!(bridge.in_flight(), 0);
}

#[test]
fn replies_come_as_requests_are_completed_whatever_their_order() {
    let mut bridge = Bridge::new(Options::default()).unwrap();
    let (release, held) = tokio::sync::oneshot::channel();
    bridge.submit(1, || Box::pin(async { held.await.unwrap() })).unwrap();
    bridge.submit(2, || Box::pin(async { "second" })).unwrap();
    let second = Reply { token: 2, outcome: Outcome::Done("second") };
    assert_eq!(wait_for(&mut bridge, 1), [second]);
    release.send("first").unwrap();
    assert_eq!(wait_for(&mut bridge, 1), [Reply { token: 1, outcome: Outcome::Done("first") }]);
}

#[test]
fn submitting_never_waits_and_is_full_until_a_reply_is_taken() {
    let mut bridge = Bridge::new(Options { threads: 1, in_flight: 2 }).unwrap();
    bridge.submit(1, || Box::pin(pending())).unwrap();
    bridge.submit(2, || Box::pin(async { 2 })).unwrap();
    assert_eq!(bridge.submit(3, || Box::pin(async { 3 })), Err(Full));
    assert!(readable(&bridge, 60_000));
    // Answered, and still in flight: its reply has a place to lie.
    assert_eq!(bridge.submit(3, || Box::pin(async { 3 })), Err(Full));
    assert_eq!(wait_for(&mut bridge, 1), [Reply { token: 2, outcome: Outcome::Done(2) }]);
    bridge.submit(3, || Box::pin(async { 3 })).unwrap();
    assert_eq!(wait_for(&mut bridge, 1), [Reply { token: 3, outcome: Outcome::Done(3) }]);
    assert_eq!(bridge.in_flight(), 1);
}

#[test]
fn a_bridge_without_threads_or_room_is_refused() {
    assert!(Bridge::<()>::new(Options { threads: 0, in_flight: 1 }).is_err());
    assert!(Bridge::<()>::new(Options { threads: 1, in_flight: 0 }).is_err());
}

#[test]
fn a_fault_is_an_answer() {
    let mut bridge = Bridge::new(Options::default()).unwrap();
    let echo = Arc::new(Echo::new(Manner::Fail(FaultKind::Quota), Duration::from_millis(1)));
    fetch(&mut bridge, 1, &echo).unwrap();
    let replies = wait_for(&mut bridge, 1);
    let Outcome::Done(Err(fault)) = &replies[0].outcome else { panic!("{replies:?}") };
    assert_eq!(fault.kind, FaultKind::Quota);
}

/// Panics when it is dropped.
struct Grudge;

impl Drop for Grudge {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_panic_loses_its_own_request_and_no_other() {
    let mut bridge = Bridge::new(Options::default()).unwrap();
    let echo = Arc::new(Echo::new(Manner::Panic, Duration::ZERO));
    bridge
        .submit(0, || Box::pin(async { tokio::time::sleep(Duration::from_millis(20)).await }))
        .unwrap();
    bridge.submit(1, move || Box::pin(async move { drop(echo.check().await) })).unwrap();
    bridge.submit(2, || panic!("before there is a future")).unwrap();
    bridge.submit(3, || Box::pin(async { panic_any(Grudge) })).unwrap();
    bridge
        .submit(4, || {
            let grudge = Grudge;
            Box::pin(async move {
                let _grudge = grudge;
                pending().await
            })
        })
        .unwrap();
    let mut replies = wait_for(&mut bridge, 4);
    replies.sort_by_key(|reply| reply.token);
    let lost = |token| Reply { token, outcome: Outcome::Lost };
    assert_eq!(
        replies,
        [Reply { token: 0, outcome: Outcome::Done(()) }, lost(1), lost(2), lost(3)]
    );
    assert_eq!(bridge.tend().unwrap(), 0);
    let said = bridge.said();
    for message in ["the echo panics", "before there is", "panicked at", "sync_ext net 0"] {
        assert!(said.iter().any(|line| line.contains(message)), "{message}: {said:?}");
    }
    assert!(bridge.said().is_empty());
}

#[test]
fn the_log_is_bounded_and_says_how_much_it_left_out() {
    let mut bridge: Bridge<()> = Bridge::new(Options { threads: 1, in_flight: 100 }).unwrap();
    for token in 0..100 {
        bridge.submit(token, || panic!("again")).unwrap();
    }
    wait_for(&mut bridge, 100);
    let said = bridge.said();
    assert_eq!(said.len(), 65);
    assert!(said[64].starts_with("36 more"), "{}", said[64]);
}

/// Run by the next test, in a process whose standard error can be read.
#[test]
#[ignore = "a part of another test"]
fn panics_that_quote_a_value() {
    let mut bridge: Bridge<()> = Bridge::new(Options::default()).unwrap();
    let value = "4711-0815".to_owned();
    let again = value.clone();
    bridge.submit(1, move || panic!("cannot send {value}")).unwrap();
    bridge
        .submit(2, move || {
            Box::pin(async move {
                let blocking =
                    tokio::task::spawn_blocking(move || panic!("cannot look up {again}"));
                assert!(blocking.await.is_err());
            })
        })
        .unwrap();
    wait_for(&mut bridge, 2);
    let said = bridge.said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(!said.iter().any(|line| line.contains("4711")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("sync_ext dns 0")), "{said:?}");
    assert!(thread::spawn(|| panic!("of a thread of somebody else")).join().is_err());
}

#[test]
fn a_panic_prints_nothing_and_those_of_other_threads_do() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "panics_that_quote_a_value", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    assert!(printed.contains("of a thread of somebody else"), "{printed}");
    assert!(!printed.contains("4711") && !printed.contains("sync_ext net"), "{printed}");
}

#[test]
fn the_drop_is_quick_with_100_requests_that_hang() {
    let mut bridge = Bridge::new(Options { threads: 2, in_flight: 100 }).unwrap();
    let echo = Arc::new(Echo::new(Manner::Hang, Duration::ZERO));
    for token in 0..100 {
        fetch(&mut bridge, token, &echo).unwrap();
    }
    while echo.calls() < 100 {
        thread::yield_now();
    }
    let start = Instant::now();
    drop(bridge);
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    // What they held is let go.
    while Arc::strong_count(&echo) > 1 {
        thread::yield_now();
    }
}

#[test]
fn the_drop_is_quick_also_where_a_request_blocks_its_thread() {
    let mut bridge: Bridge<()> = Bridge::new(Options::default()).unwrap();
    let (started, start) = std::sync::mpsc::channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    bridge
        .submit(1, move || {
            Box::pin(async move {
                started.send(()).unwrap();
                let _ = held.recv();
            })
        })
        .unwrap();
    start.recv().unwrap();
    let start = Instant::now();
    drop(bridge);
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    drop(release);
}

#[test]
fn a_request_that_has_not_begun_by_the_drop_never_begins() {
    let mut bridge: Bridge<()> = Bridge::new(Options::default()).unwrap();
    let (started, start) = std::sync::mpsc::channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let block = move || {
        started.send(()).unwrap();
        let _ = held.recv();
    };
    bridge.submit(1, move || Box::pin(async move { block() })).unwrap();
    start.recv().unwrap();
    let begun = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&begun);
    bridge
        .submit(2, move || {
            flag.store(true, Ordering::Relaxed);
            Box::pin(async {})
        })
        .unwrap();
    drop(bridge);
    drop(release);
    while Arc::strong_count(&begun) > 1 {
        thread::yield_now();
    }
    assert!(!begun.load(Ordering::Relaxed));
}

/// The blocked signals of the threads of this process whose name starts so.
fn blocked(name: &str) -> Vec<u64> {
    let mut masks = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end while it is looked at.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let field = |key: &str| {
            status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
        };
        if field("Name:").starts_with(name) {
            masks.push(u64::from_str_radix(&field("SigBlk:"), 16).unwrap());
        }
    }
    masks
}

/// The signals of PostgreSQL belong to its main thread: a SIGURG taken by another is a lost wake-up.
#[test]
fn all_signals_are_blocked_in_the_threads_and_in_those_that_they_start() {
    let mask = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigBlk:")).unwrap().to_owned()
    };
    let before = mask();
    let mut bridge = Bridge::new(Options { threads: 2, in_flight: 10 }).unwrap();
    assert_eq!(mask(), before);
    // One for each thread, so that both have come as far as to have their names.
    for token in 0..2 {
        let helpers = || tokio::task::spawn_blocking(|| blocked("sync_ext dns"));
        bridge.submit(token, move || Box::pin(async move { helpers().await.unwrap() })).unwrap();
    }
    let replies = wait_for(&mut bridge, 2);
    let mut masks = blocked("sync_ext net");
    assert!(masks.len() >= 2);
    for reply in replies {
        let Outcome::Done(helpers) = reply.outcome else { panic!("{reply:?}") };
        assert!(!helpers.is_empty());
        masks.extend(helpers);
    }
    // All of the first 31 but SIGKILL and SIGSTOP, which cannot be blocked.
    for mask in masks {
        assert_eq!(mask & 0x7fff_ffff, 0x7fff_ffff & !(1 << 8) & !(1 << 18), "{mask:x}");
    }
}

#[test]
fn the_descriptor_is_readable_while_a_reply_waits() {
    let mut bridge = Bridge::new(Options::default()).unwrap();
    assert!(!readable(&bridge, 0));
    bridge.submit(1, || Box::pin(async { 1 })).unwrap();
    assert!(readable(&bridge, 60_000));
    assert!(readable(&bridge, 0));
    bridge.clear();
    assert!(!readable(&bridge, 0));
    // Not lost with the ring.
    assert!(bridge.try_recv().is_some());
    assert!(bridge.try_recv().is_none());
}

/// From the main thread to a network thread and back, waiting for the descriptor.
#[test]
#[ignore = "a measurement: cargo test --release -p bridge -- --ignored --nocapture latency"]
fn latency() {
    let mut bridge = Bridge::new(Options::default()).unwrap();
    let echo = Arc::new(Echo::new(Manner::Answer, Duration::ZERO));
    let mut times = Vec::new();
    for token in 0..20_000 {
        let start = Instant::now();
        fetch(&mut bridge, token, &echo).unwrap();
        wait_for(&mut bridge, 1);
        times.push(start.elapsed());
    }
    times.sort();
    let cores = thread::available_parallelism().unwrap();
    println!("{cores} cores, 20000 requests: p50 {:?}, p99 {:?}", times[10_000], times[19_800]);
}
