//! Records that go round in a circle, and those that only seem to. The dots are triggers that append one on each save.

use pgrx_tests::{query_one, rows, run};

use super::{prepared, rest, settle, synced};

const DOT: &str = "CREATE FUNCTION dot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v || '.'; RETURN NEW; END $$;";
/// As the Stacksync text has it.
const F11: &str = r#"{"loop_prevention": {"enabled": true, "detection_window_seconds": 60, "max_update_count": 2}}"#;

fn dots(tables: &[&str]) -> String {
    tables.iter().map(|t| format!("CREATE TRIGGER dot BEFORE INSERT OR UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION dot();")).collect()
}

fn two_way(name: &str, source: &str, target: &str) -> String {
    format!(
        r#"SELECT sync.create_sync('{name}', '{{"source": "{source}", "target": "{target}", "sync_type": "bidirectional"}}');"#
    )
}

#[test]
fn two_triggers_that_answer_each_other_are_stopped_and_named() {
    let (_db, mut c) = prepared(&format!(
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text); {DOT} {}",
        two_way("ab", "a", "b")
    ));
    run(&mut c, &format!("SELECT sync.alter_sync('ab', '{F11}')"));
    run(&mut c, "INSERT INTO a VALUES (1, 'x'), (2, 'y')");
    synced(&mut c, "ab");
    run(&mut c, &dots(&["a", "b"]));
    run(&mut c, "UPDATE a SET v = 'z' WHERE id = 1");
    let parked = cluster::poll(std::time::Duration::from_secs(30), || settle(&mut c, "ab") == 1);
    assert!(parked);
    // The edit, what it came to over there, and twice what came back.
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "z....");
    assert_eq!(
        rows(
            &mut c,
            "SELECT sync, key, state, sqlstate, message, detail FROM sync.queue WHERE direction = 'target to source'"
        ),
        [
            "ab|1|review|SY003|the record goes round in a circle|It came back changed 3 times within 60 seconds, and would be written again: \
          public.b by \"ab\", public.a by \"ab\", public.b by \"ab\", public.a by \"ab\"."
        ]
    );
    // Nobody else is kept.
    run(&mut c, "ALTER TABLE a DISABLE TRIGGER dot; ALTER TABLE b DISABLE TRIGGER dot");
    run(&mut c, "UPDATE a SET v = 'other' WHERE id = 2; UPDATE a SET v = 'mended' WHERE id = 1");
    synced(&mut c, "ab");
    assert_eq!(rows(&mut c, "SELECT v FROM b ORDER BY id"), ["mended", "other"]);
}

/// What a trigger changes once is an edit like any other.
#[test]
fn one_trigger_is_no_circle_and_neither_are_a_hundred_edits() {
    let (_db, mut c) = prepared(&format!(
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text); {DOT} {}",
        two_way("ab", "a", "b")
    ));
    run(&mut c, &format!("SELECT sync.alter_sync('ab', '{F11}')"));
    run(&mut c, &dots(&["b"]));
    for n in 0..100 {
        run(
            &mut c,
            &format!(
                "INSERT INTO a VALUES (1, '{n}') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v"
            ),
        );
        if n % 10 == 0 {
            synced(&mut c, "ab");
        }
    }
    rest(&mut c, &["ab"]);
    synced(&mut c, "ab");
    assert_eq!(query_one(&mut c, "SELECT a.v, b.v FROM a JOIN b USING (id)"), "99.|99.");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.errors"), "0");
}

/// Each sync of the ring goes one way, and one of the tables adds a dot whatever it is told.
#[test]
fn a_ring_of_syncs_is_stopped_and_its_way_told() {
    let (_db, mut c) = prepared(&format!(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text); CREATE TABLE c (id int PRIMARY KEY, v text); {DOT}
           SELECT sync.create_sync('ab', '{{"source": "a", "target": "b"}}', '{F11}');
           SELECT sync.create_sync('bc', '{{"source": "b", "target": "c"}}', '{F11}');
           SELECT sync.create_sync('ca', '{{"source": "c", "target": "a"}}', '{F11}');
           INSERT INTO a VALUES (1, 'x');"#
    ));
    rest(&mut c, &["ab", "bc", "ca"]);
    run(&mut c, &dots(&["c"]));
    // Edits of users do not count, however many they are and wherever they begin.
    for n in 0..20 {
        run(&mut c, &format!("UPDATE a SET v = 'a{n}'"));
    }
    rest(&mut c, &["ab", "bc", "ca"]);
    let told = rows(&mut c, "SELECT state, detail FROM sync.queue ORDER BY id LIMIT 1");
    assert!(
        told[0].starts_with("review|It came back changed 3 times within 60 seconds"),
        "{told:?}"
    );
    for hop in ["b by \"ab\"", "c by \"bc\"", "a by \"ca\""] {
        assert!(told[0].contains(hop), "{told:?}");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue WHERE state = 'review'"), "1");
    assert!(query_one(&mut c, "SELECT length(v) < 12 FROM c") == "t");
}

#[test]
fn prevention_is_on_by_itself_and_can_be_switched_off() {
    let (_db, mut c) = prepared(&format!(
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text); {DOT} {} {}",
        dots(&["a", "b"]),
        two_way("ab", "a", "b")
    ));
    run(&mut c, "INSERT INTO a VALUES (1, 'x')");
    let minute = std::time::Duration::from_secs(60);
    assert!(cluster::poll(minute, || settle(&mut c, "ab") == 1));
    assert_eq!(query_one(&mut c, "SELECT sqlstate FROM sync.queue"), "SY003");
    run(&mut c, r#"SELECT sync.alter_sync('ab', '{"loop_prevention": {"enabled": false}}')"#);
    run(&mut c, "UPDATE a SET v = 'again'");
    let length = "SELECT length(v) FROM b";
    let long = |c: &mut _| query_one(c, length).parse::<u32>().unwrap() > 100;
    let went = cluster::poll(minute, || long(&mut c));
    assert!(went, "{} {:?}", query_one(&mut c, length), rows(&mut c, "SELECT * FROM sync._queue"));
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue WHERE state = 'review'"), "0");
    run(&mut c, "SELECT sync.drop_sync('ab')");
}
