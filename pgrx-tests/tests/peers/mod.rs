//! Two tables of one database in sync: what travels, what wins, what is refused, and as whom.

mod applications;
mod audit;
mod columns;
mod configuration;
mod conversions;
mod departed;
mod documents;
mod existing;
mod exits;
mod filters;
mod foldings;
mod giving_up;
mod guard;
mod hostile;
mod index_advice;
mod loops;
mod mapping;
mod merge;
mod misbehaviour;
mod one_record;
mod others_bugs;
mod pace;
mod parents;
mod parking;
mod polling;
mod preview;
mod privileges;
mod progress;
mod races;
mod references;
mod repair;
mod rollout;
mod row_functions;
mod row_security;
mod samples;
mod session_state;
mod stamps;
mod strategies;
mod surface;
mod target_edits;
mod tenants;
mod topology;
mod transforms;
mod triggers;
mod types;
mod validation;

use cluster::postgres::Client;
use pgrx_tests::{Db, db, query_one, rows, run};

/// A fresh database in which `sql` was run.
#[track_caller]
fn prepared(sql: &str) -> (Db<'static>, Client) {
    let db = db();
    let mut client = db.connect();
    run(&mut client, sql);
    (db, client)
}

/// Waits until a sync has settled everything committed before; returns how many records it parked.
#[track_caller]
fn settle(client: &mut Client, sync: &str) -> u64 {
    let answer =
        query_one(client, &format!("SELECT settled, parked FROM sync.wait('{sync}', '60s')"));
    let (settled, parked) = answer.split_once('|').unwrap();
    assert_eq!(settled, "t", "{sync} did not settle:\n{}", state_of(client, sync));
    parked.parse().unwrap()
}

/// Waits until a sync has settled everything committed before, and nothing of it is parked.
#[track_caller]
fn synced(client: &mut Client, sync: &str) {
    let parked = settle(client, sync);
    assert_eq!(parked, 0, "{}", state_of(client, sync));
}

/// Each statement in a transaction of its own, all of them before the worker of the sync `s` sees any.
#[track_caller]
fn together(c: &mut Client, statements: &[&str]) {
    run(c, "SELECT sync.pause('s')");
    for statement in statements {
        run(c, statement);
    }
    run(c, "SELECT sync.resume('s')");
    synced(c, "s");
    synced(c, "s");
}

fn state_of(client: &mut Client, sync: &str) -> String {
    let mut lines = rows(client, &format!("SELECT * FROM sync.status WHERE sync = '{sync}'"));
    lines.extend(rows(client, &format!("SELECT * FROM sync.queue WHERE sync = '{sync}'")));
    lines.join("\n")
}

/// Waits until several syncs that feed each other have come to rest: a whole round in which no
/// change is captured any more.
#[track_caller]
fn rest(client: &mut Client, syncs: &[&str]) {
    let captured = "SELECT last_value FROM sync._log_seq";
    let mut before = query_one(client, captured);
    for _ in 0..100 {
        for sync in syncs {
            settle(client, sync);
        }
        let now = query_one(client, captured);
        if now == before {
            return;
        }
        before = now;
    }
    panic!("the syncs do not come to rest; {before} changes were captured");
}

/// Waits until a query of one value answers `expected`.
#[track_caller]
fn becomes(db: &Db<'_>, client: &mut Client, sql: &str, expected: &str) {
    let mut last = String::new();
    db.wait_until(&format!("{sql} = {expected}"), || {
        let now = rows(client, sql).join(",");
        if now != last {
            let state = ["sync.status", "sync.queue", "sync.schema_changes", "sync.conflicts"]
                .map(|view| rows(client, &format!("SELECT * FROM {view}")).join("\n"));
            println!("{sql} is {now}:\n{}", state.join("\n"));
        }
        last = now;
        last == expected
    });
}
