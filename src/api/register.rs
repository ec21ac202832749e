//! `sync.register_table`: a sync of a table with an object, all fields of like names; of an object of
//! another system by what that system says of it, and with a table made for it where there is none.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::{border, or_raise, refuse, syncs};
use crate::border::inwards;
use crate::connection;
use crate::engine::plan::{self, Column, Table};
use crate::engine::remote::columns::{self, Fit};
use crate::engine::remote::{needs, side};
use crate::speech;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::Failure;
use connector::naming::{self, Ambiguous};
use connector::{Field, Kind, Object};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use serde_json::{Value as Json, json};

/// What became of a field.
struct Line {
    field: String,
    column: Option<String>,
    /// The column's type.
    of_type: Option<String>,
    travels: Option<&'static str>,
    note: Option<String>,
}

/// `sync.register_table(relation text, connection text, object text, direction text, name text)
/// RETURNS TABLE (field text, column text, type text, travels text, note text)`
#[pg_extern(sql = false)]
fn register_table(
    relation: Option<&[u8]>,
    connection: Option<&[u8]>,
    object: Option<&[u8]>,
    direction: Option<&[u8]>,
    name: Option<&[u8]>,
) -> TableIterator<
    'static,
    (
        name!(field, Vec<u8>),
        name!(column, Option<Vec<u8>>),
        name!(of_type, Option<Vec<u8>>),
        name!(travels, Option<Vec<u8>>),
        name!(note, Option<Vec<u8>>),
    ),
> {
    let rows = speech::function(|| {
        let [relation, connection, object, direction, name] =
            [relation, connection, object, direction, name].map(|text| text.map(inwards));
        let wanted = or_raise(Wanted::of(
            relation.as_deref(),
            object.as_deref(),
            direction.as_deref().unwrap_or("pull"),
            name.as_deref(),
        ));
        let lines = or_raise(match connection.as_deref().unwrap_or("local") {
            "local" => wanted.register_local(),
            connection => wanted.register_remote(connection),
        });
        let text = |t: Option<&str>| t.map(border::text);
        let row = |line: Line| {
            (
                border::text(&line.field),
                text(line.column.as_deref()),
                text(line.of_type.as_deref()),
                text(line.travels),
                text(line.note.as_deref()),
            )
        };
        lines.into_iter().map(row).collect::<Vec<_>>()
    });
    TableIterator::new(rows)
}

/// Which ways a direction means: from the object into the table, and back.
pub(super) fn directions(direction: &str) -> Result<(bool, bool), Failure> {
    match direction {
        "pull" => Ok((true, false)),
        "push" => Ok((false, true)),
        "both" => Ok((true, true)),
        _ => Err(refuse(
            "22023",
            format!("direction \"{direction}\" is not known"),
            "",
            "It is pull (from the object into the table), push, or both.",
        )),
    }
}

