//! Databases in other encodings than UTF-8: names, documents, values and errors pass the border.

use cluster::postgres::Client;
use pgrx_tests::{Db, Shared, query_one, refusal, rows, run};

/// A fresh database in an encoding, with the extension in it.
#[track_caller]
fn encoded(encoding: &str) -> (Db<'static>, Client) {
    let db = Shared::database();
    let mut admin = db.cluster().connect("postgres").unwrap();
    run(&mut admin, &format!("DROP DATABASE {}", db.name()));
    run(
        &mut admin,
        &format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'",
            db.name()
        ),
    );
    let mut client = db.connect();
    assert_eq!(query_one(&mut client, "SHOW server_encoding"), encoding);
    run(&mut client, "CREATE EXTENSION sync_ext");
    (db, client)
}

/// Waits until the sync is settled; returns how many records it parked.
#[track_caller]
fn settle(client: &mut Client, sync: &str) -> u64 {
    let answer =
        query_one(client, &format!("SELECT settled, parked FROM sync.wait('{sync}', '60s')"));
    let Some(parked) = answer.strip_prefix("t|") else {
        let state = rows(client, "SELECT state, detail FROM sync.status");
        panic!("{sync} did not settle: {state:?}");
    };
    parked.parse().unwrap()
}

/// Encodings, and a word that has characters beyond ASCII in each, one of them hostile.
const WORDS: [(&str, &str); 4] = [
    ("LATIN1", r#"Größe "é'"#),
    ("WIN1252", r#"€uro "’'"#),
    ("LATIN2", r#"Łódź "č'"#),
    ("EUC_JP", r#"日本語 "表'"#),
];

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn json(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\\\"")).replace('\'', "''")
}

/// P1, P2: names of everything and values travel both ways, with a transformation.
#[test]
fn names_and_values_pass_in_every_encoding() {
    for (encoding, word) in WORDS {
        let (_db, mut c) = encoded(encoding);
        let (name, quoted, value) = (text(word), ident(word), text(word));
        run(
            &mut c,
            &format!(
                "CREATE SCHEMA {quoted};
                 CREATE TYPE {quoted} AS ENUM ('x', {value});
                 CREATE TABLE {quoted}.{quoted} ({quoted} text PRIMARY KEY, v text, e {quoted}, t text);
                 CREATE TABLE b ({quoted} text PRIMARY KEY, v text, e {quoted}, t text);
                 INSERT INTO {quoted}.{quoted} VALUES ({value}, {value}, {value}, 'old');"
            ),
        );
        let document = format!(
            r#"{{"source": {{"table": {table}}}, "target": {{"table": "b"}}, "sync_type": "bidirectional",
                 "field_mappings": [{{"source": {column}, "target": {column}}}, {{"source": "v", "target": "v"}},
                                    {{"source": "e", "target": "e"}},
                                    {{"source": "t", "target": "t", "transformation": {sql}}}]}}"#,
            table = json(&format!("{quoted}.{quoted}")),
            column = json(word),
            sql = json(&format!("t || {value}")),
        );
        let made = query_one(&mut c, &format!("SELECT sync.create_sync({name}, '{document}')"));
        assert!(made.contains(word), "{made}");
        assert_eq!(settle(&mut c, &word.replace('\'', "''")), 0);
        assert_eq!(
            query_one(&mut c, "TABLE b"),
            format!("{word}|{word}|{word}|old{word}"),
            "{encoding}"
        );
        run(&mut c, &format!("UPDATE b SET v = v || {value} || 'b', e = 'x'"));
        run(&mut c, &format!("INSERT INTO b VALUES ('2' || {value}, 'new', {value}, NULL)"));
        assert_eq!(settle(&mut c, &word.replace('\'', "''")), 0);
        assert_eq!(
            rows(&mut c, &format!("SELECT v, e FROM {quoted}.{quoted} ORDER BY v DESC LIMIT 2")),
            if word < "new" {
                vec![format!("new|{word}"), format!("{word}{word}b|x")]
            } else {
                rows(&mut c, "SELECT v, e FROM b ORDER BY v DESC LIMIT 2")
            }
        );
        // What people read: documents, the log, the state.
        assert_eq!(
            query_one(
                &mut c,
                &format!(
                    "SELECT sync.show({name}) -> 'field_mappings' -> 0 ->> 'source' = {value}"
                )
            ),
            "t"
        );
        assert_eq!(
            query_one(
                &mut c,
                &format!(
                    "SELECT sync, key, new ->> {value}, new ->> 'v', changed::text FROM sync.change_log
                      WHERE operation = 'UPDATE' AND origin = 'user'"
                )
            ),
            format!("{word}|{word}|{word}|{word}{word}b|[\"v\", \"e\"]"),
            "{encoding}"
        );
        assert_eq!(query_one(&mut c, "SELECT sync FROM sync.status"), word);
        run(
            &mut c,
            &format!("DELETE FROM b; SELECT sync.pause({name}); SELECT sync.resume({name})"),
        );
        assert_eq!(settle(&mut c, &word.replace('\'', "''")), 0);
        assert_eq!(query_one(&mut c, &format!("SELECT count(*) FROM {quoted}.{quoted}")), "0");
        // Errors name things in their own characters.
        let refused = refusal(&mut c, &format!("SELECT sync.show({value} || '!')"));
        assert!(
            refused.starts_with(&format!("42704 sync \"{word}!\" does not exist")),
            "{refused}"
        );
        assert!(refused.contains(&format!("There are: {word}.")), "{refused}");
        run(&mut c, &format!("SELECT sync.drop_sync({name})"));
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
        // Gone and made again.
        run(&mut c, "DROP EXTENSION sync_ext CASCADE; CREATE EXTENSION sync_ext");
        run(&mut c, &format!("SELECT sync.create_sync({name}, '{document}')"));
        assert_eq!(settle(&mut c, &word.replace('\'', "''")), 0);
    }
}

