//! Changes that an application takes: handed over in order, given back, and missed by nobody.

use cluster::postgres::Client;
use pgrx_tests::{query_one, refusal, rows, run};

use super::{becomes, prepared};

const TABLE: &str = "CREATE TABLE invoice (id int PRIMARY KEY, amount int, note text, internal text);
    SELECT sync.create_sync('billing', '{\"source\": \"invoice\", \"target\": {\"type\": \"application\"}, \"exclude_fields\": [\"internal\"],
      \"error_handling\": {\"retry_strategy\": {\"max_attempts\": 3, \"initial_delay_seconds\": 0}}}');";

/// Takes what there is, waiting until there is something.
#[track_caller]
fn take(c: &mut Client, columns: &str) -> Vec<String> {
    let mut taken = Vec::new();
    let sql = format!("SELECT {columns} FROM sync.take('billing')");
    let some = cluster::poll(std::time::Duration::from_secs(30), || {
        taken = rows(c, &sql);
        !taken.is_empty()
    });
    assert!(some, "{:?}", rows(c, "SELECT * FROM sync.status"));
    taken
}

fn put_down(c: &mut Client, count: &str) {
    let sql = "SELECT count(*) FROM sync.deliveries";
    assert!(
        cluster::poll(std::time::Duration::from_secs(30), || query_one(c, sql) == count),
        "{}",
        query_one(c, sql)
    );
}

#[test]
fn changes_are_taken_in_order_with_both_images() {
    let (_db, mut c) = prepared(TABLE);
    run(&mut c, "INSERT INTO invoice VALUES (1, 10, 'a', 'x'), (2, 20, 'b', 'y')");
    run(
        &mut c,
        "UPDATE invoice SET amount = 11 WHERE id = 1; UPDATE invoice SET internal = 'unseen'; DELETE FROM invoice WHERE id = 2",
    );
    put_down(&mut c, "4");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT state, detail ~ '^4 changes wait to be taken', target, queued FROM sync.status"
        ),
        "running|t|application|4"
    );
    // Of each record the oldest, until that is settled.
    let columns = "\"table\", key, operation, old, new, changed, origin, attempt";
    assert_eq!(
        take(&mut c, columns),
        [
            r#"public.invoice|1|INSERT||{"id": 1, "note": "a", "amount": 10}||user|1"#,
            r#"public.invoice|2|INSERT||{"id": 2, "note": "b", "amount": 20}||user|1"#
        ]
    );
    assert_eq!(rows(&mut c, "SELECT * FROM sync.take('billing')"), [""; 0]);
    assert_eq!(
        query_one(&mut c, "SELECT string_agg(status, ' ' ORDER BY seq) FROM sync.change_log"),
        "sending sending sending sending"
    );
    assert_eq!(
        query_one(
            &mut c,
            "SELECT sync.done('billing', array_agg(id)) FROM sync.deliveries WHERE state = 'sending'"
        ),
        "2"
    );
    assert_eq!(
        take(&mut c, columns),
        [
            r#"public.invoice|1|UPDATE|{"id": 1, "note": "a", "amount": 10}|{"id": 1, "note": "a", "amount": 11}|["amount"]|user|1"#,
            r#"public.invoice|2|DELETE|{"id": 2, "note": "b", "amount": 20}|||user|1"#
        ]
    );
    assert_eq!(query_one(&mut c, "SELECT settled FROM sync.wait('billing', '200ms')"), "f");
    run(&mut c, "SELECT sync.done('billing', array_agg(id)) FROM sync.deliveries");
    assert_eq!(query_one(&mut c, "SELECT settled, parked FROM sync.wait('billing')"), "t|0");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT string_agg(operation || ' ' || status, ', ' ORDER BY seq) FROM sync.change_log"
        ),
        "INSERT synced, INSERT synced, UPDATE synced, DELETE synced"
    );
    // Settled twice is settled once.
    assert_eq!(query_one(&mut c, "SELECT sync.done('billing', '{1,2,3}')"), "0");
    assert_eq!(query_one(&mut c, "SELECT state, detail FROM sync.status"), "running|in sync");
    run(&mut c, "TRUNCATE invoice");
    assert_eq!(take(&mut c, "operation, key"), ["TRUNCATE|"]);
}

