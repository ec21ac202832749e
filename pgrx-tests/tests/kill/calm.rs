//! The same writers and the same reckoning without kills: a few keys, and everybody after them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx_tests::{db, rows};

use super::random::Random;
use super::{checks, number, schema, writers};

/// P1-P4, P7, P13, P15.
#[test]
fn a_fight_over_a_few_rows_ends_in_peace() {
    let seed = number("SYNC_EXT_SEED").unwrap_or_else(Random::lot);
    let seconds = number("SYNC_EXT_SECONDS").unwrap_or(6);
    println!("convergence: SYNC_EXT_SEED={seed}");
    let db = db();
    let mut client = db.connect();
    schema::create(&mut client);
    let (stop, complaints) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let stretch = writers::Stretch {
                sockets: db.cluster().sockets(),
                database: db.name(),
                keys: 4,
                stop: &stop,
                complaints: &complaints,
            };
            scope.spawn(move || writers::write(&stretch, seed, number));
        }
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Release);
    });
    let workers: Vec<i32> = rows(
        &mut client,
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'sync_ext worker'",
    )
    .iter()
    .filter_map(|pid| pid.parse().ok())
    .collect();
    let complaints = complaints.into_inner().unwrap_or_default();
    let serious = writers::serious(&complaints, &workers);
    assert!(serious.is_empty(), "seed {seed}: {serious:#?}");
    if let Err(left) = checks::settle(&mut client) {
        panic!("seed {seed}: {left}");
    }
    let wrong = checks::all(&mut client);
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
}
