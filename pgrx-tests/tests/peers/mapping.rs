//! Which values travel, which way, and between which types.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, settle, synced};

const SAME: &str = "CREATE TABLE a (id int PRIMARY KEY, name text, note text);
     CREATE TABLE b (id int PRIMARY KEY, name text, note text);";

#[test]
fn a_one_way_sync_carries_inserts_updates_and_deletes_and_nothing_back() {
    let (_db, mut c) = prepared(&format!(
        "{SAME} SELECT sync.create_sync('s', '{{\"source\": \"a\", \"target\": \"b\"}}');"
    ));
    run(&mut c, "INSERT INTO a VALUES (1, 'one', NULL), (2, 'two', 'x'), (3, 'three', '')");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|one|", "2|two|x", "3|three|"]);
    run(&mut c, "UPDATE a SET name = 'ONE' WHERE id = 1; DELETE FROM a WHERE id = 2");
    run(&mut c, "UPDATE b SET name = 'mine' WHERE id = 3");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|ONE|", "3|mine|"]);
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|ONE|", "3|three|"]);
}

/// Deleted and inserted again in one transaction, as some applications save, a row gets what it has from the other side
/// only once more.
#[test]
fn a_row_made_anew_is_given_again_what_it_has_from_the_other_side() {
    let (_db, mut c) = prepared(&format!(
        r#"{SAME} SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "bidirectional", "field_mappings": [
             {{"source": "id", "target": "id"}}, {{"source": "name", "target": "name"}},
             {{"source": "note", "target": "note", "direction": "source_to_target"}}]}}');
           INSERT INTO a VALUES (1, 'one', 'kept'), (2, 'two', 'kept')"#
    ));
    synced(&mut c, "s");
    run(&mut c, "BEGIN; DELETE FROM b WHERE id = 1; INSERT INTO b VALUES (1, 'new'); COMMIT");
    run(&mut c, "UPDATE b SET note = 'mine' WHERE id = 2");
    synced(&mut c, "s");
    for table in ["a", "b"] {
        assert_eq!(
            query_one(
                &mut c,
                &format!("SELECT concat_ws(' ', name, note) FROM {table} WHERE id = 1")
            ),
            "new kept"
        );
    }
    assert_eq!(query_one(&mut c, "SELECT note FROM b WHERE id = 2"), "mine");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

#[test]
fn the_direction_can_run_from_target_to_source() {
    let (_db, mut c) = prepared(&format!(
        "{SAME} INSERT INTO b VALUES (1, 'before', NULL);
         SELECT sync.create_sync('s', '{{\"source\": \"a\", \"target\": \"b\",
            \"source_to_target\": false, \"target_to_source\": true}}');"
    ));
    run(&mut c, "INSERT INTO b VALUES (2, 'after', NULL); INSERT INTO a VALUES (3, 'own', NULL)");
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "SELECT id, name FROM a ORDER BY id"),
        ["1|before", "2|after", "3|own"]
    );
    assert_eq!(rows(&mut c, "SELECT id, name FROM b ORDER BY id"), ["1|before", "2|after"]);
}

#[test]
fn a_two_way_sync_carries_the_changes_of_both_sides() {
    let (_db, mut c) = prepared(&format!(
        "{SAME} SELECT sync.create_sync('s', '{{\"source\": \"a\", \"target\": \"b\", \"sync_type\": \"bidirectional\"}}');"
    ));
    run(&mut c, "INSERT INTO a VALUES (1, 'one', NULL)");
    run(&mut c, "INSERT INTO b VALUES (2, 'two', NULL)");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET name = 'eins' WHERE id = 1; DELETE FROM a WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a"), ["1|eins|"]);
    assert_eq!(rows(&mut c, "TABLE b"), ["1|eins|"]);
}

#[test]
fn names_may_differ_and_unmapped_columns_keep_their_values() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, "First Name" text, secret text DEFAULT 'a');
           CREATE TABLE b (account int PRIMARY KEY, given text, own text DEFAULT 'b');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
             "field_mappings": [{"source": "id", "target": "account"}, {"source": "First Name", "target": "given"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'Ann', 'mine')");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|Ann|b");
    run(&mut c, "UPDATE b SET given = 'Anne', own = 'yours'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE a"), "1|Anne|mine");
}

