//! Functions of a document that do what they may not, while a sync runs: each parks its record, and the others go on.

use std::time::Duration;

use cluster::postgres::Client;
use cluster::postgres::fallible_iterator::FallibleIterator;
use cluster::{Cluster, Db, Options};
use pgrx_tests::{Shared, query_one, rows, run};

use super::{settle, synced};

/// What the function is told to do, its body, and what the queue says of it: the SQLSTATE, and a part of the message.
type Deed = (&'static str, &'static str, &'static str, &'static str);

const DEEDS: &[Deed] = &[
    ("raise", "RAISE EXCEPTION 'no such luck'", "P0001", "no such luck"),
    (
        "raise as the server",
        "RAISE EXCEPTION 'disk full' USING ERRCODE = '53100'",
        "38000",
        "disk full",
    ),
    ("raise a shutdown", "RAISE EXCEPTION 'bye' USING ERRCODE = '57P01'", "38000", "bye"),
    ("raise a lost right", "RAISE EXCEPTION 'not me' USING ERRCODE = '42501'", "42501", "not me"),
    ("raise a lost table", "RAISE EXCEPTION 'gone' USING ERRCODE = '42P01'", "42P01", "gone"),
    ("another type", "RETURN 'x'", "22P02", "integer"),
    ("write", "INSERT INTO diary VALUES ('was here')", "25006", "read-only"),
    ("write by a query", "PERFORM write_for(session_user)", "25006", "read-only"),
    ("write as somebody else", "PERFORM write_as_definer()", "25006", "read-only"),
    ("execute", "EXECUTE 'DELETE FROM diary'", "25006", "read-only"),
    ("truncate", "TRUNCATE diary", "25006", "read-only"),
    ("make a table", "CREATE TABLE made (x int)", "25006", "read-only"),
    ("make a temporary table", "CREATE TEMP TABLE made (x int)", "25006", "read-only"),
    ("count up", "PERFORM nextval('counter')", "25006", "nextval"),
    ("set a counter", "PERFORM setval('counter', 99)", "25006", "setval"),
    (
        "no capture",
        "PERFORM set_config('sync_ext.capture', 'off', false)",
        "42501",
        "sync_ext.capture",
    ),
    ("lock a row", "PERFORM FROM diary FOR UPDATE", "25006", "read-only"),
    ("commit", "COMMIT", "2D000", "transaction"),
    ("roll back", "ROLLBACK", "2D000", "transaction"),
    ("begin to write", "SET TRANSACTION READ WRITE", "25001", "read-write"),
    (
        "begin to write, told",
        "PERFORM set_config('transaction_read_only', 'off', true)",
        "25001",
        "read-write",
    ),
    ("prepare", "EXECUTE 'PREPARE p AS SELECT 1'", "42501", "security-restricted"),
    ("listen", "LISTEN diary", "42501", "security-restricted"),
    (
        "a cursor that lasts",
        "EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'",
        "42501",
        "security-restricted",
    ),
    ("peek", "PERFORM secret FROM vault.secrets", "42501", "secrets"),
    ("peek at syncs", "PERFORM document FROM sync._sync", "42501", "sync"),
    ("read a file", "PERFORM pg_read_file('postgresql.conf')", "42501", "pg_read_file"),
    ("run a program", "EXECUTE 'COPY diary TO PROGRAM ''true'''", "42501", "superuser"),
    ("end the worker", "PERFORM pg_terminate_backend(pg_backend_pid())", "42501", "terminate"),
    ("cancel the worker", "PERFORM pg_cancel_backend(pg_backend_pid())", "42501", "cancel"),
    ("reset the role", "RESET ROLE", "42501", "security-definer"),
    ("set a role", "SET ROLE postgres", "42501", "security-definer"),
    ("set the session", "SET SESSION AUTHORIZATION postgres", "42501", "security-definer"),
    ("reset the session", "RESET SESSION AUTHORIZATION", "42501", "security-definer"),
    (
        "set a role, told",
        "PERFORM set_config('role', 'postgres', false)",
        "42501",
        "security-definer",
    ),
    (
        "leave the triggers out",
        "PERFORM set_config('session_replication_role', 'replica', false)",
        "42501",
        "session_replication_role",
    ),
    ("go on for ever", "PERFORM again_and_again(1)", "54001", "stack depth"),
    ("want much", "PERFORM repeat('x', 2000000000)", "54000", "too large"),
    ("be slow", "PERFORM pg_sleep(60)", "57014", "timeout"),
    (
        "catch the cancel",
        "LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; END LOOP",
        "57014",
        "cancel",
    ),
    ("spin", "LOOP NULL; END LOOP", "57014", "timeout"),
];

