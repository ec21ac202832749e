//! The trigger generator: which tables can be captured and by which key, the triggers themselves,
//! and what is recorded of each table.

use crate::capture::wake;
use crate::engine::store;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, refuse};
use pgrx::pg_sys::{self, Oid};

/// The key of a table: the numbers of its columns and their equality operators. Refuses tables that
/// cannot be synced, saying why and what would help.
pub fn key_of(table: Oid, name: &str, which: &str) -> Result<(Vec<i16>, Vec<String>), Failure> {
    check_kind(table, name, which, false)?;
    key_index(table, name)
}

const POLLING: &str = "\"performance_settings\": {\"change_detection\": \"polling\"}";

/// Refuses what can be synced by no means, or only when it is `polled`.
pub fn check_kind(table: Oid, name: &str, which: &str, polled: bool) -> Result<(), Failure> {
    let facts = sql::read(
        "SELECT c.relkind, c.relpersistence, n.nspname, COALESCE(am.amname, 'heap'),
                EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) i.inhrelid
                         WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid AND NOT k.relispartition),
                EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid AND NOT c.relispartition),
                c.relispartition
           FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
           LEFT JOIN pg_catalog.pg_am am ON am.oid OPERATOR(pg_catalog.=) c.relam
          WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[Arg::Oid(table)],
    );
    let Some(row) = facts.first() else {
        return Err(refuse(
            "42P01",
            format!("the {which} table is gone"),
            "",
            "Restore it, or end the sync with sync.drop_sync.",
        ));
    };
    let text = |n: usize| row[n].as_deref().unwrap_or("");
    let no = |reason: &str, hint: &str| Err(cannot(name, reason, hint));
    let instead = |what: &str| {
        format!(
            "{what}, or have it read from time to time, as the source of a sync that goes one way: {POLLING}."
        )
    };
    match text(0) {
        "r" | "p" => {}
        "v" | "m" | "f" if polled => {}
        "v" => {
            return no(
                "It is a view, and a view has no changes of its own.",
                &instead("Sync the tables below it"),
            );
        }
        "m" => return no("It is a materialized view.", &instead("Sync the tables below it")),
        "f" => {
            return no(
                "It is a foreign table, whose changes this database does not see.",
                &instead("Sync the table where it lives"),
            );
        }
        _ => return no("It is not a table.", "Name a table."),
    }
    match text(1) {
        "p" => {}
        "u" => {
            return no(
                "It is unlogged: after a crash its rows would be gone without a trace.",
                &format!("ALTER TABLE {name} SET LOGGED;"),
            );
        }
        _ => return no("It is a temporary table.", "Name a table that lasts."),
    }
    if text(2) == "sync" || text(2) == "pg_catalog" || text(2) == "information_schema" {
        return no("It belongs to the system or to sync_ext itself.", "Name a table of your own.");
    }
    if text(3) != "heap" && !polled {
        return no(
            &format!("It is stored by the access method \"{}\".", text(3)),
            &format!("ALTER TABLE {name} SET ACCESS METHOD heap;"),
        );
    }
    if (text(4) == "t" || text(5) == "t") && !polled {
        return no(
            "It takes part in table inheritance, where a key does not hold across tables.",
            "Use declarative partitioning, or sync the child tables one by one after NO INHERIT.",
        );
    }
    Ok(())
}

fn cannot(name: &str, reason: &str, hint: &str) -> Failure {
    refuse("0A000", format!("{name} cannot be synced"), reason, hint)
}

