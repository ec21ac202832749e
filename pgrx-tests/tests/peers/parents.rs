//! P7: parents before children, across the syncs of a database; children first when they go.

use pgrx_tests::{query_one, rows, run};

use super::{becomes, prepared, settle, synced};

const FAMILY: &str = r#"
    CREATE TABLE pa (id int PRIMARY KEY, v text); CREATE TABLE ca (id int PRIMARY KEY, p int, v text);
    CREATE TABLE pb (id int PRIMARY KEY, v text);
    CREATE TABLE cb (id int PRIMARY KEY, p int NOT NULL REFERENCES pb, v text);"#;
const CHILDREN: &str =
    r#"SELECT sync.create_sync('children', '{"source": "ca", "target": "cb"}');"#;
const PARENTS: &str = r#"SELECT sync.create_sync('parents', '{"source": "pa", "target": "pb"}');"#;

#[test]
fn a_child_waits_for_its_parent_and_settles_by_itself() {
    let (db, mut c) = prepared(&format!("{FAMILY} {CHILDREN} {PARENTS}"));
    run(&mut c, "INSERT INTO ca VALUES (10, 1, 'early'), (20, 2, 'early')");
    assert_eq!(settle(&mut c, "children"), 2);
    assert_eq!(
        rows(&mut c, "SELECT key, state, sqlstate FROM sync.queue ORDER BY key"),
        ["10|waiting for parent|23503", "20|waiting for parent|23503"]
    );
    assert_eq!(
        query_one(&mut c, "SELECT state FROM sync.status WHERE sync = 'children'"),
        "retrying"
    );
    run(&mut c, "INSERT INTO pa VALUES (1, 'late')");
    synced(&mut c, "parents");
    becomes(&db, &mut c, "SELECT id FROM cb", "10");
    becomes(&db, &mut c, "SELECT key, attempts FROM sync.queue", "20|0");
}

/// The sync of the children is older, so it is served first.
#[test]
fn parents_and_children_written_together_arrive_together() {
    let (db, mut c) = prepared(&format!("{FAMILY} {CHILDREN} {PARENTS}"));
    run(
        &mut c,
        "BEGIN; INSERT INTO pa SELECT i, 'p' FROM generate_series(1, 300) i;
                INSERT INTO ca SELECT i, i, 'c' FROM generate_series(1, 300) i; COMMIT",
    );
    becomes(&db, &mut c, "SELECT count(*) FROM cb", "300");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue", "0");
    run(&mut c, "BEGIN; DELETE FROM ca WHERE id <= 50; DELETE FROM pa WHERE id <= 50; COMMIT");
    becomes(&db, &mut c, "SELECT count(*), (SELECT count(*) FROM cb) FROM pb", "250|250");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue", "0");
}

/// Here the parents' sync is served first and finds the children still there.
#[test]
fn a_parent_that_goes_waits_for_its_children_to_go() {
    let (db, mut c) = prepared(&format!("{FAMILY} {PARENTS} {CHILDREN}"));
    run(
        &mut c,
        "INSERT INTO pa VALUES (1, 'p'), (2, 'p'); INSERT INTO ca VALUES (10, 1, 'c'), (11, 1, 'c'), (20, 2, 'c')",
    );
    synced(&mut c, "parents");
    synced(&mut c, "children");
    run(&mut c, "BEGIN; DELETE FROM ca WHERE p = 1; DELETE FROM pa WHERE id = 1; COMMIT");
    becomes(&db, &mut c, "SELECT string_agg(id::text, ',') FROM pb", "2");
    becomes(&db, &mut c, "SELECT string_agg(id::text, ',') FROM cb", "20");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue", "0");
}

/// A table that refers to itself.
#[test]
fn a_tree_in_one_table_is_built_and_taken_down() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, boss int); CREATE TABLE b (id int PRIMARY KEY, boss int REFERENCES b);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}');"#,
    );
    run(
        &mut c,
        "BEGIN; INSERT INTO a VALUES (3, 2); INSERT INTO a VALUES (2, 1); INSERT INTO a VALUES (1, NULL); COMMIT",
    );
    becomes(&db, &mut c, "SELECT count(*) FROM b", "3");
    run(&mut c, "DELETE FROM a");
    becomes(&db, &mut c, "SELECT count(*) FROM b", "0");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue", "0");
}

/// Whoever reads the target sees all of a transaction, or nothing of it.
#[test]
fn a_transaction_of_many_rows_arrives_as_one() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}', '{"performance_settings": {"batch_size": 10}}');"#,
    );
    run(&mut c, "INSERT INTO a SELECT n, 0 FROM generate_series(1, 2000) n");
    synced(&mut c, "s");
    let done = std::sync::atomic::AtomicBool::new(false);
    let seen = std::thread::scope(|threads| {
        let looking = threads.spawn(|| {
            let mut c = db.connect();
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                seen.insert(query_one(&mut c, "SELECT min(v) = max(v) FROM b"));
            }
            seen
        });
        for _ in 0..10 {
            run(
                &mut c,
                "BEGIN; UPDATE a SET v = v + 1 WHERE id <= 1000; UPDATE a SET v = v + 1 WHERE id > 1000; COMMIT",
            );
            synced(&mut c, "s");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        looking.join().unwrap()
    });
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["t"]);
    assert_eq!(query_one(&mut c, "SELECT max(v) FROM b"), "10");
}
