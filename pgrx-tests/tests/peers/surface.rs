//! What people call: making, changing, looking at and ending a sync.

use std::time::Duration;

use pgrx_tests::{query_one, refusal, rows, run};

use super::{becomes, prepared, settle, synced};

const PAIR: &str = "CREATE TABLE a (id int PRIMARY KEY, v text, w text); CREATE TABLE b (id int PRIMARY KEY, v text, w text);";
const CREATE: &str = r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b"}');"#;

#[test]
fn a_document_may_come_in_pieces() {
    let (_db, mut c) = prepared(PAIR);
    let answer = query_one(
        &mut c,
        r#"SELECT sync.create_sync('s', '{"source": {"table": "a"}}', '{"target": {"table": "b"}}',
             '{"sync_settings": {"sync_type": "bidirectional"}}', '{"performance_settings": {"batch_size": 7}}')"#,
    );
    assert_eq!(answer, "sync \"s\" created: public.a <-> public.b, 3 fields");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT sync.show('s') -> 'performance_settings' ->> 'batch_size', sync.show('s') ->> 'sync_type'"
        ),
        "7|bidirectional"
    );
}

#[test]
fn an_added_field_is_filled_in_and_a_removed_one_stays_as_it_is() {
    let (_db, mut c) = prepared(&format!(
        r#"{PAIR} INSERT INTO a VALUES (1, 'v', 'w'), (2, 'v', 'w');
           SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "include_fields": ["id", "v"]}}');"#
    ));
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|v|", "2|v|"]);
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"include_fields": ["id", "v", "w"]}')"#);
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|v|w", "2|v|w"]);
    run(&mut c, "UPDATE a SET w = 'new' WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|v|new", "2|v|w"]);
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"include_fields": null, "exclude_fields": ["v"]}')"#,
    );
    run(&mut c, "UPDATE a SET v = 'alone', w = 'newer'");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|v|newer", "2|v|newer"]);
}

#[test]
fn the_direction_can_be_changed() {
    let (_db, mut c) = prepared(&format!("{PAIR} {CREATE} INSERT INTO a VALUES (1, 'a', 'a');"));
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET v = 'unseen'");
    let answer =
        query_one(&mut c, r#"SELECT sync.alter_sync('s', '{"sync_type": "bidirectional"}')"#);
    assert_eq!(answer, "sync \"s\" changed: public.a <-> public.b, 3 fields");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE a"), query_one(&mut c, "TABLE b"));
    run(&mut c, "UPDATE b SET w = 'seen'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT w FROM a"), "seen");
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"sync_type": "one_way"}')"#);
    run(&mut c, "UPDATE b SET w = 'unseen again'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT w FROM a"), "seen");
    run(&mut c, "UPDATE a SET v = 'goes on'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT v FROM b"), "goes on");
}

#[test]
fn a_paused_sync_captures_and_catches_up() {
    let (_db, mut c) = prepared(&format!("{PAIR} {CREATE}"));
    synced(&mut c, "s");
    run(&mut c, "SELECT sync.pause('s')");
    run(&mut c, "INSERT INTO a VALUES (1, 'x', 'y'); UPDATE a SET v = 'z'");
    assert_eq!(
        query_one(&mut c, "SELECT state, detail FROM sync.status"),
        "paused|changes are captured and wait; SELECT sync.resume(...) to go on"
    );
    let refused = refusal(&mut c, "SELECT sync.wait('s')");
    assert_eq!(
        refused,
        "55000 sync \"s\" is paused\nDETAIL: Nothing of it is settled before it is resumed.\nHINT: SELECT sync.resume('s');"
    );
    assert_eq!(
        rows(&mut c, "SELECT operation, status, origin FROM sync.change_log ORDER BY seq"),
        ["INSERT|pending|user", "UPDATE|pending|user"]
    );
    run(&mut c, "SELECT sync.resume('s')");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|z|y");
    assert_eq!(query_one(&mut c, "SELECT state, detail FROM sync.status"), "running|in sync");
    run(&mut c, "SELECT sync.pause_all()");
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "paused");
}

