//! A sync as the engine runs it: its document, resolved against the catalogs.

mod convert;
mod fields;
mod polled;
mod references;
mod rights;
mod rows;
mod rules;
pub mod screens;
mod stamps;
mod table;

pub use fields::{Field, How};
pub use references::{Keyed, Parent};
pub use rights::missing_rights;
pub use table::{Column, Table, read_side, read_table};

use crate::capture::attach;
use crate::connection;
use crate::engine::remote::side::{self as remote_side, Remote};
use crate::engine::stamps::Stamps;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, refuse};
use change::shape;
use document::{Config, Context, DeleteLimit, Endpoint, Nulls, OnDelete, OnTargetEdit, TableName};
use fields::{
    add_marks, base_shape, check_match, keep_used, match_columns, named_columns, resolve_fields,
    set_defaults, timestamp_column,
};
use merge::{Flow, Rule, Side};
use pgrx::pg_sys::{self, Oid};
use serde_json::Value as Json;
use std::sync::Arc;
use table::check_name;

/// What is read of a sync's row.
#[derive(Clone, Debug)]
pub struct Stored {
    pub id: i32,
    pub name: String,
    pub owner: Oid,
    pub search_path: String,
    pub document: Json,
    /// Invalid where the side is an object of another system.
    pub source: Oid,
    pub target: Oid,
    /// The connection and the object of the side that is no table.
    pub object: Option<(String, String)>,
}

/// A sync, ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub id: i32,
    pub name: String,
    pub owner: Oid,
    pub search_path: String,
    pub config: Config,
    pub sides: [Table; 2],
    pub fields: Vec<Field>,
    /// What records are asked before they are sent.
    pub screens: screens::Screens,
    pub flows: Vec<Flow>,
    /// For each field the function that chooses its value where both sides changed it, as SQL names it.
    pub functions: Vec<Option<String>>,
    /// The function that makes the target's rows, as SQL names it.
    pub row_function: Option<String>,
    /// For each side the field that marks its record when the other side's was deleted.
    pub marks: [Option<usize>; 2],
    /// Columns in which it is said how it is with a row.
    pub stamps: Option<Stamps>,
    /// What a delete against an edit comes to.
    pub deletes: merge::Deletes,
    /// Pairs of (source column, target column) by which rows that exist on both sides are paired.
    pub match_on: Vec<(usize, usize)>,
    /// The target's key is the source's, byte for byte: links need no second index.
    pub same_key: bool,
    /// The columns of a base image: for each field the source's value and, where the target's is
    /// not the same bytes, the target's.
    pub base: shape::Shape,
    /// For each field the places of its source and target value in the base.
    pub base_places: Vec<[Option<usize>; 2]>,
    /// For each column of a base the enum whose values it holds, with their labels.
    pub base_enums: Vec<Option<Oid>>,
    /// The side and the column that tell when a record was last changed, where the document says so.
    pub timestamp: Option<(Side, usize)>,
    /// What leads to the other system, in the worker.
    pub connector: Option<Connected>,
}

/// A connector, in a plan that can be looked at.
#[derive(Clone)]
pub struct Connected(pub Arc<dyn connector::Connector>);

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connected")
    }
}

impl Plan {
    pub fn side(&self, side: Side) -> &Table {
        &self.sides[side as usize]
    }

    /// Has a record of the other system to be read before it is written over? Where its own change may have to stand,
    /// also one of which nobody has told yet.
    pub fn reads_first(&self) -> bool {
        self.remote_side().is_some_and(|remote| {
            let stands = |rule: Rule| match rule {
                Rule::Later => false,
                Rule::Prefer(side) => side == remote,
                Rule::Review | Rule::Function => true,
            };
            self.flows.iter().any(|flow| flow.to_source && flow.to_target && stands(flow.rule))
        })
    }

    /// What becomes of the other side's record when one of this side is deleted.
    pub fn on_delete(&self, side: Side) -> &OnDelete {
        &self.config.on_delete[side as usize]
    }