/// The key of a table as its indexes have it.
pub fn key_index(table: Oid, name: &str) -> Result<(Vec<i16>, Vec<String>), Failure> {
    let no = |reason: &str, hint: &str| Err(cannot(name, reason, hint));
    let indexes = sql::read(
        "SELECT i.indisprimary, i.indimmediate,
                (SELECT pg_catalog.bool_and(a.attnotnull) FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::int2[])),
                i.indpred IS NULL AND i.indexprs IS NULL,
                (SELECT pg_catalog.string_agg(k.attnum::text, ' ' ORDER BY k.n) FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
                  WHERE k.n OPERATOR(pg_catalog.<=) i.indnkeyatts),
                (SELECT pg_catalog.string_agg(pg_catalog.format('%I.%s', ns.nspname, o.oprname), ' ' ORDER BY k.n)
                   FROM pg_catalog.unnest(i.indclass::oid[]) WITH ORDINALITY AS k(opclass, n)
                   JOIN pg_catalog.pg_opclass oc ON oc.oid OPERATOR(pg_catalog.=) k.opclass
                   JOIN pg_catalog.pg_amop ao ON ao.amopfamily OPERATOR(pg_catalog.=) oc.opcfamily AND ao.amopstrategy OPERATOR(pg_catalog.=) 3
                        AND ao.amoplefttype OPERATOR(pg_catalog.=) oc.opcintype AND ao.amoprighttype OPERATOR(pg_catalog.=) oc.opcintype
                   JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) ao.amopopr
                   JOIN pg_catalog.pg_namespace ns ON ns.oid OPERATOR(pg_catalog.=) o.oprnamespace),
                (SELECT pg_catalog.bool_and(t.typcategory OPERATOR(pg_catalog.<>) 'S' OR COALESCE(co.collisdeterministic, true) AND EXISTS (
                            SELECT FROM pg_catalog.pg_amproc ap
                             WHERE ap.amprocfamily OPERATOR(pg_catalog.=) oc.opcfamily AND ap.amprocnum OPERATOR(pg_catalog.=) 4
                               AND ap.amproclefttype OPERATOR(pg_catalog.=) oc.opcintype AND ap.amprocrighttype OPERATOR(pg_catalog.=) oc.opcintype))
                   FROM ROWS FROM (pg_catalog.unnest(i.indclass::oid[]), pg_catalog.unnest(i.indcollation::oid[])) AS k(opclass, coll)
                   JOIN pg_catalog.pg_opclass oc ON oc.oid OPERATOR(pg_catalog.=) k.opclass
                   JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) oc.opcintype
                   LEFT JOIN pg_catalog.pg_collation co ON co.oid OPERATOR(pg_catalog.=) k.coll)
           FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid OPERATOR(pg_catalog.=) i.indexrelid
           JOIN pg_catalog.pg_am am ON am.oid OPERATOR(pg_catalog.=) ic.relam
          WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisunique AND i.indisvalid AND am.amname OPERATOR(pg_catalog.=) 'btree'
          ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, i.indexrelid",
        &[Arg::Oid(table)],
    );
    let usable = |row: &&Vec<Option<String>>| (1..4).all(|n| row[n].as_deref() == Some("t"));
    // Links know a key by its bytes: 'A' and 'a' must be two keys.
    let exact = |row: &&Vec<Option<String>>| row[6].as_deref() == Some("t");
    if let Some(index) = indexes.iter().find(|row| usable(row) && exact(row)) {
        let words = |n: usize| {
            index[n].as_deref().unwrap_or("").split(' ').map(str::to_owned).collect::<Vec<_>>()
        };
        let key = words(4).iter().filter_map(|w| w.parse().ok()).collect();
        return Ok((key, words(5)));
    }
    if indexes.iter().any(|row| usable(&row)) {
        return no(
            "Its key takes texts for equal that are not the same: a column is of type citext or has a collation that is not deterministic.",
            &format!(
                "Create a unique index on NOT NULL columns of {name} that are compared exactly, for example on a uuid, a number, or a text with a deterministic collation."
            ),
        );
    }
    let deferrable =
        indexes.iter().any(|row| row[0].as_deref() == Some("t") && row[1].as_deref() != Some("t"));
    if deferrable {
        return no(
            "Its primary key is DEFERRABLE: two rows may have the same key for a while, so the order of changes is not known.",
            &format!(
                "Create an immediate unique index on NOT NULL columns of {name}, or make the primary key NOT DEFERRABLE."
            ),
        );
    }
    no(
        "It has no primary key and no other unique index on NOT NULL columns, so its rows cannot be told apart.",
        &format!("ALTER TABLE {name} ADD PRIMARY KEY (...);"),
    )
}

