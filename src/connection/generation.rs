//! Noticing that a connection has become another one. The server's caches say when any server or
//! mapping changed; only then is looked which.

use super::{catalog, file, secret};
use crate::settings;
use foldhash::quality::FixedState;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// How often a server or a user mapping of this database has changed, as far as this process knows.
static mut CHANGES: u64 = 0;

struct Known {
    seen: u64,
    catalogs: u64,
    files: Vec<String>,
}

static mut KNOWN: Option<HashMap<Oid, Known>> = None;

#[pg_guard]
unsafe extern "C-unwind" fn on_change(_argument: Datum, _cache: i32, _hash: u32) {
    // SAFETY: one thread.
    unsafe { CHANGES += 1 }
}

/// A number that is another one when anything changed that a connector was made of: options,
/// secrets, a file of secrets, the settings of egress. Inside a transaction; cheap while nothing
/// changed.
pub fn changed(server: Oid) -> u64 {
    // SAFETY: one thread; the callbacks are registered once a process and only count.
    let (changes, known) = unsafe {
        let known = &mut *(&raw mut KNOWN);
        if known.is_none() {
            for cache in [
                pg_sys::SysCacheIdentifier::FOREIGNSERVEROID,
                pg_sys::SysCacheIdentifier::USERMAPPINGOID,
            ] {
                pg_sys::CacheRegisterSyscacheCallback(
                    cache as i32,
                    Some(on_change),
                    Datum::from(0usize),
                );
            }
        }
        (CHANGES, known.get_or_insert_default())
    };
    let entry =
        known.entry(server).or_insert(Known { seen: u64::MAX, catalogs: 0, files: Vec::new() });
    if entry.seen != changes {
        let mapping = secret::parts(server);
        entry.catalogs = hash(&(catalog::settings(server), &mapping));
        entry.files = secret::files(&mapping).map(str::to_owned).collect();
        entry.seen = changes;
    }
    let files: Vec<_> = entry.files.iter().map(|name| file::fingerprint(name)).collect();
    let texts = [
        settings::ALLOWED_HOSTS.get(),
        settings::PROXY.get(),
        settings::CA_FILE.get(),
        settings::SECRET_DIRECTORY.get(),
        settings::SECRET_ROLE.get(),
    ];
    hash(&(entry.catalogs, files, texts))
}

fn hash(value: &impl Hash) -> u64 {
    FixedState::with_seed(0).hash_one(value)
}
