//! `sync.import_heroku_connect`: syncs of the tables that Heroku Connect has left, one a mapping, which send nothing and
//! are paused. What it was told is in its export, or is read from the tables.
//!
//! ```text
//! export    what heroku connect:export wrote        left       the tables, triggers and logs in the schema
//! mapping   from a table and its object to a document, and what has no counterpart
//! ```

#![allow(clippy::type_complexity, reason = "the columns of a table")]

mod export;
mod left;
mod mapping;

use super::import::sync_of;
use super::{border, lifecycle, or_raise, refuse, syncs};
use crate::border::inwards;
use crate::connection::{self, Connection};
use crate::engine::plan;
use crate::engine::remote::{needs, side};
use crate::speech;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, attempt};
use connector::Object;
use connector::order::parents_first;
use export::Mapping;
use left::{Left, Triggers};
use mapping::{Pair, Remark};
use pgrx::AnyElement;
use pgrx::prelude::*;

/// What became of a mapping.
struct Line {
    object: Option<String>,
    table: String,
    sync: Option<String>,
    access: Option<&'static str>,
    outcome: &'static str,
    remarks: Vec<Remark>,
}

/// `sync.import_heroku_connect(connection text, schema text, export jsonb, triggers text, stamp bool, dry_run bool) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn import_heroku_connect(
    connection: Option<&[u8]>,
    schema: Option<&[u8]>,
    export: Option<AnyElement>,
    triggers: Option<&[u8]>,
    stamp: Option<bool>,
    dry_run: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(object, Option<Vec<u8>>),
        name!(relation, Vec<u8>),
        name!(sync, Option<Vec<u8>>),
        name!(access, Option<Vec<u8>>),
        name!(outcome, Vec<u8>),
        name!(note, Option<Vec<u8>>),
        name!(remedy, Option<Vec<u8>>),
    ),
> {
    let lines = speech::function(|| {
        let text = |text: Option<&[u8]>, default: &str| text.map_or(default.to_owned(), inwards);
        or_raise(
            Import {
                schema: text(schema, "salesforce"),
                export: export.as_ref().map(|export| border::document(export.datum())),
                triggers: or_raise(Triggers::of(&text(triggers, "disable"))),
                stamp: stamp.unwrap_or(false),
                keep: !dry_run.unwrap_or(false),
            }
            .run(connection.map(inwards).as_deref()),
        )
    });
    let text = |t: Option<&str>| t.map(border::text);
    let row = |line: Line| {
        let notes: Vec<&str> = line.remarks.iter().map(|r| r.text.as_str()).collect();
        // The remedy of a note is in its line.
        let remedies: Vec<&str> =
            line.remarks.iter().map(|r| r.remedy.as_deref().unwrap_or_default()).collect();
        let joined = |texts: Vec<&str>| {
            let joined = texts.join("\n");
            Some(joined).filter(|joined| !joined.trim().is_empty())
        };
        (
            text(line.object.as_deref()),
            border::text(&line.table),
            text(line.sync.as_deref()),
            text(line.access),
            border::text(line.outcome),
            text(joined(notes).as_deref()),
            text(joined(remedies).as_deref()),
        )
    };
    TableIterator::new(lines.into_iter().map(row).collect::<Vec<_>>())
}

/// What is to be imported, and how.
struct Import {
    schema: String,
    export: Option<serde_json::Value>,
    triggers: Triggers,
    stamp: bool,
    /// False: all of it is taken back.
    keep: bool,
}