/// Refuses a partition of a captured table and the root of a captured partition: the row would be
/// captured twice.
pub fn check_tree(table: Oid, name: &str) -> Result<(), Failure> {
    let other = sql::as_extension(|| {
        sql::one(
            "SELECT c.relation::text FROM sync._capture c
              WHERE c.relation::pg_catalog.oid OPERATOR(pg_catalog.<>) $1
                AND (EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors($1) a WHERE a.relid::pg_catalog.oid OPERATOR(pg_catalog.=) c.relation::pg_catalog.oid)
                  OR EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.relation::pg_catalog.oid) a WHERE a.relid::pg_catalog.oid OPERATOR(pg_catalog.=) $1))",
            &[Arg::Oid(table)],
        )
    });
    match other {
        Some(other) => Err(refuse(
            "0A000",
            format!("{name} cannot be synced"),
            &format!(
                "It belongs to the same partitioned table as {other}, which is synced already."
            ),
            "Sync the partitioned table as a whole, or each of its partitions; sync.drop_sync ends a sync.",
        )),
        None => Ok(()),
    }
}

/// Name of the row trigger: it sorts before any name a person gives, and carries the table's number
/// so that attaching a partition never meets a trigger of the same name.
fn trigger_name(table: Oid) -> String {
    format!("!sync_ext_{}", table.to_u32())
}

/// Tables of a tree, none if it was dropped, that need a TRUNCATE trigger of their own: statement triggers are not cloned to
/// partitions.
fn tree(table: Oid) -> Vec<(Oid, String)> {
    sql::read(
        "SELECT r.relid, r.relid::pg_catalog.regclass::text
           FROM (SELECT $1 AS relid UNION SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) t) r
          WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) r.relid) ORDER BY 1",
        &[Arg::Oid(table)],
    )
    .into_iter()
    .filter_map(|row| Some((Oid::from(row[0].as_deref()?.parse::<u32>().ok()?), row[1].clone()?)))
    .collect()
}

/// Puts the triggers on tables and their partitions, as the current user. Takes the locks that CREATE
/// TRIGGER needs all together, without making writers wait longer than 2 seconds behind us.
pub fn attach(tables: &[Oid]) {
    let missing = tables
        .iter()
        .flat_map(|&table| {
            tree(table).into_iter().map(move |(oid, name)| (oid, name, oid == table))
        })
        .filter(|(oid, _, root)| !has_triggers(*oid, *root) || !hold(*oid, *root))
        .collect::<Vec<_>>();
    if missing.is_empty() {
        return;
    }
    let missing_in =
        |table: &&Oid| tree(**table).iter().any(|(oid, _)| missing.iter().any(|m| m.0 == *oid));
    let list: Vec<String> =
        tables.iter().filter(missing_in).map(|t| t.to_u32().to_string()).collect();
    sql::query(
        "SELECT sync._lock_tables($1::pg_catalog.regclass[])",
        &[Arg::Text(&format!("{{{}}}", list.join(",")))],
    );
    for (oid, name, root) in &missing {
        create_triggers(*oid, name, *root);
    }
}

/// Keeps the triggers that are there from being tidied up before we commit; no writer notices. False if
/// that cannot be had at once, or if they have just gone.
fn hold(table: Oid, row_too: bool) -> bool {
    let mode = pg_sys::RowExclusiveLock as i32;
    // SAFETY: inside a transaction; takes a lock only if it is free.
    unsafe { pg_sys::ConditionalLockRelationOid(table, mode) && has_triggers(table, row_too) }
}