/// What is to be registered.
struct Wanted<'a> {
    relation: &'a str,
    object: &'a str,
    pull: bool,
    push: bool,
    name: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(
        relation: Option<&'a str>,
        object: Option<&'a str>,
        direction: &str,
        name: Option<&'a str>,
    ) -> Result<Self, Failure> {
        let missing = |message: String, hint: &str| Err(refuse("22004", message, "", hint));
        let Some(relation) = relation else {
            return missing("register_table needs a table".into(), "Name one, as in SQL.");
        };
        let Some(object) = object else {
            return missing(
                format!("register_table needs the object to sync {relation} with"),
                "For example: object => 'salesforce.account', or connection => 'crm', object => 'Account'.",
            );
        };
        let (pull, push) = directions(direction)?;
        Ok(Self { relation, object, pull, push, name })
    }

    /// The table, if there is one of this name.
    fn found(&self) -> Option<Oid> {
        let oid = sql::one(
            "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid",
            &[Arg::Text(self.relation)],
        );
        oid.and_then(|oid| oid.parse::<u32>().ok()).map(Oid::from)
    }

    fn travels(&self) -> &'static str {
        travels(self.pull, self.push).unwrap_or_default()
    }

    /// The parts of the document that do not depend on the other side.
    fn document(&self, source: Json, table: &Table) -> Json {
        let mut document = json!({
            "source": source,
            "target": {"table": table.name},
            "sync_type": if self.pull && self.push { "bidirectional" } else { "one_way" },
        });
        if !self.pull {
            document["source_to_target"] = json!(false);
            document["target_to_source"] = json!(true);
        }
        document
    }

    fn register_local(&self) -> Result<Vec<Line>, Failure> {
        let Some(oid) = self.found() else {
            return Err(refuse(
                "42P01",
                format!("table {} does not exist", self.relation),
                "A table is made only for an object of another system.",
                "Create it, or name the connection whose object it is to hold.",
            ));
        };
        let table = plan::read_table(oid, "target")?;
        let document = self.document(json!({"table": self.object}), &table);
        syncs::create(self.name.unwrap_or(&table.name), &[document])?;
        let columns = sql::read(
            "SELECT a.attname, pg_catalog.format_type(b.atttypid, b.atttypmod)
               FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute b ON b.attname OPERATOR(pg_catalog.=) a.attname
              WHERE a.attrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid AND b.attrelid OPERATOR(pg_catalog.=) $2
                AND a.attnum OPERATOR(pg_catalog.>) 0 AND b.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped AND NOT b.attisdropped
              ORDER BY b.attnum",
            &[Arg::Text(self.object), Arg::Oid(oid)],
        );
        let line = |row: Vec<Option<String>>| Line {
            field: row[0].clone().unwrap_or_default(),
            column: row[0].clone(),
            of_type: row[1].clone(),
            travels: Some(self.travels()),
            note: None,
        };
        Ok(columns.into_iter().map(line).collect())
    }

    fn register_remote(&self, connection: &str) -> Result<Vec<Line>, Failure> {
        let connection = connection::usable(connection)?;
        let there = self.found();
        // What can be refused before the other side is asked.
        if let Some(oid) = there {
            plan::read_table(oid, "target")?;
        }
        if let Some(name) = self.name {
            syncs::check_name(name)?;
        }
        let of_parents = needs::of_object(&connection.name, self.object);
        let mut object = connection::describe(&connection, self.object, &of_parents)?;
        self.check_rights(&object)?;
        side::store(&connection.name, &object);
        // Those are for the syncs that name them.
        object.fields.retain(|field| field.lookup.is_none());
        if there.is_none() {
            self.create_table(&object)?;
        }
        sql::seeing_own_work(|| self.register_described(&connection.name, &object))
    }

    /// May what is asked for be done with this object at all?
    fn check_rights(&self, object: &Object) -> Result<(), Failure> {
        let lacks = |what: &str| {
            Err(refuse(
                "42501",
                format!(
                    "object \"{}\" cannot be {what} by the user of the connection",
                    object.name
                ),
                "",
                "Give that user the right in the other system, or choose another direction.",
            ))
        };
        match () {
            () if !object.queryable => lacks("read"),
            () if self.push && !(object.createable && object.updateable) => lacks("written"),
            () => Ok(()),
        }
    }

    /// Makes the table, as the caller: a key of its own, the record's id, and a column a field that travels.
    fn create_table(&self, object: &Object) -> Result<(), Failure> {
        const KEY: &str = "id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY";
        let parts = sql::read(
            "SELECT p FROM pg_catalog.unnest(pg_catalog.parse_ident($1)) AS p",
            &[Arg::Text(self.relation)],
        );
        let name: Vec<String> =
            parts.iter().filter_map(|r| r[0].as_deref()).map(identifier).collect();
        let mut definitions = vec![KEY.to_owned()];
        if self.pull {
            definitions.push(format!("{} varchar(18) UNIQUE", identifier(RECORD_ID)));
        }
        let fields: Vec<(&Field, String)> = object
            .fields
            .iter()
            .filter(|f| f.name != object.id_field)
            .filter_map(|f| Some((f, columns::sql_type(f).ok()?)))
            .filter(|(f, _)| {
                let (pull, push, _) = self.decide(f, &Fit::both(), false);
                pull || push
            })
            .collect();
        let names: Vec<&str> = fields.iter().map(|(f, _)| f.name.as_str()).collect();
        let names = naming::column_names(&names, &["id", RECORD_ID])
            .map_err(|ambiguous| collision(&ambiguous, self.relation))?;
        for ((_, of_type), column) in fields.iter().zip(&names) {
            definitions.push(format!("{} {of_type}", identifier(column)));
        }
        sql::query(&format!("CREATE TABLE {} ({})", name.join("."), definitions.join(", ")), &[]);
        Ok(())
    }

    /// The table is there, and the object's description too.
    fn register_described(&self, connection: &str, object: &Object) -> Result<Vec<Line>, Failure> {
        let Some(oid) = self.found() else {
            return Err(refuse("42P01", format!("table {} does not exist", self.relation), "", ""));
        };
        let table = plan::read_table(oid, "target")?;
        let types = sql::read(
            "SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
              WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[Arg::Oid(oid)],
        );
        let mut lines = Vec::with_capacity(object.fields.len());
        let mut mappings = Vec::new();
        let mut filled = Vec::new();
        for (field, column) in object.fields.iter().zip(pair(object, &table)?) {
            let mut line = Line {
                field: field.name.clone(),
                column: column.map(|c| table.columns[c].name.clone()),
                of_type: column.and_then(|c| types.get(c)?[0].clone()),
                travels: None,
                note: None,
            };
            let Some(c) = column else {
                line.note = Some(self.unmatched(field));
                lines.push(line);
                continue;
            };
            let column = &table.columns[c];
            let (pull, push, note) =
                self.decide(field, &columns::fit(field, column), column.generated);
            (line.travels, line.note) = (travels(pull, push), note);
            lines.push(line);
            if pull {
                filled.push(c);
            }
            let way = match (pull, push) {
                (false, false) => continue,
                (true, false) => "source_to_target",
                (false, true) => "target_to_source",
                (true, true) => "bidirectional",
            };
            mappings.push(json!({"source": field.name, "target": column.name, "direction": way}));
        }
        let only_id = |line: &Line| line.travels.is_none() || line.field == object.id_field;
        if lines.iter().all(only_id) {
            return Err(nothing_alike(&table, object));
        }
        if self.pull {
            check_key(&table, &filled)?;
        }
        let source = json!({"connection": connection, "object": object.name});
        let mut document = self.document(source, &table);
        document["field_mappings"] = Json::Array(mappings);
        syncs::create(self.name.unwrap_or(&table.name), &[document])?;
        Ok(lines)
    }

    /// Which ways a field travels between an object and a column, and why not all that were asked for.
    fn decide(&self, field: &Field, fit: &Fit, generated: bool) -> (bool, bool, Option<String>) {
        let pull = self.pull && fit.pull && !generated;
        let push = self.push && fit.push && field.createable;
        let mut notes = Vec::new();
        if self.push && !push {
            notes.push(match () {
                () if field.read_only() => {
                    "the other system computes it, or its user may not write it".to_owned()
                }
                () if !field.createable => "it cannot be given to a new record".to_owned(),
                () => fit.why.clone(),
            });
        } else if push && !field.updateable {
            notes.push(
                "only a new record can be given it; a later edit is refused there".to_owned(),
            );
        }
        if self.pull && generated {
            notes.push("the table computes the column".to_owned());
        } else if self.pull && !fit.why.is_empty() && !notes.contains(&fit.why) {
            notes.push(fit.why.clone());
        }
        (pull, push, (!notes.is_empty()).then(|| notes.join("; ")))
    }

    fn unmatched(&self, field: &Field) -> String {
        match columns::sql_type(field) {
            Err(why) => why,
            Ok(_) if self.push && field.createable && !field.nillable && !field.defaulted => {
                "no column is called like it, and no record can be created without it".to_owned()
            }
            Ok(_) => "no column is called like it".to_owned(),
        }
    }
}

