//! sync_ext: keeps a database's tables in real-time, two-way sync with other systems.
//!
//! ```text
//! capture/  a compiled trigger writes each change into the log     (any backend)
//! log/      the rotating log, the ticks that cut it, history
//! engine/   batch ▶ coalesce ▶ resolve ▶ merge ▶ apply ▶ settle    (the worker)
//! worker/   launcher, one worker a database, shared memory
//! connection/  systems on the other side: servers, secrets, connectors
//! api/      the SQL functions
//! ```
//! Knowledge points one way: api → engine → {capture, log, worker} → crates.

// The one crate that talks to the server; every block says why it is sound.
#![allow(unsafe_code)]
// A `static mut` is reached through a raw pointer, never through a reference to it.
#![allow(clippy::deref_addrof)]

mod api;
mod border;
mod capture;
mod connection;
mod engine;
mod log;
mod settings;
mod speech;
mod sql;
mod worker;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

/// Runs once a process, or once in the postmaster when preloaded. Never raises outside preloading:
/// capture has to work in a server that was started without it.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // SAFETY: plain globals of the server.
    unsafe {
        if pg_sys::IsBinaryUpgrade {
            return;
        }
        settings::register();
        connection::discretion::install();
        if pg_sys::process_shared_preload_libraries_in_progress {
            worker::slots::install();
            worker::launcher::register();
        }
    }
}
