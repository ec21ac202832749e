//! B1: what the user's code leaves behind in the worker's session does not reach the next piece of
//! work, which may be another owner's.

use pgrx_tests::{query_one, rows, run};

use super::{prepared, settle, synced};

#[test]
fn settings_locks_temporary_tables_and_prepared_statements_do_not_leak() {
    let (_db, mut c) = prepared(
        r#"CREATE SCHEMA evil;
           CREATE TABLE evil.witness (line text); CREATE TABLE witness (line text);
           CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           CREATE TABLE a2 (id int PRIMARY KEY, v text); CREATE TABLE b2 (id int PRIMARY KEY, v text);
           CREATE FUNCTION mess() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             SET search_path = evil, public; SET timezone = 'Asia/Tokyo'; SET work_mem = '77MB'; SET my.own = 'left';
             SET statement_timeout = '1ms'; SET lock_timeout = '1ms';
             PERFORM pg_advisory_lock(4711);
             CREATE TEMP TABLE IF NOT EXISTS witness (line text);
             IF NOT EXISTS (SELECT FROM pg_prepared_statements) THEN PREPARE left_behind AS SELECT 1; END IF;
             RETURN NEW; END $$;
           CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO witness VALUES (concat_ws(' ', current_setting('timezone'), current_setting('work_mem'),
               NULLIF(current_setting('my.own', true), ''), current_setting('statement_timeout'), current_setting('lock_timeout'),
               (SELECT count(*) FROM pg_prepared_statements),
               (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711)));
             RETURN NEW; END $$;
           CREATE TRIGGER mess BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION mess();
           CREATE CONSTRAINT TRIGGER mess_again AFTER INSERT ON b DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.v = 'deferred') EXECUTE FUNCTION mess();
           CREATE TRIGGER look BEFORE INSERT ON b2 FOR EACH ROW EXECUTE FUNCTION look();
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}');
           SELECT sync.create_sync('t', '{"source": "a2", "target": "b2"}');"#,
    );
    run(&mut c, "INSERT INTO a2 VALUES (0, 'before')");
    synced(&mut c, "t");
    for (n, v) in [(1, "plain"), (2, "deferred")] {
        run(&mut c, &format!("INSERT INTO a VALUES ({n}, '{v}')"));
        settle(&mut c, "s");
        run(&mut c, &format!("INSERT INTO a2 VALUES ({n}, 'x')"));
        synced(&mut c, "t");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM evil.witness"), "0");
    let lines = rows(&mut c, "SELECT line FROM witness");
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[0], lines[2]);
    assert!(lines[0].starts_with("UTC 4MB"), "{lines:?}");
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "2"]);
}

/// The path that was in force when the sync was made is the one its triggers see, whenever they fire.
#[test]
fn triggers_see_the_search_path_of_the_sync() {
    let (_db, mut c) = prepared(
        r#"CREATE SCHEMA app; SET search_path = app, public;
           CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE paths (path text);
           CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO paths VALUES (TG_NAME || ' ' || current_setting('search_path')); RETURN NEW; END $$;
           CREATE TRIGGER now AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION note();
           CREATE CONSTRAINT TRIGGER later AFTER INSERT ON b DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}'); RESET search_path;"#,
    );
    run(&mut c, "INSERT INTO app.a VALUES (1)");
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "SELECT path FROM app.paths ORDER BY 1"),
        ["later app, public", "now app, public"]
    );
}