/// A8, P6: a value that the other side holds less precisely is not taken for an edit of that side.
#[test]
fn columns_of_different_types_are_cast_and_a_narrower_scale_does_not_come_back() {
    let (_db, mut c) = prepared(
        r#"SET timezone = 'America/New_York';
           CREATE TABLE a (id int PRIMARY KEY, n text, code varchar(20), at timestamptz, amount numeric, flag bool, day timestamp);
           CREATE TABLE b (id text PRIMARY KEY, n int, code text, at timestamp, amount numeric(8,2), flag text, day date);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    run(
        &mut c,
        "INSERT INTO a VALUES (1, '42', 'x', '2024-07-01 12:00:00+02', 1.239, true, '2024-07-01 23:30')",
    );
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|42|x|2024-07-01 10:00:00|1.24|true|2024-07-01");
    let seen = query_one(&mut c, "SELECT n, amount, flag, day, at AT TIME ZONE 'UTC' FROM a");
    assert_eq!(seen, "42|1.239|t|2024-07-01 23:30:00|2024-07-01 10:00:00");
    run(&mut c, "UPDATE b SET n = 43, at = '2024-07-02 00:00', amount = 5.5, flag = 'false'");
    synced(&mut c, "s");
    let seen = query_one(&mut c, "SELECT n, amount, flag, day, at AT TIME ZONE 'UTC' FROM a");
    assert_eq!(seen, "43|5.50|f|2024-07-01 23:30:00|2024-07-02 00:00:00");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

/// P12: what does not fit is refused and never cut; everything else goes on.
#[test]
fn a_value_that_does_not_fit_is_refused_and_parks_only_its_key() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, name text, n int8, code bpchar);
           CREATE TABLE b (id int PRIMARY KEY, name varchar(5), n int2, code char(3));
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}');"#,
    );
    run(
        &mut c,
        "INSERT INTO a VALUES (1, 'short', 1, 'abc'), (2, 'too long', 1, 'abc'), (3, 'x', 100000, 'abc'),
                              (4, 'x', 1, 'abcd'), (5, 'fits', 2, 'ab')",
    );
    assert_eq!(settle(&mut c, "s"), 3);
    assert_eq!(rows(&mut c, "SELECT * FROM b ORDER BY id"), ["1|short|1|abc", "5|fits|2|ab "]);
    assert_eq!(
        rows(&mut c, "SELECT key, sqlstate, message FROM sync.queue ORDER BY key"),
        [
            "2|22001|value too long for type character varying(5)",
            "3|22003|smallint out of range",
            "4|22001|value too long for type character(3)"
        ]
    );
    run(&mut c, "UPDATE a SET name = 'five5' WHERE id = 2");
    assert_eq!(settle(&mut c, "s"), 2);
    assert_eq!(query_one(&mut c, "SELECT name FROM b WHERE id = 2"), "five5");
}

#[test]
fn a_key_that_the_target_generates_is_written_back() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, name text, account int);
           CREATE TABLE b (id serial PRIMARY KEY, a_id int UNIQUE, name text);
           SELECT setval('b_id_seq', 500);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional", "field_mappings": [
             {"source": "id", "target": "a_id"}, {"source": "name", "target": "name"},
             {"source": "account", "target": "id", "direction": "target_to_source"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (7, 'seven'), (8, 'eight')");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "SELECT a_id, name, id > 500 FROM b ORDER BY a_id"),
        ["7|seven|t", "8|eight|t"]
    );
    let joined = "SELECT count(*) FROM a JOIN b ON a.account = b.id AND b.a_id = a.id";
    assert_eq!(query_one(&mut c, joined), "2");
    run(&mut c, "UPDATE b SET name = 'SEVEN' WHERE a_id = 7; DELETE FROM a WHERE id = 8");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, name FROM a"), ["7|SEVEN"]);
    assert_eq!(rows(&mut c, "SELECT a_id, name FROM b"), ["7|SEVEN"]);
}

