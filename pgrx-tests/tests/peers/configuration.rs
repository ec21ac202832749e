//! The life of a document: its history, many at once, and as a file.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, synced};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, name text, note text); CREATE TABLE b (LIKE a INCLUDING ALL);
     CREATE TABLE c (LIKE a INCLUDING ALL); CREATE TABLE d (LIKE a INCLUDING ALL);";
const BOTH: &str = r#"SELECT sync.create_sync('one', '{"source": "a", "target": "b"}');
     SELECT sync.create_sync('two', '{"source": "c", "target": "d", "field_mappings": [{"source": "id", "target": "id"},
         {"source": "name", "target": "name"}, {"source": "note", "target": "note"}]}');"#;

#[test]
fn every_change_of_a_configuration_is_told_and_can_be_taken_back() {
    let (_db, mut c) = prepared(&format!("{TABLES} {BOTH}"));
    run(
        &mut c,
        r#"SELECT sync.alter_sync('one', '{"performance_settings": {"batch_size": 10, "priority": 1}}')"#,
    );
    run(
        &mut c,
        r#"SELECT sync.alter_sync('one', '{"performance_settings": {"batch_size": 20, "priority": null}, "sync_type": "bidirectional"}')"#,
    );
    run(&mut c, "SELECT sync.pause('one')");
    run(&mut c, "SELECT sync.resume('one')");
    run(&mut c, "SELECT sync.unmap_field('two', 'note')");
    run(&mut c, "SELECT sync.drop_sync('two')");
    let told = rows(
        &mut c,
        "SELECT sync, action, by = session_user, patch FROM sync.config_history ORDER BY id",
    );
    let has = |n: usize, text: &str| assert!(told[n].starts_with(text), "{told:#?}");
    has(0, r#"one|created|t|{"source": "a", "target": "b"}"#);
    has(1, "two|created|t|");
    has(2, r#"one|altered|t|{"performance_settings": {"priority": 1, "batch_size": 10}}"#);
    has(
        3,
        r#"one|altered|t|{"sync_type": "bidirectional", "performance_settings": {"priority": null, "batch_size": 20}}"#,
    );
    has(4, "one|paused|t|");
    has(5, "one|resumed|t|");
    has(told.len() - 1, "two|dropped|t|");
    let before = query_one(&mut c, "SELECT sync.show('one')");
    for _ in 0..2 {
        run(
            &mut c,
            "SELECT sync.alter_sync('one', back) FROM sync.config_history WHERE sync = 'one' AND action = 'altered' ORDER BY id DESC LIMIT 1",
        );
    }
    // Taken back twice it is as it was.
    assert_eq!(query_one(&mut c, "SELECT sync.show('one')"), before);
    synced(&mut c, "one");
}

/// Of two patches of one document both stand, whoever makes them and when.
#[test]
fn no_change_of_a_configuration_is_lost() {
    let (db, mut c) = prepared(&format!("{TABLES} {BOTH}"));
    run(
        &mut c,
        r#"SELECT sync.alter_sync('one', '{"delete_limit": 7}'), sync.alter_sync('one', '{"performance_settings": {"batch_size": 9}}')"#,
    );
    let now = "SELECT sync.show('one') - 'source' - 'target'";
    assert_eq!(
        query_one(&mut c, now),
        r#"{"delete_limit": 7, "performance_settings": {"batch_size": 9}}"#
    );
    let mut other = db.connect();
    run(&mut c, r#"BEGIN; SELECT sync.alter_sync('one', '{"delete_limit": 8}')"#);
    let waits = std::thread::spawn(move || {
        run(
            &mut other,
            r#"SELECT sync.alter_sync('one', '{"performance_settings": {"priority": 3}}')"#,
        );
        // The mappings of the whole list, too.
        run(&mut other, "SELECT sync.unmap_field('two', 'note')");
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'object'";
    assert!(cluster::poll(std::time::Duration::from_secs(30), || query_one(&mut c, waiting) == "1"));
    // Another sync is not kept waiting.
    run(&mut c, r#"SELECT sync.alter_sync('two', '{"delete_limit": 5}'); COMMIT"#);
    waits.join().unwrap();
    assert_eq!(
        query_one(&mut c, now),
        r#"{"delete_limit": 8, "performance_settings": {"priority": 3, "batch_size": 9}}"#
    );
    assert_eq!(query_one(&mut c, "SELECT sync.show('two') -> 'delete_limit'"), "5");
    // Nor one that comes from a file, or one of a sync that is ended.
    let file =
        query_one(&mut c, "SELECT jsonb_set(sync.export(), '{syncs,one,delete_limit}', '11')");
    run(&mut c, &format!("BEGIN; SELECT count(*) FROM sync.import('{file}')"));
    let mut other = db.connect();
    let waits = std::thread::spawn(move || {
        run(
            &mut other,
            r#"SELECT sync.alter_sync('one', '{"performance_settings": {"priority": 4}}')"#,
        );
    });
    assert!(cluster::poll(std::time::Duration::from_secs(30), || query_one(&mut c, waiting) == "1"));
    run(&mut c, "COMMIT");
    waits.join().unwrap();
    assert_eq!(
        query_one(&mut c, now),
        r#"{"delete_limit": 11, "performance_settings": {"priority": 4, "batch_size": 9}}"#
    );
    let mut other = db.connect();
    run(&mut c, "BEGIN; SELECT sync.drop_sync('one')");
    let waits = std::thread::spawn(move || {
        refusal(&mut other, r#"SELECT sync.alter_sync('one', '{"delete_limit": 8}')"#)
    });
    assert!(cluster::poll(std::time::Duration::from_secs(30), || query_one(&mut c, waiting) == "1"));
    run(&mut c, "COMMIT");
    assert!(waits.join().unwrap().contains("does not exist"));
    assert_eq!(
        query_one(
            &mut c,
            "SELECT count(*) FROM sync._load l WHERE l.sync NOT IN (SELECT id FROM sync._sync)"
        ),
        "0"
    );
}

#[test]
fn many_syncs_are_changed_by_one_patch_or_none_is() {
    let (_db, mut c) = prepared(&format!("{TABLES} {BOTH}"));
    let changed = rows(
        &mut c,
        r#"SELECT sync FROM sync.alter_syncs('{"sync_type": "bidirectional"}', matching => '%') ORDER BY sync"#,
    );
    assert_eq!(changed, ["one", "two"]);
    assert_eq!(rows(&mut c, "SELECT direction FROM sync.status"), ["<->", "<->"]);
    // One of the two cannot: neither is changed.
    let text = refusal(
        &mut c,
        r#"SELECT * FROM sync.alter_syncs('{"sync_type": "one_way", "include_fields": ["gone"]}', names => '{one,two}')"#,
    );
    assert!(text.starts_with("42703") && text.contains("gone"), "{text}");
    assert_eq!(rows(&mut c, "SELECT direction FROM sync.status"), ["<->", "<->"]);
    run(
        &mut c,
        r#"SELECT * FROM sync.alter_syncs('{"sync_type": "one_way"}', names => '{one}', matching => 'o%')"#,
    );
    assert_eq!(rows(&mut c, "SELECT direction FROM sync.status ORDER BY sync"), ["->", "<->"]);
    for (call, state) in [
        (r#"'{}', matching => 'x%'"#, "02000"),
        (r#"'{}'"#, "22004"),
        (r#"'{}', names => '{nowhere}'"#, "42704"),
        (r#"'[]', names => '{one}'"#, "22"),
    ] {
        let text = refusal(&mut c, &format!("SELECT * FROM sync.alter_syncs({call})"));
        assert!(text.starts_with(state), "{text}");
    }
}

#[test]
fn a_field_is_taken_out_and_its_columns_stay() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} {BOTH} INSERT INTO a VALUES (1, 'n', 'x'); INSERT INTO c VALUES (1, 'n', 'x');"
    ));
    synced(&mut c, "one");
    synced(&mut c, "two");
    for sync in ["one", "two"] {
        run(&mut c, &format!("SELECT sync.unmap_field('{sync}', 'note')"));
    }
    run(&mut c, "UPDATE a SET name = 'm', note = 'y'; UPDATE c SET name = 'm', note = 'y'");
    synced(&mut c, "one");
    synced(&mut c, "two");
    assert_eq!(rows(&mut c, "TABLE b"), ["1|m|x"]);
    assert_eq!(rows(&mut c, "TABLE d"), ["1|m|x"]);
    run(&mut c, "SELECT sync.map_field('two', 'note', 'note')");
    synced(&mut c, "two");
    assert_eq!(rows(&mut c, "TABLE d"), ["1|m|y"]);
    let text = refusal(&mut c, "SELECT sync.unmap_field('two', 'nome')");
    assert!(text.starts_with("42703") && text.contains("\"name\""), "{text}");
    assert!(refusal(&mut c, "SELECT sync.unmap_field('nowhere', 'x')").starts_with("42704"));
}

#[test]
fn what_was_exported_makes_the_same_again() {
    let (_db, mut c) = prepared(&format!("{TABLES} {BOTH}"));
    run(
        &mut c,
        r#"SELECT sync.create_connection('crm', '{"type": "salesforce", "credentials": {"instance_url": "https://acme.my.salesforce.com", "auth_type": "client_credentials"}}');
           SELECT sync.set_secret('crm', client_id => 'theid', client_secret => 'thesecret')"#,
    );
    let file = query_one(&mut c, "SELECT sync.export()");
    assert!(file.contains("acme.my.salesforce.com") && !file.contains("thesecret"), "{file}");
    let import = |rest: &str| {
        format!("SELECT kind, name, action FROM sync.import('{}'{rest})", file.replace('\'', "''"))
    };
    assert_eq!(
        rows(&mut c, &import("")),
        ["connection|crm|unchanged", "sync|one|unchanged", "sync|two|unchanged"]
    );
    // Somebody has changed one, dropped another and made a third.
    run(
        &mut c,
        r#"SELECT sync.alter_sync('one', '{"delete_limit": 5}'); SELECT sync.drop_sync('two');
           SELECT sync.alter_connection('crm', '{"credentials": {"api_version": "61.0"}}');
           SELECT sync.create_sync('three', '{"source": "d", "target": "c"}')"#,
    );
    let differs =
        ["connection|crm|changed", "sync|one|changed", "sync|two|created", "sync|three|dropped"];
    assert_eq!(rows(&mut c, &import(", dry_run => true, drop_missing => true")), differs);
    assert_eq!(rows(&mut c, "SELECT sync FROM sync.status ORDER BY sync"), ["one", "three"]);
    assert_eq!(rows(&mut c, &import(", drop_missing => true")), differs);
    assert_eq!(query_one(&mut c, "SELECT sync.export()"), file);
    run(
        &mut c,
        "SELECT sync.drop_sync('one'); SELECT sync.drop_sync('two'); SELECT sync.drop_connection('crm')",
    );
    rows(&mut c, &import(""));
    assert_eq!(query_one(&mut c, "SELECT sync.export()"), file);
    let one = query_one(&mut c, "SELECT sync.export('one')");
    assert!(one.contains("\"one\"") && !one.contains("\"two\"") && !one.contains("crm"), "{one}");
    for (document, state, says) in [
        ("[]", "22023", "object"),
        (r#"{"sync_ext": 2}"#, "22023", "it is 2"),
        (r#"{"sync_ext": 1, "sync": {}}"#, "22023", "\"sync\""),
        (r#"{"sync_ext": 1, "syncs": []}"#, "22023", "\"syncs\""),
        (
            r#"{"sync_ext": 1, "syncs": {"four": {"sources": "a"}}}"#,
            "22023",
            "\"four\" of \"syncs\"",
        ),
    ] {
        let text = refusal(&mut c, &format!("SELECT * FROM sync.import('{document}')"));
        assert!(text.starts_with(state) && text.contains(says), "{text}");
    }
    assert!(refusal(&mut c, "SELECT sync.export('nowhere')").starts_with("42704"));
}

#[test]
fn a_plan_says_what_a_change_would_do_and_does_nothing() {
    let (_db, mut c) = prepared(&format!("{TABLES} INSERT INTO a VALUES (1, 'n', 'x'); {BOTH}"));
    synced(&mut c, "one");
    let plan = |c: &mut cluster::postgres::Client, patch: &str| {
        rows(c, &format!("SELECT what, detail, figure FROM sync.plan('one', '{patch}')"))
    };
    let lines = plan(
        &mut c,
        r#"{"sync_type": "bidirectional", "performance_settings": {"batch_size": 7}, "exclude_fields": ["note"]}"#,
    );
    for line in [
        "change|exclude_fields: [\"note\"] instead of nothing|",
        "change|performance_settings: {\"batch_size\":7} instead of nothing|",
        "change|sync_type: \"bidirectional\" instead of nothing|",
        "effect|changes of public.b are captured|",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line}: {lines:#?}");
    }
    assert!(lines.iter().any(|l| {
        l.starts_with("effect|the records of public.a are gone through once and compared|")
    }));
    assert!(lines.iter().any(|l| l.starts_with("advice|") && l.contains("id, name")), "{lines:#?}");
    assert!(plan(&mut c, "{}")[0].starts_with("change|the document is what runs already"));
    assert_eq!(query_one(&mut c, "SELECT direction FROM sync.status WHERE sync = 'one'"), "->");
    let new = rows(
        &mut c,
        r#"SELECT what, figure FROM sync.plan('new', '{"source": "a", "target": "c", "include_fields": ["id", "name"]}')"#,
    );
    assert!(new.iter().any(|l| l.starts_with("first load: rows|")), "{new:?}");
    assert!(!new.iter().any(|l| l.starts_with("advice")), "{new:?}");
}
