//! What went wrong in other engines, each under the name it is known by. Most have closer tests elsewhere; here nobody has
//! to look for them.

use cluster::postgres::Client;
use pgrx_tests::{Db, query_one, rows, run};

use super::{becomes, prepared, rest, settle, synced, together};

const PAIR: &str = r#"CREATE TABLE a (id int PRIMARY KEY, v text, w text); CREATE TABLE b (id int PRIMARY KEY, v text, w text);"#;
const TWO_WAY: &str = r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#;

fn pair() -> (Db<'static>, Client) {
    let (db, mut c) = prepared(&format!(
        "{PAIR} INSERT INTO a SELECT n, 'base', 'base' FROM generate_series(1, 20) n; {TWO_WAY}"
    ));
    synced(&mut c, "s");
    (db, c)
}

fn both(c: &mut Client) -> [Vec<String>; 2] {
    ["a", "b"].map(|table| rows(c, &format!("SELECT * FROM {table} ORDER BY id")))
}

/// Heroku Connect: two sides that each answer the other's value with their own, for ever.
#[test]
fn heroku_connect_flip_flop() {
    let (_db, mut c) = pair();
    for n in 0..5 {
        together(
            &mut c,
            &[&format!("UPDATE a SET v = 'a{n}'"), &format!("UPDATE b SET v = 'b{n}'")],
        );
    }
    rest(&mut c, &["s"]);
    let captured = query_one(&mut c, "SELECT last_value FROM sync._log_seq");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(query_one(&mut c, "SELECT last_value FROM sync._log_seq"), captured);
    let [a, b] = both(&mut c);
    assert_eq!(a, b);
    assert_eq!(a[0], "1|b4|base");
}

/// Heroku Connect: an update that was under way brought a deleted record back.
#[test]
fn heroku_connect_revived_delete() {
    let (_db, mut c) = pair();
    run(&mut c, "SELECT sync.pause('s')");
    run(
        &mut c,
        "UPDATE a SET v = 'on its way' WHERE id = 1; DELETE FROM b WHERE id = 2; UPDATE b SET v = 'late' WHERE id = 1; DELETE FROM b WHERE id = 1; DELETE FROM a WHERE id = 1",
    );
    run(&mut c, "SELECT sync.resume('s')");
    rest(&mut c, &["s"]);
    assert_eq!(
        rows(&mut c, "SELECT id FROM a WHERE id < 4 UNION ALL SELECT id FROM b WHERE id < 4"),
        ["3", "3"]
    );
}

/// Heroku Connect: a record deleted and inserted again was taken for the old one, or lost.
#[test]
fn heroku_connect_reinserted_record() {
    let (_db, mut c) = pair();
    run(
        &mut c,
        "BEGIN; DELETE FROM a WHERE id = 1; INSERT INTO a VALUES (1, 'again', NULL); COMMIT",
    );
    run(&mut c, "DELETE FROM a WHERE id = 2");
    synced(&mut c, "s");
    run(&mut c, "INSERT INTO a VALUES (2, 'much later', NULL)");
    run(&mut c, "DELETE FROM b WHERE id = 3; INSERT INTO b VALUES (3, 'from there', NULL)");
    rest(&mut c, &["s"]);
    let [a, b] = both(&mut c);
    assert_eq!(a, b);
    assert_eq!(a[..3], ["1|again|", "2|much later|", "3|from there|"]);
}

/// CockroachDB's LDR and Bucardo: at equal timestamps each side thought itself the later one.
#[test]
fn ldr_and_bucardo_equal_timestamps() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text, at timestamptz); CREATE TABLE b (id int PRIMARY KEY, v text, at timestamptz);
           INSERT INTO a SELECT n, 'base', 'epoch' FROM generate_series(1, 20) n;
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
             "conflict_resolution": {"strategy": "last_write_wins", "timestamp_field": "at"}}');"#,
    );
    synced(&mut c, "s");
    together(
        &mut c,
        &[
            "UPDATE b SET v = 'b' || id, at = '2030-01-01'",
            "UPDATE a SET v = 'a' || id, at = '2030-01-01'",
        ],
    );
    rest(&mut c, &["s"]);
    let [a, b] = both(&mut c);
    assert_eq!(a, b);
    assert!(a.iter().all(|row| row.split('|').nth(1).unwrap().starts_with('a')), "{a:?}");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts WHERE field = 'v'"), "20");
}

/// pglogical: what came from a peer was sent on to it, around and around.
#[test]
fn pglogical_forward_loop() {
    let (_db, mut c) = prepared(&format!(
        r#"{PAIR} CREATE TABLE c (id int PRIMARY KEY, v text, w text);
           SELECT sync.create_sync('ab', '{{"source": "a", "target": "b"}}'); SELECT sync.create_sync('bc', '{{"source": "b", "target": "c"}}');
           SELECT sync.create_sync('ca', '{{"source": "c", "target": "a"}}');"#
    ));
    run(&mut c, "INSERT INTO a VALUES (1, 'x', 'x')");
    rest(&mut c, &["ab", "bc", "ca"]);
    let captured = query_one(&mut c, "SELECT last_value FROM sync._log_seq");
    run(&mut c, "UPDATE b SET v = 'y'");
    rest(&mut c, &["ab", "bc", "ca"]);
    // The edit itself, and one write for each other table.
    assert_eq!(
        query_one(&mut c, &format!("SELECT last_value - {captured} FROM sync._log_seq")),
        "3"
    );
    assert_eq!(
        rows(&mut c, "SELECT v FROM a UNION ALL SELECT v FROM b UNION ALL SELECT v FROM c"),
        ["y"; 3]
    );
}