    /// Do changes of this side travel?
    pub fn flows_from(&self, side: Side) -> bool {
        match side {
            Side::Source => self.config.direction.to_target(),
            Side::Target => self.config.direction.to_source(),
        }
    }

    /// Is this side watched? Only then can an overwritten edit of it be noticed.
    pub fn captured(&self, side: Side) -> bool {
        self.listens_to(side)
            && self.config.capture
            && !self.is_remote(side)
            && self.side(side).polled.is_none()
    }

    /// Is anything done about changes of this side, whether they travel or not?
    pub fn listens_to(&self, side: Side) -> bool {
        let judged = side == Side::Target && self.config.on_target_edit != OnTargetEdit::Keep;
        self.flows_from(side) || judged
    }

    /// The side that is read from time to time, if one is.
    pub fn polled(&self) -> Option<Side> {
        Side::BOTH.into_iter().find(|&side| self.side(side).polled.is_some())
    }

    pub fn is_remote(&self, side: Side) -> bool {
        self.side(side).remote.is_some()
    }

    /// The side that is an object of another system, if one is.
    pub fn remote_side(&self) -> Option<Side> {
        Side::BOTH.into_iter().find(|&side| self.is_remote(side))
    }

    /// The remote side, what it is, and the local side.
    pub fn remote(&self) -> Option<(Side, &Remote)> {
        let side = self.remote_side()?;
        Some((side, self.side(side).remote.as_ref()?))
    }

    /// Do both tables have a column by now that a sync of all equal names would take along?
    pub fn lacks_field(&self, source: &Table, target: &Table) -> bool {
        if self.remote_side().is_some() {
            return false;
        }
        source.columns.iter().any(|c| {
            self.sides[0].place(&c.name).is_none()
                && target.place(&c.name).is_some()
                && self.config.fields.pairs(&c.name)
        })
    }

    /// The side whose values a function of the user's is given: our table, or of two the target.
    pub fn ours(&self) -> Side {
        rules::ours([&self.sides[0], &self.sides[1]])
    }

    /// Does any field leave any side through SQL, or does SQL decide about one, or about which rows belong together?
    pub fn evaluates(&self) -> bool {
        self.functions.iter().any(Option::is_some)
            || !self.screens.is_empty()
            || self.config.match_on.iter().any(|pair| pair.expression.is_some())
            || self.fields.iter().any(|f| f.how.iter().flatten().any(|how| how.sql().is_some()))
    }

    /// Do its records point to records of another sync?
    pub fn refers_to(&self, sync: i32) -> bool {
        self.fields.iter().flat_map(|field| &field.parents).any(|p| p.sync == Some(sync))
    }

    /// How many calls to the other system may be on their way at once.
    pub fn parallelism(&self) -> usize {
        self.config.parallelism.map_or(4, |n| n as usize)
    }

    /// Does what was asked under another plan fit this one?
    pub fn speaks_alike(&self, other: &Plan) -> bool {
        self.sides == other.sides
            && self.fields == other.fields
            && self.screens == other.screens
            && self.match_on == other.match_on
    }

    /// The number that capture notes for what this sync writes to a side.
    pub fn origin(&self, side: Side) -> i32 {
        self.id * 2 + side as i32
    }

    /// How many records a batch may delete, of `links` linked ones.
    pub fn delete_limit(&self, links: u64) -> u64 {
        match &self.config.delete_limit {
            Some(DeleteLimit::Records(n)) => *n,
            Some(DeleteLimit::Percent(p)) => (links as f64 * p / 100.0) as u64,
            None => (links / 100).max(100),
        }
    }
}

impl From<document::Error> for Failure {
    fn from(error: document::Error) -> Self {
        let mut detail = error.detail;
        if !error.path.is_empty()
            && !detail.contains(&error.path)
            && !error.message.contains(&error.path)
        {
            detail = format!("At \"{}\": {detail}", error.path);
        }
        refuse(error.kind.sqlstate(), error.message, &detail, &error.hint)
    }
}

