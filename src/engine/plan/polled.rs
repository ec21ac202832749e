//! The key of a table that is polled, where the document names it: a view and a foreign table have none of their own.

use super::table::Column;
use crate::capture::attach;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use document::Polled;
use pgrx::pg_sys::{self, Oid};

/// The places of the key's columns, and the operators that compare them, qualified.
pub(super) fn key(
    oid: Oid,
    name: &str,
    which: &str,
    columns: &[Column],
    polled: &Polled,
) -> Result<(Vec<usize>, Vec<String>), Failure> {
    attach::check_kind(oid, name, which, true)?;
    if polled.key.is_empty() {
        return own_key(oid, name, which, columns);
    }
    let mut key = Vec::with_capacity(polled.key.len());
    let mut equals = Vec::with_capacity(polled.key.len());
    for wanted in &polled.key {
        let place = columns
            .iter()
            .position(|c| c.name == *wanted)
            .or_else(|| columns.iter().position(|c| c.name.eq_ignore_ascii_case(wanted)));
        let Some(place) = place else {
            let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
            return Err(refuse(
                "42703",
                format!("column \"{wanted}\" of {name} does not exist"),
                &format!("It is named in \"{which}.key\"."),
                &format!("The table has: {}.", names.join(", ")),
            ));
        };
        if key.contains(&place) {
            return Err(refuse(
                "42701",
                format!("\"{which}.key\" names column \"{}\" twice", columns[place].name),
                "",
                "Name each column of the key once.",
            ));
        }
        key.push(place);
        equals.push(equality(&columns[place], name, which)?);
    }
    Ok((key, equals))
}

/// The key that the table has itself.
fn own_key(
    oid: Oid,
    name: &str,
    which: &str,
    columns: &[Column],
) -> Result<(Vec<usize>, Vec<String>), Failure> {
    // SAFETY: a catalog lookup.
    let kind = unsafe { pg_sys::get_rel_relkind(oid) } as u8;
    let without = [pg_sys::RELKIND_VIEW, pg_sys::RELKIND_MATVIEW, pg_sys::RELKIND_FOREIGN_TABLE];
    if without.contains(&kind) {
        return Err(refuse(
            "0A000",
            format!("the rows of {name} cannot be told apart"),
            "It is a view or a foreign table: nothing guarantees that a column of it has a value, and each another one.",
            &format!(
                "Name the columns that tell its rows apart: \"{which}\": {{\"table\": \"…\", \"key\": [\"id\"]}}."
            ),
        ));
    }
    let (numbers, equals) = attach::key_index(oid, name).map_err(|failure| Failure {
        hint: Some(format!(
            "{} Or name the columns that tell its rows apart: \"{which}\": {{\"table\": \"…\", \"key\": [\"id\"]}}.",
            failure.hint.unwrap_or_default()
        )),
        ..failure
    })?;
    let place = |number: &i16| columns.iter().position(|c| c.attnum == *number);
    Ok((numbers.iter().filter_map(place).collect(), equals))
}

/// What compares the values of a column; only where what is equal is the same, because links know a key by its bytes.
fn equality(column: &Column, name: &str, which: &str) -> Result<String, Failure> {
    // SAFETY: a catalog lookup.
    let opclass = unsafe { pg_sys::GetDefaultOpClass(column.base_type, pg_sys::BTREE_AM_OID) };
    let found = sql::read(
        "SELECT pg_catalog.format('%I.%s', ns.nspname, o.oprname),
                t.typcategory OPERATOR(pg_catalog.<>) 'S' OR COALESCE(co.collisdeterministic, true) AND EXISTS (
                    SELECT FROM pg_catalog.pg_amproc ap
                     WHERE ap.amprocfamily OPERATOR(pg_catalog.=) oc.opcfamily AND ap.amprocnum OPERATOR(pg_catalog.=) 4
                       AND ap.amproclefttype OPERATOR(pg_catalog.=) oc.opcintype AND ap.amprocrighttype OPERATOR(pg_catalog.=) oc.opcintype)
           FROM pg_catalog.pg_opclass oc
           JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) oc.opcintype
           JOIN pg_catalog.pg_amop ao ON ao.amopfamily OPERATOR(pg_catalog.=) oc.opcfamily AND ao.amopstrategy OPERATOR(pg_catalog.=) 3
                AND ao.amoplefttype OPERATOR(pg_catalog.=) oc.opcintype AND ao.amoprighttype OPERATOR(pg_catalog.=) oc.opcintype
           JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) ao.amopopr
           JOIN pg_catalog.pg_namespace ns ON ns.oid OPERATOR(pg_catalog.=) o.oprnamespace
           LEFT JOIN pg_catalog.pg_collation co ON co.oid OPERATOR(pg_catalog.=) $2
          WHERE oc.oid OPERATOR(pg_catalog.=) $1",
        &[Arg::Oid(opclass), Arg::Oid(column.collation)],
    );
    let row = found.first();
    match row.and_then(|row| Some((row[0].clone()?, row[1].as_deref() == Some("t")))) {
        Some((equals, true)) => Ok(equals),
        other => Err(refuse(
            "0A000",
            format!("column \"{}\" of {name} cannot be part of a key", column.name),
            &match other {
                Some(_) => format!(
                    "\"{which}.key\" names it, and its type or collation takes texts for equal that are not the same."
                ),
                None => format!(
                    "\"{which}.key\" names it, and values of type {} have no order.",
                    column.cast
                ),
            },
            "Name columns that are compared exactly: a number, a uuid, or a text with a deterministic collation.",
        )),
    }
}