#[test]
fn identity_and_generated_columns_find_their_way() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
           CREATE TABLE b (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, twice int);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    run(&mut c, "INSERT INTO a (n) VALUES (21)");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|21|42");
    run(&mut c, "UPDATE b SET n = 5");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE a"), "1|5|10");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|5|10");
}

#[test]
fn a_changed_key_takes_its_record_along() {
    let (_db, mut c) = prepared(&format!(
        "{SAME} SELECT sync.create_sync('s', '{{\"source\": \"a\", \"target\": \"b\", \"sync_type\": \"bidirectional\",
            \"include_fields\": [\"id\", \"name\"]}}');"
    ));
    run(&mut c, "INSERT INTO a VALUES (1, 'one', NULL)");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET note = 'only here'");
    run(&mut c, "UPDATE a SET id = 10");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "10|one|only here");
    run(&mut c, "UPDATE b SET id = 20, name = 'twenty'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE a"), "20|twenty|");
}

/// A row that waits under its new key is not gone, whoever looks for it under the old one.
#[test]
fn a_new_key_that_is_refused_deletes_nothing() {
    let (_db, mut c) = prepared(&format!(
        "{SAME} SELECT sync.create_sync('s', '{{\"source\": \"a\", \"target\": \"b\", \"sync_type\": \"bidirectional\",
            \"include_fields\": [\"id\", \"name\"]}}'); INSERT INTO a VALUES (1, 'one', NULL)"
    ));
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET note = 'only here'; ALTER TABLE b ADD CHECK (id < 20)");
    run(&mut c, "UPDATE a SET id = 20");
    assert_ne!(settle(&mut c, "s"), 0);
    run(&mut c, "UPDATE a SET id = 30, name = 'thirty'");
    settle(&mut c, "s");
    // All rows of both sides are gone through.
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"where": "true", "target_where": "true"}')"#);
    settle(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b"), ["1|one|only here"]);
    run(&mut c, "UPDATE b SET name = 'edited'");
    settle(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, note FROM b"), ["1|only here"]);
    run(&mut c, "ALTER TABLE b DROP CONSTRAINT b_id_check; SELECT sync.retry_all('s')");
    synced(&mut c, "s");
    synced(&mut c, "s");
    let name = query_one(&mut c, "SELECT name FROM b");
    assert_eq!(rows(&mut c, "TABLE b"), [format!("30|{name}|only here")]);
    assert_eq!(rows(&mut c, "SELECT id, name FROM a"), [format!("30|{name}")]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
}

#[test]
fn what_is_called_alike_travels_beside_what_is_mapped() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, name text, town text, note text, secret text, hint text);
           CREATE TABLE b (id int PRIMARY KEY, title text, name text, town text, note text, secret text);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional", "field_selection": "all",
               "exclude_fields": ["secret"], "field_mappings": [{"source": "name", "target": "title", "transformation": "upper"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'one', 'Rome', 'x', 's')");
    synced(&mut c, "s");
    // The name belongs to the mapping that names it.
    assert_eq!(query_one(&mut c, "TABLE b"), "1|ONE||Rome|x|");
    run(&mut c, "UPDATE b SET town = 'Oslo', name = 'own', secret = 't'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT id, name, town, note, secret FROM a"), "1|one|Oslo|x|s");
    assert_eq!(
        rows(&mut c, "SELECT detail, figure FROM sync.plan('s', '{}') WHERE what = 'advice'"),
        [
            "all fields that are called alike are synced: id, town, note; those that both sides need can be named in \"include_fields\"|3"
        ]
    );
    // One that is added comes along, one that is mapped is so besides, and unmapped it is gone altogether.
    run(
        &mut c,
        "ALTER TABLE a ADD phone text; ALTER TABLE b ADD phone text, ADD memo text; SELECT sync.map_field('s', 'hint', 'memo')",
    );
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET phone = '1', hint = 'y'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT phone, note, memo FROM b"), "1|x|y");
    assert!(
        refusal(&mut c, "SELECT sync.map_field('s', 'note', 'more')").contains("mapped already")
    );
    run(&mut c, "SELECT sync.unmap_field('s', 'memo'), sync.unmap_field('s', 'title')");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT d -> 'field_mappings', d -> 'exclude_fields' FROM sync.show('s') d"
        ),
        r#"|["secret", "name"]"#
    );
    synced(&mut c, "s");
    run(&mut c, "SELECT sync.map_field('s', 'name', 'title'), sync.unmap_field('s', 'title')");
    run(&mut c, "SELECT sync.map_field('s', 'name', 'title')");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT d -> 'field_mappings', d -> 'exclude_fields' FROM sync.show('s') d"
        ),
        r#"[{"source": "name", "target": "title"}]|["secret"]"#
    );
    run(&mut c, "SELECT sync.unmap_field('s', 'title')");
    run(&mut c, "UPDATE a SET name = 'two', hint = 'z', town = 'Bern'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT name, note, memo, town FROM b"), "own|x|y|Bern");
}