/// What this database offers a document.
pub fn context() -> Context {
    Context {
        database: sql::one("SELECT pg_catalog.current_database()", &[]).unwrap_or_default(),
        connections: connection::for_documents(),
    }
}

/// Reads a document; as the user who gave it.
pub fn read_document(document: &Json) -> Result<(Config, Vec<document::Notice>), Failure> {
    Ok(Config::read(document, &context())?)
}

/// The table that an endpoint names; none where it is an object of another system.
pub fn resolve(endpoint: &Endpoint, which: &str) -> Result<Oid, Failure> {
    let Endpoint::Local(table) = endpoint else { return Ok(pg_sys::InvalidOid) };
    let text = quoted(table);
    let oid = sql::one("SELECT pg_catalog.to_regclass($1)::oid::text", &[Arg::Text(&text)]);
    oid.and_then(|o| o.parse::<u32>().ok()).map(Oid::from).ok_or_else(|| {
        refuse(
            "42P01",
            format!("table {text} does not exist"),
            &format!("The document names it in \"{which}\"."),
            "Names are read as in SQL: folded to lower case unless they are in double quotes.",
        )
    })
}

fn quoted(table: &TableName) -> String {
    match &table.schema {
        Some(schema) => format!("{}.{}", identifier(schema), identifier(&table.name)),
        None => identifier(&table.name),
    }
}

/// Which of a sync's tables were dropped, as a sentence; `None` if both are there.
pub fn dropped(stored: &Stored) -> Option<String> {
    let config = read_document(&stored.document).ok().map(|read| read.0);
    let sides = [(Side::Source, stored.source), (Side::Target, stored.target)];
    let mut gone = Vec::new();
    let mut there = None;
    for (side, oid) in sides {
        if stored.object.is_some() && oid == pg_sys::InvalidOid {
            // An object of another system, which nobody here can drop.
            continue;
        }
        let name = sql::one(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
              WHERE c.oid OPERATOR(pg_catalog.=) $1",
            &[Arg::Oid(oid)],
        );
        if let Some(name) = name {
            there = Some(name);
            continue;
        }
        // Its name is only in the document any more.
        let endpoint = config.as_ref().map(|c| match side {
            Side::Source => &c.source,
            Side::Target => &c.target,
        });
        let name = match endpoint {
            Some(Endpoint::Local(table)) => format!(" {}", quoted(table)),
            _ => String::new(),
        };
        gone.push(format!("the {} table{name}", side.name()));
    }
    match (&gone[..], there) {
        ([], _) => None,
        ([one], Some(other)) => {
            Some(format!("{one} was dropped; nothing has been deleted from {other}"))
        }
        ([one], None) => Some(format!("{one} was dropped")),
        _ => Some(format!("{} were dropped", gone.join(" and "))),
    }
}

/// Resolves a stored sync against the catalogs. To be run as the sync's owner, who sees the same
/// catalogs as anybody.
///
/// # Errors
/// Says what of the document does not fit. With the SQLSTATE [`remote_side::UNDESCRIBED`]: the other system has not
/// said yet what the object looks like.
pub fn compile(stored: Stored) -> Result<Plan, Failure> {
    compile_as(stored, false)
}

