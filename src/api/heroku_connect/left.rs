//! What Heroku Connect has left in a schema: its tables, its triggers, and what it has not sent.

use super::export::Access;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, refuse};
use pgrx::pg_sys::{self, Oid};

/// The column in which Connect keeps a record's id.
pub(super) const RECORD_ID: &str = "sfid";
/// Columns of Connect's own: the last thing that was done about a row, and what went wrong.
pub(super) const LAST_OPERATION: &str = "_hc_lastop";
pub(super) const LAST_ERROR: &str = "_hc_err";

/// A table that Connect made.
pub(super) struct Left {
    pub(super) oid: Oid,
    /// As it is called in its schema.
    pub(super) name: String,
}

/// The tables of a schema that have the columns of Connect's.
///
/// # Errors
/// There is no such schema.
pub(super) fn tables(schema: &str) -> Result<Vec<Left>, Failure> {
    let there = sql::one(
        "SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) $1",
        &[Arg::Text(schema)],
    );
    if there.is_none() {
        return Err(refuse(
            "3F000",
            format!("schema \"{schema}\" does not exist"),
            "",
            "Name the schema that Heroku Connect was set up with, after its dump was restored here.",
        ));
    }
    let rows = sql::read(
        "SELECT c.oid, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
          WHERE n.nspname OPERATOR(pg_catalog.=) $1 AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p']::pg_catalog.\"char\"[])
            AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND NOT a.attisdropped
                    AND a.attname OPERATOR(pg_catalog.=) ANY (ARRAY[$2, $3]::pg_catalog.name[])) OPERATOR(pg_catalog.=) 2
          ORDER BY c.relname",
        &[Arg::Text(schema), Arg::Text(RECORD_ID), Arg::Text(LAST_OPERATION)],
    );
    let left = |row: Vec<Option<String>>| {
        let oid = row[0].as_deref()?.parse::<u32>().ok()?;
        Some(Left { oid: Oid::from(oid), name: row[1].clone()? })
    };
    Ok(rows.into_iter().filter_map(left).collect())
}

/// Connect's logs of changes that are there and that the caller may read, as SQL names them.
pub(super) fn logs(schema: &str) -> Vec<String> {
    ["_trigger_log", "_trigger_log_archive"]
        .iter()
        .map(|log| format!("{}.{log}", identifier(schema)))
        .filter(|log| {
            let readable = "SELECT pg_catalog.has_table_privilege(pg_catalog.to_regclass($1)::pg_catalog.oid, 'SELECT')";
            sql::one(readable, &[Arg::Text(log)]).as_deref() == Some("t")
        })
        .collect()
}

/// What the logs say of how a table was mapped: changes of a read-only mapping are captured too, and say so.
pub(super) fn access(logs: &[String], table: &str) -> Option<Access> {
    let last = |log: &String| {
        sql::one(
            &format!(
                "SELECT l.state FROM {log} l
                  WHERE l.table_name OPERATOR(pg_catalog.=) $1 AND l.state OPERATOR(pg_catalog.<>) ALL (ARRAY['IGNORE', 'IGNORED'])
                  ORDER BY l.id DESC LIMIT 1"
            ),
            &[Arg::Text(table)],
        )
    };
    let state = logs.iter().find_map(last)?;
    Some(if state == "READONLY" { Access::ReadOnly } else { Access::ReadWrite })
}

/// What of a table the org has not got.
#[derive(Default)]
pub(super) struct Unsent {
    /// Rows whose last change waits or was refused.
    pub(super) rows: u64,
    /// Rows that have never been there.
    pub(super) new: u64,
    /// Deletes that wait.
    pub(super) deleted: u64,
}

impl Unsent {
    pub(super) fn is_nothing(&self) -> bool {
        self.rows == 0 && self.deleted == 0
    }
}