fn has_triggers(table: Oid, row_too: bool) -> bool {
    let wanted = if row_too { 2 } else { 1 };
    let count = sql::one(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger t
          WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND t.tgfoid OPERATOR(pg_catalog.=) 'sync._capture()'::pg_catalog.regprocedure
            AND t.tgparentid OPERATOR(pg_catalog.=) 0",
        &[Arg::Oid(table)],
    );
    count.and_then(|c| c.parse::<i32>().ok()).unwrap_or(0) >= wanted
}

fn create_triggers(table: Oid, name: &str, row_too: bool) {
    let truncate = format!("{}_t", trigger_name(table));
    let row = trigger_name(table);
    let mut triggers = vec![(truncate, "AFTER TRUNCATE", "STATEMENT")];
    if row_too {
        triggers.push((row, "AFTER INSERT OR UPDATE OR DELETE", "ROW"));
    }
    for (trigger, when, level) in triggers {
        // With a fresh look: the worker may have put it there while we waited for the lock.
        let exists = sql::query(
            "SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid OPERATOR(pg_catalog.=) $1 AND tgname OPERATOR(pg_catalog.=) $2",
            &[Arg::Oid(table), Arg::Text(&trigger)],
        );
        if !exists.is_empty() {
            continue;
        }
        let trigger = identifier(&trigger);
        sql::query(
            &format!(
                "CREATE TRIGGER {trigger} {when} ON {name} FOR EACH {level} EXECUTE FUNCTION sync._capture()"
            ),
            &[],
        );
        sql::query(&format!("ALTER TABLE {name} ENABLE ALWAYS TRIGGER {trigger}"), &[]);
        // DROP EXTENSION takes the trigger along instead of being refused because of it.
        sql::query(
            &format!("ALTER TRIGGER {trigger} ON {name} DEPENDS ON EXTENSION sync_ext"),
            &[],
        );
    }
}

/// Brings `sync._capture` in line with what the syncs of a table want together.
pub fn watch(table: Oid) {
    let wanted = sql::as_extension(|| {
        sql::query(
            "DELETE FROM sync._capture WHERE relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1",
            &[Arg::Oid(table)],
        );
        let inserted = sql::query(
            "WITH wanted AS (
                SELECT id, source_columns AS columns, source_key AS key FROM sync._sync
                 WHERE source::pg_catalog.oid OPERATOR(pg_catalog.=) $1 AND source_key IS NOT NULL
                UNION ALL
                SELECT id, target_columns, target_key FROM sync._sync
                 WHERE target::pg_catalog.oid OPERATOR(pg_catalog.=) $1 AND target_key IS NOT NULL)
             INSERT INTO sync._capture (relation, columns, keys, sole)
             SELECT $1, (SELECT pg_catalog.array_agg(DISTINCT c) FROM wanted, LATERAL pg_catalog.unnest(wanted.columns) AS c),
                    (SELECT pg_catalog.array_agg(DISTINCT k) FROM wanted, LATERAL pg_catalog.unnest(wanted.key) AS k),
                    (SELECT pg_catalog.min(id) FROM wanted HAVING pg_catalog.count(*) OPERATOR(pg_catalog.=) 1)
              WHERE EXISTS (SELECT FROM wanted)
             RETURNING 1",
            &[Arg::Oid(table)],
        );
        !inserted.is_empty()
    });
    if !wanted {
        detach_if_quiet(table);
    }
    announce(table);
}

