//! C9: what a dump carries, and that what comes out of it is a copy until a person says otherwise.

use std::path::PathBuf;
use std::process::Command;

use cluster::postgres::Client;
use cluster::{Cluster, Db};
use pgrx_tests::{Shared, db, query_one, rows, run};

use super::{both, settle, status, two_tables, worker};

const SIZES: &str = "SELECT (SELECT count(*) FROM sync._link), (SELECT count(*) FROM sync._queue), (SELECT count(*) FROM sync._conflict)";

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
    assert_eq!(said, "", "{command:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Dumps a database into a file.
fn dump(db: &Db<'_>, arguments: &[&str]) -> PathBuf {
    let file = db.cluster().directory().join(format!(
        "{}{}",
        db.name(),
        arguments.concat().replace('/', "")
    ));
    succeed(
        db.cluster().client_program("pg_dump", db.name()).args(arguments).arg("--file").arg(&file),
    );
    file
}

/// Restores into a database of the same running server, refusing the slightest error.
fn restore(cluster: &Cluster, database: &str, file: &PathBuf, custom: bool) {
    if custom {
        succeed(
            cluster
                .client_program("pg_restore", database)
                .args(["--exit-on-error", "--dbname", database])
                .arg(file),
        );
    } else {
        succeed(
            cluster
                .client_program("psql", database)
                .args([
                    "--no-psqlrc",
                    "--quiet",
                    "--set=ON_ERROR_STOP=1",
                    "--output=/dev/null",
                    "--file",
                ])
                .arg(file),
        );
    }
    std::fs::remove_file(file).unwrap();
}

/// A sync with an enum, a settled conflict and a record that the target refuses.
fn lively(client: &mut Client) {
    run(
        client,
        r#"CREATE SCHEMA a; CREATE SCHEMA b;
           CREATE TYPE a.mood AS ENUM ('sad', 'ok', 'happy');
           CREATE TABLE a.t (id int PRIMARY KEY, v text, m a.mood);
           CREATE TABLE b.t (id int PRIMARY KEY, v text CONSTRAINT not_bad CHECK (v <> 'bad'), m a.mood);
           INSERT INTO a.t SELECT n, 'v' || n, 'ok' FROM generate_series(1, 50) n"#,
    );
    run(
        client,
        r#"SELECT sync.create_sync('t', '{"source": {"table": "a.t"}, "target": {"table": "b.t"}, "sync_type": "bidirectional"}')"#,
    );
    settle(client);
    run(client, "SELECT sync.pause('t')");
    run(client, "UPDATE a.t SET v = 'from a' WHERE id = 1");
    run(client, "UPDATE b.t SET v = 'from b' WHERE id = 1");
    run(client, "SELECT sync.resume('t')");
    run(client, "INSERT INTO a.t VALUES (99, 'bad', 'sad')");
    settle(client);
    super::until(client, SIZES, "50|1|1");
}

const DIFFERENT: &str = "SELECT count(*) FROM a.t FULL JOIN b.t USING (id, v, m) WHERE id <> 99 AND (a.t.id IS NULL OR b.t.id IS NULL)";

/// P14: the worker is awake while the copy is restored, and sends nothing of it.
#[test]
fn a_restored_database_is_fenced_and_after_activation_compares_and_goes_on_without_twins() {
    let db = db();
    let mut original = db.connect();
    lively(&mut original);
    for (format, custom) in [("--format=plain", false), ("--format=custom", true)] {
        let file = dump(&db, &[format]);
        if !custom {
            let text = std::fs::read_to_string(&file).unwrap();
            for kept in ["_sync ", "_capture ", "_link_1 ", "_queue ", "_conflict "] {
                assert!(text.contains(&format!("COPY sync.{kept}")), "{kept}");
            }
            for left_out in ["_log_v1_0", "_cursor", "_history", "_epoch", "_installation", "_load"]
            {
                assert!(!text.contains(&format!("COPY sync.{left_out}")), "{left_out}");
            }
        }
        let copy = Shared::database();
        restore(db.cluster(), copy.name(), &file, custom);
        let mut client = copy.connect();
        worker(db.cluster(), copy.name());
        assert_eq!(query_one(&mut client, SIZES), "50|1|1");
        assert_eq!(
            status(&mut client),
            "fenced: it came out of a dump; SELECT sync.activate() if this database is meant to sync"
        );
        run(
            &mut client,
            "UPDATE a.t SET v = 'in the copy', m = 'happy' WHERE id = 2; DELETE FROM b.t WHERE id = 3",
        );
        let refusal = pgrx_tests::refusal(&mut client, "SELECT * FROM sync.wait('t')");
        assert!(
            refusal.contains("fenced") && refusal.contains("it came out of a dump"),
            "{refusal}"
        );
        assert_eq!(query_one(&mut client, "SELECT v FROM b.t WHERE id = 2"), "v2");
        assert_eq!(query_one(&mut client, "SELECT count(*) FROM sync._history"), "0");

        run(&mut client, "SELECT sync.activate()");
        settle(&mut client);
        assert_eq!(query_one(&mut client, DIFFERENT), "0");
        assert_eq!(
            query_one(&mut client, "SELECT v, m FROM b.t WHERE id = 2"),
            "in the copy|happy"
        );
        assert_eq!(query_one(&mut client, "SELECT count(*) FROM a.t WHERE id <> 99"), "49");
        assert_eq!(
            rows(&mut client, "SELECT direction, key, state, message FROM sync.queue").len(),
            1,
            "{:?}",
            rows(&mut client, "SELECT * FROM sync.queue")
        );
        run(
            &mut client,
            "UPDATE b.t SET m = 'sad' WHERE id = 4; UPDATE a.t SET v = 'later' WHERE id = 4; INSERT INTO b.t VALUES (200, 'new', 'ok'); DELETE FROM a.t WHERE id = 5",
        );
        settle(&mut client);
        assert_eq!(query_one(&mut client, DIFFERENT), "0");
        assert_eq!(query_one(&mut client, "SELECT v, m FROM a.t WHERE id = 4"), "later|sad");
        assert_eq!(query_one(&mut client, "SELECT count(*) FROM b.t"), "49");
        assert_eq!(query_one(&mut client, "SELECT count(*) FROM sync.conflicts"), "1");
    }
    // The original has noticed nothing.
    run(&mut original, "UPDATE a.t SET v = 'original' WHERE id = 2");
    settle(&mut original);
    assert_eq!(query_one(&mut original, DIFFERENT), "0");
    assert_eq!(query_one(&mut original, "SELECT count(*) FROM a.t"), "51");
}

/// Its trigger refers to the extension and does nothing where no sync knows the table.
#[test]
fn the_schema_of_one_captured_table_can_be_restored_elsewhere() {
    let from = db();
    let mut client = from.connect();
    two_tables(&mut client);
    settle(&mut client);
    let file = dump(&from, &["--schema-only", "--table=a.t"]);
    let to = db();
    let mut client = to.connect();
    run(&mut client, "CREATE SCHEMA a");
    restore(to.cluster(), to.name(), &file, false);
    run(&mut client, "INSERT INTO a.t VALUES (1, 'one'); UPDATE a.t SET v = 'uno'; TRUNCATE a.t");
    run(&mut client, "DROP EXTENSION sync_ext");
    run(&mut client, "INSERT INTO a.t VALUES (1, 'one')");
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'a.t'::regclass";
    assert_eq!(query_one(&mut client, triggers), "0");
}

#[test]
fn restored_data_of_one_table_is_synced_like_any_change() {
    let from = db();
    let mut client = from.connect();
    run(
        &mut client,
        "CREATE SCHEMA a; CREATE TABLE a.t (id int PRIMARY KEY, v text); INSERT INTO a.t VALUES (5, 'five'), (6, 'six')",
    );
    let file = dump(&from, &["--data-only", "--table=a.t"]);
    let to = db();
    let mut client = to.connect();
    two_tables(&mut client);
    settle(&mut client);
    restore(to.cluster(), to.name(), &file, false);
    settle(&mut client);
    assert_eq!(both(&mut client), "1one 2two 5five 6six / 1one 2two 5five 6six");
}