/// A record that comes from the other side needs a key here: of these columns the record has values.
pub(super) fn check_key(table: &Table, filled: &[usize]) -> Result<(), Failure> {
    for &k in table.key.iter().filter(|k| !filled.contains(k)) {
        let column = &table.columns[k];
        let by_itself = sql::one(
            "SELECT 1 FROM pg_catalog.pg_attribute a
              WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.=) $2::pg_catalog.int2
                AND (a.atthasdef OR a.attidentity OPERATOR(pg_catalog.<>) '')",
            &[Arg::Oid(table.oid), Arg::Int4(i32::from(column.attnum))],
        );
        if by_itself.is_none() {
            return Err(refuse(
                "55000",
                format!("records of the other system would get no key in {}", table.name),
                &format!(
                    "Column \"{}\" of the key has no default, and no field is called like it.",
                    column.name
                ),
                "Give the column a default (GENERATED BY DEFAULT AS IDENTITY, for one), or say in sync.create_sync which field it holds.",
            ));
        }
    }
    Ok(())
}

/// The column that holds the id of a record, where a table has it.
const RECORD_ID: &str = "sf_id";

fn travels(pull: bool, push: bool) -> Option<&'static str> {
    match (pull, push) {
        (true, true) => Some("both"),
        (true, false) => Some("pull"),
        (false, true) => Some("push"),
        (false, false) => None,
    }
}

