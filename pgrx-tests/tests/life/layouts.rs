//! C4, P15: a log of another layout than the library's. A later version's SQL under this library, or an
//! administrator's ALTER TABLE: users' statements succeed, nothing is lost, and the worker waits.

use std::sync::atomic::{AtomicBool, Ordering};

use cluster::postgres::Client;
use pgrx_tests::{db, query_one, refusal, rows, run};

use super::{both, settle, status, two_tables, until};

const WAITS: &str = "its worker cannot work, the server log says why; changes are captured";

#[track_caller]
fn assert_waiting(client: &mut Client) {
    until(client, "SELECT state, detail FROM sync.status", &format!("failing|{WAITS}"));
}

#[test]
fn changes_are_captured_under_an_unknown_layout_and_synced_when_it_is_known_again() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    run(
        &mut client,
        "CREATE ROLE layout_writer; GRANT USAGE ON SCHEMA a TO layout_writer; GRANT ALL ON a.t TO layout_writer",
    );
    let all = |what: &str| {
        (0..4).map(|n| format!("ALTER TABLE sync._log_v1_{n} {what};")).collect::<String>()
    };
    for (n, (alter, undo)) in [
        ("ADD COLUMN later int DEFAULT 7", "DROP COLUMN later"),
        (
            "ADD COLUMN later text NOT NULL DEFAULT 'x', ADD COLUMN more int",
            "DROP COLUMN later, DROP COLUMN more",
        ),
        ("ALTER COLUMN command TYPE int8", "ALTER COLUMN command TYPE int4"),
    ]
    .iter()
    .enumerate()
    {
        // A writer in a transaction that began before, with what it remembers.
        let mut old = db.connect();
        run(&mut old, "BEGIN; SELECT 1");
        run(&mut client, &all(alter));
        run(&mut old, &format!("INSERT INTO a.t VALUES ({n} * 10 + 100, 'old'); COMMIT"));
        run(
            &mut client,
            &format!(
                "SET ROLE layout_writer;
                 UPDATE a.t SET v = 'change ' || {n} WHERE id = 1;
                 INSERT INTO a.t VALUES ({n} * 10 + 101, 'new'), ({n} * 10 + 102, 'gone'); DELETE FROM a.t WHERE id = {n} * 10 + 102;
                 BEGIN; SAVEPOINT s; INSERT INTO a.t VALUES ({n} * 10 + 103, 'never'); ROLLBACK TO s; COMMIT;
                 RESET ROLE"
            ),
        );
        assert_waiting(&mut client);
        assert_eq!(query_one(&mut client, "SELECT settled FROM sync.wait('t', '100ms')"), "f");
        run(&mut client, &all(undo));
        until(&mut client, "SELECT state FROM sync.status", "running");
        settle(&mut client);
        assert_eq!(
            query_one(
                &mut client,
                "SELECT (SELECT json_agg(t ORDER BY id)::text FROM a.t) = (SELECT json_agg(t ORDER BY id)::text FROM b.t)"
            ),
            "t",
            "{alter}: {}",
            both(&mut client)
        );
        assert_eq!(query_one(&mut client, "SELECT v FROM b.t WHERE id = 1"), format!("change {n}"));
    }
    assert!(
        db.cluster().log_text().contains("the log of changes is missing or of an unknown layout")
    );
    run(&mut client, "DROP OWNED BY layout_writer; DROP ROLE layout_writer");
}

