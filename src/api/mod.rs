//! What users call. These functions check, translate and call; the work is done elsewhere. Their SQL
//! declarations are in `sql/`, written by hand.

mod application;
mod audit;
mod border;
mod connections;
mod cycles;
mod edit_row;
mod heroku_connect;
mod hubs;
mod image;
mod import;
mod index_advice;
mod inspect;
mod lifecycle;
mod many;
mod map_field;
mod one_record;
mod outlets;
mod phone;
mod plan;
mod preview;
mod queued;
mod register;
mod repair;
mod resolve;
mod syncs;
mod transfer;
mod usage;
mod wait;

pub(crate) use image::key_of_image;

use crate::engine::plan::{self as plans, Plan, Stored};
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::process;
use crate::worker::transaction::{Failure, refuse};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Raises a failure as PostgreSQL reports errors.
pub(crate) fn raise(failure: &Failure) -> ! {
    let code = failure
        .sqlstate
        .bytes()
        .enumerate()
        .fold(0i32, |code, (n, c)| code | (i32::from(c.wrapping_sub(b'0')) & 0x3F) << (6 * n));
    let mut report =
        ErrorReport::new(PgSqlErrorCode::from(code as isize), failure.message.clone(), "");
    if let Some(detail) = &failure.detail {
        report = report.set_detail(detail.clone());
    }
    if let Some(hint) = &failure.hint {
        report = report.set_hint(hint.clone());
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an ERROR was reported")
}

/// A warning with a hint.
fn warn(code: PgSqlErrorCode, message: &'static str, hint: &'static str) {
    speech::say(PgLogLevel::WARNING, code, message.to_owned(), Some(hint));
}

fn or_raise<T>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| raise(&failure))
}

/// What a sync is made of, as its owner has it: its names are looked for along his search path, and what the parser runs
/// of an expression or a domain runs with his rights, whoever asks.
fn compiled(stored: &Stored) -> Result<Plan, Failure> {
    sql::as_reader(stored.owner, &stored.search_path, || plans::compile_as(stored.clone(), true))
}

/// Runs `work` on a sync or hub that is as whoever changed it last left it, and that nobody else changes before this
/// transaction has ended: of two patches both stand, of two sessions and in one statement.
fn changing<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let number =
        name.bytes().fold(0u16, |number, byte| number.wrapping_mul(31).wrapping_add(byte.into()));
    if let Some(extension) = process::extension() {
        // SAFETY: inside a transaction, at whose end it is released. A row of ours is not locked: the worker would wait
        // for it with the tables at hand, which the change may want.
        unsafe {
            pg_sys::LockDatabaseObject(
                pg_sys::ExtensionRelationId,
                extension,
                number,
                pg_sys::ExclusiveLock as pg_sys::LOCKMODE,
            );
        }
    }
    sql::seeing_own_work(work)
}

/// Number of a sync that the caller may change: he is a member of the role that owns it.
fn owned(name: &str) -> i32 {
    let row = sql::as_extension(|| {
        sql::read(
            "SELECT id, owner::pg_catalog.oid, owner::text FROM sync._sync WHERE name OPERATOR(pg_catalog.=) $1",
            &[Arg::Text(name)],
        )
    });
    let Some(row) = row.first() else {
        if let Some(hub) = hubs::named(name) {
            let members: Vec<String> =
                hubs::members(&hub).into_iter().map(|(_, name)| name).collect();
            raise(&refuse(
                "42809",
                format!("\"{name}\" is a hub of several syncs"),
                "What was asked for is about one sync.",
                &format!("Name one of: {}.", members.join(", ")),
            ));
        }
        let known = sql::as_extension(|| {
            sql::one("SELECT pg_catalog.string_agg(name, ', ' ORDER BY name) FROM sync._sync", &[])
        });
        let hint = known.map_or_else(
            || "There is no sync yet; create one with sync.create_sync.".to_owned(),
            |names| format!("There are: {names}."),
        );
        raise(&refuse("42704", format!("sync \"{name}\" does not exist"), "", &hint));
    };
    let owner = row[1].as_deref().unwrap_or("0");
    let member =
        sql::one("SELECT pg_catalog.pg_has_role($1::pg_catalog.oid, 'USAGE')", &[Arg::Text(owner)]);
    if member.as_deref() != Some("t") {
        raise(&refuse(
            "42501",
            format!("permission denied for sync \"{name}\""),
            &format!("It belongs to role {}.", row[2].as_deref().unwrap_or("")),
            "Only members of that role can change it.",
        ));
    }
    row[0].as_deref().and_then(|id| id.parse().ok()).unwrap_or(0)
}