/// Trigger-based engines: a trigger of the user's that writes a later row of the statement is logged before that row's own
/// change.
#[test]
fn nested_trigger_order() {
    let (_db, mut c) = pair();
    run(
        &mut c,
        "CREATE FUNCTION next_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.id = 1 AND pg_trigger_depth() = 1 THEN UPDATE a SET v = 'by trigger' WHERE id = 2; DELETE FROM a WHERE id = 3; END IF; RETURN NULL; END $$;
         CREATE TRIGGER next_one AFTER UPDATE ON a FOR EACH ROW EXECUTE FUNCTION next_one();
         UPDATE a SET v = 'by statement' WHERE id IN (1, 2, 3)",
    );
    rest(&mut c, &["s"]);
    let [a, b] = both(&mut c);
    assert_eq!(a, b);
    assert_eq!(a[1], "2|by trigger|base");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE id = 3"), "0");
}

/// SymmetricDS, Debezium's sinks and others: one record that is refused stopped everything behind it.
#[test]
fn head_of_line_blocking() {
    let (db, mut c) =
        prepared(&format!("{PAIR} ALTER TABLE b ADD CHECK (v <> 'poison'); {TWO_WAY}"));
    run(
        &mut c,
        "INSERT INTO a SELECT n, CASE WHEN n = 7 THEN 'poison' ELSE 'fine' END, '' FROM generate_series(1, 1000) n",
    );
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "999");
    run(&mut c, "UPDATE a SET w = 'next'");
    becomes(&db, &mut c, "SELECT count(*) FROM b WHERE w = 'next'", "999");
}

/// pg_net: after an error nothing was sent any more until somebody noticed. Spock: a flag that an error had set kept later
/// transactions from being applied.
#[test]
fn pg_net_stall_and_spock_flag_after_an_error() {
    let (db, mut c) = pair();
    run(
        &mut c,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'down'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON b FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    for n in 0..5 {
        run(&mut c, "ALTER TABLE b ENABLE TRIGGER refuse; UPDATE a SET w = w || '.'");
        assert_eq!(settle(&mut c, "s"), 20);
        run(&mut c, &format!("ALTER TABLE b DISABLE TRIGGER refuse; UPDATE a SET v = 'after {n}'"));
        becomes(&db, &mut c, &format!("SELECT count(*) FROM b WHERE v = 'after {n}'"), "20");
        synced(&mut c, "s");
    }
    let [a, b] = both(&mut c);
    assert_eq!(a, b);
}

/// Sequin: changes between the first load and the stream were in neither.
#[test]
fn sequin_backfill_hand_off() {
    let (_db, mut c) = prepared(&format!(
        "{PAIR} INSERT INTO a SELECT n, 'old', '' FROM generate_series(1, 5000) n; {TWO_WAY}"
    ));
    for n in 0..40 {
        run(
            &mut c,
            &format!(
                "UPDATE a SET v = 'new {n}' WHERE id % 40 = {n}; DELETE FROM a WHERE id = {n} * 100; INSERT INTO a VALUES (10000 + {n}, 'late', '')"
            ),
        );
    }
    rest(&mut c, &["s"]);
    let [a, b] = both(&mut c);
    assert_eq!(a.len(), 5001);
    assert!(a == b, "the sides differ");
}

/// Marten, and every cursor that is a number: a transaction that began earlier and commits later was skipped.
#[test]
fn marten_skips_and_commit_order() {
    let (db, mut c) = pair();
    let mut slow = db.connect();
    run(
        &mut slow,
        "BEGIN; UPDATE a SET v = 'slow' WHERE id = 1; SAVEPOINT x; UPDATE a SET v = 'slow' WHERE id = 2; RELEASE x",
    );
    for n in 0..10 {
        run(&mut c, &format!("UPDATE a SET v = 'quick {n}' WHERE id = 3"));
        becomes(&db, &mut c, "SELECT v FROM b WHERE id = 3", &format!("quick {n}"));
    }
    run(&mut slow, "UPDATE a SET v = 'slow' WHERE id = 4; COMMIT");
    becomes(&db, &mut c, "SELECT count(*) FROM b WHERE v = 'slow'", "3");
}

/// SymmetricDS: a number that a rolled-back transaction left out was waited for, twenty minutes long.
#[test]
fn symmetricds_gap_of_numbers() {
    let (db, mut c) = pair();
    for _ in 0..20 {
        run(&mut c, "BEGIN; UPDATE a SET v = 'never'; ROLLBACK");
    }
    let begun = std::time::Instant::now();
    run(&mut c, "UPDATE a SET v = 'at once' WHERE id = 1");
    becomes(&db, &mut c, "SELECT v FROM b WHERE id = 1", "at once");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}

/// PgQ and others: a sequence that hands numbers out in blocks puts them out of order.
#[test]
fn sequence_cache_above_one() {
    let (_db, mut c) = pair();
    assert_eq!(
        query_one(
            &mut c,
            "SELECT cache_size FROM pg_sequences WHERE schemaname = 'sync' AND sequencename = '_log_seq'"
        ),
        "1"
    );
}
