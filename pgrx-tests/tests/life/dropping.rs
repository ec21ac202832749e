//! DROP EXTENSION ends the work and takes nothing of the user's.

use std::time::{Duration, Instant};

use pgrx_tests::{db, query_one, run};

use super::{both, settle, two_tables, worker, workers};

const MARKS: &str = "SELECT count(*) FROM pg_db_role_setting r JOIN pg_database d ON d.oid = r.setdatabase
                      WHERE d.datname = current_database() AND r.setconfig::text LIKE '%sync_ext.installed%'";

/// C3
#[test]
fn the_worker_goes_with_the_extension_and_takes_the_mark_off_the_database() {
    let db = db();
    let mut client = db.connect();
    worker(db.cluster(), db.name());
    assert_eq!(query_one(&mut client, MARKS), "1");
    run(&mut client, "DROP EXTENSION sync_ext");
    db.wait_until("the worker is gone", || workers(db.cluster(), db.name()).is_empty());
    assert_eq!(query_one(&mut client, MARKS), "0");
}

/// C9: rows, tables and the user's triggers stay; capture goes.
#[test]
fn dropping_the_extension_takes_nothing_of_the_users() {
    for (end, how) in ["", "CASCADE"].into_iter().enumerate() {
        let db = db();
        let mut client = db.connect();
        two_tables(&mut client);
        run(
            &mut client,
            "CREATE FUNCTION a.own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             CREATE TRIGGER own BEFORE INSERT OR UPDATE ON a.t FOR EACH ROW EXECUTE FUNCTION a.own()",
        );
        settle(&mut client);
        run(&mut client, &format!("DROP EXTENSION sync_ext {how}"));
        assert_eq!(both(&mut client), "1one 2two / 1one 2two");
        let triggers = "SELECT string_agg(tgname, ' ') FROM pg_trigger WHERE NOT tgisinternal";
        assert_eq!(query_one(&mut client, triggers), "own");
        assert_eq!(
            query_one(&mut client, "SELECT count(*) FROM pg_namespace WHERE nspname = 'sync'"),
            "0"
        );
        run(&mut client, &format!("INSERT INTO a.t VALUES ({end} + 10, 'after')"));
    }
}

/// C1, C6: the worker gives way in the middle of a backlog.
#[test]
fn a_busy_worker_does_not_hold_up_drop_extension() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    run(&mut client, "INSERT INTO a.t SELECT n, 'x' FROM generate_series(10, 30000) n");
    super::until(&mut client, "SELECT count(*) > 2 FROM b.t", "t");
    let started = Instant::now();
    run(&mut client, "DROP EXTENSION sync_ext");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM a.t"), "29993");
    db.wait_until("the worker is gone", || workers(db.cluster(), db.name()).is_empty());
    assert_eq!(query_one(&mut client, MARKS), "0");
}

/// C3: the worker of the dropped one must not serve, nor unmark, the new one.
#[test]
fn dropped_and_created_again_between_two_looks_of_the_worker() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    run(&mut client, "DROP EXTENSION sync_ext");
    run(&mut client, "CREATE EXTENSION sync_ext");
    run(&mut client, "BEGIN; DROP EXTENSION sync_ext; CREATE EXTENSION sync_ext; COMMIT");
    run(
        &mut client,
        r#"SELECT sync.create_sync('t', '{"source": {"table": "a.t"}, "target": {"table": "b.t"}, "sync_type": "bidirectional"}');
           UPDATE a.t SET v = 'again' WHERE id = 1"#,
    );
    settle(&mut client);
    assert_eq!(both(&mut client), "1again 2two / 1again 2two");
    assert_eq!(query_one(&mut client, MARKS), "1");
    worker(db.cluster(), db.name());
}
