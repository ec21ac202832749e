//! The tables and syncs of the campaign, and the journal in which users' transactions note what they did.

use cluster::postgres::Client;
use pgrx_tests::{query_one, run};

/// A pair of tables: the names of its columns on both sides, key first. `peer` columns are written so
/// that they compare with the source's.
pub(crate) struct Pair {
    pub(crate) sync: &'static str,
    pub(crate) source: &'static str,
    pub(crate) source_columns: &'static str,
    pub(crate) target: &'static str,
    pub(crate) target_columns: &'static str,
    pub(crate) two_way: bool,
}

pub(crate) const PAIRS: [Pair; 6] = [
    Pair {
        sync: "one",
        source: "shop.one",
        source_columns: "id, f, g",
        target: "peer.one",
        target_columns: "id, f, g",
        two_way: false,
    },
    Pair {
        sync: "two",
        source: "shop.two",
        source_columns: "id, f, g, h",
        target: "peer.two",
        target_columns: "id, f, g, h",
        two_way: true,
    },
    Pair {
        sync: "mapped",
        source: "shop.mapped",
        source_columns: "id, f, g, h",
        target: "peer.mapped",
        target_columns: "shop_id, label, mail, substr(tel, 2)",
        two_way: true,
    },
    Pair {
        sync: "parts",
        source: "shop.parts",
        source_columns: "region, id, f",
        target: "peer.parts",
        target_columns: "region, id, f",
        two_way: false,
    },
    Pair {
        sync: "parent",
        source: "shop.parent",
        source_columns: "id, f",
        target: "peer.parent",
        target_columns: "id, f",
        two_way: false,
    },
    Pair {
        sync: "child",
        source: "shop.child",
        source_columns: "id, parent, f",
        target: "peer.child",
        target_columns: "id, parent, f",
        two_way: false,
    },
];

/// Rows of `shop.two` and `peer.two` that only bulk statements touch.
pub(crate) const BULK: std::ops::Range<u64> = 1000..1300;
/// Rows from here on belong to transactions that are left open.
pub(crate) const HELD: u64 = 9000;
/// What `peer.one` refuses.
pub(crate) const POISON: &str = "poison";

/// How slow the expression of the pair `mapped` is: a slow one brings a job worker.
pub(crate) fn set_pace(client: &mut Client, seconds: f64) -> Result<(), cluster::postgres::Error> {
    client.batch_execute(&format!("UPDATE shop.pace SET seconds = {seconds}"))
}

