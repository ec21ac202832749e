//! Which server this is. A copy must not go on where the original does, a failover must: whenever
//! the identity changes a new epoch begins, and what it may do depends on how the server came up.

use super::slots;
use super::transaction::{Failure, transaction};
use crate::settings;
use crate::sql::{self, Arg};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

/// What a database may do in its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Active,
    /// After a failover: compares everything once, then goes on by itself.
    Verifying,
    /// A copy: does nothing until a person says so.
    Fenced,
}

#[derive(Clone, Debug)]
pub struct Epoch {
    pub number: i32,
    pub standing: Standing,
}

/// This server and database as a row. The timeline is the one being written: the control file learns
/// of a promotion only with the next checkpoint.
const HERE: &str = "SELECT c.system_identifier,
            ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int8 AS timeline,
            d.oid AS database, $1 AS data_directory, $2 AS instance
       FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d
      WHERE d.datname = pg_catalog.current_database()";

/// Data directory and instance, the two things that SQL cannot say.
fn surroundings() -> Result<(String, String), Failure> {
    let directory = std::fs::metadata("PG_VERSION")
        .map(|m| format!("{}:{}", m.dev(), m.ino()))
        .map_err(|e| Failure::new("58030", format!("cannot look at the data directory: {e}")))?;
    let instance =
        settings::INSTANCE.get().map(|i| i.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((directory, instance))
}

/// The last epoch: its number and state, then whether it is of this very server, of this database and
/// cluster, of the same named instance, and of another timeline.
fn last(directory: &str, instance: &str) -> Option<Vec<Option<String>>> {
    sql::read(
        &format!(
            "SELECT e.epoch, e.state,
                    s.same AND e.timeline = h.timeline AND e.data_directory = h.data_directory,
                    s.same, e.instance = h.instance AND h.instance <> '',
                    e.timeline <> h.timeline
               FROM sync._epoch e, ({HERE}) h,
                    LATERAL (SELECT e.system_identifier = h.system_identifier AND e.database = h.database AS same) s
              ORDER BY e.epoch DESC LIMIT 1"
        ),
        &[Arg::Text(directory), Arg::Text(instance)],
    )
    .into_iter()
    .next()
}

fn begin(directory: &str, instance: &str, state: &str, reason: &str) -> i32 {
    sql::query(
        &format!(
            "INSERT INTO sync._epoch (system_identifier, timeline, database, data_directory, instance, state, reason)
             SELECT h.*, $3, $4 FROM ({HERE}) h RETURNING epoch"
        ),
        &[Arg::Text(directory), Arg::Text(instance), Arg::Text(state), Arg::Text(reason)],
    )
    .first()
    .and_then(|r| r[0].as_deref())
    .and_then(|n| n.parse().ok())
    .unwrap_or(0)
}

/// Compares the server with what the last epoch says and begins a new one if it differs.
pub fn establish() -> Result<Epoch, Failure> {
    transaction(|| {
        let (directory, instance) = surroundings()?;
        let last = last(&directory, &instance);
        let is = |n: usize| last.as_ref().is_some_and(|r| r[n].as_deref() == Some("t"));
        let (state, reason) = match &last {
            None => ("active", "the extension was created"),
            Some(row) if is(2) => {
                let number = row[0].as_deref().and_then(|n| n.parse().ok()).unwrap_or(0);
                return Ok(Epoch { number, standing: standing(row[1].as_deref()) });
            }
            Some(_) => {
                let standby = slots::shared()
                    .is_some_and(|s| s.started_as_standby.load(Ordering::Relaxed) != 0);
                if is(3) && is(5) && is(4) && standby {
                    (
                        "verifying",
                        "this server was a standby of the same instance and has been promoted",
                    )
                } else if !is(3) {
                    (
                        "fenced",
                        "the database is a copy: another database or another cluster wrote its state",
                    )
                } else if is(5) {
                    (
                        "fenced",
                        "the server was promoted or restored to another point in time, and sync_ext.instance does not name it as the same instance",
                    )
                } else {
                    ("fenced", "the data directory is a copy")
                }
            }
        };
        let number = begin(&directory, &instance, state, reason);
        if state == "verifying" {
            sql::query("SELECT sync._reconcile_all('the server was promoted')", &[]);
        }
        Ok(Epoch { number, standing: standing(Some(state)) })
    })
}

/// A person says that this is the one that syncs: an active epoch of this server, also where no
/// worker has looked at it yet. In the caller's transaction, as the extension.
pub fn activate() -> Result<(), Failure> {
    let (directory, instance) = surroundings()?;
    let known = last(&directory, &instance).is_some_and(|row| row[2].as_deref() == Some("t"));
    if known {
        sql::query(
            "UPDATE sync._epoch SET state = 'active', reason = reason || '; activated' WHERE state = 'fenced'",
            &[],
        );
    } else {
        begin(&directory, &instance, "active", "activated");
    }
    Ok(())
}

/// The last epoch, as the stream worker has established it.
pub fn current() -> Result<Epoch, Failure> {
    transaction(|| {
        let rows =
            sql::read("SELECT epoch, state FROM sync._epoch ORDER BY epoch DESC LIMIT 1", &[]);
        let row = rows.first().ok_or_else(|| Failure::new("55000", "there is no epoch yet"))?;
        let number = row[0].as_deref().and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok(Epoch { number, standing: standing(row[1].as_deref()) })
    })
}

fn standing(state: Option<&str>) -> Standing {
    match state {
        Some("active") => Standing::Active,
        Some("verifying") => Standing::Verifying,
        _ => Standing::Fenced,
    }
}

/// Everything has been compared: the epoch is an ordinary one.
pub fn verified(epoch: &mut Epoch) -> Result<(), Failure> {
    let number = epoch.number;
    transaction(|| {
        sql::query(
            "UPDATE sync._epoch SET state = 'active' WHERE epoch = $1",
            &[Arg::Int4(number)],
        );
        Ok(())
    })?;
    epoch.standing = Standing::Active;
    Ok(())
}
