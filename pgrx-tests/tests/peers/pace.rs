//! How fast a sync goes: so much in any second, and not before a record has come to rest.

use std::time::{Duration, Instant};

use pgrx_tests::{query_one, run};

use super::{becomes, prepared, synced};

fn create(settings: &str) -> String {
    format!(
        r#"CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int, writes int DEFAULT 0);
           CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.writes := OLD.writes + 1; RETURN NEW; END $$;
           CREATE TRIGGER count BEFORE UPDATE ON b FOR EACH ROW EXECUTE FUNCTION counted();
           SELECT sync.create_sync('s', '{{"source": "a", "target": "b", {settings}}}');"#
    )
}

#[test]
fn no_more_is_written_in_any_second_than_the_document_allows() {
    let (_db, mut c) = prepared(&create(
        r#""performance_settings": {"rate_limits": {"per_second": 20, "per_minute": 1000}}"#,
    ));
    synced(&mut c, "s");
    let begun = Instant::now();
    run(&mut c, "INSERT INTO a SELECT i, 0 FROM generate_series(1, 70) i");
    let mut seen = 0;
    while begun.elapsed() < Duration::from_millis(900) {
        seen = query_one(&mut c, "SELECT count(*) FROM b").parse().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!((1..=40).contains(&seen), "{seen} in the first second");
    synced(&mut c, "s");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(2900) && took < Duration::from_secs(20), "{took:?}");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "70");
    // Without the limit nothing waits.
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"performance_settings": null}')"#);
    let begun = Instant::now();
    run(&mut c, "UPDATE a SET v = 1");
    synced(&mut c, "s");
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
}

/// What it has done is not forgotten with the process, nor while it is paused; what waits says for what.
#[test]
fn neither_a_restart_nor_a_pause_lets_a_sync_go_beyond_its_limit() {
    let (db, mut c) = prepared(&create(
        r#""performance_settings": {"rate_limits": {"per_hour": 10, "per_day": 5000}}"#,
    ));
    synced(&mut c, "s");
    run(&mut c, "INSERT INTO a SELECT i, 0 FROM generate_series(1, 30) i");
    let written = "SELECT count(*) FROM b";
    becomes(&db, &mut c, written, "10");
    let says = "SELECT state, detail ~ '^rate limit of 10 an hour: next at 2' FROM sync.status";
    becomes(&db, &mut c, says, "running|t");
    let stays = |c: &mut _| {
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(query_one(c, written), "10");
    };
    run(&mut c, "SELECT sync.pause('s')");
    assert!(
        query_one(&mut c, "SELECT detail FROM sync.status").starts_with("changes are captured")
    );
    run(&mut c, "SELECT sync.resume('s')");
    stays(&mut c);
    let worker = "FROM pg_stat_activity WHERE backend_type LIKE 'sync_ext%' AND datname = current_database()";
    let pid = query_one(&mut c, &format!("SELECT pid {worker}"));
    run(&mut c, &format!("SELECT pg_terminate_backend({pid})"));
    becomes(&db, &mut c, &format!("SELECT count(*) {worker} AND pid <> {pid}"), "1");
    stays(&mut c);
    becomes(&db, &mut c, says, "running|t");
    // Another limit holds for what was done as well.
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"performance_settings": {"rate_limits": {"per_hour": 15}}}')"#,
    );
    becomes(&db, &mut c, written, "15");
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"performance_settings": null}')"#);
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, written), "30");
    assert_eq!(query_one(&mut c, "SELECT detail FROM sync.status"), "in sync");
}

/// More than a thousand in a span are not kept one by one, and are no more for that.
#[test]
fn a_high_limit_holds_too() {
    let (_db, mut c) =
        prepared(&create(r#""performance_settings": {"rate_limits": {"per_second": 2500}}"#));
    synced(&mut c, "s");
    let begun = Instant::now();
    run(&mut c, "INSERT INTO a SELECT i, 0 FROM generate_series(1, 7600) i");
    synced(&mut c, "s");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(2900) && took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn what_a_function_makes_of_a_row_is_counted_by_rows_written() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int, n int, PRIMARY KEY (id, n));
           CREATE FUNCTION three(operation text, old a, new a) RETURNS SETOF b LANGUAGE sql AS
             $$ SELECT new.id, n FROM generate_series(1, 3) n WHERE new.id IS NOT NULL $$;
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "row_function": "three",
             "performance_settings": {"batch_size": 1, "rate_limits": {"per_hour": 6}}}')"#,
    );
    synced(&mut c, "s");
    run(&mut c, "INSERT INTO a SELECT i, 0 FROM generate_series(1, 5) i");
    becomes(&db, &mut c, "SELECT count(*) FROM b", "6");
    becomes(&db, &mut c, "SELECT detail ~ '^rate limit of 6 an hour' FROM sync.status", "t");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "6");
}

#[test]
fn a_record_is_sent_when_it_has_come_to_rest_and_not_later_than_ten_pauses() {
    let (db, mut c) = prepared(&create(r#""ongoing_sync": {"debounce_seconds": 0.4}"#));
    run(&mut c, "INSERT INTO a VALUES (1, 0), (2, 0)");
    synced(&mut c, "s");
    for v in 1..=5 {
        run(&mut c, &format!("UPDATE a SET v = {v} WHERE id = 1"));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "0");
    }
    let detail = query_one(&mut c, "SELECT state || ': ' || detail FROM sync.status");
    assert!(detail.starts_with("running: 1 records are looked at once nothing more"), "{detail}");
    becomes(&db, &mut c, "SELECT v, writes FROM b WHERE id = 1", "5|1");
    // One that never rests goes all the same.
    let begun = Instant::now();
    let mut v = 0;
    while query_one(&mut c, "SELECT v FROM b WHERE id = 2") == "0" {
        v += 1;
        run(&mut c, &format!("UPDATE a SET v = {v} WHERE id = 2"));
        std::thread::sleep(Duration::from_millis(100));
        assert!(begun.elapsed() < Duration::from_secs(15), "it is put off for ever");
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    // A waiter waits for it too, and a delete is put off like an edit.
    run(&mut c, "DELETE FROM a WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "1");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
}
