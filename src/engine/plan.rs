//! A sync as the engine runs it: its document, resolved against the catalogs.

use super::remote::side as remote_side;
use super::remote::side::Remote;
use crate::border;
use crate::capture::attach;
use crate::connection;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, refuse};
use change::shape;
use document::{Config, Context, DeleteLimit, Direction, Endpoint, Fields, TableName, Transform};
use merge::{Flow, Side};
use pgrx::pg_sys::{self, Oid};
use serde_json::Value as Json;
use std::sync::Arc;

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

/// One side of a sync.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub oid: Oid,
    /// Quoted and qualified.
    pub name: String,
    /// Keys, mapped columns, and what expressions read.
    pub columns: Vec<Column>,
    /// Places of the key in `columns`.
    pub key: Vec<usize>,
    /// The comparison operators of the key, qualified.
    pub key_equals: Vec<String>,
    /// What it is, if it is no table of this database but an object of another system.
    pub remote: Option<Remote>,
}

impl Table {
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
    fn item(&self) -> String {
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

/// How a field gets from one side to the other.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// The same bytes.
    Copy,
    /// An SQL expression over the columns of the side it comes from.
    Evaluate(String),
}

/// A field: one column on each side.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its column on each side; a field computed from an expression has none on its own side.
    pub column: [Option<usize>; 2],
    /// For each side the columns whose values make what is sent to the other.
    pub inputs: [Vec<usize>; 2],
    /// How it leaves each side; `None`: it does not.
    pub how: [Option<How>; 2],
}

