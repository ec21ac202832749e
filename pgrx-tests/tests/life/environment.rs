//! C11: settings of the database's reach its worker, and change nothing.

use pgrx_tests::{Shared, db, query_one, refusal, run};

use super::{settle, worker, workers};

#[test]
fn settings_of_the_database_do_not_change_what_the_worker_does() {
    let db = db();
    let mut client = db.connect();
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "default_transaction_deferrable = on",
        "DateStyle = 'German'",
        "IntervalStyle = 'sql_standard'",
        "TimeZone = 'Asia/Tokyo'",
        "search_path = 'nowhere'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "row_security = on",
        "session_replication_role = 'replica'",
        "statement_timeout = '1ms'",
        "synchronous_commit = on",
    ] {
        run(&mut client, &format!("ALTER DATABASE {} SET {setting}", db.name()));
    }
    let before = worker(db.cluster(), db.name());
    run(&mut client, &format!("SELECT pg_terminate_backend({before})"));
    run(
        &mut client,
        r#"CREATE SCHEMA a; CREATE SCHEMA b;
           CREATE TABLE a.t (id int PRIMARY KEY, v text, d date, at timestamptz, f float8, i interval, y bytea);
           CREATE TABLE b.t (id int PRIMARY KEY, v text, d text, at timestamp, f text, i text, y text);
           CREATE FUNCTION b.upper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := upper(NEW.v); RETURN NEW; END $$;
           CREATE TRIGGER upper BEFORE INSERT OR UPDATE ON b.t FOR EACH ROW EXECUTE FUNCTION b.upper();
           SELECT sync.create_sync('t', '{"source": {"table": "a.t"}, "target": {"table": "b.t"},
             "field_mappings": [{"source": "id", "target": "id"}, {"source": "v", "target": "v"},
               {"source": "d", "target": "d", "transformation": "d::text"},
               {"source": "at", "target": "at"},
               {"source": "f", "target": "f", "transformation": "f::text"},
               {"source": "i", "target": "i", "transformation": "i::text"},
               {"source": "y", "target": "y", "transformation": "y::text"}]}');
           INSERT INTO a.t VALUES (1, 'one', '2026-02-01', '2026-02-01 12:00+00', 0.1234567890123456, '1 day 02:03', '\x6100')"#,
    );
    db.wait_until("another worker serves the database", || {
        workers(db.cluster(), db.name()).iter().any(|&now| now != before)
    });
    settle(&mut client);
    assert_eq!(
        query_one(&mut client, "SELECT v, d, at, f, i, y FROM b.t"),
        r"ONE|2026-02-01|2026-02-01 12:00:00|0.1234567890123456|1 day 02:03:00|\x6100"
    );
    run(&mut client, "UPDATE a.t SET at = '2026-07-01 00:00+00', v = 'uno'");
    settle(&mut client);
    assert_eq!(query_one(&mut client, "SELECT v, at FROM b.t"), "UNO|2026-07-01 00:00:00");
}

#[test]
fn a_database_whose_bytes_cannot_be_read_as_text_is_refused_with_a_hint() {
    let cluster = Shared::cluster();
    let mut admin = cluster.connect("postgres").unwrap();
    for (encoding, reason) in [
        ("SQL_ASCII", "bytes of unknown meaning"),
        ("MULE_INTERNAL", "no conversion between this encoding and UTF8"),
    ] {
        let name = format!("life_{}", encoding.to_lowercase());
        run(
            &mut admin,
            &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"),
        );
        let output = cluster
            .client_program("psql", &name)
            .env("PGCLIENTENCODING", encoding)
            .args(["--no-psqlrc", "--quiet", "--set=VERBOSITY=verbose"])
            .args(["--command", "CREATE EXTENSION sync_ext"])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.contains(&format!(
                "0A000: sync_ext cannot be used in a database whose encoding is {encoding}"
            )),
            "{error}"
        );
        assert!(error.contains(reason) && error.contains("HINT:  Create a database"), "{error}");
        run(&mut admin, &format!("DROP DATABASE {name}"));
    }
}

/// Squatting on the schema fails loudly, and leaves nothing.
#[test]
fn a_schema_named_sync_is_not_adopted() {
    let db = Shared::database();
    let mut client = db.connect();
    run(&mut client, "CREATE SCHEMA sync; CREATE TABLE sync.mine (n int)");
    let error = refusal(&mut client, "CREATE EXTENSION sync_ext");
    assert!(error.starts_with("42P06 schema \"sync\" already exists"), "{error}");
    assert!(error.contains("HINT: Rename the existing schema"), "{error}");
    run(
        &mut client,
        "SELECT * FROM sync.mine; ALTER SCHEMA sync RENAME TO mine; CREATE EXTENSION sync_ext",
    );
    worker(db.cluster(), db.name());
}
