//! History's partitions.

use super::{assert_equal, pair, settle};
use cluster::Db;
use pgrx_tests::{db, query_one, rows, run};

const PARTITIONS: &str = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                           WHERE i.inhparent = 'sync._history'::regclass";
const EXPECTED: &str = "SELECT concat_ws(' ', to_char(now() AT TIME ZONE 'UTC', '\"_history_\"YYYYMMDD'),
                                              to_char(now() AT TIME ZONE 'UTC' + interval '1 day', '\"_history_\"YYYYMMDD'))";

/// Ends the worker; the next one looks after the partitions as if it were a new day.
fn restart_worker(db: &Db) {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'sync_ext worker' AND datname = '{}'",
        db.name()
    );
    let mut client = db.connect();
    let before = rows(&mut client, &sql);
    run(&mut client, &format!("SELECT pg_terminate_backend(pid) FROM ({sql}) w"));
    db.wait_until("another worker", || {
        let now = rows(&mut client, &sql);
        now.len() == 1 && now != before
    });
}

#[test]
fn there_are_partitions_for_today_and_tomorrow_and_they_belong_to_the_extension() {
    let db = db();
    let mut client = db.connect();
    db.wait_until("the partitions are there", || {
        query_one(&mut client, PARTITIONS) == query_one(&mut client, EXPECTED)
    });
    let members = "SELECT count(*) FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
                    WHERE d.deptype = 'e' AND c.relname ~ '^_history_2'";
    assert_eq!(query_one(&mut client, members), "2");
    run(&mut client, "DROP EXTENSION sync_ext");
}

#[test]
fn history_past_its_days_is_dropped_and_younger_stays() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, "INSERT INTO t VALUES (1)");
    settle(&mut client, "t");
    for days in [5, 40] {
        let name = query_one(
            &mut client,
            &format!(
                "SELECT to_char(now() AT TIME ZONE 'UTC' - interval '{days} days', '\"_history_\"YYYYMMDD')"
            ),
        );
        run(
            &mut client,
            &format!(
                "CREATE TABLE sync.{name} PARTITION OF sync._history FOR VALUES FROM (now() - interval '{days} days 1 hour') TO (now() - interval '{days} days');
                 ALTER EXTENSION sync_ext ADD TABLE sync.{name}"
            ),
        );
    }
    restart_worker(&db);
    db.wait_until("the old partition is gone", || {
        query_one(
            &mut client,
            "SELECT count(*) FROM pg_class WHERE relname ~ '^_history_2' AND relkind = 'r'",
        ) == "3"
    });
    assert_eq!(
        query_one(&mut client, "SELECT count(*) FROM sync.change_log WHERE status = 'synced'"),
        "1"
    );
}

/// The worker goes on although somebody who has read history is still in his transaction when the next day's
/// partition is due.
#[test]
fn a_reader_of_history_does_not_keep_the_worker_from_making_a_partition() {
    let db = db();
    let (mut client, mut reader) = (db.connect(), db.connect());
    pair(&mut client, "one_way");
    let tomorrow = query_one(
        &mut client,
        "SELECT to_char(now() AT TIME ZONE 'UTC' + interval '1 day', '\"_history_\"YYYYMMDD')",
    );
    run(
        &mut client,
        &format!("ALTER EXTENSION sync_ext DROP TABLE sync.{tomorrow}; DROP TABLE sync.{tomorrow}"),
    );
    run(&mut reader, "BEGIN; SELECT count(*) FROM sync.change_log");
    restart_worker(&db);
    run(&mut client, "INSERT INTO t VALUES (1)");
    settle(&mut client, "t");
    assert_equal(&mut client);
    db.wait_until("tomorrow has its partition", || {
        query_one(&mut client, PARTITIONS) == query_one(&mut client, EXPECTED)
    });
    run(&mut reader, "COMMIT");
}