impl Field {
    /// The name users know it by: the target's column.
    pub fn name<'a>(&self, plan: &'a Plan) -> &'a str {
        let place = |side: Side| {
            self.column[side as usize].map(|c| plan.side(side).columns[c].name.as_str())
        };
        place(Side::Target).or_else(|| place(Side::Source)).unwrap_or("")
    }
}

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
    pub flows: Vec<Flow>,
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

    /// Do changes of this side travel?
    pub fn flows_from(&self, side: Side) -> bool {
        match side {
            Side::Source => self.config.direction.to_target(),
            Side::Target => self.config.direction.to_source(),
        }
    }

    /// Is this side watched? Only then can an overwritten edit of it be noticed.
    pub fn captured(&self, side: Side) -> bool {
        self.flows_from(side) && self.config.capture && !self.is_remote(side)
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
        let Fields::AllSame { include, exclude } = &self.config.fields else { return false };
        if self.remote_side().is_some() {
            return false;
        }
        source.columns.iter().any(|c| {
            let listed = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case(&c.name));
            self.sides[0].place(&c.name).is_none()
                && target.place(&c.name).is_some()
                && include.as_deref().is_none_or(listed)
                && !listed(exclude)
        })
    }

    /// Does any field leave any side through SQL?
    pub fn evaluates(&self) -> bool {
        self.fields.iter().any(|f| f.how.iter().any(|h| matches!(h, Some(How::Evaluate(_)))))
    }

    /// How many calls to the other system may be on their way at once.
    pub fn parallelism(&self) -> usize {
        self.config.parallelism.map_or(4, |n| n as usize)
    }

    /// Does what was asked under another plan fit this one?
    pub fn speaks_alike(&self, other: &Plan) -> bool {
        self.sides == other.sides && self.fields == other.fields && self.match_on == other.match_on
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
            source = read_table(stored.source, "source")?;
            target = read_table(stored.target, "target")?;
        }
        Some((connection, object)) if stored.source == pg_sys::InvalidOid => {
            target = read_table(stored.target, "target")?;
            source =
                remote_side::table(connection, object, &config, &target, Side::Source, assume)?;
        }
        Some((connection, object)) => {
            source = read_table(stored.source, "source")?;
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
    let match_on = match_columns(&config, &source, &target, &fields)?;
    let local = source.remote.is_none() && target.remote.is_none();
    let same_key = local
        && source.key.len() == target.key.len()
        && source.key.iter().zip(&target.key).all(|(&s, &t)| {
            fields.iter().any(|f| {
                f.column == [Some(s), Some(t)]
                    && f.how.iter().flatten().all(|h| *h == How::Copy)
                    && f.how.iter().any(Option::is_some)
            })
        });
    let flows: Vec<Flow> = fields
        .iter()
        .map(|f| Flow { to_target: f.how[0].is_some(), to_source: f.how[1].is_some() })
        .collect();
    let extra = [
        named_columns(&config, &source, &target, Side::Source)?,
        named_columns(&config, &source, &target, Side::Target)?,
    ];
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
    let (base, base_places, base_enums) = base_shape(&source, &target, &fields);
    let plan = Plan {
        id: stored.id,
        name: stored.name,
        owner: stored.owner,
        search_path: stored.search_path,
        config,
        sides: [source, target],
        fields,
        flows,
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

/// The key and all columns of a table.
pub fn read_table(oid: Oid, which: &str) -> Result<Table, Failure> {
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
    let (key, key_equals) = attach::key_of(oid, &name, which)?;
    let key =
        key.iter().filter_map(|attnum| columns.iter().position(|c| c.attnum == *attnum)).collect();
    Ok(Table { oid, name, columns, key, key_equals, remote: None })
}

/// Refuses a name that could not be written into a statement.
fn check_name(name: &str, what: &str, of: &str) -> Result<(), Failure> {
    border::check(name).map_err(|why| {
        refuse(
            "22P05",
            format!("the name of a {what} of {of} {why}"),
            &format!("It reads \"{name}\"."),
            "Rename it, or leave it out of the sync.",
        )
    })
}

fn find<'a>(table: &'a Table, name: &str, path: &str) -> Result<(usize, &'a Column), Failure> {
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

fn resolve_fields(config: &Config, source: &Table, target: &Table) -> Result<Vec<Field>, Failure> {
    let mut fields = Vec::new();
    match &config.fields {
        Fields::AllSame { include, exclude } => {
            for name in include.iter().flatten() {
                find(source, name, "include_fields")?;
                find(target, name, "include_fields")?;
            }
            for (s, column) in source.columns.iter().enumerate() {
                let listed =
                    |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case(&column.name));
                let remote = source.remote.is_some() || target.remote.is_some();
                let partner =
                    if remote { target.like(&column.name) } else { target.place(&column.name) };
                let Some(t) = partner else { continue };
                if !include.as_deref().is_none_or(listed) || listed(exclude) {
                    continue;
                }
                if remote && remote_side::is_other_id([source, target], [s, t]) {
                    continue;
                }
                let to = [&target.columns[t], column];
                let how = |side: Side| {
                    (flows(config.direction, side) && !to[side as usize].generated).then(|| {
                        plain(column_of(side, column, &target.columns[t]), to[side as usize])
                    })
                };
                let field = Field {
                    column: [Some(s), Some(t)],
                    inputs: [vec![s], vec![t]],
                    how: [how(Side::Source), how(Side::Target)],
                };
                if field.how.iter().any(Option::is_some) {
                    fields.push(field);
                }
            }
        }
        Fields::Mapped(mapped) => {
            for (n, field) in mapped.iter().enumerate() {
                fields.push(resolve_field(field, n, source, target)?);
            }
        }
    }
    if fields.is_empty() {
        return Err(refuse(
            "22023",
            format!("{} and {} have no field to sync", source.name, target.name),
            "No column has the same name on both sides, or all were excluded.",
            "Say in \"field_mappings\" which column belongs to which.",
        ));
    }
    Ok(fields)
}

fn flows(direction: Direction, side: Side) -> bool {
    match side {
        Side::Source => direction.to_target(),
        Side::Target => direction.to_source(),
    }
}

fn column_of<'a>(side: Side, source: &'a Column, target: &'a Column) -> &'a Column {
    match side {
        Side::Source => source,
        Side::Target => target,
    }
}

/// How a value travels that nothing changes on its way.
fn plain(from: &Column, to: &Column) -> How {
    // A moment without a zone is one of UTC.
    let moments = [pg_sys::TIMESTAMPOID, pg_sys::TIMESTAMPTZOID];
    if from.base_type != to.base_type
        && moments.contains(&from.base_type)
        && moments.contains(&to.base_type)
    {
        let name = identifier(&from.name);
        return How::Evaluate(format!("CAST(pg_catalog.timezone('UTC', {name}) AS {})", to.cast));
    }
    let same_bytes = from.base_type == to.base_type
        && (from.typmod == to.typmod || to.typmod == -1 || to.base_type == pg_sys::VARCHAROID);
    let text = [pg_sys::TEXTOID, pg_sys::VARCHAROID];
    if same_bytes || (text.contains(&from.base_type) && text.contains(&to.base_type)) {
        How::Copy
    } else {
        How::Evaluate(format!("CAST({} AS {})", identifier(&from.name), to.cast))
    }
}

fn resolve_field(
    field: &document::Field,
    n: usize,
    source: &Table,
    target: &Table,
) -> Result<Field, Failure> {
    let path = format!("field_mappings[{n}]");
    let (t, to) = find(target, &field.target, &format!("{path}.target"))?;
    let mut sources = Vec::new();
    for name in &field.sources {
        sources.push(find(source, name, &format!("{path}.source"))?.0);
    }
    let first = sources.first().copied();
    let mut how = [None, None];
    let mut inputs = [sources, vec![t]];
    // What the other system computes goes one way by itself.
    let computed = |table: &Table, column: usize| {
        table.remote.is_some()
            && table.columns[column].generated
            && field.direction == Direction::TwoWay
    };
    if field.direction.to_target() && !computed(target, t) {
        let (expression, reads) =
            leave(&field.transform, source, first, to, &path, "transformation")?;
        inputs[0].extend(reads);
        how[0] = Some(expression);
    }
    if field.direction.to_source()
        && let (Some(reverse), Some(first)) = (&field.reverse, first)
        && !computed(source, first)
    {
        let (expression, reads) =
            leave(reverse, target, Some(t), &source.columns[first], &path, "reverse")?;
        inputs[1].extend(reads);
        how[1] = Some(expression);
    }
    for inputs in &mut inputs {
        inputs.sort_unstable();
        inputs.dedup();
    }
    // A field made of several columns has no value of its own: what it sends is compared instead.
    let several = inputs[0].len() != 1 && how[0].is_some();
    if several && how[1].is_some() {
        return Err(refuse(
            "0A000",
            format!("\"{path}\" is made of several columns and cannot be reversed"),
            "Only one column of the source could be written back.",
            "Leave out \"reverse\", and map the target's column back in mappings of their own with \"direction\".",
        ));
    }
    Ok(Field { column: [if several { None } else { first }, Some(t)], inputs, how })
}

/// The expression that makes what the other side's column `to` gets, and the columns it reads.
fn leave(
    transform: &Transform,
    from: &Table,
    column: Option<usize>,
    to: &Column,
    path: &str,
    key: &str,
) -> Result<(How, Vec<usize>), Failure> {
    let named = |what: &str| {
        column.map(|c| identifier(&from.columns[c].name)).ok_or_else(|| {
            refuse(
                "22023",
                format!("\"{path}\" names no column that {what} could be applied to"),
                "A function is applied to the column the value comes from.",
                "Name the column in \"source\", or write an SQL expression.",
            )
        })
    };
    let inner = match transform {
        Transform::None => {
            let Some(c) = column else {
                return Err(refuse(
                    "22023",
                    format!("\"{path}\" names no source"),
                    "",
                    "Name the column in \"source\".",
                ));
            };
            return Ok((plain(&from.columns[c], to), vec![c]));
        }
        Transform::Builtin(builtin) => format!("{}({})", builtin.sql_function(), named("it")?),
        Transform::Function { schema, name } => {
            let function = match schema {
                Some(schema) => format!("{}.{}", identifier(schema), identifier(name)),
                None => identifier(name),
            };
            format!("{function}({})", named("the function")?)
        }
        Transform::Expression(text) => format!("({text})"),
    };
    let expression = format!("CAST({inner} AS {})", to.cast);
    let reads = columns_read(&expression, from, path, key)?;
    Ok((How::Evaluate(expression), reads))
}

/// Parses an expression over a table and tells which columns it reads. Raises what the parser
/// raises; refuses what is more than an expression of one value.
fn columns_read(
    expression: &str,
    from: &Table,
    path: &str,
    key: &str,
) -> Result<Vec<usize>, Failure> {
    if from.remote.as_ref().is_some_and(|r| r.assumed) {
        return Ok((0..from.columns.len()).collect());
    }
    let one_value = refuse(
        "22023",
        format!("\"{path}.{key}\" is not an SQL expression of one value"),
        &format!("It reads: {expression}"),
        "Write an expression as it could stand in a SELECT list.",
    );
    // SAFETY: an SPI connection of its own; the query tree is read while the plan exists.
    unsafe {
        let text = format!("SELECT {expression}\n FROM {} AS source", from.item());
        let text = border::exact(&text);
        pg_sys::SPI_connect();
        let plan = pg_sys::SPI_prepare(text.as_ptr(), 0, std::ptr::null_mut());
        let mut reads = None;
        if !plan.is_null() {
            let sources = pg_sys::SPI_plan_get_plan_sources(plan);
            if (*sources).length == 1 {
                let plan_source =
                    (*(*sources).elements).ptr_value.cast::<pg_sys::CachedPlanSource>();
                let queries = (*plan_source).query_list;
                if !queries.is_null() && (*queries).length == 1 {
                    let query = (*(*queries).elements).ptr_value.cast::<pg_sys::Query>();
                    reads = columns_of(query, from);
                }
            }
        }
        pg_sys::SPI_finish();
        reads.ok_or(one_value)
    }
}

unsafe fn columns_of(query: *mut pg_sys::Query, from: &Table) -> Option<Vec<usize>> {
    // SAFETY: an analysed query.
    unsafe {
        let plain = (*query).commandType == pg_sys::CmdType::CMD_SELECT
            && !(*query).targetList.is_null()
            && (*(*query).targetList).length == 1
            && !(*query).rtable.is_null()
            && !(*query).hasAggs
            && !(*query).hasTargetSRFs
            && !(*query).hasWindowFuncs
            && (*query).groupClause.is_null()
            && (*query).sortClause.is_null()
            && (*query).limitCount.is_null()
            && (*query).setOperations.is_null()
            && !(*query).jointree.is_null()
            && (*(*query).jointree).quals.is_null()
            && (*(*(*query).jointree).fromlist).length == 1;
        if !plain {
            return None;
        }
        if (*query).hasSubLinks {
            return Some((0..from.columns.len()).collect());
        }
        let mut set: *mut pg_sys::Bitmapset = std::ptr::null_mut();
        pg_sys::pull_varattnos((*query).targetList.cast(), 1, &raw mut set);
        let offset = -pg_sys::FirstLowInvalidHeapAttributeNumber;
        if pg_sys::bms_is_member(offset, set) {
            return Some((0..from.columns.len()).collect());
        }
        Some(
            (0..from.columns.len())
                .filter(|&c| pg_sys::bms_is_member(i32::from(from.columns[c].attnum) + offset, set))
                .collect(),
        )
    }
}

/// The columns by which existing rows of the two sides are paired.
fn match_columns(
    config: &Config,
    source: &Table,
    target: &Table,
    fields: &[Field],
) -> Result<Vec<(usize, usize)>, Failure> {
    if !config.match_on.is_empty() {
        return config
            .match_on
            .iter()
            .map(|m| {
                Ok((find(source, &m.source, "match_on")?.0, find(target, &m.target, "match_on")?.0))
            })
            .collect();
    }
    let partner = |side: Side, column: usize| {
        fields
            .iter()
            .find(|f| f.column[side as usize] == Some(column) && f.inputs[0].len() <= 1)
            .and_then(|f| f.column[side.other() as usize])
    };
    for side in Side::BOTH {
        let table = if side == Side::Source { source } else { target };
        let pairs: Option<Vec<(usize, usize)>> = table
            .key
            .iter()
            .map(|&k| partner(side, k).map(|p| if side == Side::Source { (k, p) } else { (p, k) }))
            .collect();
        if let Some(pairs) = pairs {
            return Ok(pairs);
        }
    }
    Ok(Vec::new())
}

/// The columns of a side that the document names beside its fields.
fn named_columns(
    config: &Config,
    source: &Table,
    target: &Table,
    side: Side,
) -> Result<Vec<usize>, Failure> {
    let mut named = Vec::new();
    if let Some((of, column)) = timestamp_column(config, source, target)?
        && of == side
    {
        named.push(column);
    }
    let table = if side == Side::Source { source } else { target };
    if let Some(identity) = &config.identity
        && let Some(column) = &identity.column
        && table.remote.is_none()
    {
        named.push(find(table, column, "identity.column")?.0);
    }
    Ok(named)
}

/// Where the time of the last change stands, if the document says.
fn timestamp_column(
    config: &Config,
    source: &Table,
    target: &Table,
) -> Result<Option<(Side, usize)>, Failure> {
    let Some(name) = &config.timestamp_field else { return Ok(None) };
    let (side, column) = match (target.like(name), source.like(name)) {
        (Some(column), _) => (Side::Target, &target.columns[column]),
        (None, Some(column)) => (Side::Source, &source.columns[column]),
        (None, None) => {
            return find(target, name, "conflict_resolution.timestamp_field").map(|_| None);
        }
    };
    let table = if side == Side::Source { source } else { target };
    let moments = [pg_sys::TIMESTAMPOID, pg_sys::TIMESTAMPTZOID];
    if !moments.contains(&column.base_type) && !table.remote.as_ref().is_some_and(|r| r.assumed) {
        return Err(refuse(
            "22023",
            format!("\"{}\" of {} is no timestamp", column.name, table.name),
            "\"conflict_resolution.timestamp_field\" names it as what tells when a record was last changed.",
            "Name a column of type timestamp or timestamp with time zone.",
        ));
    }
    Ok(table.place(&column.name).map(|place| (side, place)))
}

/// Drops the columns that nothing uses and renumbers the rest.
fn keep_used(
    table: &mut Table,
    fields: &mut [Field],
    side: Side,
    match_on: &[(usize, usize)],
    named: &[usize],
) {
    let s = side as usize;
    let used: Vec<bool> = (0..table.columns.len())
        .map(|c| {
            table.key.contains(&c)
                || named.contains(&c)
                || match_on.iter().any(|&(a, b)| if s == 0 { a == c } else { b == c })
                || fields.iter().any(|f| f.column[s] == Some(c) || f.inputs[s].contains(&c))
        })
        .collect();
    let mut next = 0;
    let new: Vec<usize> = used
        .iter()
        .map(|&u| {
            next += usize::from(u);
            next.saturating_sub(1)
        })
        .collect();
    let mut place = 0;
    table.columns.retain(|_| {
        place += 1;
        used[place - 1]
    });
    if let Some(remote) = &mut table.remote {
        place = 0;
        remote.columns.retain(|_| {
            place += 1;
            used[place - 1]
        });
    }
    table.key.iter_mut().for_each(|k| *k = new[*k]);
    for field in fields {
        field.column[s] = field.column[s].map(|c| new[c]);
        field.inputs[s].iter_mut().for_each(|c| *c = new[*c]);
    }
}

/// The shape of a base, the places of each field in it, and the type of each of its columns.
type BaseShape = (shape::Shape, Vec<[Option<usize>; 2]>, Vec<Option<Oid>>);

fn base_shape(source: &Table, target: &Table, fields: &[Field]) -> BaseShape {
    let mut columns: Vec<shape::Column> = Vec::new();
    let mut enums: Vec<Option<Oid>> = Vec::new();
    let mut add = |side: &str, c: &Column| {
        // SAFETY: a catalog lookup.
        let is_enum = unsafe { pg_sys::type_is_enum(c.base_type) };
        enums.push(is_enum.then_some(c.base_type));
        let (type_oid, length, by_value) = if is_enum {
            (pg_sys::ANYENUMOID, -1, false)
        } else {
            (c.base_type, c.length, c.by_value)
        };
        columns.push(shape::Column {
            name: format!("{side}.{}", c.name),
            attnum: 0,
            type_oid: type_oid.to_u32(),
            typmod: -1,
            length,
            by_value,
            key: false,
        });
        columns.len() - 1
    };
    let places = fields
        .iter()
        .map(|f| {
            let shared = f.how.iter().flatten().all(|h| *h == How::Copy);
            let s = f.column[0].map(|c| add("source", &source.columns[c]));
            let t = if shared && s.is_some() {
                s
            } else {
                f.column[1].map(|c| add("target", &target.columns[c]))
            };
            [s.or(t), t]
        })
        .collect();
    let base = shape::Shape { relation: source.oid.to_u32(), leaf: target.oid.to_u32(), columns };
    (base, places, enums)
}

/// The first right that the sync's owner lacks, as a sentence with a remedy.
pub fn missing_rights(plan: &Plan) -> Option<Failure> {
    let owner = sql::one(
        "SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) $1",
        &[Arg::Oid(plan.owner)],
    );
    let Some(owner) = owner else {
        return Some(refuse(
            "42704",
            "the role that owns the sync is gone".into(),
            "A sync works with the rights of the role that created it.",
            "End the sync with sync.drop_sync and create it again as the role that is to own it.",
        ));
    };
    for side in Side::BOTH {
        let table = plan.side(side);
        if let Some(remote) = &table.remote {
            if let Some(failure) = connection::missing_right(&remote.connection, &owner, plan.owner)
            {
                return Some(failure);
            }
            continue;
        }
        let schema = sql::one(
            "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
              WHERE c.oid OPERATOR(pg_catalog.=) $1 AND NOT pg_catalog.has_schema_privilege($2, n.oid, 'USAGE')",
            &[Arg::Oid(table.oid), Arg::Oid(plan.owner)],
        );
        if let Some(schema) = schema {
            return Some(refuse(
                "42501",
                format!("permission denied: role \"{owner}\" lacks USAGE on schema {schema}"),
                "A sync works with the rights of the role that created it.",
                &format!("GRANT USAGE ON SCHEMA {schema} TO {};", identifier(&owner)),
            ));
        }
        let mut rights = vec!["SELECT"];
        if plan.flows_from(side.other()) {
            rights.extend(["INSERT", "UPDATE", "DELETE"]);
        }
        for right in rights {
            let held = sql::one(
                "SELECT pg_catalog.has_table_privilege($1, $2, $3)",
                &[Arg::Oid(plan.owner), Arg::Oid(table.oid), Arg::Text(right)],
            );
            if held.as_deref() != Some("t") {
                return Some(refuse(
                    "42501",
                    format!("permission denied: role \"{owner}\" lacks {right} on {}", table.name),
                    "A sync works with the rights of the role that created it.",
                    &format!("GRANT {right} ON {} TO {};", table.name, identifier(&owner)),
                ));
            }
        }
        // Its statements refuse to see a part of a table: what is hidden would be inserted again, or
        // taken for deleted.
        let filtered = sql::one(
            "SELECT 1 FROM pg_catalog.pg_class c, pg_catalog.pg_roles r
              WHERE c.oid OPERATOR(pg_catalog.=) $1 AND r.oid OPERATOR(pg_catalog.=) $2
                AND c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
                AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))",
            &[Arg::Oid(table.oid), Arg::Oid(plan.owner)],
        );
        if filtered.is_some() {
            return Some(refuse(
                "42501",
                format!("the row security of {} applies to role \"{owner}\"", table.name),
                "A sync works on all rows of its tables, with the rights of the role that created it.",
                "Let a role own the sync that owns the table or has BYPASSRLS, or ALTER TABLE … NO FORCE ROW LEVEL SECURITY.",
            ));
        }
    }
    None
}

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

/// Reads a sync's row.
pub fn stored(id: i32) -> Option<Stored> {
    let rows = sql::read(
        &format!("SELECT {STORED} FROM sync._sync s WHERE s.id OPERATOR(pg_catalog.=) $1"),
        &[Arg::Int4(id)],
    );
    Stored::of(rows.first()?)
}

impl Stored {
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
