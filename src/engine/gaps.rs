//! Capture gaps: changes that fire no row trigger. Noticed by comparing what the catalogs say of a
//! captured table with what they said before, recorded, and answered by reconciling the table.

use super::collect::TableEvent;
use super::load::{self, Kind};
use super::plan::Plan;
use super::sync::Sync;
use crate::capture::attach;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, transaction};
use merge::Side;

/// A change went past capture, or the table was truncated after all that was confirmed: the side is
/// gone through.
pub fn bypassed(sync: &mut Sync, event: &TableEvent) -> Result<(), Failure> {
    let reason = if event.op == crate::capture::row::TRUNCATE {
        "the table was truncated"
    } else {
        "changes were made while sync_ext.capture was off"
    };
    let side = event.side;
    let plan = &sync.plan;
    let verdict = sync.verdict;
    transaction(|| {
        record(plan, side, reason);
        if let Some(verdict) = verdict {
            load::decided(plan.id, side, verdict);
        }
        Ok(())
    })?;
    // In a transaction of its own: a read-only look does not see what its own transaction wrote.
    sync.loads = transaction(|| Ok(load::read(plan)))?;
    Ok(())
}

/// Changes whose shape is stored nowhere: whose they are cannot be told, so everything that the sync
/// captures is compared.
pub fn unreadable(sync: &mut Sync) -> Result<(), Failure> {
    let plan = &sync.plan;
    transaction(|| {
        note_unreadable(plan);
        Ok(())
    })?;
    sync.loads = transaction(|| Ok(load::read(plan)))?;
    Ok(())
}

/// Why, as people read it in `sync.gaps`.
const UNREADABLE: &str = "changes were recorded under a shape that is not stored; which table they are of cannot be told";

/// The same for a sync that does not run.
pub fn note_unreadable(plan: &Plan) {
    for side in Side::BOTH.into_iter().filter(|&side| plan.captured(side)) {
        record(plan, side, UNREADABLE);
    }
}

/// Records a gap and asks for the side to be reconciled.
fn record(plan: &Plan, side: Side, reason: &str) {
    sql::query(
        "INSERT INTO sync._gap (relation, sync, reason) VALUES ($1, $2, $3)",
        &[Arg::Text(&plan.side(side).name), Arg::Int4(plan.id), Arg::Text(reason)],
    );
    load::request(plan.id, side, Kind::Rows, reason);
    load::request(plan.id, side, Kind::Links, reason);
}

/// Compares the catalogs with what they said before, puts the triggers right, and asks for a
/// reconcile where something may have slipped through. `first` is the first look after a start.
pub fn look(sync: &mut Sync) -> Result<(), Failure> {
    for side in Side::BOTH {
        let plan = &sync.plan;
        if !plan.captured(side) {
            continue;
        }
        let table = plan.side(side).oid;
        let found = transaction(|| {
            let mut reasons: Vec<String> = attach::repair(table)?;
            let now = facts(table);
            let before = sql::read(
                "SELECT relation, facts FROM sync._catalog WHERE root = $1",
                &[Arg::Oid(table)],
            );
            let known = |oid: &str| {
                before.iter().find(|r| r[0].as_deref() == Some(oid)).and_then(|r| r[1].clone())
            };
            let mut changed = before.len() != now.len();
            for (oid, name, facts) in &now {
                match known(oid) {
                    Some(old) if old == *facts => {}
                    Some(old) => {
                        changed = true;
                        reasons.extend(missed(&old, facts).map(|what| format!("{name} {what}")));
                    }
                    None if before.is_empty() => changed = true,
                    None => {
                        changed = true;
                        reasons.push(format!("{name} was attached"));
                    }
                }
            }
            for row in &before {
                if let Some(oid) = &row[0]
                    && !now.iter().any(|n| n.0 == *oid)
                {
                    changed = true;
                    reasons.push("a partition was detached or dropped".to_owned());
                }
            }
            if changed {
                sql::query("DELETE FROM sync._catalog WHERE root = $1", &[Arg::Oid(table)]);
                for (oid, _, facts) in &now {
                    sql::query(
                        "INSERT INTO sync._catalog (relation, root, facts) VALUES ($1::pg_catalog.oid, $2, $3)",
                        &[Arg::Text(oid), Arg::Oid(table), Arg::Text(facts)],
                    );
                }
            }
            if !reasons.is_empty() {
                reasons.dedup();
                // Every sync of the table has missed it.
                for row in sql::read(
                    "SELECT s.id, s.source::pg_catalog.oid = $1 FROM sync._sync s
                      WHERE $1 IN (s.source::pg_catalog.oid, s.target::pg_catalog.oid)",
                    &[Arg::Oid(table)],
                ) {
                    let Some(id) = row[0].as_deref().and_then(|i| i.parse::<i32>().ok()) else {
                        continue;
                    };
                    let side =
                        if row[1].as_deref() == Some("t") { Side::Source } else { Side::Target };
                    let reason = reasons.join("; ");
                    sql::query(
                        "INSERT INTO sync._gap (relation, sync, reason) VALUES ($1::pg_catalog.regclass::text, $2, $3)",
                        &[Arg::Oid(table), Arg::Int4(id), Arg::Text(&reason)],
                    );
                    load::request(id, side, Kind::Rows, &reason);
                    load::request(id, side, Kind::Links, &reason);
                }
            }
            Ok(!reasons.is_empty())
        })?;
        if found {
            super::mark_configuration_stale();
        }
    }
    Ok(())
}

/// What may have gone unseen between two states of a table's facts.
fn missed(old: &str, new: &str) -> Option<String> {
    let (old, new) = (parse(old), parse(new));
    if old["file"] != new["file"] {
        return Some("was rewritten or emptied".to_owned());
    }
    let (old, new) = (old["columns"].as_object()?, new["columns"].as_object()?);
    let replaced = new.iter().find(|(name, number)| old.get(*name).is_some_and(|o| o != *number));
    replaced.map(|(column, _)| {
        format!("had its column \"{column}\" dropped and another of that name added")
    })
}

fn parse(facts: &str) -> serde_json::Value {
    serde_json::from_str(facts).unwrap_or_default()
}

/// For a table and each of its partitions: OID, name, and what tells that its rows or columns were
/// replaced: the file they lie in, and the number behind each column's name.
fn facts(table: pgrx::pg_sys::Oid) -> Vec<(String, String, String)> {
    sql::read(
        "SELECT c.oid, c.oid::pg_catalog.regclass::text,
                pg_catalog.json_build_object('file', pg_catalog.pg_relation_filenode(c.oid), 'columns',
                    (SELECT pg_catalog.json_object_agg(a.attname, a.attnum ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
           FROM (SELECT $1 AS relid UNION SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) t) r
           JOIN pg_catalog.pg_class c ON c.oid = r.relid
          ORDER BY c.oid",
        &[Arg::Oid(table)],
    )
    .into_iter()
    .filter_map(|mut row| {
        let facts = row.pop()?.unwrap_or_default();
        let name = row.pop()??;
        Some((row.pop()??, name, facts))
    })
    .collect()
}
