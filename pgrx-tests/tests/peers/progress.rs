//! Going through tables: how far it is, and how it is stopped.

use pgrx_tests::{query_one, rows, run};

use super::{prepared, synced};

#[test]
fn a_load_says_how_far_it_is_and_can_be_stopped_for_good() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (LIKE a INCLUDING ALL);
           INSERT INTO a SELECT i, 'before' FROM generate_series(1, 1000) i; ANALYZE a;"#,
    );
    // A writer that began before the sync keeps its load from beginning.
    let mut writer = db.connect();
    run(&mut writer, "BEGIN; INSERT INTO a VALUES (2000, 'open')");
    run(
        &mut c,
        r#"SET lock_timeout = '5s'; SELECT sync.create_sync('s', '{"source": "b", "target": "a"}'); SELECT sync.drop_sync('s')"#,
    );
    run(&mut writer, "COMMIT");
    run(
        &mut c,
        r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b"}'); SELECT sync.pause('s')"#,
    );
    let found = rows(
        &mut c,
        r#"SELECT "table", phase, done, expected, bytes, rows_per_second, ends_in FROM sync.progress"#,
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("a|comparing rows|") && found[0].contains("|1000|"), "{found:?}");
    assert_eq!(query_one(&mut c, "SELECT sync.cancel_load('s')"), "1");
    assert_eq!(query_one(&mut c, "SELECT sync.cancel_load('s')"), "0");
    run(&mut c, "SELECT sync.resume('s')");
    synced(&mut c, "s");
    let brought: u32 = query_one(&mut c, "SELECT count(*) FROM b").parse().unwrap();
    run(&mut c, "UPDATE a SET v = 'after' WHERE id = 1000");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1000"), "after");
    assert!(rows(&mut c, "SELECT sync FROM sync.progress").is_empty());
    // What was left out is brought by a repair.
    run(&mut c, "SELECT sync.repair('s')");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "1001", "{brought} before");
}