pub(crate) fn create(client: &mut Client) {
    run(
        client,
        "CREATE EXTENSION IF NOT EXISTS sync_ext; CREATE SCHEMA shop; CREATE SCHEMA peer;
         CREATE TABLE shop.one (id int PRIMARY KEY, f text, g text);
         CREATE TABLE peer.one (id int PRIMARY KEY, f text, g text CONSTRAINT no_poison CHECK (g <> 'poison'));
         CREATE TABLE shop.two (id int PRIMARY KEY, f text, g text, h text);
         CREATE TABLE peer.two (id int PRIMARY KEY, f text, g text, h text);
         CREATE TABLE shop.mapped (id serial PRIMARY KEY, f text, g text, h text);
         CREATE TABLE peer.mapped (id serial PRIMARY KEY, shop_id int UNIQUE, label text, mail text, tel text);
         ALTER SEQUENCE peer.mapped_id_seq RESTART 500000;
         CREATE TABLE shop.pace (seconds float8); INSERT INTO shop.pace VALUES (0);
         CREATE FUNCTION shop.dial(h text) RETURNS text LANGUAGE plpgsql STABLE AS
             'BEGIN PERFORM pg_sleep(p.seconds) FROM shop.pace p WHERE p.seconds > 0; RETURN ''+'' || h; END';
         CREATE TABLE shop.parts (region text, id int, f text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE shop.parts_n PARTITION OF shop.parts FOR VALUES IN ('n');
         CREATE TABLE shop.parts_s PARTITION OF shop.parts FOR VALUES IN ('s');
         CREATE TABLE peer.parts (region text, id int, f text, PRIMARY KEY (region, id));
         CREATE TABLE shop.parent (id int PRIMARY KEY, f text);
         CREATE TABLE shop.child (id int PRIMARY KEY, parent int NOT NULL REFERENCES shop.parent, f text);
         CREATE TABLE peer.parent (id int PRIMARY KEY, f text);
         CREATE TABLE peer.child (id int PRIMARY KEY, parent int NOT NULL REFERENCES peer.parent, f text);
         CREATE TABLE journal (no bigserial PRIMARY KEY, tab text, peer bool, op text, key text, field text, old text, new text);
         CREATE INDEX ON journal (old); CREATE INDEX ON journal (new); CREATE INDEX ON journal (tab, key);",
    );
    // Only users' edits are noted; the worker has another name.
    run(
        client,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE
             b jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
             a jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
             k text := CASE WHEN TG_ARGV[0] = 'parts' THEN COALESCE(a, b) ->> 'region' || '/' ELSE '' END
                       || COALESCE(COALESCE(a, b) ->> 'shop_id', COALESCE(a, b) ->> 'id');
             c text;
         BEGIN
             IF current_setting('application_name') = 'writer' THEN
                 FOREACH c IN ARRAY string_to_array(TG_ARGV[1], ',') LOOP
                     IF (b ->> c) IS DISTINCT FROM (a ->> c) THEN
                         INSERT INTO journal (tab, peer, op, key, field, old, new)
                         VALUES (TG_ARGV[0], TG_TABLE_SCHEMA = 'peer', left(TG_OP, 1), k, c, ltrim(b ->> c, '+'), ltrim(a ->> c, '+'));
                     ELSIF TG_OP = 'UPDATE' AND (b ->> 'id') IS DISTINCT FROM (a ->> 'id') THEN
                         INSERT INTO journal (tab, peer, op, key, field, new)
                         VALUES (TG_ARGV[0], TG_TABLE_SCHEMA = 'peer', 'R', k, c, ltrim(a ->> c, '+'));
                     END IF;
                 END LOOP;
             END IF;
             RETURN NULL;
         END $$;",
    );
    for (table, fields) in [
        ("shop.one", "f,g"),
        ("shop.two", "f,g,h"),
        ("peer.two", "f,g,h"),
        ("shop.mapped", "f,g,h"),
        ("peer.mapped", "label,mail,tel"),
        ("shop.parts", "f"),
        ("shop.parent", "f"),
        ("shop.child", "f"),
    ] {
        let name = table.split('.').nth(1).unwrap_or_default();
        run(
            client,
            &format!(
                "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table}
                 FOR EACH ROW EXECUTE FUNCTION note('{name}', '{fields}')"
            ),
        );
    }
    for pair in &PAIRS {
        create_sync(client, pair);
    }
    run(
        client,
        &format!(
            "INSERT INTO shop.two SELECT i, 'f0-' || i, 'g0-' || i, 'h0-' || i FROM generate_series({}, {}) i;
             INSERT INTO shop.parent SELECT i, 'p0-' || i FROM generate_series(1, 10) i;",
            BULK.start,
            BULK.end - 1
        ),
    );
    for pair in &PAIRS {
        let settled = query_one(
            client,
            &format!("SELECT settled FROM sync.wait('{}', '30 seconds')", pair.sync),
        );
        assert_eq!(settled, "t", "sync {} before anything happens", pair.sync);
    }
}

fn create_sync(client: &mut Client, pair: &Pair) {
    let fields = if pair.sync == "mapped" {
        r#", "field_mappings": [
            {"source": "id", "target": "shop_id"},
            {"source": "f", "target": "label"},
            {"source": "g", "target": "mail"},
            {"source": "h", "target": "tel", "transformation": "shop.dial(h)", "reverse": "substr(tel, 2)"}]"#
    } else {
        ""
    };
    // Small pieces, so that batches are cut where they can be, and quick retries.
    let document = format!(
        r#"{{"source": {{"table": "{}"}}, "target": {{"table": "{}"}}, "sync_type": "{}", "delete_limit": 1000000,
            "performance_settings": {{"batch_size": 20}},
            "error_handling": {{"retry_strategy": {{"max_attempts": 1000, "initial_delay_seconds": 0.05, "backoff_factor": 1.05}}}}{fields}}}"#,
        pair.source,
        pair.target,
        if pair.two_way { "bidirectional" } else { "one_way" },
    );
    run(
        client,
        &format!("SELECT sync.create_sync('{}', '{}')", pair.sync, document.replace('\'', "''")),
    );
}