/// The same, where `assume` says that an object nobody has described yet is taken to have the fields
/// that the document names: enough to know what has to be captured.
pub fn compile_as(stored: Stored, assume: bool) -> Result<Plan, Failure> {
    let (config, _) = read_document(&stored.document)?;
    let (mut source, mut target);
    match &stored.object {
        None => {
            source = read_side(stored.source, "source", config.polled[0].as_ref())?;
            target = read_side(stored.target, "target", config.polled[1].as_ref())?;
        }
        Some((connection, object)) if stored.source == pg_sys::InvalidOid => {
            target = read_side(stored.target, "target", config.polled[1].as_ref())?;
            source =
                remote_side::table(connection, object, &config, &target, Side::Source, assume)?;
        }
        Some((connection, object)) => {
            source = read_side(stored.source, "source", config.polled[0].as_ref())?;
            target =
                remote_side::table(connection, object, &config, &source, Side::Target, assume)?;
        }
    }
    if source.oid == target.oid {
        return Err(refuse(
            "22023",
            format!("source and target are the same table {}", source.name),
            "A sync connects two different tables.",
            "Name another table in \"target\".",
        ));
    }
    let mut fields = resolve_fields(&config, &source, &target)?;
    convert::check_zone(&config.mapping)?;
    references::resolve(&stored, &config, [&source, &target], &mut fields)?;
    set_defaults(&config, [&source, &target], &mut fields)?;
    let (mut screens, asked) = screens::filters(&config, [&source, &target])?;
    screens.rules = screens::rules(&config, [&source, &target], &mut fields)?;
    let stamps = stamps::stamps(&config, [&source, &target], &fields)?;
    let marks = add_marks(&config, [&source, &target], &mut fields)?;
    for field in &fields {
        for (side, other) in [(Side::Source, &target), (Side::Target, &source)] {
            if field.how[side as usize].is_some()
                && let Some(c) = field.column[side.other() as usize]
                && other.columns[c].generated
            {
                return Err(refuse(
                    "22023",
                    format!(
                        "column \"{}\" of {} is generated and cannot be written",
                        other.columns[c].name, other.name
                    ),
                    "Its value is computed by the table.",
                    "Leave the field out, or map it the other way only.",
                ));
            }
        }
    }
    for (table, local) in [(&source, Side::Target), (&target, Side::Source)] {
        if let Some(remote) = &table.remote {
            remote_side::check_lookups(remote, local, &fields)?;
        }
    }
    let match_on = match_columns(&config, &source, &target, &fields)?;
    check_match(&config, [&source, &target])?;
    let same_key = has_same_key([&source, &target], &fields);
    let deciders = rules::rules(&config, &fields, [&source, &target])?;
    let flows: Vec<Flow> = fields
        .iter()
        .zip(&deciders)
        .map(|(f, of)| Flow {
            to_target: f.how[0].is_some(),
            to_source: f.how[1].is_some(),
            rule: of.rule,
            group: of.group,
            ignores_null: config.mapping.nulls == Nulls::Ignore,
        })
        .collect();
    let mut extra = [
        named_columns(&config, &source, &target, Side::Source)?,
        named_columns(&config, &source, &target, Side::Target)?,
    ];
    for (extra, asked) in extra.iter_mut().zip(asked) {
        extra.extend(asked);
    }
    keep_used(&mut source, &mut fields, Side::Source, &match_on, &extra[0]);
    keep_used(&mut target, &mut fields, Side::Target, &match_on, &extra[1]);
    // The places in match_on moved with the columns: look them up again.
    let match_on = match_columns(&config, &source, &target, &fields)?;
    let timestamp = timestamp_column(&config, &source, &target)?;
    if let Some(remote) = &mut source.remote {
        remote.identity = remote_side::identity(&config, remote, Side::Target, &target, &fields)?;
    }
    if let Some(remote) = &mut target.remote {
        remote.identity = remote_side::identity(&config, remote, Side::Source, &source, &fields)?;
    }
    for table in [&source, &target] {
        for column in &table.columns {
            check_name(&column.name, "column", &table.name)?;
        }
    }
    let deletes = rules::deletes(&config.conflicts);
    let row_function = rows::function(&config, &source, &target)?;
    let (base, base_places, base_enums) = base_shape(&source, &target, &fields, &flows);
    let plan = Plan {
        id: stored.id,
        name: stored.name,
        owner: stored.owner,
        search_path: stored.search_path,
        config,
        sides: [source, target],
        fields,
        screens,
        flows,
        row_function,
        functions: deciders.into_iter().map(|of| of.function).collect(),
        marks,
        stamps,
        deletes,
        match_on,
        same_key,
        base,
        base_places,
        base_enums,
        timestamp,
        connector: None,
    };
    // Attached to one another since they were synced, each change would be captured for one only.
    for side in Side::BOTH.into_iter().filter(|&side| plan.captured(side)) {
        attach::check_tree(plan.side(side).oid, &plan.side(side).name)?;
    }
    Ok(plan)
}