/// Counts it, as the caller.
pub(super) fn unsent(logs: &[String], table: &str, qualified: &str) -> Unsent {
    let number = |text: Option<&String>| text.and_then(|t| t.parse().ok()).unwrap_or(0);
    // FAILED and PENDING are what people have seen of Connect's words for a row that is not over there.
    let rows = sql::read(
        &format!(
            "SELECT pg_catalog.count(*) FILTER (WHERE t.{RECORD_ID} IS NULL OR t.{LAST_OPERATION} OPERATOR(pg_catalog.=) ANY (ARRAY['PENDING', 'FAILED'])),
                    pg_catalog.count(*) FILTER (WHERE t.{RECORD_ID} IS NULL)
               FROM {qualified} t"
        ),
        &[],
    );
    let deleted = logs.first().filter(|log| log.ends_with("._trigger_log")).and_then(|log| {
        sql::one(
            &format!(
                "SELECT pg_catalog.count(*) FROM {log} l
                  WHERE l.table_name OPERATOR(pg_catalog.=) $1 AND l.state OPERATOR(pg_catalog.=) ANY (ARRAY['NEW', 'PENDING']) AND l.action OPERATOR(pg_catalog.=) 'DELETE'"
            ),
            &[Arg::Text(table)],
        )
    });
    let counted = rows.first();
    Unsent {
        rows: number(counted.and_then(|row| row[0].as_ref())),
        new: number(counted.and_then(|row| row[1].as_ref())),
        deleted: number(deleted.as_ref()),
    }
}

/// What becomes of the triggers that Connect put on its tables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Triggers {
    Disable,
    Drop,
    Keep,
}

impl Triggers {
    pub(super) fn of(word: &str) -> Result<Self, Failure> {
        match word {
            "disable" => Ok(Self::Disable),
            "drop" => Ok(Self::Drop),
            "keep" => Ok(Self::Keep),
            _ => Err(refuse(
                "22023",
                format!(
                    "\"{word}\" is nothing that can be done with the triggers of Heroku Connect"
                ),
                "Left as they are they write every change into a log that nobody reads.",
                "\"triggers\" is disable (ALTER TABLE … ENABLE TRIGGER puts them back), drop, or keep.",
            )),
        }
    }

    /// Does it, as the caller. Returns what there is to say of it.
    pub(super) fn settle(self, table: Oid, qualified: &str) -> Option<String> {
        let names = of(table, self == Self::Drop);
        if names.is_empty() {
            return None;
        }
        let quoted: Vec<String> = names.iter().map(|name| identifier(name)).collect();
        let listed = quoted.join(", ");
        let what = match self {
            Self::Keep => return Some(format!("its triggers are kept: {listed}")),
            Self::Disable => "disabled",
            Self::Drop => "dropped",
        };
        let lock = "SELECT sync._lock_tables(ARRAY[$1::pg_catalog.regclass])";
        sql::query(lock, &[Arg::Oid(table)]);
        // SAFETY: an error in between is followed by the abort of the subtransaction, which puts the setting back.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            // Dropping one keeps readers out too, and must not make them wait behind somebody for long.
            sql::set_local("lock_timeout", "1900ms");
            for name in &quoted {
                match self {
                    Self::Drop => {
                        sql::query(&format!("DROP TRIGGER {name} ON {qualified}"), &[]);
                    }
                    _ => {
                        let disable = format!("ALTER TABLE {qualified} DISABLE TRIGGER {name}");
                        sql::query(&disable, &[]);
                    }
                }
            }
            pg_sys::AtEOXact_GUC(false, level);
        }
        Some(format!("its triggers were {what}: {listed}"))
    }
}

/// The triggers of Connect's on a table that would fire, or also those that would not.
fn of(table: Oid, also_disabled: bool) -> Vec<String> {
    let rows = sql::read(
        "SELECT t.tgname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
          WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND NOT t.tgisinternal AND ($2 OR t.tgenabled OPERATOR(pg_catalog.<>) 'D')
            AND pg_catalog.starts_with(t.tgname::pg_catalog.text, 'hc_') AND pg_catalog.starts_with(p.proname::pg_catalog.text, 'hc_')
          ORDER BY t.tgname",
        &[Arg::Oid(table), Arg::Bool(also_disabled)],
    );
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}
