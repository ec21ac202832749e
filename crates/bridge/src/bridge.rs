use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::BoxFuture;
use crate::bell::Bell;
use crate::log::{self, Log, Pen};
use crate::request::{Duty, Sent, Way};
use crate::thread::{Order, Thread};

/// How long the drop of a [`Bridge`] waits for its threads to close their sockets.
pub const FAREWELL: Duration = Duration::from_millis(50);

/// How large a bridge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub threads: usize,
    /// Most requests that have been submitted and whose reply has not been taken.
    pub in_flight: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 1, in_flight: 64 }
    }
}

/// There is no room for another request: take replies first. Also where all threads are dead and could
/// not be replaced yet: [`Bridge::tend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for another request")
    }
}

impl std::error::Error for Full {}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    Done(T),
    /// It panicked, or its thread died. It may have been carried out.
    Lost,
}

/// The one reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<T> {
    /// As given to [`Bridge::submit`].
    pub token: u64,
    pub outcome: Outcome<T>,
}

/// A request that has not been answered.
struct Owed {
    token: u64,
    thread: usize,
}

/// The main thread's end of the network threads; see the crate.
pub struct Bridge<T: Send + 'static> {
    in_flight: usize,
    threads: Vec<Thread<T>>,
    /// By serial number, which unlike a token is never given twice.
    owed: BTreeMap<u64, Owed>,
    serial: u64,
    /// Taken from the channel, or lost with a thread, and not yet taken by the caller.
    ready: VecDeque<Reply<T>>,
    replies: Receiver<Sent<T>>,
    /// `None` only during the drop.
    sender: Option<SyncSender<Sent<T>>>,
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    pen: Pen,
    log: Log,
}

impl<T: Send + 'static> Bridge<T> {
    /// Starts the threads. To be called in the process that uses the bridge, never before a fork.
    pub fn new(options: Options) -> io::Result<Self> {
        let Options { threads, in_flight } = options;
        if threads == 0 || in_flight == 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        log::hook();
        let (pen, log) = log::new();
        let (sender, replies) = sync_channel(in_flight);
        let mut bridge = Self {
            in_flight,
            threads: Vec::with_capacity(threads),
            owed: BTreeMap::new(),
            serial: 0,
            ready: VecDeque::new(),
            replies,
            sender: Some(sender),
            bell: Arc::new(Bell::new()?),
            stop: Arc::new(AtomicBool::new(false)),
            pen,
            log,
        };
        for number in 0..threads {
            let thread = bridge.start(number)?;
            bridge.threads.push(thread);
        }
        Ok(bridge)
    }

    fn start(&self, number: usize) -> io::Result<Thread<T>> {
        let (stop, bell) = (Arc::clone(&self.stop), Arc::clone(&self.bell));
        Thread::start(number, self.in_flight, stop, bell, self.pen.clone())
    }

    /// Has a request carried out. `make` is called on a network thread, inside its runtime. Never waits.
    pub fn submit(
        &mut self,
        token: u64,
        make: impl FnOnce() -> BoxFuture<'static, T> + Send + 'static,
    ) -> Result<(), Full> {
        if self.in_flight() >= self.in_flight {
            return Err(Full);
        }
        let alive = self.threads.iter_mut().enumerate().filter(|(_, thread)| !thread.is_dead());
        let Some((number, thread)) = alive.min_by_key(|(_, thread)| thread.load) else {
            return Err(Full);
        };
        let Some(replies) = self.sender.clone() else { return Err(Full) };
        let way = Way { replies, bell: Arc::clone(&self.bell) };
        self.serial += 1;
        self.owed.insert(self.serial, Owed { token, thread: number });
        thread.load += 1;
        // Where the thread has died just now, dropping the order answers it.
        drop(thread.give(Order::CarryOut(Box::new(make), Duty::new(self.serial, way))));
        Ok(())
    }

    /// The next reply, in the order in which requests were completed. Take them until there is none:
    /// after [`Bridge::clear`] nothing rings for those that are left behind.
    pub fn try_recv(&mut self) -> Option<Reply<T>> {
        self.ready.pop_front().or_else(|| self.next())
    }

    /// From the channel.
    fn next(&mut self) -> Option<Reply<T>> {
        while let Ok(Sent { serial, outcome }) = self.replies.try_recv() {
            // What is not owed has been given up as lost.
            if let Some(Owed { token, thread }) = self.owed.remove(&serial) {
                self.threads[thread].load -= 1;
                return Some(Reply { token, outcome });
            }
        }
        None
    }

    /// Readable while replies wait, and when a thread has died: to be waited for beside the latch. It
    /// belongs to the bridge, and counts among the process's descriptors (`ReserveExternalFD`).
    pub fn fd(&self) -> RawFd {
        self.bell.as_fd().as_raw_fd()
    }

    /// Makes the descriptor unreadable again. Before taking replies, never after: one that comes in
    /// between must ring.
    pub fn clear(&self) {
        self.bell.clear();
    }

    /// Requests that have been submitted and whose reply has not been taken.
    pub fn in_flight(&self) -> usize {
        self.owed.len() + self.ready.len()
    }

    /// Replaces threads that have died, and gives up the requests that they had. Returns how many were
    /// replaced. Cheap where there is nothing to do: to be called at every wake-up, before replies
    /// are taken. Where a thread cannot be started now, the next call tries again.
    pub fn tend(&mut self) -> io::Result<usize> {
        let mut replaced = 0;
        for number in 0..self.threads.len() {
            if !self.threads[number].is_dead() {
                continue;
            }
            self.give_up(number);
            self.threads[number] = self.start(number)?;
            replaced += 1;
        }
        Ok(replaced)
    }

    /// The thread is dead, so that all it has ever answered is in the channel; the rest is lost.
    fn give_up(&mut self, number: usize) {
        while let Some(reply) = self.next() {
            self.ready.push_back(reply);
        }
        let ready = &mut self.ready;
        self.owed.retain(|_, owed| {
            let lost = owed.thread == number;
            if lost {
                ready.push_back(Reply { token: owed.token, outcome: Outcome::Lost });
            }
            !lost
        });
        self.threads[number].load = 0;
        if !self.ready.is_empty() {
            self.bell.ring();
        }
    }

    /// What the threads have to say, for the server's log: where requests panicked. Never quotes one.
    pub fn said(&mut self) -> Vec<String> {
        self.log.take()
    }

    #[cfg(test)]
    pub(crate) fn kill(&self, number: usize) {
        drop(self.threads[number].give(Order::Die));
    }
}

impl<T: Send + 'static> AsFd for Bridge<T> {
    /// [`Bridge::fd`], for those that do not need it raw.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl<T: Send + 'static> Drop for Bridge<T> {
    /// Tells the threads to stop, waits for [`FAREWELL`] at most, and leaves them alone. Requests in
    /// flight are dropped and get no reply.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.threads.clear();
        self.sender = None;
        let until = Instant::now() + FAREWELL;
        // Each request holds a sender: the channel is cut when the last of them has been dropped.
        while self.replies.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
    }
}
