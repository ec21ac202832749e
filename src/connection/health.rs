//! How a connection is doing, as `sync.connections` and `sync.status` show it; the worker writes it.

use super::{NEEDS_CREDENTIALS, NO_CONNECTOR, by_name};
use crate::capture::wake;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use connector::Account;
use pgrx::pg_sys::{self, Oid};
use std::time::Duration;

/// Writes down the state of a connection, if it is not what stands there.
pub fn note(name: &str, state: &str, reason: Option<&str>, retry: Option<Duration>) {
    let retry = retry.map(|r| r.as_secs_f64().to_string());
    sql::as_extension(|| {
        sql::query(
            "INSERT INTO sync._connection AS c (server, state, reason, retry_at)
             SELECT f.oid, $2, $3, pg_catalog.clock_timestamp() + interval '1 second' * $4::float8
               FROM pg_catalog.pg_foreign_server f WHERE f.srvname = $1
             ON CONFLICT (server) DO UPDATE SET state = EXCLUDED.state, reason = EXCLUDED.reason, retry_at = EXCLUDED.retry_at,
                    since = CASE WHEN c.state = EXCLUDED.state THEN c.since ELSE pg_catalog.clock_timestamp() END
              WHERE (c.state, c.reason) IS DISTINCT FROM (EXCLUDED.state, EXCLUDED.reason) OR EXCLUDED.retry_at IS NOT NULL",
            &[Arg::Text(name), Arg::Text(state), Arg::OptText(reason), Arg::OptText(retry.as_deref())],
        )
    });
}

/// A person has found that a connection works again which a person had to mend: the worker need not wait to find out.
pub fn mended(name: &str) {
    // SAFETY: a flag of this process.
    if unsafe { pg_sys::XactReadOnly } {
        return;
    }
    let waits = sql::as_extension(|| {
        sql::query(
            "UPDATE sync._connection c SET retry_at = pg_catalog.clock_timestamp() FROM pg_catalog.pg_foreign_server f
              WHERE f.srvname OPERATOR(pg_catalog.=) $1 AND c.server OPERATOR(pg_catalog.=) f.oid
                AND c.state OPERATOR(pg_catalog.=) ANY (ARRAY['refused', 'unreachable']) RETURNING 1",
            &[Arg::Text(name)],
        )
    });
    if !waits.is_empty() {
        wake::arm();
    }
}

/// May a connection that a person had to mend be tried again by now?
pub fn is_mended(name: &str) -> bool {
    sql::one(
        "SELECT 1 FROM sync._connection c JOIN pg_catalog.pg_foreign_server f ON f.oid = c.server
          WHERE f.srvname = $1 AND c.retry_at <= pg_catalog.clock_timestamp()",
        &[Arg::Text(name)],
    )
    .is_some()
}

/// Writes down who a connection has logged in as.
pub fn logged_in(name: &str, account: &Account) {
    note(name, "ok", None, None);
    let usage = account.usage;
    let number = |n: Option<u64>| n.map(|n| n.to_string());
    let (used, allowed) = (number(usage.map(|u| u.used)), number(usage.map(|u| u.allowed)));
    let offset = account.clock_offset_ms.map(|ms| ms.to_string());
    sql::as_extension(|| {
        sql::query(
            "UPDATE sync._connection c SET account_id = $2, account_user = $3, api_used = $4::int8, api_allowed = $5::int8,
                    clock_offset_ms = $6::int8
               FROM pg_catalog.pg_foreign_server f WHERE f.srvname = $1 AND c.server = f.oid",
            &[
                Arg::Text(name),
                Arg::Text(&account.id),
                Arg::Text(&account.user),
                Arg::OptText(used.as_deref()),
                Arg::OptText(allowed.as_deref()),
                Arg::OptText(offset.as_deref()),
            ],
        )
    });
}

/// The state of a connection whose connector could not be made.
pub fn state_of(failure: &Failure) -> &'static str {
    match failure.sqlstate.as_str() {
        NEEDS_CREDENTIALS => "needs credentials",
        NO_CONNECTOR => "no connector",
        _ => "unreachable",
    }
}

/// The right on a connection that a sync's owner lacks, as a sentence with a remedy.
pub fn missing_right(name: &str, owner: &str, owner_oid: Oid) -> Option<Failure> {
    if let Err(failure) = by_name(name) {
        return Some(failure);
    }
    // By its name, which the function looks up itself: the snapshot may be older than a connection that
    // create_sync has just made.
    let held = sql::one(
        "SELECT pg_catalog.has_server_privilege($1, $2, 'USAGE')",
        &[Arg::Oid(owner_oid), Arg::Text(name)],
    );
    (held.as_deref() != Some("t")).then(|| {
        refuse(
            "42501",
            format!("permission denied: role \"{owner}\" lacks USAGE on connection \"{name}\""),
            "A sync works with the rights of the role that created it.",
            &format!(
                "GRANT USAGE ON FOREIGN SERVER {} TO {};",
                sql::identifier(name),
                sql::identifier(owner)
            ),
        )
    })
}
