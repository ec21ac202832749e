//! The columns in which a sync says how it is with a row, resolved against their table.

use super::fields::Field;
use super::rules::ours;
use super::table::{Table, find};
use crate::engine::stamps::{Stamps, fits};
use crate::sql::literal;
use crate::worker::transaction::{Failure, refuse};
use document::Config;
use pgrx::pg_sys;

/// Is this column of the stamped side one that the sync itself keeps?
pub(super) fn is_stamp(config: &Config, name: &str) -> bool {
    config.stamps.named().any(|(_, column)| column.eq_ignore_ascii_case(name))
}

/// # Errors
/// A column is not there, is used otherwise, or cannot hold its stamp.
pub(super) fn stamps(
    config: &Config,
    sides: [&Table; 2],
    fields: &[Field],
) -> Result<Option<Stamps>, Failure> {
    let side = ours(sides);
    let table = sides[side as usize];
    let mut columns = Vec::new();
    let mut now = String::new();
    for (stamp, name) in config.stamps.named() {
        let path = format!("stamp_columns.{stamp}");
        let (c, column) = find(table, name, &path)?;
        let used = fields.iter().any(|field| {
            field.column[side as usize] == Some(c) || field.inputs[side as usize].contains(&c)
        });
        let (why, hint) = if !fits(stamp, column) {
            let wanted = if stamp == "synced_at" { "a timestamp" } else { "a text" };
            (format!("is of type {}", column.cast), format!("Name {wanted} column."))
        } else if column.generated {
            ("is computed".to_owned(), "Name a column that can be written.".to_owned())
        } else if table.polled.is_some() {
            let hint = "Leave it out: a table that is polled is only read.";
            ("is of a table that is polled".to_owned(), hint.to_owned())
        } else if used || table.key.contains(&c) {
            ("is synced".to_owned(), "Name a column that no field of the sync uses.".to_owned())
        } else {
            if stamp == "synced_at" {
                now = match column.base_type {
                    pg_sys::TIMESTAMPTZOID => "pg_catalog.now()".to_owned(),
                    _ => {
                        let zone = config.mapping.time_zone.as_deref().unwrap_or("UTC");
                        format!("pg_catalog.timezone({}, pg_catalog.now())", literal(zone))
                    }
                };
            }
            columns.push((stamp, column.name.clone()));
            continue;
        };
        return Err(refuse(
            "22023",
            format!("column \"{name}\" of {} cannot be stamped", table.name),
            &format!("\"{path}\" names it, and it {why}."),
            &hint,
        ));
    }
    Ok((!columns.is_empty()).then_some(Stamps { side, columns, now }))
}