/// What is no business of anybody's, and leaves nothing.
const HARMLESS: &[(&str, &str)] = &[
    (
        "make a large object",
        "BEGIN PERFORM lo_from_bytea(4711, 'x'); EXCEPTION WHEN read_only_sql_transaction THEN NULL; END",
    ),
    ("tell", "PERFORM pg_notify('diary', 'x')"),
    ("lock", "PERFORM pg_advisory_lock(4711)"),
    ("an end of one's own", "SET LOCAL statement_timeout = 1"),
    ("another zone", "PERFORM set_config('TimeZone', 'Asia/Tokyo', false)"),
    ("another path", "PERFORM set_config('search_path', 'pg_temp', false)"),
    ("lock a table", "LOCK TABLE diary IN ACCESS EXCLUSIVE MODE"),
    ("a cursor", "FOR r IN SELECT 1 LOOP NULL; END LOOP"),
    (
        "catch it",
        "BEGIN INSERT INTO diary VALUES ('was here'); EXCEPTION WHEN OTHERS THEN NULL; END",
    ),
];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What a place is tried with where not all of it is.
const SOME: &[&str] = &[
    "raise",
    "raise as the server",
    "write",
    "write as somebody else",
    "count up",
    "peek",
    "commit",
    "begin to write",
    "set a role, told",
    "be slow",
];

