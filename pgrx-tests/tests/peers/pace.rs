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
