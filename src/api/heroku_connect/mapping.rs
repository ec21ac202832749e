//! From a table of Heroku Connect's, and the object whose records it holds, to the document of a sync.

use super::export::{Access, Mapping};
use super::left::{LAST_ERROR, LAST_OPERATION, RECORD_ID, Unsent};
use crate::api::{refuse, register};
use crate::engine::plan::{Column, Table};
use crate::engine::remote::columns::{self, Fit};
use crate::engine::remote::side;
use crate::sql::{self, Arg, identifier, literal};
use crate::worker::transaction::Failure;
use connector::{Field, Kind, Object};
use pgrx::pg_sys;
use serde_json::{Value as Json, json};

/// A longer name of a column was cut when it was made.
const LONGEST: usize = 63;

/// Something that does not go over as it was, and what can be done about it.
pub(super) struct Remark {
    pub(super) text: String,
    pub(super) remedy: Option<String>,
}

impl Remark {
    pub(super) fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), remedy: None }
    }

    pub(super) fn with(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { text: text.into(), remedy: Some(remedy.into()) }
    }
}

/// A table, the object, and what was said of how they belong together.
pub(super) struct Pair<'a> {
    pub(super) connection: &'a str,
    pub(super) mapping: &'a Mapping,
    pub(super) object: &'a Object,
    pub(super) table: &'a Table,
    pub(super) sync: &'a str,
}

/// The fields of parents that columns of a table may hold, `Parent__r.Ext__c` in `parent__r__ext__c`, as they are asked for.
pub(super) fn of_parents(mapping: &Mapping, object: &Object, columns: &[String]) -> Vec<String> {
    let listed = mapping.fields.iter().flatten().map(|name| spelled(name));
    let mut wanted: Vec<String> = Vec::new();
    for name in columns.iter().cloned().chain(listed) {
        let known = object.own_fields().any(|field| column_of(&field.name) == cut(&name));
        if let Some(of_parent) = parent_meant(object, &name).filter(|_| !known)
            && !wanted.iter().any(|w| w.eq_ignore_ascii_case(&of_parent))
        {
            wanted.push(of_parent);
        }
    }
    wanted
}

/// The field of a parent that a column's name speaks of, along the longest way that it could begin with.
fn parent_meant(object: &Object, column: &str) -> Option<String> {
    let ways = object.own_fields().flat_map(|field| {
        let relationship = field.relationship.as_deref().unwrap_or_default();
        beginnings(relationship, &field.name).into_iter().map(move |way| (way, relationship))
    });
    let (way, relationship) = ways
        .filter(|(way, relationship)| {
            !relationship.is_empty() && column.len() > way.len() && column.starts_with(way.as_str())
        })
        .max_by_key(|(way, _)| way.len())?;
    Some(format!("{relationship}.{}", &column[way.len()..]))
}

/// How a column may begin that holds a field of a parent: by the relationship, `account__` or `parent__r__`, with an `__r`
/// also where the org has none, or by the field that points there.
fn beginnings(relationship: &str, lookup: &str) -> [String; 4] {
    let relationship = relationship.to_ascii_lowercase();
    let stem = relationship.strip_suffix("__r").unwrap_or(&relationship);
    [
        format!("{relationship}__"),
        format!("{stem}__r__"),
        format!("{stem}__"),
        format!("{}__", lookup.to_ascii_lowercase()),
    ]
}

/// A field of the export as a column is spelled.
fn spelled(name: &str) -> String {
    name.to_ascii_lowercase().replace('.', "__")
}

fn cut(name: &str) -> &str {
    name.get(..LONGEST).unwrap_or(name)
}

/// The column that Connect makes for a field of the object itself.
fn column_of(field: &str) -> String {
    cut(&field.to_ascii_lowercase()).to_owned()
}

/// Does a column, or a name of the export, speak of this field?
fn is_called(field: &Field, name: &str) -> bool {
    let Some(lookup) = &field.lookup else {
        return column_of(&field.name) == cut(name);
    };
    let Some((relationship, key)) = field.name.split_once('.') else { return false };
    beginnings(relationship, lookup)
        .iter()
        .any(|way| cut(&format!("{way}{}", key.to_ascii_lowercase())) == cut(name))
}

