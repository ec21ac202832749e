//! The invariants, as queries over both sides, the journal and the conflicts.

use std::time::Instant;

use cluster::postgres::Client;
use cluster::{PATIENCE, poll};
use pgrx_tests::{query_one, rows};

use super::schema::{PAIRS, POISON, Pair};

/// Waits until nothing is left to do but the row that the peer refuses; says what is, if it takes too long.
pub(crate) fn settle(client: &mut Client) -> Result<(), String> {
    let begun = Instant::now();
    let mut left = Vec::new();
    let settled = poll(PATIENCE, || {
        left.clear();
        for pair in &PAIRS {
            let sql = format!("SELECT settled FROM sync.wait('{}', '10 seconds')", pair.sync);
            if query_one(client, &sql) != "t" {
                left.push(format!("sync {} is not settled", pair.sync));
            }
        }
        left.extend(rows(
            client,
            "SELECT sync, key, \"table\", state, attempts, sqlstate, message, detail FROM sync.queue
              WHERE NOT (sync = 'one' AND key = '7' AND EXISTS (SELECT FROM shop.one WHERE id = 7 AND g = 'poison')) LIMIT 20",
        ));
        left.is_empty()
    });
    if settled {
        return Ok(());
    }
    Err(format!(
        "not settled after {:?}: {left:#?}\nstatus: {:#?}\nerrors: {:#?}",
        begun.elapsed(),
        rows(client, "SELECT * FROM sync.status"),
        rows(client, "SELECT * FROM sync.errors LIMIT 10"),
    ))
}

/// Everything that is wrong, with the story of the rows concerned.
pub(crate) fn all(client: &mut Client) -> Vec<String> {
    let mut wrong = Vec::new();
    for pair in &PAIRS {
        let found = equal(client, pair);
        if !found.is_empty() {
            wrong.push(format!("P1: {} and {} differ:", pair.source, pair.target));
            wrong.extend(found.iter().cloned());
            for key in keys(&found).iter().take(3) {
                wrong.extend(story(client, pair, key));
            }
        }
    }
    for (what, sql) in
        [("P2: values that are nowhere", LOST), ("P4: deleted rows that came back", REVIVED)]
    {
        let found = rows(client, sql);
        if !found.is_empty() {
            wrong.push(format!("{what}:"));
            wrong.extend(found.iter().cloned());
            for line in found.iter().take(3) {
                let mut parts = line.split('|');
                let (table, key) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                if let Some(pair) = PAIRS.iter().find(|p| p.sync == table) {
                    wrong.extend(story(client, pair, key));
                    // A record of the mapped pair has another key on the other side.
                    let value = parts.nth(1).unwrap_or("");
                    let sql = format!("SELECT id FROM {} WHERE f = '{value}'", pair.source);
                    for other in rows(client, &sql).iter().filter(|other| *other != key) {
                        wrong.extend(story(client, pair, other));
                    }
                }
            }
        }
    }
    wrong
}

/// P1: both sides equal row by row; the row that the peer refuses is left out, and it alone (P12).
fn equal(client: &mut Client, pair: &Pair) -> Vec<String> {
    let except = if pair.sync == "one" {
        format!(" WHERE id NOT IN (SELECT id FROM shop.one WHERE id = 7 AND g = '{POISON}')")
    } else {
        String::new()
    };
    let source = format!("SELECT {} FROM {}{except}", pair.source_columns, pair.source);
    let target = format!("SELECT {} FROM {}{except}", pair.target_columns, pair.target);
    rows(
        client,
        &format!(
            "SELECT * FROM ({source} EXCEPT ALL {target}) a, (VALUES ('source')) v
             UNION ALL SELECT * FROM ({target} EXCEPT ALL {source}) b, (VALUES ('target')) v ORDER BY 1, 2 LIMIT 30"
        ),
    )
}

fn keys(lines: &[String]) -> Vec<String> {
    let mut keys: Vec<String> =
        lines.iter().filter_map(|l| l.split('|').next().map(str::to_owned)).collect();
    keys.dedup();
    keys
}

/// P2: a value that a user committed is still there, or somebody who saw it replaced or deleted it, or
/// it is in the conflicts.
const LOST: &str = "
    WITH there (value) AS MATERIALIZED (
        SELECT unnest(ARRAY[f, g]) FROM shop.one UNION SELECT unnest(ARRAY[f, g, h]) FROM shop.two
        UNION SELECT unnest(ARRAY[f, g, h]) FROM shop.mapped UNION SELECT f FROM shop.parts
        UNION SELECT f FROM shop.parent UNION SELECT f FROM shop.child),
    losers (value) AS MATERIALIZED (
        SELECT ltrim(source_value, '+') FROM sync.conflicts
        UNION SELECT ltrim(target_value, '+') FROM sync.conflicts),
    suspects AS MATERIALIZED (
        SELECT j.* FROM journal j
         WHERE j.new LIKE 'v%' AND j.op <> 'R'
           AND NOT EXISTS (SELECT FROM there t WHERE t.value = j.new)
           AND NOT EXISTS (SELECT FROM journal o WHERE o.old = j.new AND o.no > j.no)
           AND NOT EXISTS (SELECT FROM losers l WHERE l.value = j.new))
    SELECT j.tab, j.key, j.field, j.new, j.peer, j.no FROM suspects j ORDER BY j.no LIMIT 20";

