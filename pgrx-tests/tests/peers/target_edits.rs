//! `on_target_edit`: edits where a sync only writes.

use pgrx_tests::{query_one, rows, run};

use super::{becomes, prepared, synced};

fn create(policy: &str) -> String {
    format!(
        r#"CREATE TABLE a (id int PRIMARY KEY, name text, note text); CREATE TABLE b (id int PRIMARY KEY, name text, note text, mine text);
           INSERT INTO a VALUES (1, 'one', 'n'), (2, 'two', 'n');
           SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "on_target_edit": "{policy}"}}');"#
    )
}

#[test]
fn an_edit_of_the_target_is_undone_and_what_was_deleted_is_there_again() {
    let (db, mut c) = prepared(&create("overwrite"));
    synced(&mut c, "s");
    run(
        &mut c,
        "UPDATE b SET name = 'edited', mine = 'kept' WHERE id = 1; DELETE FROM b WHERE id = 2",
    );
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|one|n|kept", "2|two|n|"]);
    // An edit and a change of the source at once: the source's stands for its field, and the edit is undone.
    run(&mut c, "SELECT sync.pause('s')");
    run(&mut c, "UPDATE b SET name = 'x', note = 'x' WHERE id = 1");
    run(&mut c, "UPDATE a SET name = 'ONE' WHERE id = 1");
    run(&mut c, "SELECT sync.resume('s')");
    becomes(&db, &mut c, "SELECT name, note FROM b WHERE id = 1", "ONE|n");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|ONE|n", "2|two|n"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    // Many rows that are gone there are no mass delete here.
    run(&mut c, "DELETE FROM b");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "2");
}

#[test]
fn what_a_trigger_makes_of_a_value_is_not_undone_again_and_again() {
    let (_db, mut c) = prepared(&format!(
        "{} CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
         CREATE TRIGGER up BEFORE INSERT OR UPDATE ON b FOR EACH ROW EXECUTE FUNCTION up();",
        create("overwrite")
    ));
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET name = 'eins' WHERE id = 1");
    synced(&mut c, "s");
    synced(&mut c, "s");
    let captured = query_one(&mut c, "SELECT last_value FROM sync._log_seq");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(query_one(&mut c, "SELECT last_value FROM sync._log_seq"), captured);
    assert_eq!(query_one(&mut c, "SELECT name FROM b WHERE id = 1"), "EINS");
    run(&mut c, "UPDATE b SET name = 'mine' WHERE id = 1");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT name FROM b WHERE id = 1"), "EINS");
}

#[test]
fn an_edit_of_the_target_is_told_once_and_stays_until_the_source_changes_the_field() {
    let (_db, mut c) = prepared(&create("report"));
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET name = 'edited', mine = 'kept' WHERE id = 1");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET mine = 'still' WHERE id = 1; UPDATE a SET note = 'm' WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|edited|m|still", "2|two|n|"]);
    assert_eq!(
        rows(&mut c, "SELECT key, kind, field, base, target_value, winner FROM sync.conflicts"),
        ["1|update_origin_differs|name|one|edited|target"]
    );
    run(&mut c, "UPDATE a SET name = 'ONE' WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT name FROM b WHERE id = 1"), "ONE");
}