#[test]
fn what_fails_is_tried_again_then_waits_and_keeps_its_own_record_only() {
    let (_db, mut c) = prepared(TABLE);
    run(
        &mut c,
        "INSERT INTO invoice VALUES (1, 10), (2, 20); UPDATE invoice SET amount = 12 WHERE id = 1",
    );
    put_down(&mut c, "3");
    for attempt in 1..=3 {
        let taken = take(&mut c, "key, attempt");
        assert!(taken.contains(&format!("1|{attempt}")), "{taken:?}");
        run(
            &mut c,
            "SELECT sync.done('billing', array_agg(id)) FROM sync.deliveries WHERE key = '2' AND state = 'sending'",
        );
        let state = query_one(
            &mut c,
            "SELECT sync.failed('billing', id, 'no such customer') FROM sync.deliveries WHERE state = 'sending'",
        );
        assert_eq!(state, if attempt < 3 { "retrying" } else { "review" });
    }
    // What came later of the record waits behind it.
    assert_eq!(rows(&mut c, "SELECT * FROM sync.take('billing')"), [""; 0]);
    assert_eq!(
        rows(&mut c, "SELECT sync, key, state, attempts, message FROM sync.queue"),
        ["billing|1|review|3|no such customer"]
    );
    assert_eq!(
        query_one(&mut c, "SELECT count(*) FROM sync.errors WHERE message = 'no such customer'"),
        "3"
    );
    assert_eq!(query_one(&mut c, "SELECT state, in_review FROM sync.status"), "needs review|1");
    run(&mut c, "SELECT sync.retry(id) FROM sync.queue");
    assert_eq!(take(&mut c, "key, operation, attempt"), ["1|INSERT|1"]);
    assert_eq!(
        query_one(
            &mut c,
            "SELECT sync.failed('billing', id, 'never', retry => false) FROM sync.queue"
        ),
        "review"
    );
    run(&mut c, "SELECT sync.discard(id, 'not ours') FROM sync.queue");
    assert_eq!(take(&mut c, "key, operation"), ["1|UPDATE"]);
    assert_eq!(
        query_one(&mut c, "SELECT count(*) FROM sync.errors WHERE message = 'discarded: not ours'"),
        "1"
    );
}

#[test]
fn what_an_application_cannot_deal_with_is_skipped_or_stops_the_sync_as_the_document_says() {
    let (_db, mut c) = prepared(TABLE);
    let alter = |c: &mut Client, action: &str| {
        run(
            c,
            &format!(
                r#"SELECT sync.alter_sync('billing', '{{"error_handling": {{"retry_strategy": {{"max_attempts": 1}}, "fallback": {{"action": "{action}"}}}}}}')"#
            ),
        );
    };
    let failed = "SELECT sync.failed('billing', id, 'no such customer') FROM sync.deliveries WHERE state = 'sending'";
    alter(&mut c, "skip");
    run(&mut c, "INSERT INTO invoice VALUES (1, 10); UPDATE invoice SET amount = 11");
    put_down(&mut c, "2");
    assert_eq!(take(&mut c, "key, operation"), ["1|INSERT"]);
    assert_eq!(query_one(&mut c, failed), "skipped");
    assert_eq!(
        rows(
            &mut c,
            "SELECT key, outcome, message, detail FROM sync.errors WHERE outcome IS NOT NULL"
        ),
        ["1|skipped|skipped after the last attempt|no such customer"]
    );
    // It is not lost from what happened to the record, and what came later goes on.
    assert_eq!(
        rows(&mut c, "SELECT operation, status, queue_state FROM sync.change_log ORDER BY seq"),
        ["INSERT|parked|skipped", "UPDATE|sending|"]
    );
    assert_eq!(take(&mut c, "key, operation"), ["1|UPDATE"]);
    alter(&mut c, "pause_sync");
    assert_eq!(query_one(&mut c, failed), "review");
    let why = query_one(&mut c, "SELECT state || ': ' || detail FROM sync.status");
    assert!(why.starts_with("paused: change ") && why.contains("no such customer"), "{why}");
    assert!(refusal(&mut c, "SELECT * FROM sync.take('billing')").starts_with("55000"));
    run(
        &mut c,
        "SELECT sync.discard(id, 'not ours') FROM sync.queue; SELECT sync.resume('billing')",
    );
    assert_eq!(
        rows(&mut c, "SELECT operation, status, queue_state FROM sync.change_log ORDER BY seq"),
        ["INSERT|parked|skipped", "UPDATE|parked|discarded"]
    );
}

