//! Builds the extension, copies a PostgreSQL server tree to install it into, and runs throwaway clusters from there.
//!
//! ```text
//! packages   which Debian packages are missing, and how they get installed
//! workspace  where the sources, the build and our own folder are; which account runs servers
//! extension  cargo build of the extension, and its installation into a server tree
//! server     the copied tree below our own folder: programs, template data directory
//! options    how to make a cluster, how to stop it
//! cluster    one throwaway cluster: start, stop, kill, copy, connect
//! database   a database of it, dropped at the end
//! processes  what runs in a data directory, and what it costs
//! shared     the one cluster that a test process shares, handing out fresh databases
//! ```
//!
//! Nothing is written outside the build directory (or, where the server's account can't reach that, one folder below
//! /var/tmp), except a socket directory below /tmp where a path would be too long. Only processes that were started
//! here are ended, each by its process id.

mod cluster;
mod database;
mod extension;
mod options;
pub mod packages;
pub mod processes;
mod server;
mod shared;
mod workspace;

pub use cluster::Cluster;
pub use database::Db;
pub use extension::{build_extension, major_from_environment, pg_config, prepared_server};
pub use options::{Options, Stop};
pub use server::Server;
pub use shared::Shared;
pub use workspace::{Account, Workspace, cargo};

pub use postgres;

use std::time::{Duration, Instant};

/// How long is waited for what has to happen in the end, on a machine that does much else besides. How fast something
/// is, is for `cargo measure` to say.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `done` until it holds; `false` when `timeout` has passed first.
pub fn poll(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(1);
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
