//! What `sync.grant` is enough for, and what it is not.

use super::role;
use crate::capture::{equal, one_way, peer, settle};
use pgrx_tests::{db, query_one, refusal, rows, run};

const PIECE: &str = r#"{"source": {"table": "own.a"}, "target": {"table": "own.b"}}"#;

/// An administrator of syncs is no superuser, and needs nothing but the grant and tables of his own.
#[test]
fn an_admin_does_everything_with_tables_of_his_own() {
    let db = db();
    let mut client = db.connect();
    let admin = role(&db, &mut client, "admin");
    run(&mut client, &format!("CREATE SCHEMA own AUTHORIZATION {admin}"));
    let mut own = db.connect_as(&admin);
    run(
        &mut own,
        "CREATE TABLE own.a (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE own.a_1 PARTITION OF own.a FOR VALUES FROM (0) TO (100); CREATE TABLE own.b (id int PRIMARY KEY, v text); CREATE TABLE own.c (id int PRIMARY KEY, v text); INSERT INTO own.a VALUES (1, 'x')",
    );
    assert!(
        refusal(&mut own, &format!("SELECT sync.create_sync('s', '{PIECE}')")).starts_with("42501")
    );
    run(&mut client, &format!("SELECT sync.\"grant\"('{admin}', 'admin')"));
    peer(&mut own, "s", "own.a", "own.b", r#"{"sync_type": "bidirectional"}"#);
    equal(&mut own, "s", "own.a", "own.b");
    run(&mut own, "INSERT INTO own.a VALUES (2, 'y')");
    equal(&mut own, "s", "own.a", "own.b");
    run(
        &mut own,
        "SELECT sync.alter_sync('s', '{\"performance_settings\": {\"batch_size\": 10}}')",
    );
    assert_eq!(
        query_one(&mut own, "SELECT sync.show('s')->'performance_settings'->'batch_size'"),
        "10"
    );
    run(&mut own, "SELECT sync.pause('s')");
    run(&mut own, "UPDATE own.b SET v = 'z' WHERE id = 2");
    run(&mut own, "SELECT sync.resume('s')");
    assert_eq!(equal(&mut own, "s", "own.a", "own.b"), ["(1,x)", "(2,z)"]);
    assert!(!rows(&mut own, "SELECT * FROM sync.trace('s', '2')").is_empty());
    for view in ["status", "change_log", "queue", "errors", "conflicts", "gaps", "progress"] {
        rows(&mut own, &format!("SELECT * FROM sync.{view}"));
    }
    assert!(rows(&mut own, "SELECT what FROM sync.doctor() WHERE NOT ok AND what IN ('worker', 'syncs', 'capture triggers')").is_empty());
    run(&mut own, "SELECT * FROM sync.register_table('own.c', object => 'own.a')");
    settle(&mut own, "own.c");
    assert_eq!(rows(&mut own, "SELECT id FROM own.c ORDER BY 1"), ["1", "2"]);
    run(
        &mut own,
        "SELECT sync.pause_all(); SELECT sync.drop_sync('s'); SELECT sync.drop_sync('own.c')",
    );
    assert_eq!(
        query_one(&mut client, "SELECT count(*) FROM pg_trigger WHERE tgname ~ '!sync'"),
        "0"
    );
    run(&mut client, &format!("DROP OWNED BY {admin} CASCADE"));
}

/// A record in the queue is its owner's to retry and to discard.
#[test]
fn an_admin_may_call_whatever_is_public() {
    let db = db();
    let mut c = db.connect();
    let admin = role(&db, &mut c, "admin");
    run(&mut c, &format!("SELECT sync.\"grant\"('{admin}')"));
    let lacking = format!(
        "SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'sync'::regnamespace AND p.proname !~ '^_'
            AND NOT has_function_privilege('{admin}', p.oid, 'EXECUTE')"
    );
    assert_eq!(rows(&mut c, &lacking), ["sync.\"grant\"(regrole,text)"]);
}

#[test]
fn an_admin_settles_his_own_queue() {
    let db = db();
    let mut client = db.connect();
    let admin = role(&db, &mut client, "admin");
    run(
        &mut client,
        &format!("CREATE SCHEMA own AUTHORIZATION {admin}; SELECT sync.\"grant\"('{admin}')"),
    );
    let mut own = db.connect_as(&admin);
    run(
        &mut own,
        "CREATE TABLE own.a (id int PRIMARY KEY, v text); CREATE TABLE own.b (id int PRIMARY KEY, v text CHECK (v <> 'bad'))",
    );
    one_way(&mut own, "s", "own.a", "own.b");
    // The first load is through: it would take up the record that is discarded.
    settle(&mut own, "s");
    run(&mut own, "INSERT INTO own.a VALUES (1, 'bad'), (2, 'bad'), (3, 'good')");
    db.wait_until("two are queued", || {
        query_one(&mut own, "SELECT count(*) FROM sync.queue") == "2"
    });
    // Another one's queue he neither sees to nor is told of.
    let stranger = role(&db, &mut client, "stranger");
    run(&mut client, &format!("SELECT sync.\"grant\"('{stranger}')"));
    let mut other = db.connect_as(&stranger);
    let id = query_one(&mut own, "SELECT min(id) FROM sync.queue");
    assert_eq!(query_one(&mut other, "SELECT sync.retry_all(), sync.discard_all('x')"), "0|0");
    for call in [
        format!("sync.retry({id})"),
        format!(r#"sync.retry({id}, set => '{{"v": "x"}}')"#),
        format!("sync.discard({id}, 'x')"),
        "sync.retry_all('s')".to_owned(),
        "sync.discard_all('x', 's')".to_owned(),
        "sync.index_recommendations('s')".to_owned(),
        "sync.preview('s', '1')".to_owned(),
    ] {
        let text = refusal(&mut other, &format!("SELECT {call}"));
        assert!(text.starts_with("42501"), "{call}: {text}");
    }
    assert_eq!(rows(&mut own, "SELECT v FROM own.a ORDER BY id"), ["bad", "bad", "good"]);
    run(&mut client, &format!("DROP OWNED BY {stranger} CASCADE"));
    run(&mut own, "SELECT sync.discard((SELECT id FROM sync.queue WHERE key = '2'), 'not wanted')");
    run(&mut own, "ALTER TABLE own.b DROP CONSTRAINT b_v_check");
    run(&mut own, "SELECT sync.retry((SELECT id FROM sync.queue WHERE key = '1'))");
    settle(&mut own, "s");
    assert_eq!(rows(&mut own, "SELECT id FROM own.b ORDER BY 1"), ["1", "3"]);
    run(&mut client, &format!("SELECT sync.drop_sync('s'); DROP OWNED BY {admin} CASCADE"));
}

/// An expression is its owner's code: who only asks about a sync, a superuser for one, must not run it as himself.
#[test]
fn an_expression_is_run_as_the_owner_of_its_sync_whoever_asks() {
    let db = db();
    let mut client = db.connect();
    let admin = role(&db, &mut client, "planter");
    run(
        &mut client,
        &format!("CREATE SCHEMA own AUTHORIZATION {admin}; SELECT sync.\"grant\"('{admin}')"),
    );
    let mut own = db.connect_as(&admin);
    // The planner evaluates what is immutable and has a constant; null is one.
    run(
        &mut own,
        r#"CREATE TABLE own.a (id int PRIMARY KEY, v text); CREATE TABLE own.b (id int PRIMARY KEY, v text);
           INSERT INTO own.a VALUES (1, 'x');
           CREATE FUNCTION own.f(value text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN RAISE EXCEPTION 'run as %', current_user; END IF;
             RETURN value; END $$;
           SET search_path = own;
           SELECT sync.create_sync('s', '{"source": "own.a", "target": "own.b", "performance_settings": {"index_recommendation": true},
             "field_mappings": [{"source": "id", "target": "id"}, {"source": "v", "target": "v", "transformation": "f(v)"}],
             "match_on": [{"source": "v", "target": "v", "expression": "f(value)"}]}')"#,
    );
    settle(&mut own, "s");
    let advice = "CREATE INDEX CONCURRENTLY ON own.b ((f(v)))";
    for c in [&mut client, &mut own] {
        let ask = "SELECT statement FROM sync.index_recommendations()";
        assert_eq!(rows(c, ask), [advice]);
        let ask = "SELECT remedy FROM sync.doctor() WHERE what = 'indexes'";
        assert_eq!(rows(c, ask), [advice]);
        let ask = "SELECT field, arrives FROM sync.preview('s', '1') WHERE field = 'v'";
        assert_eq!(rows(c, ask), ["v|x"]);
    }
    // The index is an expression too, and runs with each write of the table.
    let other = "ALTER TABLE own.b OWNER TO postgres; GRANT ALL ON own.b TO ";
    run(&mut client, &format!("{other}{admin}"));
    let text =
        refusal(&mut client, "SELECT * FROM sync.index_recommendations(create_them => true)");
    assert!(text.starts_with("42501") && text.contains("owner of table b"), "{text}");
    run(&mut client, &format!("ALTER TABLE own.b OWNER TO {admin}"));
    let make = "SELECT statement, created FROM sync.index_recommendations(create_them => true)";
    assert_eq!(rows(&mut client, make), [format!("{advice}|t")]);
    run(&mut client, &format!("SELECT sync.drop_sync('s'); DROP OWNED BY {admin} CASCADE"));
}

#[test]
fn a_monitor_looks_and_changes_nothing() {
    let db = db();
    let mut client = db.connect();
    let monitor = role(&db, &mut client, "monitor");
    run(
        &mut client,
        &format!(
            "SELECT sync.\"grant\"('{monitor}', 'monitor'); CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)"
        ),
    );
    one_way(&mut client, "s", "public.a", "public.b");
    run(&mut client, "INSERT INTO a VALUES (1)");
    settle(&mut client, "s");
    let mut other = db.connect_as(&monitor);
    for look in [
        "status",
        "change_log",
        "queue",
        "errors",
        "conflicts",
        "gaps",
        "progress",
        "doctor()",
        "trace('s', '1')",
    ] {
        rows(&mut other, &format!("SELECT * FROM sync.{look}"));
    }
    for forbidden in [
        "SELECT sync.pause('s')",
        "SELECT sync.pause_all()",
        "SELECT sync.drop_sync('s')",
        "SELECT sync.resume('s')",
        "SELECT sync.alter_sync('s', '{}')",
        "SELECT sync.\"grant\"(current_user::regrole)",
        "SELECT * FROM sync._sync",
        "SELECT sync.activate()",
    ] {
        let text = refusal(&mut other, forbidden);
        assert!(text.starts_with("42501"), "{forbidden}: {text}");
    }
    run(&mut client, &format!("DROP OWNED BY {monitor}"));
}

/// P14: syncs that came out of a dump are let go on by whoever may make them.
#[test]
fn an_admin_activates_a_restored_copy_of_his_syncs() {
    let db = db();
    let mut client = db.connect();
    let admin = role(&db, &mut client, "activating");
    run(
        &mut client,
        &format!("CREATE SCHEMA own AUTHORIZATION {admin}; SELECT sync.\"grant\"('{admin}')"),
    );
    let mut own = db.connect_as(&admin);
    run(
        &mut own,
        "CREATE TABLE own.a (id int PRIMARY KEY, v text); CREATE TABLE own.b (id int PRIMARY KEY, v text); INSERT INTO own.a VALUES (1, 'x')",
    );
    one_way(&mut own, "s", "own.a", "own.b");
    equal(&mut own, "s", "own.a", "own.b");
    // As a dump leaves them.
    run(
        &mut client,
        "UPDATE sync._sync SET installation = gen_random_uuid(); DELETE FROM sync._cursor;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sync_ext worker' AND datname = current_database()",
    );
    assert_eq!(query_one(&mut own, "SELECT detail ~ 'came out of a dump' FROM sync.status"), "t");
    run(&mut own, "UPDATE own.a SET v = 'in the copy'");
    run(&mut own, "SELECT sync.activate()");
    assert_eq!(equal(&mut own, "s", "own.a", "own.b"), ["(1,\"in the copy\")"]);
    run(&mut client, &format!("DROP OWNED BY {admin} CASCADE"));
}

/// Two administrators: each has his own syncs.
#[test]
fn a_sync_belongs_to_its_owner() {
    let db = db();
    let mut client = db.connect();
    let (first, second) = (role(&db, &mut client, "first"), role(&db, &mut client, "second"));
    run(
        &mut client,
        &format!(
            "CREATE SCHEMA own AUTHORIZATION {first}; SELECT sync.\"grant\"('{first}'); SELECT sync.\"grant\"('{second}')"
        ),
    );
    let (mut own, mut other) = (db.connect_as(&first), db.connect_as(&second));
    run(
        &mut own,
        "CREATE TABLE own.a (id int PRIMARY KEY, v text); CREATE TABLE own.b (id int PRIMARY KEY, v text CHECK (v <> 'bad'))",
    );
    run(&mut own, &format!("SELECT sync.create_sync('s', '{PIECE}')"));
    run(&mut own, "INSERT INTO own.a VALUES (1, 'bad')");
    db.wait_until("the record is queued", || {
        query_one(&mut own, "SELECT count(*) FROM sync.queue") == "1"
    });
    let id = query_one(&mut own, "SELECT id FROM sync.queue");
    let attempts = [
        "SELECT sync.pause('s')".to_owned(),
        "SELECT sync.resume('s')".into(),
        "SELECT sync.alter_sync('s', '{}')".into(),
        "SELECT sync.drop_sync('s')".into(),
        "SELECT sync.show('s')".into(),
        "SELECT sync.wait('s')".into(),
        format!("SELECT sync.retry({id})"),
        format!("SELECT sync.discard({id}, 'x')"),
        format!("SELECT sync.create_sync('t', '{PIECE}')"),
    ];
    for attempt in attempts {
        let text = refusal(&mut other, &attempt);
        assert!(text.starts_with("42501"), "{attempt}: {text}");
    }
    // The right to write the tables is not the right to capture them.
    run(
        &mut client,
        &format!("GRANT USAGE ON SCHEMA own TO {second}; GRANT ALL ON own.a, own.b TO {second}"),
    );
    let text = refusal(&mut other, &format!("SELECT sync.create_sync('t', '{PIECE}')"));
    assert!(text.starts_with("42501") && text.contains("owner of table own.a"), "{text}");
    assert_eq!(query_one(&mut other, "SELECT key IS NULL, detail IS NULL FROM sync.queue"), "f|f");
    run(&mut client, &format!("REVOKE ALL ON own.a FROM {second}"));
    assert_eq!(query_one(&mut other, "SELECT key IS NULL, detail IS NULL FROM sync.queue"), "t|t");
    // A member of the owner is the owner.
    run(&mut client, &format!("GRANT {first} TO {second}"));
    run(&mut other, "SELECT sync.pause('s'); SELECT sync.drop_sync('s')");
    run(&mut client, &format!("DROP OWNED BY {first}, {second} CASCADE"));
}