/// Is the target's key the source's, byte for byte?
fn has_same_key([source, target]: [&Table; 2], fields: &[Field]) -> bool {
    let copied = |(&s, &t): (&usize, &usize)| {
        fields.iter().any(|f| {
            f.column == [Some(s), Some(t)] && f.is_copied() && f.how.iter().any(Option::is_some)
        })
    };
    source.remote.is_none()
        && target.remote.is_none()
        && source.key.len() == target.key.len()
        && source.key.iter().zip(&target.key).all(copied)
}

/// The shape of a base, the places of each field in it, and the type of each of its columns.
type BaseShape = (shape::Shape, Vec<[Option<usize>; 2]>, Vec<Option<Oid>>);

/// The columns and the key that capture has to record of a side, as SQL arrays.
pub fn recorded(plan: &Plan, side: Side) -> (String, String) {
    if !plan.captured(side) {
        return ("NULL".into(), "NULL".into());
    }
    let table = plan.side(side);
    let list = |names: Vec<&str>| {
        let items: Vec<String> = names.into_iter().map(sql::literal).collect();
        format!("ARRAY[{}]::text[]", items.join(", "))
    };
    (
        list(table.columns.iter().map(|c| c.name.as_str()).collect()),
        list(table.key_columns().map(|c| c.name.as_str()).collect()),
    )
}

/// What [`Stored::of`] reads, of `sync._sync s`.
pub const STORED: &str = "s.id, s.name, s.owner::pg_catalog.oid, s.search_path, s.document::pg_catalog.text,
    COALESCE(s.source::pg_catalog.oid, 0::pg_catalog.oid), COALESCE(s.target::pg_catalog.oid, 0::pg_catalog.oid),
    s.connection, s.object";

/// A side of a sync that is a table, with all its columns.
///
/// # Errors
/// It is gone, or cannot be synced any more.
pub fn table_of(stored: &Stored, side: Side) -> Result<Table, Failure> {
    let oid = if side == Side::Source { stored.source } else { stored.target };
    let config = read_document(&stored.document)?.0;
    read_side(oid, side.name(), config.polled[side as usize].as_ref())
}

/// Reads a sync's row.
pub fn stored(id: i32) -> Option<Stored> {
    let rows = sql::read(
        &format!("SELECT {STORED} FROM sync._sync s WHERE s.id OPERATOR(pg_catalog.=) $1"),
        &[Arg::Int4(id)],
    );
    Stored::of(rows.first()?)
}

impl Stored {
    /// Does the application itself take its changes?
    pub fn is_application(&self) -> bool {
        self.object.is_none() && self.target == pg_sys::InvalidOid
    }

    /// From the first columns of a row, which are [`STORED`].
    pub fn of(row: &[Option<String>]) -> Option<Self> {
        let text = |n: usize| row[n].as_deref();
        let oid = |n: usize| text(n).and_then(|t| t.parse::<u32>().ok()).map(Oid::from);
        Some(Self {
            id: text(0)?.parse().ok()?,
            name: text(1)?.to_owned(),
            owner: oid(2)?,
            search_path: text(3)?.to_owned(),
            document: serde_json::from_str(text(4)?).ok()?,
            source: oid(5)?,
            target: oid(6)?,
            object: text(7).zip(text(8)).map(|(c, o)| (c.to_owned(), o.to_owned())),
        })
    }
}