impl Import {
    fn run(&self, connection: Option<&str>) -> Result<Vec<Line>, Failure> {
        let Some(connection) = connection else {
            return Err(refuse(
                "22004",
                "import_heroku_connect needs the connection to the org".into(),
                "",
                "Make it with sync.create_connection and sync.set_secret.",
            ));
        };
        let connection = connection::usable(connection)?;
        let tables = left::tables(&self.schema)?;
        let logs = left::logs(&self.schema);
        let mappings = match &self.export {
            Some(export) => export::read(export)?,
            None => {
                let of =
                    |table: &Left| Mapping::of_table(&table.name, left::access(&logs, &table.name));
                tables.iter().map(of).collect()
            }
        };
        if mappings.is_empty() {
            return Err(refuse(
                "42P01",
                format!("schema \"{}\" has no tables of Heroku Connect", self.schema),
                &format!(
                    "Such a table has the columns \"{}\" and \"{}\".",
                    left::RECORD_ID,
                    left::LAST_OPERATION
                ),
                "Name the schema that Heroku Connect was set up with, after its dump was restored here.",
            ));
        }
        let mut lines = Vec::new();
        let mut described = Vec::new();
        for (mapping, object) in self.describe(&connection, mappings, &tables)? {
            match object {
                Ok(object) => described.push((mapping, object)),
                Err(failure) => lines.push(self.failed(&mapping, None, failure)),
            }
        }
        let objects: Vec<Object> = described.iter().map(|(_, object)| object.clone()).collect();
        let order: Vec<usize> = parents_first(&objects).iter().map(|placed| placed.place).collect();
        for (mapping, object) in order.into_iter().map(|place| &described[place]) {
            lines.push(self.import(&connection, mapping, object, &tables, &logs));
        }
        let named =
            |table: &Left| lines.iter().any(|line| line.table == self.qualified(&table.name));
        let beside = tables.iter().filter(|table| !named(table)).map(|table| Line {
            object: None,
            table: self.qualified(&table.name),
            sync: None,
            access: None,
            outcome: "left out",
            remarks: vec![Remark::of("the export has no mapping of it")],
        });
        let beside: Vec<Line> = beside.collect();
        lines.extend(beside);
        if self.keep && lines.iter().any(|line| line.outcome == "created") {
            syncs::warn_without_worker();
        }
        Ok(lines)
    }