#[test]
fn a_table_without_a_key_is_refused_with_the_remedy() {
    let (_db, mut c) = prepared("CREATE TABLE a (id int); CREATE TABLE b (id int PRIMARY KEY);");
    let refused =
        refusal(&mut c, "SELECT sync.create_sync('s', '{\"source\": \"a\", \"target\": \"b\"}')");
    assert_eq!(
        refused,
        "0A000 public.a cannot be synced\n\
         DETAIL: It has no primary key and no other unique index on NOT NULL columns, so its rows cannot be told apart.\n\
         HINT: ALTER TABLE public.a ADD PRIMARY KEY (...);"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._sync"), "0");
}

/// P4, E7: the key that a new record is given on the other side is written back to it. That is no edit: it neither
/// conflicts with a delete that came in between, nor outlives one whose time is not known.
#[test]
fn a_record_that_is_deleted_before_its_key_is_written_back_stays_deleted() {
    let (db, mut client) = prepared(
        r#"CREATE TABLE a (id serial PRIMARY KEY, v text); CREATE TABLE b (id serial PRIMARY KEY, a_id int UNIQUE, v text);
           CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END';
           CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM sync.pause(''s''); RETURN NULL; END';
           CREATE TRIGGER wait BEFORE INSERT ON a FOR EACH ROW WHEN (NEW.v = 'new') EXECUTE FUNCTION wait();
           CREATE TRIGGER halt AFTER INSERT ON a FOR EACH ROW WHEN (NEW.v = 'new') EXECUTE FUNCTION halt();
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
             "performance_settings": {"batch_size": 2}, "field_mappings": [
             {"source": "id", "target": "a_id"}, {"source": "v", "target": "v"}]}')"#,
    );
    run(&mut client, "INSERT INTO b (v) VALUES ('other')");
    synced(&mut client, "s");
    let mut holder = db.connect();
    run(&mut holder, "SELECT pg_advisory_lock(1)");
    run(&mut client, "INSERT INTO b (v) VALUES ('new')");
    let waits = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
                  WHERE l.locktype = 'advisory' AND NOT l.granted";
    super::becomes(&db, &mut client, waits, "1");
    // Edited before it has a partner, with another change between, so that a piece of work ends between the two.
    for edit in
        ["'first' WHERE v = 'new'", "'more' WHERE v = 'other'", "'second' WHERE v = 'first'"]
    {
        run(&mut client, &format!("UPDATE b SET v = {edit}"));
    }
    run(&mut holder, "SELECT pg_advisory_unlock(1)");
    super::becomes(&db, &mut client, "SELECT state FROM sync.status", "paused");
    assert_eq!(rows(&mut client, "SELECT v FROM a ORDER BY id"), ["other", "new"]);
    // The second piece, which is twice as large, ends before the delete.
    for edit in ["'most' WHERE v = 'more'", "'last' WHERE v = 'most'"] {
        run(&mut client, &format!("UPDATE b SET v = {edit}"));
    }
    run(&mut client, "DELETE FROM b WHERE v = 'second'");
    run(&mut client, "SELECT sync.resume('s')");
    synced(&mut client, "s");
    assert_eq!(rows(&mut client, "SELECT v FROM b"), ["last"]);
    assert_eq!(rows(&mut client, "SELECT kind, field FROM sync.conflicts"), Vec::<String>::new());
    assert_eq!(rows(&mut client, "SELECT v FROM a"), ["last"]);
}