/// Whoever has taken a change and is gone does not keep it; two who take at once never have the same.
#[test]
fn leases_end_and_takers_do_not_meet() {
    let (db, mut c) = prepared(TABLE);
    run(&mut c, "INSERT INTO invoice SELECT n, n FROM generate_series(1, 1000) n");
    put_down(&mut c, "1000");
    let taken = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut c = db.connect();
                loop {
                    let mine = rows(&mut c, "SELECT id FROM sync.take('billing', 37)");
                    if mine.is_empty() {
                        break;
                    }
                    run(&mut c, &format!("SELECT sync.done('billing', '{{{}}}')", mine.join(",")));
                    taken.lock().unwrap().extend(mine);
                }
            });
        }
    });
    let mut taken = taken.into_inner().unwrap();
    assert_eq!(taken.len(), 1000);
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 1000);
    run(&mut c, "UPDATE invoice SET amount = 0 WHERE id = 7");
    put_down(&mut c, "1");
    assert_eq!(rows(&mut c, "SELECT key FROM sync.take('billing', lease => '300ms')"), ["7"]);
    assert_eq!(rows(&mut c, "SELECT key FROM sync.take('billing')"), [""; 0]);
    becomes(&db, &mut c, "SELECT key FROM sync.take('billing')", "7");
}

/// Nobody listens, the sync is paused, the server crashes, other syncs write: all of it is there.
#[test]
fn nothing_is_missed_while_nobody_listens() {
    let (db, mut c) = prepared(&format!(
        r#"{TABLE} CREATE TABLE source (id int PRIMARY KEY, amount int);
           SELECT sync.create_sync('import', '{{"source": "source", "target": "invoice"}}');"#
    ));
    run(&mut c, "SELECT sync.pause('billing'); INSERT INTO source VALUES (1, 1)");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.deliveries", "1");
    assert!(refusal(&mut c, "SELECT * FROM sync.take('billing')").contains("is paused"));
    run(&mut c, "SELECT sync.resume('billing'); LISTEN \"sync.public\"");
    run(&mut c, "INSERT INTO invoice (id) VALUES (2)");
    becomes(
        &db,
        &mut c,
        "SELECT string_agg(key || ' ' || origin, ', ' ORDER BY id) FROM sync.deliveries",
        "1 import, 2 user",
    );
    // A change that is rolled back is none, and one in a transaction of its own place comes when it is committed.
    run(
        &mut c,
        "BEGIN; INSERT INTO invoice (id) VALUES (3); ROLLBACK; BEGIN; INSERT INTO invoice (id) VALUES (4); SAVEPOINT s; INSERT INTO invoice (id) VALUES (5); ROLLBACK TO s; COMMIT",
    );
    becomes(&db, &mut c, "SELECT string_agg(key, ' ' ORDER BY id) FROM sync.deliveries", "1 2 4");
    for (call, said) in [
        ("sync.take('import')", "42809 sync \"import\" has no changes to take"),
        ("sync.take('billing', 0)", "0 changes for 00:05:00 cannot be taken"),
        ("sync.failed('billing', 0, 'x')", "change 0 has not been taken from sync \"billing\""),
        (
            r#"sync.create_sync('b', '{"source": "invoice", "target": {"type": "application", "object": "x"}}')"#,
            "\"target.object\" contradicts \"target.type\"",
        ),
        (
            r#"sync.create_sync('b', '{"source": "invoice", "target": {"type": "application"}, "match_on": ["id"]}')"#,
            "\"match_on\" means nothing for an application",
        ),
        (
            r#"sync.create_sync('b', '{"source": "invoice", "target": {"type": "application"}, "include_fields": ["nope"]}')"#,
            "column \"nope\" of public.invoice does not exist",
        ),
    ] {
        let refused = refusal(&mut c, &format!("SELECT * FROM {call}"));
        assert!(refused.contains(said), "{refused}");
    }
    run(
        &mut c,
        r#"SELECT sync.alter_sync('billing', '{"include_fields": ["amount"], "exclude_fields": null}')"#,
    );
    run(
        &mut c,
        "UPDATE invoice SET note = 'unseen' WHERE id = 4; UPDATE invoice SET amount = 5 WHERE id = 4",
    );
    becomes(
        &db,
        &mut c,
        "SELECT new FROM sync.deliveries WHERE operation = 'UPDATE'",
        r#"{"id": 4, "amount": 5}"#,
    );
    run(&mut c, "SELECT sync.drop_sync('billing')");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._delivery"), "0");
}