    fn qualified(&self, table: &str) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(table))
    }

    fn failed(&self, mapping: &Mapping, object: Option<&Object>, failure: Failure) -> Line {
        let text = match &failure.detail {
            Some(detail) if !detail.is_empty() => format!("{}: {detail}", failure.message),
            _ => failure.message,
        };
        Line {
            object: Some(object.map_or(&mapping.object, |object| &object.name).clone()),
            table: self.qualified(&mapping.table()),
            sync: None,
            access: mapping.access.map(export::Access::name),
            outcome: "failed",
            remarks: vec![Remark { text, remedy: failure.hint }],
        }
    }

    /// What the org says of the objects, and of those of their parents whose keys are in columns.
    fn describe(
        &self,
        connection: &Connection,
        mut mappings: Vec<Mapping>,
        tables: &[Left],
    ) -> Result<Vec<(Mapping, Result<Object, Failure>)>, Failure> {
        let mut unknown = Vec::new();
        if self.export.is_none() {
            // A table is called like its object in lower case.
            let objects = connection::objects(connection)?;
            let mut known = Vec::with_capacity(mappings.len());
            for mut mapping in mappings {
                match objects.iter().find(|o| o.name.eq_ignore_ascii_case(&mapping.object)) {
                    Some(object) => {
                        mapping.object.clone_from(&object.name);
                        known.push(mapping);
                    }
                    None => {
                        let near = document::nearest(
                            &mapping.object,
                            objects.iter().map(|o| o.name.as_str()),
                        );
                        unknown.push((mapping, Err(no_object(near))));
                    }
                }
            }
            mappings = known;
        }
        let names: Vec<String> = mappings.iter().map(|mapping| mapping.object.clone()).collect();
        let described = connection::describe_each(connection, &names, &[])?;
        let mut wanted: Vec<(usize, Vec<String>)> = Vec::new();
        for (n, (mapping, object)) in mappings.iter().zip(&described).enumerate() {
            let Ok(object) = object else { continue };
            let columns = tables.iter().find(|table| table.name == mapping.table());
            let columns = columns.map(|table| columns_of(table.oid)).unwrap_or_default();
            let mut of_parents = needs::of_object(&connection.name, &object.name);
            of_parents.extend(mapping::of_parents(mapping, object, &columns));
            if !of_parents.is_empty() {
                wanted.push((n, of_parents));
            }
        }
        let mut pairs: Vec<_> = mappings.into_iter().zip(described).collect();
        // Once more with one login; of an object that has no such relationship nothing more is asked.
        let again: Vec<String> = wanted.iter().map(|(n, _)| names[*n].clone()).collect();
        let all: Vec<String> = wanted.iter().flat_map(|(_, names)| names.clone()).collect();
        if !again.is_empty() {
            let again = connection::describe_each(connection, &again, &all)?;
            for ((n, names), object) in wanted.into_iter().zip(again) {
                let asked = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
                pairs[n].1 = object.map(|mut object| {
                    object.fields.retain(|field| field.lookup.is_none() || asked(&field.name));
                    object.unfit.retain(|unfit| asked(&unfit.name));
                    object
                });
            }
        }
        pairs.extend(unknown);
        Ok(pairs)
    }

    /// Makes the sync of one mapping. What goes wrong leaves nothing of it, and stops no other.
    fn import(
        &self,
        connection: &Connection,
        mapping: &Mapping,
        object: &Object,
        tables: &[Left],
        logs: &[String],
    ) -> Line {
        let qualified = self.qualified(&mapping.table());
        let line = |sync: String, outcome, remarks| Line {
            object: Some(object.name.clone()),
            table: qualified.clone(),
            sync: Some(sync),
            access: mapping.access.map(export::Access::name),
            outcome,
            remarks,
        };
        if let Some(sync) = sync_of(&connection.name, &object.name) {
            return line(sync, "present", vec![Remark::of("a sync has the object already")]);
        }
        let done = attempt(self.keep, || {
            let Some(left) = tables.iter().find(|table| table.name == mapping.table()) else {
                return Err(refuse(
                    "42P01",
                    format!("{qualified} is no table of Heroku Connect"),
                    "It is not there, or has not the columns of one.",
                    &format!(
                        "Restore it, or make another: SELECT * FROM sync.register_table({}, {}, {});",
                        sql::literal(&qualified),
                        sql::literal(&connection.name),
                        sql::literal(&object.name)
                    ),
                ));
            };
            let table = plan::read_table(left.oid, "target")?;
            let unsent = left::unsent(logs, &left.name, &qualified);
            let pair = Pair {
                connection: &connection.name,
                mapping,
                object,
                table: &table,
                sync: &qualified,
            };
            let mut made = pair.document(&unsent, self.stamp)?;
            side::store(&connection.name, object);
            syncs::check_name(&qualified)?;
            sql::seeing_own_work(|| syncs::create_one(&qualified, made.document, None))?;
            sql::seeing_own_work(|| lifecycle::pause_named(&qualified));
            made.remarks.extend(self.triggers.settle(left.oid, &qualified).map(Remark::of));
            Ok(made.remarks)
        });
        match done {
            Ok(remarks) => {
                let outcome = if self.keep { "created" } else { "would be created" };
                line(qualified.clone(), outcome, remarks)
            }
            Err(failure) => self.failed(mapping, Some(object), failure),
        }
    }
}

/// A table whose object is not there.
fn no_object(near: Option<&str>) -> Failure {
    let near = near.map(|near| format!(" Perhaps it is \"{near}\" now.")).unwrap_or_default();
    refuse(
        "42704",
        "the org has no object of this name".to_owned(),
        "It was deleted or renamed, or the user of the connection may not see it.",
        &format!("If it is there, give the user Read on it.{near}"),
    )
}

/// The names of a table's columns.
fn columns_of(table: pgrx::pg_sys::Oid) -> Vec<String> {
    let rows = sql::read(
        "SELECT a.attname FROM pg_catalog.pg_attribute a
          WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
          ORDER BY a.attnum",
        &[Arg::Oid(table)],
    );
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}