/// C5: the trigger is not torn out of a table in use, and nothing else of the sync is left.
#[test]
fn a_dropped_sync_leaves_nothing_and_can_be_made_again() {
    let (db, mut c) = prepared(&format!("{PAIR} {CREATE}"));
    run(&mut c, "INSERT INTO a VALUES (1, 'x', NULL), (2, repeat('y', 10), NULL)");
    synced(&mut c, "s");
    run(&mut c, "SELECT sync.drop_sync('s')");
    let left = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!sync%'), (SELECT count(*) FROM sync._capture),
        (SELECT count(*) FROM sync._link), (SELECT count(*) FROM pg_inherits WHERE inhparent = 'sync._link'::regclass),
        (SELECT count(*) FROM sync._sync), (SELECT count(*) FROM sync._cursor), (SELECT count(*) FROM sync._queue),
        (SELECT count(*) FROM sync._load), (SELECT count(*) FROM sync._error), (SELECT count(*) FROM sync._conflict)";
    assert_eq!(query_one(&mut c, left), "0|0|0|0|0|0|0|0|0|0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "2");
    run(&mut c, "UPDATE a SET v = 'changed meanwhile' WHERE id = 1; DELETE FROM a WHERE id = 2");
    run(&mut c, CREATE);
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "changed meanwhile");
    // In use: the trigger stays and does nothing.
    let mut user = db.connect();
    run(&mut user, "BEGIN; INSERT INTO a VALUES (3, 'x', NULL)");
    run(&mut c, "SELECT sync.drop_sync('s')");
    assert_ne!(
        query_one(&mut c, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!sync%'"),
        "0"
    );
    run(&mut user, "COMMIT");
    run(&mut c, "UPDATE a SET v = 'nobody cares' WHERE id = 3");
    run(&mut c, CREATE);
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 3"), "nobody cares");
}

#[test]
fn register_table_syncs_the_fields_of_equal_name() {
    let (_db, mut c) = prepared(
        "CREATE SCHEMA crm; CREATE TABLE crm.account (id int PRIMARY KEY, name text, hidden text); CREATE TABLE accounts (id int PRIMARY KEY, name text);
         INSERT INTO crm.account VALUES (1, 'one');",
    );
    assert_eq!(
        rows(&mut c, "SELECT * FROM sync.register_table('accounts', object => 'crm.account')"),
        ["id|id|integer|pull|", "name|name|text|pull|"]
    );
    synced(&mut c, "public.accounts");
    assert_eq!(query_one(&mut c, "TABLE accounts"), "1|one");
    run(&mut c, "SELECT sync.drop_sync('public.accounts')");
    run(
        &mut c,
        "SELECT * FROM sync.register_table('accounts', object => 'crm.account', direction => 'push', name => 'p')",
    );
    run(&mut c, "INSERT INTO accounts VALUES (2, 'two')");
    synced(&mut c, "p");
    assert_eq!(query_one(&mut c, "SELECT name FROM crm.account WHERE id = 2"), "two");
    for (call, state) in [
        ("sync.register_table('accounts')", "22004"),
        (
            "sync.register_table('accounts', object => 'crm.account', direction => 'sideways')",
            "22023",
        ),
        ("sync.register_table('accounts', connection => 'sf', object => 'Account')", "42704"),
        ("sync.register_table('nothing', object => 'crm.account')", "42P01"),
    ] {
        let refused = refusal(&mut c, &format!("SELECT * FROM {call}"));
        assert!(refused.starts_with(state) && refused.contains("HINT"), "{refused}");
    }
}

#[test]
fn trace_tells_the_whole_story_of_a_record() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v varchar); CREATE TABLE b (id int PRIMARY KEY, v varchar(5));
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');
           INSERT INTO a VALUES (1, 'one'), (2, 'other');"#,
    );
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET v = 'much too long' WHERE id = 1");
    settle(&mut c, "s");
    run(&mut c, "UPDATE a SET v = 'fits' WHERE id = 1");
    synced(&mut c, "s");
    let story = rows(&mut c, "SELECT what, \"table\" FROM sync.trace('s', '1')");
    assert_eq!(story.first().map(String::as_str), Some("INSERT synced|public.a"), "{story:?}");
    assert!(story.contains(&"UPDATE parked|public.a".to_owned()), "{story:?}");
    assert!(story.iter().any(|line| line.starts_with("failed attempt|")), "{story:?}");
    assert_eq!(story.last().map(String::as_str), Some("UPDATE synced|public.a"), "{story:?}");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT old ->> 'v', new FROM sync.trace('s', '1') WHERE what = 'UPDATE synced'"
        ),
        r#"much too long|{"v": "fits", "id": 1}"#
    );
}

#[test]
fn wait_says_whether_and_how_much_is_parked() {
    let (db, mut c) = prepared(&format!("{PAIR} {CREATE} ALTER TABLE b ADD CHECK (v <> 'bad');"));
    run(&mut c, "INSERT INTO a VALUES (1, 'bad', NULL), (2, 'good', NULL), (3, 'bad', NULL)");
    assert_eq!(settle(&mut c, "s"), 2);
    // It does not wait for what its own transaction has written, which nobody can see.
    let refused =
        refusal(&mut c, "BEGIN; INSERT INTO a VALUES (4, 'x', NULL); SELECT sync.wait('s')");
    assert!(refused.starts_with("25001"), "{refused}");
    run(&mut c, "ROLLBACK");
    // Time that is up is no error.
    let mut user = db.connect();
    run(&mut user, "BEGIN; LOCK TABLE b IN ACCESS EXCLUSIVE MODE");
    run(&mut c, "UPDATE a SET w = 'held up' WHERE id = 2");
    let begun = std::time::Instant::now();
    assert_eq!(query_one(&mut c, "SELECT settled FROM sync.wait('s', '300ms')"), "f");
    assert!(begun.elapsed() < Duration::from_secs(10));
    run(&mut user, "COMMIT");
    becomes(&db, &mut c, "SELECT w FROM b WHERE id = 2", "held up");
}

#[test]
fn the_doctor_finds_nothing_where_all_is_well() {
    let (_db, mut c) = prepared(&format!("{PAIR} {CREATE}"));
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "SELECT what, detail FROM sync.doctor() WHERE NOT ok"),
        Vec::<String>::new()
    );
    run(
        &mut c,
        r#"CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER " first" AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION nothing();
           ALTER SEQUENCE sync._log_seq CACHE 10;"#,
    );
    assert_eq!(
        rows(&mut c, "SELECT what FROM sync.doctor() WHERE NOT ok ORDER BY what"),
        ["sequence cache", "trigger order"]
    );
}
