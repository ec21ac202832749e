//! A table as a sync sees it: its columns, and the key by which its rows are known.

use super::polled;
use crate::border;
use crate::capture::attach;
use crate::engine::remote::side::Remote;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, refuse};
use document::Polled;
use pgrx::pg_sys::{self, Oid};

/// A column of a synced table that the sync uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub attnum: i16,
    pub type_oid: Oid,
    /// The type itself, or what a domain is made of.
    pub base_type: Oid,
    pub typmod: i32,
    pub collation: Oid,
    pub length: i16,
    pub by_value: bool,
    /// Computed by the table; can be read and never written.
    pub generated: bool,
    /// GENERATED ALWAYS AS IDENTITY: written only with OVERRIDING SYSTEM VALUE.
    pub identity: bool,
    /// The type as a cast names it, without a length for types whose explicit cast would cut.
    pub cast: String,
}

impl Column {
    /// A text of the server's own.
    pub fn text() -> Self {
        Self {
            type_oid: pg_sys::TEXTOID,
            base_type: pg_sys::TEXTOID,
            collation: pg_sys::DEFAULT_COLLATION_OID,
            length: -1,
            by_value: false,
            cast: "pg_catalog.text".to_owned(),
            ..Self::flag()
        }
    }

    /// What a condition comes to.
    pub fn flag() -> Self {
        Self {
            name: String::new(),
            attnum: 0,
            type_oid: pg_sys::BOOLOID,
            base_type: pg_sys::BOOLOID,
            typmod: -1,
            collation: pg_sys::InvalidOid,
            length: 1,
            by_value: true,
            generated: false,
            identity: false,
            cast: "pg_catalog.bool".to_owned(),
        }
    }
}

/// One side of a sync.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub oid: Oid,
    /// Quoted and qualified.
    pub name: String,
    /// Keys, mapped columns, and what expressions read.
    pub columns: Vec<Column>,
    /// Of all columns that it has, also those that the sync does not use, the numbers.
    pub numbers: Vec<i16>,
    /// Places of the key in `columns`.
    pub key: Vec<usize>,
    /// The comparison operators of the key, qualified.
    pub key_equals: Vec<String>,
    /// It is read from time to time, and its changes are not captured.
    pub polled: Option<Polled>,
    /// What it is, if it is no table of this database but an object of another system.
    pub remote: Option<Remote>,
}

impl Table {
    /// The table as it is now.
    ///
    /// # Errors
    /// It is gone, or cannot be synced any more.
    pub fn read_again(&self, which: &str) -> Result<Self, Failure> {
        read_side(self.oid, which, self.polled.as_ref())
    }

    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().map(|&k| &self.columns[k])
    }

    pub fn key_lengths(&self) -> Vec<i16> {
        self.key_columns().map(|c| c.length).collect()
    }

    /// Was one of its columns replaced by another of the same name?
    pub fn replaced_in(&self, now: &Table) -> bool {
        let other =
            |c: &Column| now.place(&c.name).is_some_and(|n| now.columns[n].attnum != c.attnum);
        self.columns.iter().any(other)
    }

    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The column of this name: exactly, else ignoring case if that is unique.
    pub fn like(&self, name: &str) -> Option<usize> {
        self.place(name).or_else(|| {
            let mut loose = (0..self.columns.len())
                .filter(|&c| self.columns[c].name.eq_ignore_ascii_case(name));
            match (loose.next(), loose.next()) {
                (Some(place), None) => Some(place),
                _ => None,
            }
        })
    }

    /// What stands behind FROM where an expression over it is parsed.
    pub(super) fn item(&self) -> String {
        if self.remote.is_none() {
            return self.name.clone();
        }
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|c| format!("NULL::{} AS {}", c.cast, identifier(&c.name)))
            .collect();
        format!("(SELECT {})", columns.join(", "))
    }
}

/// The key and all columns of a table whose changes are captured.
pub fn read_table(oid: Oid, which: &str) -> Result<Table, Failure> {
    read_side(oid, which, None)
}