/// A database with a role of its own that has the function `deed`, which does what it is told and returns it.
fn prepare(db: &Db<'_>) -> (Client, Client) {
    let name = db.name();
    let mut admin = db.connect();
    run(
        &mut admin,
        &format!(
            "CREATE EXTENSION sync_ext; CREATE ROLE {name} LOGIN; SELECT sync.grant('{name}'); GRANT CREATE ON SCHEMA public TO {name};
             CREATE SCHEMA vault; CREATE TABLE vault.secrets (secret text); CREATE TABLE vault.diary (line text);
             CREATE FUNCTION vault.write() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ INSERT INTO vault.diary VALUES ('was here') $$;
             GRANT USAGE ON SCHEMA vault TO {name};"
        ),
    );
    let cases: String = DEEDS
        .iter()
        .map(|deed| (deed.0, deed.1))
        .chain(HARMLESS.iter().copied())
        .map(|(what, body)| format!("IF what = {} THEN {body}; END IF;\n", quoted(what)))
        .collect();
    let mut owner = db.connect_as(name);
    run(
        &mut owner,
        &format!(
            "CREATE TABLE diary (line text); CREATE SEQUENCE counter;
             CREATE FUNCTION write_for(who text) RETURNS text LANGUAGE sql AS 'INSERT INTO diary VALUES (who) RETURNING line';
             CREATE FUNCTION write_as_definer() RETURNS void LANGUAGE sql AS 'SELECT vault.write()';
             CREATE FUNCTION again_and_again(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN again_and_again(n + 1); END';
             CREATE FUNCTION deed(what text) RETURNS text LANGUAGE plpgsql AS $deed$
               DECLARE r record;
               BEGIN
                 {cases}
                 RETURN what;
               END $deed$;
             CREATE FUNCTION pick(base text, ours text, theirs text) RETURNS text LANGUAGE sql AS 'SELECT deed(base)';
             CREATE TABLE a (id int PRIMARY KEY, what text, n int); CREATE TABLE b (id int PRIMARY KEY, what text, n int, known text);
             CREATE FUNCTION lines(operation text, old a, new a) RETURNS SETOF b LANGUAGE sql AS
               'SELECT new.id, deed(new.what), 1, new.what';
             LISTEN diary;"
        ),
    );
    (admin, owner)
}

/// One row for each deed, and one that does nothing; returns the deeds that are none of a record's business.
fn rows_of(owner: &mut Client, all: bool) -> Vec<(usize, &'static Deed)> {
    let chosen: Vec<_> = DEEDS
        .iter()
        .enumerate()
        .filter(|(_, deed)| all || SOME.contains(&deed.0))
        .map(|(n, deed)| (n + 1, deed))
        .collect();
    let mut values: Vec<String> =
        chosen.iter().map(|(id, deed)| format!("({id}, {})", quoted(deed.0))).collect();
    values.extend(
        HARMLESS
            .iter()
            .enumerate()
            .map(|(n, (what, _))| format!("({}, {})", n + 1001, quoted(what))),
    );
    values.push("(2000, 'nothing')".to_owned());
    run(owner, &format!("INSERT INTO a (id, what) VALUES {}", values.join(", ")));
    chosen
}

/// Each deed has parked its record, with what it raised, and left nothing; the others have arrived.
fn check(admin: &mut Client, owner: &mut Client, deeds: &[(usize, &Deed)], arrived: &str) {
    let parked =
        rows(owner, "SELECT DISTINCT key::int, sqlstate, message FROM sync.queue ORDER BY key");
    let wrong: Vec<String> = deeds
        .iter()
        .filter_map(|(id, (what, _, state, says))| {
            let line = parked.iter().find(|line| line.starts_with(&format!("{id}|")));
            let fits = line.is_some_and(|line| {
                line.starts_with(&format!("{id}|{state}|")) && line.contains(says)
            });
            (!fits).then(|| format!("{what}: {line:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(parked.len(), deeds.len(), "{}", parked.join("\n"));
    let harmless: Vec<String> =
        (1001..).take(HARMLESS.len()).chain([2000]).map(|id| id.to_string()).collect();
    assert_eq!(rows(owner, arrived), harmless);
    for (sql, expected) in [
        ("SELECT count(*) FROM diary", "0"),
        ("SELECT count(*) FROM vault.diary", "0"),
        ("SELECT is_called FROM counter", "f"),
        ("SELECT count(*) FROM pg_largeobject_metadata", "0"),
        ("SELECT count(*) FROM pg_class WHERE relname = 'made'", "0"),
        ("SELECT count(*) FROM pg_locks WHERE objid = 4711 OR mode = 'AccessExclusiveLock'", "0"),
        ("SELECT state FROM sync.status", "needs review"),
    ] {
        assert_eq!(query_one(admin, sql), expected, "{sql}");
    }
    let told = owner.notifications().timeout_iter(Duration::from_millis(10)).count().unwrap();
    assert_eq!(told, 0, "notifications of \"diary\"");
}

#[test]
fn a_function_that_does_what_it_may_not_parks_its_record_and_leaves_nothing() {
    let options = Options::new("misbehaviour").conf("sync_ext.apply_timeout = 300");
    let cluster = Cluster::start_new(Shared::cluster().server(), options).unwrap();
    let once = r#""error_handling": {"retry_strategy": {"max_attempts": 1}}"#;
    let both = r#"{"source": "id", "target": "id"}, {"source": "what", "target": "what"}"#;
    for (place, document) in [
        (
            "transformation",
            r#""field_mappings": [{"source": "id", "target": "id"},
                 {"source": "what", "target": "n", "transformation": "CAST(replace(deed(what), what, '1') AS int)"}]"#
                .to_owned(),
        ),
        ("filter", format!(r#""where": "deed(what) IS NOT NULL", "field_mappings": [{both}]"#)),
        (
            "rule",
            format!(
                r#""validation_rules": [{{"field": "what", "rule": "condition", "condition": "deed(value) = value"}}], "field_mappings": [{both}]"#
            ),
        ),
        (
            "matching",
            format!(
                r#""match_on": [{{"source": "what", "target": "known", "expression": "deed(value)"}}], "field_mappings": [{both}]"#
            ),
        ),
        ("lines", r#""row_function": "lines""#.to_owned()),
    ] {
        let db = cluster.database(place).unwrap();
        let (mut admin, mut owner) = prepare(&db);
        // Something to compare with where rows are looked for.
        run(&mut owner, "INSERT INTO b VALUES (0, 'there already', 1, 'there already')");
        let document = format!(r#"{{"source": "a", "target": "b", {once}, {document}}}"#);
        run(&mut owner, &format!("SELECT sync.create_sync('s', {})", quoted(&document)));
        synced(&mut owner, "s");
        let deeds = rows_of(&mut owner, place == "transformation");
        let parked = settle(&mut owner, "s");
        assert_eq!(parked, deeds.len() as u64, "{place}: {}", super::state_of(&mut owner, "s"));
        check(&mut admin, &mut owner, &deeds, "SELECT id FROM b WHERE id > 0 ORDER BY id");
        // And it goes on.
        run(&mut owner, "INSERT INTO a VALUES (3000, 'nothing')");
        settle(&mut owner, "s");
        assert_eq!(query_one(&mut owner, "SELECT count(*) FROM b WHERE id = 3000"), "1", "{place}");
    }
}

/// A function that decides conflicts is asked where both sides have moved.
#[test]
fn a_function_that_decides_does_no_more_than_that() {
    let options = Options::new("decision").conf("sync_ext.apply_timeout = 300");
    let cluster = Cluster::start_new(Shared::cluster().server(), options).unwrap();
    let db = cluster.database("decision").unwrap();
    let (mut admin, mut owner) = prepare(&db);
    run(
        &mut owner,
        r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
             "error_handling": {"retry_strategy": {"max_attempts": 1}},
             "conflict_resolution": {"strategy": "function", "function": "pick"},
             "field_mappings": [{"source": "id", "target": "id"}, {"source": "what", "target": "what"}]}')"#,
    );
    let deeds = rows_of(&mut owner, false);
    synced(&mut owner, "s");
    run(&mut owner, "SELECT sync.pause('s')");
    run(&mut owner, "UPDATE a SET what = 'mine'");
    run(&mut owner, "UPDATE b SET what = 'yours'");
    run(&mut owner, "SELECT sync.resume('s')");
    settle(&mut owner, "s");
    settle(&mut owner, "s");
    let decided =
        "SELECT id FROM a JOIN b USING (id, what) WHERE what NOT IN ('mine', 'yours') ORDER BY id";
    check(&mut admin, &mut owner, &deeds, decided);
}