const TWO: &str = r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
    SELECT sync.create_sync('s', '{"source": {"table": "a"}, "target": {"table": "b"}, "sync_type": "bidirectional"}')"#;

/// P2, P12: what a user's trigger raises is kept in its own characters, and both values of a conflict.
#[test]
fn errors_of_user_triggers_and_conflicts_keep_their_characters() {
    for (encoding, word) in WORDS {
        let (_db, mut c) = encoded(encoding);
        let value = text(word);
        run(&mut c, TWO);
        run(&mut c, "INSERT INTO a VALUES (1, 'one')");
        settle(&mut c, "s");
        run(
            &mut c,
            &format!(
                "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
                   BEGIN
                     RAISE EXCEPTION '%', {value};
                   EXCEPTION WHEN raise_exception THEN
                     IF SQLERRM <> {value} THEN RAISE EXCEPTION 'garbled'; END IF;
                   END;
                   IF NEW.v LIKE 'raise%' THEN
                     RAISE EXCEPTION '% %', {value}, NEW.v USING DETAIL = {value} || 'd', HINT = {value} || 'h';
                   END IF;
                   RETURN NEW; END $f$;
                 CREATE TRIGGER no BEFORE INSERT OR UPDATE ON b FOR EACH ROW EXECUTE FUNCTION no()"
            ),
        );
        run(&mut c, &format!("INSERT INTO a VALUES (2, 'raise' || {value}), (3, {value})"));
        assert_eq!(settle(&mut c, "s"), 1, "{encoding}");
        assert_eq!(
            query_one(&mut c, "SELECT key, message FROM sync.queue"),
            format!("2|{word} raise{word}")
        );
        assert_eq!(
            query_one(&mut c, "SELECT DISTINCT detail, hint FROM sync.errors"),
            format!("{word}d|{word}h")
        );
        assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 3"), word);
        run(&mut c, &format!("SELECT sync.discard(id, {value}) FROM sync.queue"));
        assert_eq!(
            query_one(&mut c, "SELECT message FROM sync.errors WHERE message LIKE 'discarded%'"),
            format!("discarded: {word}")
        );
        // Both sides move away from the base while the sync rests.
        run(&mut c, "SELECT sync.pause('s')");
        run(&mut c, &format!("UPDATE a SET v = {value} || 'a' WHERE id = 1"));
        run(&mut c, &format!("UPDATE b SET v = {value} || 'b' WHERE id = 1"));
        run(&mut c, "SELECT sync.resume('s')");
        assert_eq!(settle(&mut c, "s"), 0);
        assert_eq!(
            query_one(&mut c, "SELECT field, base, source_value, target_value FROM sync.conflicts"),
            format!("v|one|{word}a|{word}b"),
            "{encoding}"
        );
    }
}

