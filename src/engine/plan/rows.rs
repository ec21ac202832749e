//! The function that makes a target's rows.

use super::quoted;
use super::table::Table;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use document::Config;

/// As SQL names it.
///
/// # Errors
/// It does not exist, or is not one that could.
pub(super) fn function(
    config: &Config,
    source: &Table,
    target: &Table,
) -> Result<Option<String>, Failure> {
    let Some(name) = &config.row_function else { return Ok(None) };
    let name = quoted(name);
    for table in [source, target] {
        if table.remote.is_some() {
            return Err(refuse(
                "0A000",
                "\"row_function\" makes rows of one table of rows of another".to_owned(),
                &format!("{} is an object of another system.", table.name),
                "Let the function fill a table of this database, and sync that table with the other system.",
            ));
        }
    }
    let call = format!("{name}(text, {0}, {0})", source.name);
    // Qualified and quoted, both, or along the search path.
    let returned = sql::one(
        "SELECT t.typrelid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.prorettype
          WHERE p.oid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure($1)::pg_catalog.oid",
        &[Arg::Text(&call)],
    );
    let wanted = format!(
        "CREATE FUNCTION {name}(operation text, old {0}, new {0}) RETURNS SETOF {1}",
        source.name, target.name
    );
    match returned {
        Some(oid) if oid == target.oid.to_u32().to_string() => Ok(Some(name)),
        Some(_) => Err(refuse(
            "42804",
            format!("function {call} does not return rows of {}", target.name),
            "\"row_function\" names it to make them.",
            &format!("Declare it as {wanted}."),
        )),
        None => Err(refuse(
            "42883",
            format!("function {call} does not exist"),
            &format!("\"row_function\" names it to make the rows of {}.", target.name),
            &format!("Declare it as {wanted}."),
        )),
    }
}
