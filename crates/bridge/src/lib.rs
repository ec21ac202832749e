//! The bridge between a thread that may not wait and the network: the PostgreSQL worker's main thread
//! hands requests in and takes replies out, and threads of this crate carry them out. The threads live
//! in a crate that cannot name PostgreSQL, so that none of its functions is ever called off the main
//! thread. Nothing here waits, except [`Bridge`]'s drop, for [`FAREWELL`] at most.
//!
//! **One reply for each request**, whatever happens to it: the main thread keeps the list of what it is
//! owed, and only what is on the list becomes a [`Reply`]. [`Outcome::Lost`] says that nobody knows what
//! became of a request: it may have been carried out.
//!
//! **Signals** of the process go to its main thread: each thread here has all of them blocked from its
//! first instruction, and so have the threads that it starts itself (such as those that look up names).
//!
//! **Panics** of a request are caught. Their messages would be printed to standard error, the server's
//! log, by the process's panic hook before anybody can catch them, and may quote what was being sent.
//! Without a hook of our own that cannot be prevented, so the first bridge of a process puts one before
//! the hook that is there: it takes the panics of this crate's threads, keeps where they happened
//! and a message only if it is a literal, for [`Bridge::said`]; all others it passes on.
//!
//! **Process exit** is safe at any time, right after the drop too: nothing here registers an `atexit`
//! handler, a thread that is still there touches only memory that is never freed before the end, and
//! requests must keep to that (rustls, not OpenSSL, which cleans up at exit under its threads' feet).
//!
//! **Forks**: a bridge is built by the process that uses it, never before a fork; threads do not cross.
//!
//! A request must not block its thread: all that run on it would stand still with it, and no time limit
//! of theirs would end. What blocks belongs into tokio's `spawn_blocking`.

mod bell;
mod bridge;
mod log;
mod request;
mod signals;
#[cfg(test)]
mod tests;
mod thread;

pub use bridge::{Bridge, FAREWELL, Full, Options, Outcome, Reply};

use std::future::Future;
use std::pin::Pin;

/// A request on its way: what [`Bridge::submit`] is given to carry out.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
