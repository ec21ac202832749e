//! Columns of a synced table that are renamed, dropped, or given another type.

use pgrx_tests::{query_one, rows, run};

use super::{becomes, prepared, synced};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, name text, note text, n int); CREATE TABLE b (LIKE a INCLUDING ALL);
     INSERT INTO a VALUES (1, 'one', 'x', 1);";
const MAPPED: &str = r#""field_mappings": [{"source": "id", "target": "id"}, {"source": "name", "target": "name"},
     {"source": "note", "target": "note"}, {"source": "n", "target": "n"}],
     "validation_rules": [{"field": "name", "rule": "length", "max": 20}]"#;

fn create(policy: &str, fields: &str) -> String {
    format!(
        r#"{TABLES} SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "bidirectional",
             "schema_changes": "{policy}", {fields}}}')"#
    )
}

const TOLD: &str = "SELECT field, change, was, now, effect FROM sync.schema_changes ORDER BY id";

#[test]
fn a_sync_that_adapts_goes_on_under_the_new_name() {
    let beside =
        r#""field_selection": "all", "field_mappings": [{"source": "note", "target": "note"}]"#;
    for fields in [MAPPED, r#""exclude_fields": []"#, beside] {
        let (db, mut c) = prepared(&create("adapt", fields));
        synced(&mut c, "s");
        run(&mut c, "ALTER TABLE b RENAME name TO label; UPDATE b SET label = 'eins', n = 2");
        run(&mut c, "UPDATE a SET note = 'y'");
        synced(&mut c, "s");
        becomes(
            &db,
            &mut c,
            "SELECT name, note, n FROM a",
            "one|y|2".replace("one", "eins").as_str(),
        );
        synced(&mut c, "s");
        assert_eq!(rows(&mut c, "TABLE b"), ["1|eins|y|2"]);
        run(
            &mut c,
            "UPDATE a SET name = 'two'; ALTER TABLE a RENAME name TO title; UPDATE a SET title = 'zwei'",
        );
        synced(&mut c, "s");
        becomes(&db, &mut c, "SELECT label FROM b", "zwei");
        assert_eq!(
            rows(&mut c, TOLD),
            [
                "public.b.name|column renamed|name|label|the document names \"label\" in its place",
                "public.a.name|column renamed|name|title|the document names \"title\" in its place"
            ]
        );
        let mappings = query_one(&mut c, "SELECT sync.show('s') -> 'field_mappings'");
        assert!(
            mappings.contains(r#""source": "title""#) && mappings.contains(r#""target": "label""#),
            "{mappings}"
        );
        assert_eq!(
            query_one(
                &mut c,
                "SELECT by FROM sync.config_history WHERE action = 'altered' LIMIT 1"
            ),
            "sync_ext worker"
        );
        assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "running");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    }
}

/// A column that is called otherwise is the same one: what had been agreed on of it, and what was edited under its old name.
#[test]
fn a_renamed_column_keeps_its_edits_and_what_was_agreed_on() {
    let (_db, mut c) = prepared(&create("ignore", MAPPED));
    synced(&mut c, "s");
    run(&mut c, "SELECT sync.pause('s'); UPDATE a SET name = 'two', note = 'a'");
    run(
        &mut c,
        "UPDATE b SET n = 2; ALTER TABLE a RENAME name TO title; ALTER TABLE a ADD name text DEFAULT 'other'",
    );
    // Two that swap their names, and one edit of each under either.
    run(
        &mut c,
        "ALTER TABLE b RENAME note TO x; ALTER TABLE b RENAME n TO note; ALTER TABLE b RENAME x TO n; UPDATE b SET note = 3",
    );
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"field_mappings": [{"source": "id", "target": "id"}, {"source": "title", "target": "name"},
             {"source": "note", "target": "n"}, {"source": "n", "target": "note"}]}'); SELECT sync.resume('s')"#,
    );
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, title, note, n FROM a"), ["1|two|a|3"]);
    assert_eq!(rows(&mut c, "SELECT id, name, n, note FROM b"), ["1|two|a|3"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    // Another one under the name of one that is not synced any more is not taken for it.
    run(
        &mut c,
        r#"SELECT sync.pause('s'); UPDATE a SET note = 'late';
           ALTER TABLE a RENAME note TO unused; ALTER TABLE a ADD note text DEFAULT 'new';
           SELECT sync.resume('s')"#,
    );
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, name, n, note FROM b"), ["1|two|new|3"]);
    // One that was made anew under the old name is compared by it.
    run(&mut c, "SELECT sync.pause('s'); ALTER TABLE a DROP note; ALTER TABLE a ADD note text");
    run(&mut c, "UPDATE a SET note = 'b'; SELECT sync.resume('s')");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, name, n, note FROM b"), ["1|two|b|3"]);
}

#[test]
fn a_dropped_column_is_taken_out_and_another_type_is_cast_to() {
    let (db, mut c) = prepared(&create("adapt", MAPPED));
    synced(&mut c, "s");
    run(&mut c, "ALTER TABLE b DROP note");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.schema_changes", "1");
    run(&mut c, "UPDATE a SET name = 'eins', note = 'kept'");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b"), ["1|eins|1"]);
    run(&mut c, "ALTER TABLE b ALTER n TYPE text");
    run(&mut c, "UPDATE a SET n = 5");
    synced(&mut c, "s");
    becomes(&db, &mut c, "SELECT n FROM b", "5");
    run(&mut c, "UPDATE b SET n = '6'");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a"), ["1|eins|kept|6"]);
    assert_eq!(
        rows(&mut c, TOLD),
        [
            "public.b.note|column dropped|note||its field is taken out of the sync",
            "public.b.n|column retyped|integer|text|its values are cast to the new type, and compared once"
        ]
    );
}

#[test]
fn a_sync_can_wait_until_somebody_has_looked_or_says_what_to_do() {
    let (db, mut c) = prepared(&create("pause", MAPPED));
    synced(&mut c, "s");
    run(&mut c, "ALTER TABLE b RENAME name TO label; UPDATE a SET note = 'y'");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "paused");
    assert!(query_one(&mut c, "SELECT detail FROM sync.status").contains("\"name\""));
    run(&mut c, "ALTER TABLE b RENAME label TO name; SELECT sync.resume('s')");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b"), ["1|one|y|1"]);

    let (db, mut c) = prepared(&create("ignore", MAPPED));
    synced(&mut c, "s");
    run(&mut c, "ALTER TABLE b RENAME name TO label; UPDATE a SET note = 'y', name = 'eins'");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "failing");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.schema_changes", "1");
    let told = query_one(&mut c, "SELECT effect, remedy FROM sync.schema_changes");
    assert!(told.starts_with("the sync stops") && told.contains("sync.alter_sync"), "{told}");
    run(&mut c, "ALTER TABLE b RENAME label TO name");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b"), ["1|eins|y|1"]);
}