/// For each field of the object the column that holds it. The record's id is no key of ours: only a
/// column of text that is not the key can be meant to hold it.
fn pair(object: &Object, table: &Table) -> Result<Vec<Option<usize>>, Failure> {
    let texts = [pg_sys::TEXTOID, pg_sys::VARCHAROID];
    let holds_id = |c: usize| {
        let column: &Column = &table.columns[c];
        texts.contains(&column.base_type) && !table.key.contains(&c)
    };
    let id_column = table.like(RECORD_ID).filter(|&c| holds_id(c));
    let id = |field: usize| {
        object.fields[field].kind == Kind::Id && object.fields[field].name == object.id_field
    };
    let fields: Vec<&str> = object.fields.iter().map(|f| f.name.as_str()).collect();
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let may = |field: usize, column: usize| {
        Some(column) != id_column && (!id(field) || id_column.is_none() && holds_id(column))
    };
    let mut paired = naming::pair(&fields, &names, may).map_err(|a| collision(&a, &table.name))?;
    if id_column.is_some()
        && let Some(field) = (0..fields.len()).find(|&field| id(field))
    {
        paired[field] = id_column;
    }
    Ok(paired)
}

fn collision(names: &Ambiguous, table: &str) -> Failure {
    let list =
        |names: &[String]| names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    refuse(
        "42702",
        format!("names of fields and of columns of {table} are ambiguous"),
        &format!(
            "Fields {} and columns {} are called alike.",
            list(&names.fields),
            list(&names.columns)
        ),
        "Say in sync.create_sync which column belongs to which field.",
    )
}

fn nothing_alike(table: &Table, object: &Object) -> Failure {
    let names: Vec<&str> = object.fields.iter().map(|f| f.name.as_str()).collect();
    refuse(
        "42703",
        format!(
            "no field of {} that could travel this way is called like a column of {}",
            object.name, table.name
        ),
        &format!(
            "A column is called like its field, ignoring case, or as annual_revenue for AnnualRevenue. The fields are: {}.",
            names.join(", ")
        ),
        "Say in sync.create_sync which column belongs to which field, or name a table that does not exist yet: it is made.",
    )
}