/// P4: a value that a user deleted with its row is there again, nobody wrote it anew, and no conflict says
/// that the record was restored because the other side had edited it, or that this very value won (a row deleted and
/// inserted again beside one whose key was changed). A record of the mapped pair is known by
/// its other key until it has been given one.
const REVIVED: &str = "
    WITH there (tab, value) AS MATERIALIZED (
        SELECT 'one', f FROM shop.one UNION SELECT 'two', f FROM shop.two
        UNION SELECT 'mapped', f FROM shop.mapped UNION SELECT 'parts', f FROM shop.parts
        UNION SELECT 'parent', f FROM shop.parent UNION SELECT 'child', f FROM shop.child),
    suspects AS MATERIALIZED (
        SELECT j.* FROM journal j JOIN there t ON t.tab = j.tab AND t.value = j.old
         WHERE j.op = 'D' AND j.field IN ('f', 'label')
           AND NOT EXISTS (SELECT FROM journal k WHERE k.new = j.old AND k.no > j.no))
    SELECT j.tab, j.key, j.field, j.old, j.peer, j.no FROM suspects j
     WHERE NOT EXISTS (SELECT FROM sync.conflicts c JOIN journal k ON k.tab = c.sync AND k.key = c.key
                        WHERE c.kind = 'update_deleted' AND c.sync = j.tab AND j.old IN (k.new, k.old))
       AND NOT EXISTS (SELECT FROM sync.conflicts r JOIN journal k ON k.tab = r.sync AND k.key = r.key
                              JOIN journal o ON o.tab = k.tab AND k.old IN (o.old, o.new)
                        WHERE r.kind = 'update_deleted' AND r.sync = 'mapped' AND j.tab = 'mapped' AND o.key = j.key)
       AND NOT EXISTS (SELECT FROM sync.conflicts c WHERE c.sync = j.tab
                        AND j.old = CASE c.winner WHEN 'source' THEN c.source_value ELSE c.target_value END)
     ORDER BY j.no LIMIT 20";

/// All that is known of a record: for whoever has to find out what went wrong.
fn story(client: &mut Client, pair: &Pair, key: &str) -> Vec<String> {
    let mut lines = vec![format!("--- {} key {key}", pair.sync)];
    let sql = [
        ("source", format!("SELECT *, xmin, ctid FROM {} WHERE id::text = '{key}'", pair.source)),
        ("target", format!("SELECT *, xmin, ctid FROM {} WHERE to_jsonb({1})->>'shop_id' = '{key}' OR id::text = '{key}'", pair.target, pair.sync)),
        (
            "links",
            format!(
                "SELECT l.key, l.remote_id, l.deleted_at, encode(l.base, 'escape'), l.xmin FROM sync._link l JOIN sync._sync s ON s.id = l.sync
                  WHERE s.name = '{}' AND (l.key = (SELECT q.key FROM sync._queue q WHERE q.key_text = '{key}' LIMIT 1)
                        OR position(int4send(('0' || regexp_replace('{key}', '\\D', '', 'g'))::int) IN reverse_bytes(l.key)) > 0) LIMIT 10",
                pair.sync
            ),
        ),
        ("queue", format!("SELECT * FROM sync.queue WHERE sync = '{}' AND key = '{key}'", pair.sync)),
        ("journal", format!("SELECT * FROM (SELECT * FROM journal WHERE tab = '{}' AND key = '{key}' ORDER BY no DESC LIMIT 30) j ORDER BY no", pair.sync)),
        ("conflicts", format!("SELECT id, kind, field, base, source_value, target_value, winner, at FROM sync.conflicts WHERE sync = '{}' AND key = '{key}' ORDER BY id DESC LIMIT 10", pair.sync)),
        (
            "changes",
            format!(
                "SELECT * FROM (SELECT seq, \"table\", operation, status, origin, old, new, captured_at, synced_at FROM sync.change_log
                  WHERE sync = '{0}' AND (key = '{key}' OR old::text LIKE '%{key}%' OR new::text LIKE '%{key}%') ORDER BY seq DESC LIMIT 30) c ORDER BY seq",
                pair.sync
            ),
        ),
    ];
    for (what, sql) in sql {
        if what == "links" {
            // An int4 key is kept in the machine's byte order.
            let _ = client.batch_execute(
                "CREATE OR REPLACE FUNCTION pg_temp.noop() RETURNS void LANGUAGE sql AS $$ SELECT $$;
                 CREATE OR REPLACE FUNCTION public.reverse_bytes(b bytea) RETURNS bytea LANGUAGE sql AS $$
                     SELECT string_agg(substr(b, i, 1), '' ORDER BY i DESC) FROM generate_series(1, length(b)) i $$",
            );
        }
        lines.push(format!("  {what}:"));
        match client.simple_query(&sql) {
            Ok(_) => lines.extend(rows(client, &sql).iter().map(|r| format!("    {r}"))),
            Err(error) => lines.push(format!("    ({error})")),
        }
    }
    lines
}