/// The matrix with writers at work: whatever they commit arrives.
#[test]
fn writers_do_not_notice_that_the_log_gets_and_loses_columns() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=3)
            .map(|writer| {
                let (db, stop) = (&db, &stop);
                scope.spawn(move || {
                    let mut client = db.connect();
                    let mut n = 0;
                    while !stop.load(Ordering::Acquire) {
                        n += 1;
                        run(
                            &mut client,
                            &format!("INSERT INTO a.t VALUES ({writer} * 1000000 + {n}, 'x')"),
                        );
                        run(&mut client, &format!("UPDATE b.t SET v = 'b' || {n} WHERE id = 2"));
                    }
                    n
                })
            })
            .collect();
        for table in ["_log_v1_0", "_shape", "_capture", "_log_v1_1", "_log_v1_0"] {
            run(
                &mut client,
                &format!("ALTER TABLE sync.{table} ADD COLUMN later int NOT NULL DEFAULT 3"),
            );
            // A table that nobody has captured so far, and one whose shape is new.
            run(&mut client, &format!("ALTER TABLE a.t ADD COLUMN more_{} int DEFAULT 1", table));
            let count = query_one(&mut client, "SELECT last_value FROM sync._log_seq");
            until(
                &mut client,
                &format!("SELECT last_value > {count} + 100 FROM sync._log_seq"),
                "t",
            );
            run(&mut client, &format!("ALTER TABLE sync.{table} DROP COLUMN later"));
            run(&mut client, &format!("ALTER TABLE a.t DROP COLUMN more_{}", table));
        }
        stop.store(true, Ordering::Release);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<i32>()
    });
    until(&mut client, "SELECT state FROM sync.status", "running");
    settle(&mut client);
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM a.t"), (written + 2).to_string());
    assert_eq!(
        rows(&mut client, "SELECT id, v FROM a.t EXCEPT SELECT id, v FROM b.t LIMIT 5"),
        Vec::<String>::new()
    );
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM b.t"), (written + 2).to_string());
}

/// Not even by name: then the statement fails, because a change that is not recorded would be lost.
#[test]
fn without_a_column_that_is_needed_the_statement_fails_with_a_hint() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    run(
        &mut client,
        "ALTER TABLE sync._log_v1_0 ADD COLUMN later int; ALTER TABLE sync._log_v1_0 RENAME COLUMN command TO cmd",
    );
    let error = refusal(&mut client, "UPDATE a.t SET v = 'lost' WHERE id = 1");
    assert!(error.starts_with("55000 the change log of sync_ext"), "{error}");
    assert!(error.contains("HINT: Undo the alteration"), "{error}");
    run(&mut client, "ALTER TABLE sync._log_v1_0 RENAME COLUMN cmd TO command");
    // What the insert by name refuses is refused to the user too.
    run(&mut client, "ALTER TABLE sync._log_v1_0 ADD CONSTRAINT no CHECK (op <> 'U')");
    let error = refusal(&mut client, "UPDATE a.t SET v = 'lost' WHERE id = 1");
    assert!(error.starts_with("23514"), "{error}");
    run(&mut client, "ALTER TABLE sync._log_v1_0 DROP CONSTRAINT no, DROP COLUMN later");
    run(&mut client, "UPDATE a.t SET v = 'kept' WHERE id = 1");
    until(&mut client, "SELECT state FROM sync.status", "running");
    settle(&mut client);
    assert_eq!(both(&mut client), "1kept 2two / 1kept 2two");
}

/// An administrator's VACUUM FULL moves every row of the log to another place.
#[test]
fn a_log_that_is_written_anew_loses_nothing_of_a_backlog() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    for round in 1..=3 {
        run(&mut client, "INSERT INTO a.t SELECT g, 'deleted' FROM generate_series(100, 3000) g");
        run(
            &mut client,
            "ALTER TABLE b.t ADD CONSTRAINT slow CHECK (pg_sleep(0.0002) IS NOT NULL) NOT VALID",
        );
        run(&mut client, "SELECT sync.pause('t')");
        run(&mut client, "DELETE FROM a.t WHERE id >= 100 AND id % 2 = 0");
        run(&mut client, &format!("UPDATE a.t SET v = 'round {round}' WHERE id >= 100"));
        run(&mut client, "SELECT sync.alter_sync('t', '{\"delete_limit\": 100000}')");
        run(&mut client, "SELECT sync.resume('t')");
        run(&mut client, "VACUUM FULL sync._log_v1_0");
        run(
            &mut client,
            "INSERT INTO a.t VALUES (50, 'late') ON CONFLICT (id) DO UPDATE SET v = 'later'",
        );
        run(&mut client, "VACUUM FULL sync._log_v1_0");
        until(&mut client, "SELECT state FROM sync.status", "running");
        settle(&mut client);
        assert_eq!(
            rows(&mut client, "TABLE a.t EXCEPT TABLE b.t LIMIT 5"),
            Vec::<String>::new(),
            "{}",
            status(&mut client)
        );
        assert_eq!(
            query_one(
                &mut client,
                "SELECT (SELECT count(*) FROM a.t) = (SELECT count(*) FROM b.t)"
            ),
            "t"
        );
        run(&mut client, "ALTER TABLE b.t DROP CONSTRAINT slow; DELETE FROM a.t WHERE id >= 100");
        settle(&mut client);
    }
}