/// What came of a pair.
pub(super) struct Made {
    pub(super) document: Json,
    pub(super) remarks: Vec<Remark>,
}

impl Pair<'_> {
    /// The document of a sync that brings the org's changes into the table and sends nothing.
    ///
    /// # Errors
    /// The table cannot take records of the object.
    pub(super) fn document(&self, unsent: &Unsent, stamp: bool) -> Result<Made, Failure> {
        let mut remarks = Vec::new();
        let writes = self.writes(&mut remarks);
        let pairs = self.pairs(&mut remarks);
        let id_column = self.record_id()?;
        let mut mappings =
            vec![json!({"source": self.object.id_field, "target": self.name(id_column)})];
        let mut filled = vec![id_column];
        let mut sent = Vec::new();
        for &(field, column) in &pairs {
            let (field, to) = (&self.object.fields[field], &self.table.columns[column]);
            let fit = fit(field, to);
            if !fit.pull || to.generated {
                let why = if to.generated { "the table computes it" } else { &fit.why };
                remarks.push(Remark::of(format!("column {} is left out: {why}", to.name)));
                continue;
            }
            filled.push(column);
            let mut entry = json!({"source": field.name, "target": to.name});
            let mut goes = writes && field.createable && fit.push;
            if writes && field.createable && !fit.push {
                remarks.push(Remark::of(format!("column {} is not sent: {}", to.name, fit.why)));
            } else if !fit.why.is_empty() {
                remarks.push(Remark::of(format!("column {}: {}", to.name, fit.why)));
            }
            if goes && let Some(other) = self.says_the_same(field, &pairs) {
                // The record has one parent, and of the two the org's id is what a new row does not have.
                goes = false;
                remarks.push(Remark::of(format!(
                    "column {} is not sent: {other} says which record that is",
                    to.name
                )));
            }
            if field.kind == Kind::Choices && is_text(to) {
                let (from, back) = (identifier(&field.name), identifier(&to.name));
                // As the org itself writes them, so that what it holds is what Connect was given.
                let list: Vec<String> = field.choices.iter().map(|c| literal(c)).collect();
                entry["transformation"] = json!(format!(
                    "sync.join_choices({from}, ARRAY[{}]::pg_catalog.text[])",
                    list.join(", ")
                ));
                if goes {
                    entry["reverse"] = json!(format!("sync.split_choices({back})"));
                }
            }
            if goes {
                sent.push(field.name.as_str());
            } else {
                entry["direction"] = json!("source_to_target");
            }
            mappings.push(entry);
        }
        register::check_key(self.table, &filled)?;
        self.note_unsent(unsent, &mut remarks);
        self.note_indexes(&pairs, id_column, &mut remarks);
        let mut document = json!({
            "source": {"connection": self.connection, "object": self.object.name},
            "target": {"table": self.table.name},
            "sync_type": "one_way",
            "match_on": [{"source": self.object.id_field, "target": self.name(id_column)}],
            // What the org has not got must not be written over.
            "on_difference": if unsent.is_nothing() { "source" } else { "report" },
            "field_mappings": mappings,
        });
        if let Some(field) = self.identity(writes, &sent, &pairs, &mut remarks) {
            document["identity"] = json!({"field": field});
        }
        if let Some(calls) = self.mapping.daily_calls {
            document["performance_settings"] = json!({"rate_limits": {"per_day": calls}});
        }
        if stamp {
            document["stamp_columns"] = self.stamps();
        }
        Ok(Made { document, remarks })
    }

    fn name(&self, column: usize) -> &str {
        &self.table.columns[column].name
    }

    /// May what is written here be sent, once the sync goes both ways?
    fn writes(&self, remarks: &mut Vec<Remark>) -> bool {
        let may = self.object.createable && self.object.updateable;
        match self.mapping.access {
            Some(Access::ReadOnly) => return false,
            None if may => remarks.push(Remark::of(
                "nothing says whether it was mapped read-only: it is taken for read_write",
            )),
            _ => {}
        }
        if !may {
            remarks.push(Remark::with(
                format!(
                    "records of {} cannot be written by the user of the connection",
                    self.object.name
                ),
                "Give that user Create and Edit on the object in the org, end the sync, and import it again.",
            ));
        }
        may
    }

    /// The column with the records' ids.
    fn record_id(&self) -> Result<usize, Failure> {
        let found = self.table.place(RECORD_ID);
        found.filter(|&c| is_text(&self.table.columns[c]) && !self.table.key.contains(&c)).ok_or_else(|| {
            refuse(
                "42703",
                format!("table {} holds no records' ids", self.table.name),
                &format!("Heroku Connect keeps them in a column \"{RECORD_ID}\" of type varchar(18) beside the key \"id\"."),
                "Sync the table with sync.register_table or sync.create_sync.",
            )
        })
    }

    /// Which fields are in which columns, and what of either has no counterpart.
    fn pairs(&self, remarks: &mut Vec<Remark>) -> Vec<(usize, usize)> {
        let own = [RECORD_ID, LAST_OPERATION, LAST_ERROR];
        let listed: Option<Vec<String>> =
            self.mapping.fields.as_ref().map(|names| names.iter().map(|n| spelled(n)).collect());
        let fields = &self.object.fields;
        let is_listed = |field: &Field| {
            listed.as_ref().is_none_or(|names| names.iter().any(|name| is_called(field, name)))
        };
        let (mut pairs, mut strangers) = (Vec::new(), Vec::new());
        for (c, column) in self.table.columns.iter().enumerate() {
            if own.contains(&column.name.as_str()) || self.table.key.contains(&c) {
                continue;
            }
            let found = fields.iter().position(|field| {
                field.name != self.object.id_field && is_called(field, &column.name)
            });
            match found {
                Some(field) if is_listed(&fields[field]) => pairs.push((field, c)),
                Some(_) => {}
                None if listed.is_none() => strangers.push(column.name.clone()),
                None => {}
            }
        }
        let Some(listed) = listed else {
            remarks.extend(strangers.iter().map(|name| self.stranger("column", name)));
            return pairs;
        };
        for (name, spelled) in self.mapping.fields.iter().flatten().zip(&listed) {
            if name.eq_ignore_ascii_case(&self.object.id_field) {
                continue;
            }
            match fields.iter().position(|field| is_called(field, spelled)) {
                None => remarks.push(self.stranger("field", name)),
                Some(field) if !pairs.iter().any(|&(paired, _)| paired == field) => {
                    let column = cut(spelled);
                    remarks.push(Remark::with(
                        format!("field {name} of the export has no column"),
                        format!(
                            "SELECT sync.map_field({}, source => {}, target => {}) makes it.",
                            literal(self.sync),
                            literal(&fields[field].name),
                            literal(column)
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
        pairs
    }

    /// A name on our side that the org has nothing for.
    fn stranger(&self, what: &str, name: &str) -> Remark {
        let meant = parent_meant(self.object, &spelled(name));
        if let Some(unfit) = meant.and_then(|meant| self.object.unfit(&meant)) {
            return Remark::with(format!("{what} {name} is left out: {}", unfit.why), &*unfit.hint);
        }
        Remark::with(
            format!("{what} {name} is left out: {} has no such field", self.object.name),
            "If it is there, give the user of the connection Read Access to it, end the sync, and import it again.",
        )
    }

    /// The column with a parent's key beside the one with its id.
    fn says_the_same(&self, field: &Field, pairs: &[(usize, usize)]) -> Option<&str> {
        let parent = |&&(other, _): &&(usize, usize)| {
            let other = &self.object.fields[other];
            field.lookup.is_none() && other.lookup.as_ref() == Some(&field.name)
        };
        pairs.iter().find(parent).map(|&(_, column)| self.name(column))
    }

    /// What Connect called the unique identifier of a mapping.
    fn identity(
        &self,
        writes: bool,
        sent: &[&str],
        pairs: &[(usize, usize)],
        remarks: &mut Vec<Remark>,
    ) -> Option<String> {
        let wanted = self.mapping.upsert_field.as_deref().filter(|_| writes)?;
        let mut no = |why: String| {
            remarks.push(Remark::of(format!(
                "{wanted} does not identify new records: {why}; a create that is not answered is looked up"
            )));
            None
        };
        let pair = pairs
            .iter()
            .find(|&&(field, _)| self.object.fields[field].name.eq_ignore_ascii_case(wanted));
        let Some(&(field, column)) = pair else { return no("it is not mapped".to_owned()) };
        let field = &self.object.fields[field];
        if !field.external_id {
            return no(format!("it is no external id of {}", self.object.name));
        }
        if !sent.contains(&field.name.as_str()) {
            return no("it is not sent".to_owned());
        }
        if side::is_serial(self.table, column) {
            return no(format!(
                "{} is filled by a sequence, whose numbers may be given out twice",
                self.name(column)
            ));
        }
        Some(field.name.clone())
    }

    fn note_unsent(&self, unsent: &Unsent, remarks: &mut Vec<Remark>) {
        if unsent.rows > 0 {
            let new = if unsent.new > 0 {
                format!(", {} of them new", unsent.new)
            } else {
                String::new()
            };
            remarks.push(Remark::with(
                format!(
                    "{} rows hold what Heroku Connect has not sent or the org has refused{new}: where rows and records differ, each keeps its own and waits for a decision",
                    unsent.rows
                ),
                "Let Heroku Connect send it before the copy is taken; or decide by sync.conflicts, once the sync runs.",
            ));
        }
        if unsent.deleted > 0 {
            remarks.push(Remark::with(
                format!(
                    "{} deletes have not been sent: their records come back as new rows",
                    unsent.deleted
                ),
                "Let Heroku Connect send them before the copy is taken.",
            ));
        }
    }

    /// Without their indexes rows are found by reading the whole table, and can be there twice.
    fn note_indexes(&self, pairs: &[(usize, usize)], id: usize, remarks: &mut Vec<Remark>) {
        let name = |column: usize| identifier(self.name(column));
        if !self.is_indexed(id, true) {
            remarks.push(Remark::with(
                format!("no unique index tells rows apart by {RECORD_ID}"),
                format!("CREATE UNIQUE INDEX ON {} ({});", self.table.name, name(id)),
            ));
        }
        let column = |wanted: &String| {
            let called = |&&(field, _): &&(usize, usize)| {
                self.object.fields[field].name.eq_ignore_ascii_case(wanted)
            };
            pairs.iter().find(called).map(|&(_, column)| column)
        };
        let upsert = self.mapping.upsert_field.as_ref().and_then(column);
        if let Some(column) = upsert.filter(|&column| !self.is_indexed(column, true)) {
            remarks.push(Remark::with(
                format!("no unique index tells rows apart by {}: a record whose row was not given its id would get another row", self.name(column)),
                format!("CREATE UNIQUE INDEX ON {} ({});", self.table.name, name(column)),
            ));
        }
        let lacking = self.mapping.indexed.iter().filter_map(column);
        for column in lacking.filter(|&c| Some(c) != upsert && !self.is_indexed(c, false)) {
            remarks.push(Remark::with(
                format!("{} has lost the index that it was to have", self.name(column)),
                format!("CREATE INDEX ON {} ({});", self.table.name, name(column)),
            ));
        }
    }

    /// Is there an index that begins with this column, or a unique one on it alone?
    fn is_indexed(&self, column: usize, unique: bool) -> bool {
        sql::one(
            "SELECT 1 FROM pg_catalog.pg_index i
              WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisvalid AND i.indkey[0] OPERATOR(pg_catalog.=) $2::pg_catalog.int2
                AND (NOT $3 OR i.indisunique AND i.indnkeyatts OPERATOR(pg_catalog.=) 1 AND i.indpred IS NULL) LIMIT 1",
            &[
                Arg::Oid(self.table.oid),
                Arg::Int4(i32::from(self.table.columns[column].attnum)),
                Arg::Bool(unique),
            ],
        )
        .is_some()
    }

    fn stamps(&self) -> Json {
        let mut stamps = json!({"state": LAST_OPERATION});
        if self.table.place(LAST_ERROR).is_some() {
            stamps["error"] = json!(LAST_ERROR);
        }
        stamps
    }
}

/// How a field fits the column that Connect made for it.
fn fit(field: &Field, column: &Column) -> Fit {
    match (field.kind, column.base_type) {
        // Fifteen digits go both ways, and an application has them there as it always had.
        (Kind::Number, pg_sys::FLOAT8OID) => Fit::both(),
        (Kind::Choices, _) if is_text(column) => Fit::both(),
        _ => columns::fit(field, column),
    }
}

fn is_text(column: &Column) -> bool {
    [pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&column.base_type)
}