/// The same of a table that may be `polled`.
pub fn read_side(oid: Oid, which: &str, polled: Option<&Polled>) -> Result<Table, Failure> {
    let name = sql::one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
          WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[Arg::Oid(oid)],
    )
    .ok_or_else(|| {
        refuse(
            "42P01",
            format!("the {which} table is gone"),
            "It was dropped after the sync was made.",
            "Restore the table, or end the sync with sync.drop_sync.",
        )
    })?;
    check_name(&name, "table", "the sync")?;
    let rows = sql::read(
        "SELECT a.attname, a.attnum, a.atttypid, a.atttypmod, a.attcollation, a.attlen, a.attbyval,
                a.attgenerated OPERATOR(pg_catalog.<>) '', a.attidentity OPERATOR(pg_catalog.=) 'a'
           FROM pg_catalog.pg_attribute a
          WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
          ORDER BY a.attnum",
        &[Arg::Oid(oid)],
    );
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        let text = |n: usize| row[n].as_deref().unwrap_or("");
        let type_oid = Oid::from(text(2).parse::<u32>().unwrap_or(0));
        let typmod = text(3).parse().unwrap_or(-1);
        // SAFETY: a type that exists: a column has it.
        let (base_type, base_typmod) = unsafe {
            let mut base_typmod = typmod;
            (pg_sys::getBaseTypeAndTypmod(type_oid, &raw mut base_typmod), base_typmod)
        };
        let cuts = [pg_sys::VARCHAROID, pg_sys::BPCHAROID, pg_sys::BITOID, pg_sys::VARBITOID];
        let cast_typmod = if cuts.contains(&base_type) { -1 } else { base_typmod };
        let cast = sql::one(
            "SELECT pg_catalog.format_type($1, $2)",
            &[Arg::Oid(base_type), Arg::Int4(cast_typmod)],
        )
        .unwrap_or_default();
        columns.push(Column {
            name: text(0).to_owned(),
            attnum: text(1).parse().unwrap_or(0),
            type_oid,
            base_type,
            typmod: base_typmod,
            collation: Oid::from(text(4).parse::<u32>().unwrap_or(0)),
            length: text(5).parse().unwrap_or(-1),
            by_value: text(6) == "t",
            generated: text(7) == "t",
            identity: text(8) == "t",
            cast: match base_type {
                // Without a length "character" means one character.
                pg_sys::BPCHAROID => "pg_catalog.bpchar".to_owned(),
                pg_sys::BITOID => "pg_catalog.varbit".to_owned(),
                _ => cast,
            },
        });
    }
    let (key, key_equals) = match polled {
        Some(polled) => polled::key(oid, &name, which, &columns, polled)?,
        None => {
            let (key, equals) = attach::key_of(oid, &name, which)?;
            let place = |number: &i16| columns.iter().position(|c| c.attnum == *number);
            (key.iter().filter_map(place).collect(), equals)
        }
    };
    let numbers = columns.iter().map(|c| c.attnum).collect();
    let polled = polled.cloned();
    Ok(Table { oid, name, columns, numbers, key, key_equals, polled, remote: None })
}

/// Refuses a name that could not be written into a statement.
pub(super) fn check_name(name: &str, what: &str, of: &str) -> Result<(), Failure> {
    border::check(name).map_err(|why| {
        refuse(
            "22P05",
            format!("the name of a {what} of {of} {why}"),
            &format!("It reads \"{name}\"."),
            "Rename it, or leave it out of the sync.",
        )
    })
}

pub(super) fn find<'a>(
    table: &'a Table,
    name: &str,
    path: &str,
) -> Result<(usize, &'a Column), Failure> {
    table.like(name).map(|p| (p, &table.columns[p])).ok_or_else(|| {
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        let (what, has) = match table.remote {
            None => ("column", "The table has"),
            Some(_) => ("field", "This user can see"),
        };
        refuse(
            "42703",
            format!("{what} \"{name}\" of {} does not exist", table.name),
            &format!("It is named in \"{path}\"."),
            &format!("{has}: {}.", names.join(", ")),
        )
    })
}