/// The server refuses a character that the encoding lacks before anything of it is stored.
#[test]
fn a_document_with_a_character_that_the_encoding_lacks_is_refused_whole() {
    for (encoding, lacking) in [("LATIN1", '日'), ("EUC_JP", 'ก')] {
        let (_db, mut c) = encoded(encoding);
        run(&mut c, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
        for character in [lacking.to_string(), format!("\\u{:04x}", u32::from(lacking))] {
            let refused = refusal(
                &mut c,
                &format!(
                    r#"SELECT sync.create_sync('s', '{{"source": "a", "target": "b{character}"}}')"#
                ),
            );
            assert!(refused.starts_with("22P05") && refused.contains(encoding), "{refused}");
        }
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
        run(&mut c, r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b"}')"#);
        assert_eq!(settle(&mut c, "s"), 0);
    }
}

/// P12: bytes that are no character travel as they are; where people read them they are marked, and
/// a name made of them is refused.
#[test]
fn bytes_that_are_no_character_stop_nothing() {
    let (_db, mut c) = encoded("WIN1252");
    run(&mut c, TWO);
    run(
        &mut c,
        r"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
            IF NEW.id = 2 THEN RAISE EXCEPTION 'bad %', NEW.v; END IF; RETURN NEW; END $f$;
          CREATE TRIGGER no BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION no();
          INSERT INTO a VALUES (1, E'x\x81y'), (2, E'x\x81y')",
    );
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(query_one(&mut c, r"SELECT v = E'x\x81y' FROM b"), "t");
    assert_eq!(query_one(&mut c, "SELECT message FROM sync.queue"), r"bad x\uFFFDy");
    assert_eq!(
        query_one(&mut c, "SELECT DISTINCT new ->> 'v' FROM sync.change_log WHERE key = '1'"),
        r"x\uFFFDy"
    );
    run(
        &mut c,
        r"DO $d$ BEGIN EXECUTE pg_catalog.format('CREATE TABLE %I (id int PRIMARY KEY)', E'x\x81y'); END $d$;
          CREATE TABLE d (id int PRIMARY KEY)",
    );
    let refused = refusal(
        &mut c,
        r#"SELECT sync.create_sync('m', pg_catalog.jsonb_build_object('source', E'x\x81y', 'target', 'd'))"#,
    );
    assert!(refused.starts_with("42P01 table "), "{refused}");
    assert!(refused.contains(r"x\uFFFDy") && refused.contains("HINT"), "{refused}");
    // The worker has gone on all the time.
    run(&mut c, "UPDATE b SET v = 'mended' WHERE id = 1");
    settle(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT v FROM a WHERE id = 1"), "mended");
}

/// A column of a synced table renamed to bytes that are no character: the sync says so, and goes on
/// once it has a name again.
#[test]
fn a_column_whose_name_is_no_text_holds_up_its_sync_only() {
    let (db, mut c) = encoded("WIN1252");
    run(&mut c, TWO);
    run(&mut c, "INSERT INTO a VALUES (1, 'one')");
    settle(&mut c, "s");
    run(
        &mut c,
        r"DO $d$ BEGIN
            EXECUTE pg_catalog.format('ALTER TABLE a RENAME v TO %I', E'x\x81y');
            EXECUTE pg_catalog.format('ALTER TABLE b RENAME v TO %I', E'x\x81y');
          END $d$",
    );
    let mut state = String::new();
    db.wait_until("the sync says what is wrong", || {
        run(&mut c, "INSERT INTO a (id) SELECT max(id) + 1 FROM a");
        state = rows(&mut c, "SELECT state, detail FROM sync.status").join(";");
        state.contains("no character")
    });
    assert!(state.contains("WIN1252"), "{state}");
    run(
        &mut c,
        r"DO $d$ BEGIN
            EXECUTE pg_catalog.format('ALTER TABLE a RENAME %I TO v', E'x\x81y');
            EXECUTE pg_catalog.format('ALTER TABLE b RENAME %I TO v', E'x\x81y');
          END $d$",
    );
    db.wait_until("the sync has caught up", || {
        query_one(&mut c, "SELECT (SELECT count(*) FROM a) = (SELECT count(*) FROM b)") == "t"
    });
}

/// Databases in different encodings side by side; their own names need not be text in theirs.
#[test]
fn databases_of_several_encodings_and_foreign_names_live_in_one_cluster() {
    let (utf8, mut u) = encoded("UTF8");
    let (latin1, mut l) = encoded("LATIN1");
    let (eucjp, mut e) = encoded("EUC_JP");
    drop((u, l, e));
    let mut admin = utf8.cluster().connect("postgres").unwrap();
    for (db, name) in [(&latin1, "Gr\u{f6}\u{df}e \"1"), (&eucjp, "Gr\u{f6}\u{df}e 日本")] {
        // The worker is still connected for a moment.
        let rename = format!("ALTER DATABASE {} RENAME TO {}", db.name(), ident(name));
        db.wait_until("the database can be renamed", || {
            let end = format!(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = '{}'",
                db.name()
            );
            admin.batch_execute(&end).is_ok() && admin.batch_execute(&rename).is_ok()
        });
    }
    u = utf8.connect();
    l = utf8.cluster().connect("Größe \"1").unwrap();
    e = utf8.cluster().connect("Größe 日本").unwrap();
    for c in [&mut u, &mut l, &mut e] {
        run(c, TWO);
    }
    for (c, word) in [(&mut u, "ß日"), (&mut l, "ßé"), (&mut e, "日本")] {
        run(c, &format!("INSERT INTO a VALUES (1, '{word}')"));
        assert_eq!(settle(c, "s"), 0);
        assert_eq!(query_one(c, "TABLE b"), format!("1|{word}"));
    }
    // The mark of a database can be taken off under such a name too.
    run(&mut e, "DROP EXTENSION sync_ext CASCADE; CREATE EXTENSION sync_ext");
    run(&mut e, "DROP TABLE a, b");
    run(&mut e, TWO);
    run(&mut e, "INSERT INTO a VALUES (1, '日')");
    assert_eq!(settle(&mut e, "s"), 0);
    run(&mut e, "DROP EXTENSION sync_ext CASCADE");
    let marked =
        "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                   WHERE d.datname = 'Größe 日本'";
    utf8.wait_until("the mark is gone", || query_one(&mut admin, marked) == "0");
    drop((l, e));
    for name in ["Größe \"1", "Größe 日本"] {
        run(&mut admin, &format!("DROP DATABASE {} WITH (FORCE)", ident(name)));
    }
}
