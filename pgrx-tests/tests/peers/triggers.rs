//! A8: triggers, defaults and generated columns of the user's change what was sent. What they make
//! of it is a change like any other and goes back where the sync is two-way.

use pgrx_tests::{query_one, rows, run};

use super::{prepared, rest, settle, synced};

#[test]
fn what_a_before_trigger_makes_of_a_value_goes_back() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := upper(NEW.v); RETURN NEW; END';
           CREATE TRIGGER up BEFORE INSERT OR UPDATE ON b FOR EACH ROW EXECUTE FUNCTION up();
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'loud')");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "TABLE a"), "1|LOUD");
    run(&mut c, "UPDATE a SET v = 'again'");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "TABLE a"), "1|AGAIN");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|AGAIN");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

#[test]
fn what_an_after_trigger_edits_again_goes_back() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text, edits int); CREATE TABLE b (id int PRIMARY KEY, v text, edits int);
           CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN UPDATE b SET edits = COALESCE(NEW.edits, 0) + 1 WHERE id = NEW.id; RETURN NULL; END';
           CREATE TRIGGER again AFTER INSERT OR UPDATE OF v ON b FOR EACH ROW EXECUTE FUNCTION again();
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'one', 0), (2, 'two', 10)");
    rest(&mut c, &["s"]);
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|one|1", "2|two|11"]);
    run(&mut c, "UPDATE a SET v = 'more' WHERE id = 1");
    rest(&mut c, &["s"]);
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|more|2", "2|two|11"]);
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|more|2", "2|two|11"]);
}

#[test]
fn what_a_deferred_trigger_edits_goes_back() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text, stamp text); CREATE TABLE b (id int PRIMARY KEY, v text, stamp text);
           CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN UPDATE b SET stamp = v || '' seen'' WHERE id = NEW.id AND stamp IS DISTINCT FROM v || '' seen''; RETURN NULL; END';
           CREATE CONSTRAINT TRIGGER stamp AFTER INSERT OR UPDATE ON b DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION stamp();
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'x', NULL)");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "TABLE a"), "1|x|x seen");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|x|x seen");
}

#[test]
fn defaults_and_generated_columns_of_the_target_come_back_by_mappings_of_their_own() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, n int, square int, tag text);
           CREATE TABLE b (id int PRIMARY KEY, n int, sq int GENERATED ALWAYS AS (n * n) STORED, tag text DEFAULT 'fresh');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "n", "target": "n"},
             {"source": "square", "target": "sq", "direction": "target_to_source"},
             {"source": "tag", "target": "tag", "direction": "target_to_source"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 5)");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "TABLE a"), "1|5|25|fresh");
    run(&mut c, "UPDATE a SET n = 6");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "TABLE a"), "1|6|36|fresh");
}

#[test]
fn a_trigger_of_the_source_that_writes_another_synced_table_is_followed() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           CREATE TABLE log_a (id serial PRIMARY KEY, line text); CREATE TABLE log_b (id int PRIMARY KEY, line text);
           CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO log_a (line) VALUES (TG_OP || '' '' || COALESCE(NEW.v, OLD.v)); RETURN NULL; END';
           CREATE TRIGGER "0 before capture" AFTER INSERT OR UPDATE OR DELETE ON a FOR EACH ROW EXECUTE FUNCTION note();
           SELECT sync.create_sync('rows', '{"source": "a", "target": "b"}');
           SELECT sync.create_sync('lines', '{"source": "log_a", "target": "log_b"}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'x'); UPDATE a SET v = 'y'; DELETE FROM a");
    synced(&mut c, "rows");
    synced(&mut c, "lines");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "0");
    assert_eq!(
        rows(&mut c, "SELECT line FROM log_b ORDER BY id"),
        ["INSERT x", "UPDATE y", "DELETE y"]
    );
}

/// P12: a trigger that swallows a row is said, not taken for success.
#[test]
fn a_trigger_that_swallows_a_row_parks_it() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF NEW.v = ''bad'' THEN RETURN NULL; END IF; RETURN NEW; END';
           CREATE TRIGGER swallow BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION swallow();
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'good'), (2, 'bad'), (3, 'good')");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "3"]);
    assert_eq!(
        query_one(&mut c, "SELECT key, message FROM sync.queue"),
        "2|a trigger of public.b did not let the row in"
    );
}

/// A foreign key's cascade in the target is a change of the target's own.
#[test]
fn what_a_cascade_deletes_in_the_target_goes_back() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE pa (id int PRIMARY KEY); CREATE TABLE pb (id int PRIMARY KEY);
           CREATE TABLE ca (id int PRIMARY KEY, p int); CREATE TABLE cb (id int PRIMARY KEY, p int REFERENCES pb ON DELETE CASCADE);
           SELECT sync.create_sync('p', '{"source": "pa", "target": "pb", "sync_type": "bidirectional"}');
           SELECT sync.create_sync('c', '{"source": "ca", "target": "cb", "sync_type": "bidirectional"}');
           INSERT INTO pa VALUES (1), (2); INSERT INTO ca VALUES (10, 1), (20, 2);"#,
    );
    rest(&mut c, &["p", "c"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM cb"), "2");
    run(&mut c, "DELETE FROM pa WHERE id = 1");
    rest(&mut c, &["p", "c"]);
    assert_eq!(rows(&mut c, "TABLE cb"), ["20|2"]);
    assert_eq!(rows(&mut c, "TABLE ca"), ["20|2"]);
}