/// Puts triggers right that were disabled, dropped or are missing on a new partition; by the
/// worker. Says for each that changes may have gone unseen.
pub fn repair(table: Oid) -> Result<Vec<String>, Failure> {
    let mut reasons = Vec::new();
    for (oid, name) in tree(table) {
        for row in sql::read(
            "SELECT t.tgname, t.tgenabled FROM pg_catalog.pg_trigger t
              WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND t.tgfoid OPERATOR(pg_catalog.=) 'sync._capture()'::pg_catalog.regprocedure
                AND t.tgenabled OPERATOR(pg_catalog.<>) 'A'",
            &[Arg::Oid(oid)],
        ) {
            let trigger = identifier(row[0].as_deref().unwrap_or(""));
            sql::query(&format!("ALTER TABLE {name} ENABLE ALWAYS TRIGGER {trigger}"), &[]);
            reasons.push(if row[1].as_deref() == Some("D") {
                format!("the capture trigger of {name} was disabled")
            } else {
                format!("the capture trigger of {name} was disabled and enabled again")
            });
        }
        if !has_triggers(oid, oid == table) {
            if oid == table {
                reasons.push(format!("the capture trigger of {name} was missing"));
            }
            create_triggers(oid, &name, oid == table);
        }
    }
    Ok(reasons)
}

/// Removes the triggers of a table that no sync wants any more, if nobody is using it right now. If
/// somebody is, they stay and do nothing.
pub fn detach_if_quiet(table: Oid) {
    // The root before its partitions, as everybody else; DROP TRIGGER would wait for each of them.
    let mode = pg_sys::AccessExclusiveLock as i32;
    // SAFETY: inside a transaction; takes a lock only if it is free.
    let free = |oid: Oid| unsafe { pg_sys::ConditionalLockRelationOid(oid, mode) };
    if !free(table) || !tree(table).iter().all(|(oid, _)| *oid == table || free(*oid)) {
        return;
    }
    sql::as_extension(|| {
        for (oid, name) in tree(table) {
            // With a fresh look: what is wanted may have changed in this very transaction.
            for row in sql::query(
                &format!(
                    "SELECT t.tgname FROM pg_catalog.pg_trigger t WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND {UNWANTED}"
                ),
                &[Arg::Oid(oid)],
            ) {
                let trigger = identifier(row[0].as_deref().unwrap_or(""));
                sql::query(&format!("DROP TRIGGER {trigger} ON {name}"), &[]);
            }
        }
    });
}

/// A trigger of ours on a table that no sync captures, neither as such nor as part of another.
const UNWANTED: &str = "t.tgfoid OPERATOR(pg_catalog.=) 'sync._capture()'::pg_catalog.regprocedure AND t.tgparentid OPERATOR(pg_catalog.=) 0
     AND NOT EXISTS (SELECT FROM sync._capture c
                      WHERE c.relation::pg_catalog.oid OPERATOR(pg_catalog.=) t.tgrelid
                         OR c.relation::pg_catalog.oid IN (SELECT a.relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors(t.tgrelid) a))";

/// Removes what could not be removed when its sync ended; by the worker. True when somebody is in the
/// way still.
pub fn tidy() -> bool {
    let left = || {
        sql::read(
            &format!("SELECT DISTINCT t.tgrelid FROM pg_catalog.pg_trigger t WHERE {UNWANTED}"),
            &[],
        )
    };
    let before = left();
    for row in &before {
        if let Some(oid) = row[0].as_deref().and_then(|oid| oid.parse::<u32>().ok()) {
            detach_if_quiet(Oid::from(oid));
        }
    }
    // Without `read`, whose look is older than what was just dropped.
    let still = format!("SELECT 1 FROM pg_catalog.pg_trigger t WHERE {UNWANTED} LIMIT 1");
    !before.is_empty() && !sql::query(&still, &[]).is_empty()
}

/// Tells all backends to read again what they know of a table.
pub fn announce(table: Oid) {
    for (oid, _) in tree(table) {
        // SAFETY: inside a transaction; the message is sent when it commits.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(oid) };
    }
}

/// Tells the worker that the configuration has changed, when this transaction commits.
pub fn configuration_changed() {
    tell_worker("_sync");
}

/// Tells the worker that somebody else has put records into the queue, when this transaction commits.
pub fn queue_changed() {
    tell_worker("_queue");
}

fn tell_worker(table: &str) {
    // SAFETY: as above.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(store::relation(table)) };
    crate::capture::install();
    wake::arm();
}
