//! What a sync does about a change of the fields of its object: each is noted for the syncs it concerns, in the
//! transaction that stores the new description, and followed by the policy of each sync.

use super::columns::{self, Fit};
use super::side;
use crate::engine::load::{self, Kind as LoadKind};
use crate::engine::plan::{self, Column, Stored, Table};
use crate::sql::{self, Arg, identifier, literal};
use crate::worker::transaction::{Failure, as_owner, transaction};
use connector::schema::{What, differences};
use connector::{Field, Object, naming};
use document::{Config, SchemaPolicy};
use merge::Side;
use pgrx::pg_sys;
use serde_json::Value as Json;

/// Longest wait for a lock of a table that is to follow.
const LOCK_WAIT: &str = "2s";

/// A change that is to be followed.
struct Change {
    id: i64,
    field: String,
    what: String,
}

/// What came of a change, and what a person can do about it.
#[derive(Default)]
struct Outcome {
    effect: String,
    remedy: Option<String>,
    pause: bool,
}

impl Outcome {
    fn of(effect: impl Into<String>) -> Self {
        Self { effect: effect.into(), ..Self::default() }
    }

    fn with(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Notes what is different in a new description, for each sync of the object.
pub fn note(connection: &str, before: &Object, now: &Object) {
    for difference in differences(before, now) {
        let (what, was, is) = match difference.what {
            What::Added => ("field added", String::new(), native(now, &difference.field)),
            What::Removed => ("field removed", native(before, &difference.field), String::new()),
            What::Kind { .. } => {
                ("type changed", native(before, &difference.field), native(now, &difference.field))
            }
            What::Length { was, now } => ("length changed", was.to_string(), now.to_string()),
            What::Writable(true) => ("became writable", String::new(), String::new()),
            What::Writable(false) => ("became read-only", String::new(), String::new()),
        };
        sql::query(
            "INSERT INTO sync._schema_change (sync, field, change, was, is_now)
             SELECT s.id, $3, $4, NULLIF($5, ''), NULLIF($6, '') FROM sync._sync s
              WHERE s.connection OPERATOR(pg_catalog.=) $1 AND pg_catalog.lower(s.object) OPERATOR(pg_catalog.=) pg_catalog.lower($2)",
            &[
                Arg::Text(connection),
                Arg::Text(&now.name),
                Arg::Text(&difference.field),
                Arg::Text(what),
                Arg::Text(&was),
                Arg::Text(&is),
            ],
        );
    }
}

/// The other system's name of a field's type, with the length of a text.
fn native(object: &Object, field: &str) -> String {
    let Some(field) = object.field(field) else { return String::new() };
    if field.length > 0 {
        format!("{}({})", field.native_type, field.length)
    } else {
        field.native_type.clone()
    }
}

/// Follows what has been noted since, for all syncs that run.
///
/// # Errors
/// What reading and noting raised; what following itself raised is said beside the change.
pub fn follow() -> Result<(), Failure> {
    let waiting = transaction(|| {
        Ok(sql::read(
            "SELECT DISTINCT c.sync FROM sync._schema_change c JOIN sync._sync s ON s.id = c.sync
              WHERE c.effect IS NULL AND s.state = 'running' ORDER BY c.sync",
            &[],
        ))
    })?;
    for id in waiting.iter().filter_map(|row| row[0].as_deref()?.parse().ok()) {
        follow_all(id)?;
    }
    Ok(())
}

fn follow_all(id: i32) -> Result<(), Failure> {
    let (stored, changes) = transaction(|| {
        let rows = sql::read(
            "SELECT id, field, change FROM sync._schema_change WHERE sync = $1 AND effect IS NULL ORDER BY id",
            &[Arg::Int4(id)],
        );
        let change = |row: Vec<Option<String>>| {
            let [id, field, what] = <[Option<String>; 3]>::try_from(row).ok()?;
            Some(Change { id: id?.parse().ok()?, field: field?, what: what? })
        };
        Ok((plan::stored(id), rows.into_iter().filter_map(change).collect::<Vec<_>>()))
    })?;
    let Some(stored) = stored else { return Ok(()) };
    let added: Vec<&str> =
        changes.iter().filter(|c| c.what == "field added").map(|c| c.field.as_str()).collect();
    for change in &changes {
        let outcome = match subject(&stored, change, &added)? {
            Some(subject) => subject.follow(&stored, change),
            None => Outcome::of("none: the table of the sync is gone"),
        };
        transaction(|| {
            sql::query(
                "UPDATE sync._schema_change SET effect = $2, remedy = $3 WHERE id = $1",
                &[
                    Arg::Int(change.id),
                    Arg::Text(&outcome.effect),
                    Arg::OptText(outcome.remedy.as_deref()),
                ],
            );
            if outcome.pause {
                let object = stored.object.as_ref().map_or("", |(_, object)| object.as_str());
                let reason = format!(
                    "{}: field {} of {object}; see sync.schema_changes, then sync.resume",
                    change.what, change.field
                );
                sql::query(
                    "UPDATE sync._sync SET state = 'paused', reason = $2, changed_at = pg_catalog.clock_timestamp()
                      WHERE id = $1 AND state = 'running'",
                    &[Arg::Int4(id), Arg::Text(&reason)],
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A field with what the sync makes of it.
struct Subject {
    policy: SchemaPolicy,
    /// The field as it is described now.
    field: Option<Field>,
    side: Side,
    table: Table,
    /// The column it is mapped to.
    column: Option<Column>,
    /// The document names it, if any does; else it is synced because of its name.
    named: bool,
    /// All fields that could be synced were, before this change.
    mirrors: bool,
    sends: bool,
}

fn subject(stored: &Stored, change: &Change, added: &[&str]) -> Result<Option<Subject>, Failure> {
    let Some((connection, name)) = &stored.object else { return Ok(None) };
    let (side, local) = if stored.source == pg_sys::InvalidOid {
        (Side::Source, stored.target)
    } else {
        (Side::Target, stored.source)
    };
    transaction(|| {
        let Ok(table) = plan::read_table(local, side.other().name()) else { return Ok(None) };
        let (config, _) = plan::read_document(&stored.document)?;
        let Some(object) = side::described(connection, name) else { return Ok(None) };
        let mapped = |field: &str| mapped_to(&config, side, &table, field);
        let mirrors = object
            .own_fields()
            .filter(|f| !added.contains(&f.name.as_str()) && columns::sql_type(f).is_ok())
            .all(|f| mapped(&f.name).is_some());
        let column = mapped(&change.field).and_then(|name| table.like(&name));
        Ok(Some(Subject {
            policy: config.schema_policy,
            field: object.field(&change.field).cloned(),
            side,
            column: column.map(|c| table.columns[c].clone()),
            table,
            named: config.fields.alike.is_none()
                || match side {
                    Side::Source => config.fields.names_source(&change.field),
                    Side::Target => config.fields.names_target(&change.field),
                },
            mirrors,
            sends: if side == Side::Target {
                config.direction.to_target()
            } else {
                config.direction.to_source()
            },
        }))
    })
}

/// The local column that a field of the other side is paired with.
fn mapped_to(config: &Config, side: Side, table: &Table, field: &str) -> Option<String> {
    let same = |name: &str| name.eq_ignore_ascii_case(field);
    let mapped = config.fields.mapped.iter().find_map(|f| match side {
        Side::Source => f.sources.iter().any(|s| same(s)).then(|| f.target.clone()),
        Side::Target => same(&f.target).then(|| f.sources.first().cloned()).flatten(),
    });
    let alike = || table.like(field).map(|c| table.columns[c].name.clone());
    mapped.or_else(|| alike().filter(|_| config.fields.pairs(field)))
}

impl Subject {
    fn follow(&self, stored: &Stored, change: &Change) -> Outcome {
        let touches = self.column.is_some() || change.what == "field added" && self.is_own();
        if self.policy == SchemaPolicy::Pause && touches {
            let outcome = self.plainly(stored, change);
            return Outcome {
                effect: format!("the sync was paused; when it goes on: {}", outcome.effect),
                pause: true,
                ..outcome
            };
        }
        if self.policy == SchemaPolicy::Adapt
            && let Some(outcome) = self.adapt(stored, change)
        {
            return outcome;
        }
        self.plainly(stored, change)
    }

    /// What happens if nothing is done.
    fn plainly(&self, stored: &Stored, change: &Change) -> Outcome {
        let field = &change.field;
        let Some(column) = &self.column else {
            return if change.what == "field added" {
                Outcome::of("none: the field is not synced").with(self.map_it(stored, field))
            } else {
                Outcome::of("none: the field is not synced")
            };
        };
        let column = identifier(&column.name);
        match change.what.as_str() {
            "field added" => Outcome::of(format!("column {column} is synced with the field")),
            "field removed" if !self.named => {
                Outcome::of(format!("column {column} is not synced any more and keeps its values"))
            }
            "field removed" => {
                Outcome::of("the sync stops until the field is there again, or not mapped any more").with(
                    "Give the user of the connection the right to read the field, or take it out of \"field_mappings\" with sync.alter_sync.",
                )
            }
            "length changed" => self.length(&column),
            "type changed" => match self.fit() {
                Some(fit) if !(fit.pull && fit.push) => Outcome::of(fit.why).with(format!(
                    "Change the column's type, or take the field out of \"field_mappings\" with sync.alter_sync; {} would hold all values.",
                    self.field.as_ref().and_then(|f| columns::sql_type(f).ok()).unwrap_or_default()
                )),
                _ => Outcome::of(format!("none: column {column} holds the values of the new type")),
            },
            "became read-only" if self.sends => {
                Outcome::of(format!("edits of column {column} are not sent any more")).with(
                    "Give the user of the connection the right to edit the field, if they are to be.",
                )
            }
            "became writable" if self.sends => {
                Outcome::of(format!("edits of column {column} are sent from now on"))
            }
            _ => Outcome::of("none"),
        }
    }

    fn fit(&self) -> Option<Fit> {
        Some(columns::fit(self.field.as_ref()?, self.column.as_ref()?))
    }

    /// How many characters the column takes; `None`: any.
    fn limit(&self) -> Option<u32> {
        let column = self.column.as_ref()?;
        (column.base_type == pg_sys::VARCHAROID && column.typmod > 4)
            .then(|| column.typmod as u32 - 4)
    }

    fn length(&self, column: &str) -> Outcome {
        let now = self.field.as_ref().map_or(0, |f| f.length);
        match self.limit() {
            Some(limit) if now == 0 || now > limit => Outcome::of(format!(
                "values of more than {limit} characters wait in the queue, column {column} does not hold them"
            ))
            .with(self.widen(column, now)),
            _ if now > 0 && self.sends && self.limit().is_none_or(|limit| limit > now) => {
                Outcome::of(format!("values of more than {now} characters are refused over there"))
            }
            _ => Outcome::of(format!("none: column {column} holds all values")),
        }
    }

    fn widen(&self, column: &str, length: u32) -> String {
        let of_type = if length == 0 { "text".to_owned() } else { format!("varchar({length})") };
        format!("ALTER TABLE {} ALTER COLUMN {column} TYPE {of_type};", self.table.name)
    }

    fn map_it(&self, stored: &Stored, field: &str) -> String {
        let taken: Vec<&str> = self.table.columns.iter().map(|c| c.name.as_str()).collect();
        let column = naming::column_names(&[field], &taken)
            .ok()
            .and_then(|names| names.into_iter().next())
            .unwrap_or_else(|| naming::snake(field));
        let (source, target) =
            if self.side == Side::Source { (field, &*column) } else { (&*column, field) };
        format!(
            "SELECT sync.map_field({}, source => {}, target => {});",
            literal(&stored.name),
            literal(source),
            literal(target)
        )
    }

    /// Follows a change where that loses nothing; `None`: there is nothing to be done.
    fn adapt(&self, stored: &Stored, change: &Change) -> Option<Outcome> {
        match (change.what.as_str(), &self.column) {
            ("field added", Some(column)) => {
                let done = transaction(|| {
                    load::request(stored.id, self.side, LoadKind::Rows, "a field is there again");
                    Ok(())
                });
                let effect =
                    format!("column {} is synced with the field", identifier(&column.name));
                Some(said(done, effect, None))
            }
            ("field added", None)
                if self.named && self.mirrors && self.is_own() && self.carried() =>
            {
                let call = self.map_it(stored, &change.field);
                let done = self.as_owner(stored, &call);
                Some(said(done, format!("the field is synced now: {call}"), Some(call)))
            }
            ("field removed", Some(column)) if self.named => {
                let patch = self.without(stored, &change.field)?;
                let call = format!(
                    "SELECT sync.alter_sync({}, {}::pg_catalog.jsonb);",
                    literal(&stored.name),
                    literal(&patch.to_string())
                );
                let done = self.as_owner(stored, &call);
                let column = &column.name;
                let (source, target) = if self.side == Side::Source {
                    (&change.field, column)
                } else {
                    (column, &change.field)
                };
                let back = format!(
                    "Once the field is there again: SELECT sync.map_field({}, source => {}, target => {});",
                    literal(&stored.name),
                    literal(source),
                    literal(target)
                );
                let effect = format!(
                    "the field is not mapped any more, column {} keeps its values",
                    identifier(column)
                );
                Some(said(done, effect, Some(back)))
            }
            ("length changed", Some(column)) => {
                let length = self.field.as_ref()?.length;
                self.limit().filter(|&limit| length == 0 || length > limit)?;
                let column = identifier(&column.name);
                let call = self.widen(&column, length);
                let done = self.as_owner(stored, &call);
                Some(said(done, format!("column {column} was widened: {call}"), Some(call)))
            }
            _ => None,
        }
    }

    /// One of a parent is only there because another sync has asked for it.
    fn is_own(&self) -> bool {
        self.field.as_ref().is_none_or(|field| field.lookup.is_none())
    }

    fn carried(&self) -> bool {
        self.field.as_ref().is_some_and(|field| columns::sql_type(field).is_ok())
    }

    /// The mappings without those of a field.
    fn without(&self, stored: &Stored, field: &str) -> Option<Json> {
        let key = if self.side == Side::Source { "source" } else { "target" };
        let names = |mapping: &Json| match mapping.get(key) {
            Some(Json::String(name)) => name.eq_ignore_ascii_case(field),
            Some(Json::Array(names)) => {
                names.iter().filter_map(Json::as_str).any(|name| name.eq_ignore_ascii_case(field))
            }
            _ => false,
        };
        let mappings = stored.document.get("field_mappings")?.as_array()?;
        let rest: Vec<&Json> = mappings.iter().filter(|mapping| !names(mapping)).collect();
        Some(serde_json::json!({ "field_mappings": rest }))
    }

    fn as_owner(&self, stored: &Stored, call: &str) -> Result<(), Failure> {
        as_owner(stored.owner, &stored.search_path, false, || {
            sql::set_local("lock_timeout", LOCK_WAIT);
            sql::query(call, &[]);
            Ok(())
        })
    }
}

fn said(done: Result<(), Failure>, effect: String, remedy: Option<String>) -> Outcome {
    match done {
        Ok(()) => {
            Outcome { effect, remedy: remedy.filter(|r| r.starts_with("Once")), pause: false }
        }
        Err(failure) => Outcome {
            effect: format!("it could not be followed: {}", failure.message),
            remedy: remedy.or(failure.hint),
            pause: false,
        },
    }
}
