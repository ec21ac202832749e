//! The fields of a sync: which column of one side goes with which of the other, and how a value gets
//! across.

use super::convert;
use super::references::Parent;
use super::rules::ours;
use super::stamps::is_stamp;
use super::table::{Column, Table, find};
use super::{BaseShape, Plan};
use crate::border;
use crate::engine::remote::side as remote_side;
use crate::engine::screen::shortened;
use crate::engine::statement;
use crate::sql::identifier;
use crate::worker::transaction::{Failure, is_of_the_work, refuse, savepoint};
use change::shape;
use document::{Alike, Config, Direction, MappingOptions, Nulls, OnDelete, Transform};
use merge::{Flow, Side};
use pgrx::pg_sys::{self, Oid};

/// How a field gets from one side to the other.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// The same bytes.
    Copy,
    /// The value as the other side's type has it: an SQL cast of the column.
    Cast(String),
    /// An SQL expression over the columns of the side it comes from.
    Evaluate(String),
    /// The key that the record it points to has on the other side.
    Refer,
}

impl How {
    /// The SQL that makes the value; `None`: it needs none.
    pub fn sql(&self) -> Option<&str> {
        match self {
            How::Copy | How::Refer => None,
            How::Cast(text) | How::Evaluate(text) => Some(text),
        }
    }

    /// Is it an expression of the user's?
    pub fn is_expression(&self) -> bool {
        matches!(self, How::Evaluate(_))
    }
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
    /// The syncs of the records that it may point to, where it does.
    pub parents: Vec<Parent>,
    /// It is not sent empty.
    pub required: bool,
    /// What stands in the place of a null in a record that is made on a side.
    pub defaults: [Option<Vec<u8>>; 2],
}

impl Field {
    /// Do both sides hold the same value, wherever it travels?
    pub fn is_copied(&self) -> bool {
        self.how.iter().flatten().all(|how| *how == How::Copy)
    }

    /// The name users know it by: the target's column.
    pub fn name<'a>(&self, plan: &'a Plan) -> &'a str {
        let place = |side: Side| {
            self.column[side as usize].map(|c| plan.side(side).columns[c].name.as_str())
        };
        place(Side::Target).or_else(|| place(Side::Source)).unwrap_or("")
    }
}

pub(super) fn resolve_fields(
    config: &Config,
    source: &Table,
    target: &Table,
) -> Result<Vec<Field>, Failure> {
    let mut fields = Vec::new();
    if config.row_function.is_some() {
        // Its function is given all of a row.
        return Ok((0..source.columns.len())
            .map(|column| Field {
                column: [Some(column), None],
                inputs: [vec![column], Vec::new()],
                how: [Some(How::Copy), None],
                parents: Vec::new(),
                required: false,
                defaults: [None, None],
            })
            .collect());
    }
    for (n, field) in config.fields.mapped.iter().enumerate() {
        fields.push(resolve_field(field, n, source, target, &config.mapping)?);
    }
    if let Some(alike) = &config.fields.alike {
        fields_alike(alike, config, source, target, &mut fields)?;
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

/// Those that are called alike on both sides, as far as the document takes them and no mapping names them.
fn fields_alike(
    alike: &Alike,
    config: &Config,
    source: &Table,
    target: &Table,
    fields: &mut Vec<Field>,
) -> Result<(), Failure> {
    for name in alike.include.iter().flatten() {
        find(source, name, "include_fields")?;
        find(target, name, "include_fields")?;
    }
    for (s, column) in source.columns.iter().enumerate() {
        let remote = source.remote.is_some() || target.remote.is_some();
        let partner = if remote { target.like(&column.name) } else { target.place(&column.name) };
        let Some(t) = partner else { continue };
        if !config.fields.pairs(&column.name) {
            continue;
        }
        if remote && remote_side::is_other_id([source, target], [s, t]) {
            continue;
        }
        let stamped = if ours([source, target]) == Side::Source { s } else { t };
        let table = if ours([source, target]) == Side::Source { source } else { target };
        if is_stamp(config, &table.columns[stamped].name) {
            continue;
        }
        let to = [&target.columns[t], column];
        let how = |side: Side| {
            let table = if side == Side::Source { source } else { target };
            let from = (table, column_of(side, column, &target.columns[t]));
            (flows(config.direction, side) && !to[side as usize].generated)
                .then(|| convert::between(from, to[side as usize], &config.mapping))
                .transpose()
        };
        let field = Field {
            column: [Some(s), Some(t)],
            inputs: [vec![s], vec![t]],
            how: [how(Side::Source)?, how(Side::Target)?],
            parents: Vec::new(),
            required: false,
            defaults: [None, None],
        };
        if field.how.iter().any(Option::is_some) {
            fields.push(field);
        }
    }
    Ok(())
}

pub(super) fn flows(direction: Direction, side: Side) -> bool {
    match side {
        Side::Source => direction.to_target(),
        Side::Target => direction.to_source(),
    }
}

pub(super) fn column_of<'a>(side: Side, source: &'a Column, target: &'a Column) -> &'a Column {
    match side {
        Side::Source => source,
        Side::Target => target,
    }
}

fn resolve_field(
    field: &document::Field,
    n: usize,
    source: &Table,
    target: &Table,
    options: &MappingOptions,
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
            leave(&field.transform, source, first, to, &path, "transformation", options)?;
        inputs[0].extend(reads);
        how[0] = Some(expression);
    }
    if field.direction.to_source()
        && let (Some(reverse), Some(first)) = (&field.reverse, first)
        && !computed(source, first)
    {
        let (expression, reads) =
            leave(reverse, target, Some(t), &source.columns[first], &path, "reverse", options)?;
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
    let column = [if several { None } else { first }, Some(t)];
    let required = field.required;
    Ok(Field { column, inputs, how, parents: Vec::new(), required, defaults: [None, None] })
}

/// Puts the defaults of the document where they belong, once it is known how the fields travel.
pub(super) fn set_defaults(
    config: &Config,
    [source, target]: [&Table; 2],
    fields: &mut [Field],
) -> Result<(), Failure> {
    for (n, (field, given)) in fields.iter_mut().zip(&config.fields.mapped).enumerate() {
        let Some(default) = &given.default else { continue };
        for side in Side::BOTH {
            let (from, to) = match side {
                Side::Source => (source, target),
                Side::Target => (target, source),
            };
            let taken = field.column[side.other() as usize].map(|c| &to.columns[c]);
            let (Some(how), Some(to)) = (field.how[side as usize].clone(), taken) else { continue };
            let own = field.column[side as usize].map(|c| &from.columns[c]);
            let made = told_of(
                &format!("field_mappings[{n}].default"),
                &format!("Column \"{}\" takes it, which is of type {}.", to.name, to.cast),
                "Give a value that the column could hold.",
                || constant(default, to),
            )?;
            field.defaults[side.other() as usize] = Some(made);
            field.how[side as usize] = Some(match config.mapping.nulls {
                Nulls::Default => convert::or_default(how, own, to, default),
                Nulls::Preserve | Nulls::Ignore => how,
            });
        }
    }
    Ok(())
}

/// Adds for each side the column that marks a record whose other side was deleted: a field that nothing else writes.
pub(super) fn add_marks(
    config: &Config,
    sides: [&Table; 2],
    fields: &mut Vec<Field>,
) -> Result<[Option<usize>; 2], Failure> {
    let mut marks = [None, None];
    for (gone, key) in [(Side::Source, "on_source_delete"), (Side::Target, "on_target_delete")] {
        let OnDelete::Mark { column } = &config.on_delete[gone as usize] else { continue };
        let stays = gone.other();
        let table = sides[stays as usize];
        let (c, found) = find(table, column, &format!("{key}.column"))?;
        let fits = [pg_sys::BOOLOID, pg_sys::TIMESTAMPOID, pg_sys::TIMESTAMPTZOID];
        if !fits.contains(&found.base_type) && !table.remote.as_ref().is_some_and(|r| r.assumed) {
            return Err(refuse(
                "22023",
                format!("column \"{column}\" of {} cannot mark a record", table.name),
                &format!("\"{key}.column\" names it, and it is of type {}.", found.cast),
                "Name a boolean, which is set to true, or a timestamp, which is set to the time.",
            ));
        }
        let written = fields
            .iter()
            .any(|f| f.column[stays as usize] == Some(c) && f.how[gone as usize].is_some());
        if written || found.generated || table.key.contains(&c) {
            return Err(refuse(
                "22023",
                format!("column \"{column}\" of {} cannot mark a record", table.name),
                &format!(
                    "\"{key}.column\" names it, and it is {}.",
                    match () {
                        () if table.key.contains(&c) => "part of the key",
                        () if found.generated => "computed",
                        () => "written by a field of the sync",
                    }
                ),
                "Name a column of its own, or leave the field out with \"exclude_fields\".",
            ));
        }
        let mut column = [None, None];
        column[stays as usize] = Some(c);
        marks[stays as usize] = Some(fields.len());
        fields.push(Field {
            column,
            inputs: Default::default(),
            how: [None, None],
            parents: Vec::new(),
            required: false,
            defaults: [None, None],
        });
    }
    Ok(marks)
}

/// A literal of a column's type, as images hold it. Raises what its input function raises.
fn constant(text: &str, column: &Column) -> Vec<u8> {
    let text = border::exact(text);
    let bump = bumpalo::Bump::new();
    // SAFETY: the type's own input function, called as SQL would.
    unsafe {
        let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::getTypeInputInfo(column.type_oid, &raw mut input, &raw mut parameter);
        let datum =
            pg_sys::OidInputFunctionCall(input, text.as_ptr().cast_mut(), parameter, column.typmod);
        statement::from_datum(&bump, datum, column.length, column.by_value).to_vec()
    }
}

/// The expression that makes what the other side's column `to` gets, and the columns it reads.
pub(super) fn leave(
    transform: &Transform,
    from: &Table,
    column: Option<usize>,
    to: &Column,
    path: &str,
    key: &str,
    options: &MappingOptions,
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
            return Ok((convert::between((from, &from.columns[c]), to, options)?, vec![c]));
        }
        Transform::Builtin(builtin) => {
            named("it")?;
            let Some(c) = column else { return Err(refuse("22023", path.to_owned(), "", "")) };
            convert::builtin(*builtin, (&from.columns[c], to), options, path)?
        }
        Transform::Function { schema, name } => {
            let function = match schema {
                Some(schema) => format!("{}.{}", identifier(schema), identifier(name)),
                None => identifier(name),
            };
            format!("{function}({})", named("the function")?)
        }
        Transform::Expression(text) => {
            read_alone(text, from, path, key)?;
            // Behind a line of its own, what ends in a comment ends there.
            format!("({text}\n)")
        }
    };
    let expression = format!("CAST({inner} AS {})", to.cast);
    let reads = columns_read(&expression, from, path, key)?;
    Ok((How::Evaluate(expression), reads))
}

/// Parses a text of the user's as it stands, before it is put in brackets: one that closes them would pass in them for
/// an expression, and come to a value of any type.
///
/// # Errors
/// As [`columns_read`].
pub(super) fn read_alone(text: &str, from: &Table, path: &str, key: &str) -> Result<(), Failure> {
    columns_read(text, from, path, key).map(drop)
}

/// Parses an expression over a table and tells which columns it reads.
///
/// # Errors
/// The parser refuses it, or it is more than an expression of one value.
pub(super) fn columns_read(
    expression: &str,
    from: &Table,
    path: &str,
    key: &str,
) -> Result<Vec<usize>, Failure> {
    if from.remote.as_ref().is_some_and(|r| r.assumed) {
        return Ok((0..from.columns.len()).collect());
    }
    analysed(expression, &format!("{} AS source", from.item()), path, key, |query| {
        columns_of(query, from)
    })
}

/// Parses an expression over what stands behind FROM, and has its query looked at.
///
/// # Errors
/// The parser refuses it, or nothing is found in it.
pub(super) fn analysed<T>(
    expression: &str,
    from: &str,
    path: &str,
    key: &str,
    look: impl FnOnce(*mut pg_sys::Query) -> Option<T>,
) -> Result<T, Failure> {
    analysed_as(&format!("SELECT {expression}\n FROM {from}"), expression, path, key, look)
}

/// The same of a query that holds what the user wrote.
pub(super) fn analysed_as<T>(
    query: &str,
    written: &str,
    path: &str,
    key: &str,
    look: impl FnOnce(*mut pg_sys::Query) -> Option<T>,
) -> Result<T, Failure> {
    let at = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let read = format!("It reads: {}", shortened(written));
    let remedy = "Write an expression as it could stand in a SELECT list.";
    let text = border::exact(query);
    // SAFETY: in an SPI connection of its own; the query tree is read while the plan exists.
    let found = told_of(&at, &read, remedy, || unsafe {
        let plan = pg_sys::SPI_prepare(text.as_ptr(), 0, std::ptr::null_mut());
        if plan.is_null() {
            return None;
        }
        let sources = pg_sys::SPI_plan_get_plan_sources(plan);
        if (*sources).length != 1 {
            return None;
        }
        let plan_source = (*(*sources).elements).ptr_value.cast::<pg_sys::CachedPlanSource>();
        let queries = (*plan_source).query_list;
        if queries.is_null() || (*queries).length != 1 {
            return None;
        }
        look((*(*queries).elements).ptr_value.cast::<pg_sys::Query>())
    })?;
    found.ok_or_else(|| {
        let message = format!("\"{at}\" is not an SQL expression of one value");
        refuse("22023", message, &read, remedy)
    })
}

/// Runs what the server may refuse of a document's: what it raises is told of the key that it was raised for, with what
/// stands there.
///
/// # Errors
/// What was raised.
pub(super) fn told_of<T>(
    at: &str,
    read: &str,
    remedy: &str,
    work: impl FnOnce() -> T,
) -> Result<T, Failure> {
    savepoint(is_of_the_work, work).map_err(|raised| Failure {
        message: format!("\"{at}\" cannot be used: {}", shortened(&raised.message)),
        detail: Some(match raised.detail {
            Some(detail) => format!("{} {read}", shortened(&detail)),
            None => read.to_owned(),
        }),
        hint: raised.hint.or_else(|| Some(remedy.to_owned())),
        ..raised
    })
}

pub(super) fn is_one_value(query: *mut pg_sys::Query) -> bool {
    // SAFETY: an analysed query.
    unsafe {
        (*query).commandType == pg_sys::CmdType::CMD_SELECT
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
            && (*(*(*query).jointree).fromlist).length == 1
    }
}

/// Is what it selects another query, of one value?
pub(super) fn is_one_value_within(query: *mut pg_sys::Query) -> bool {
    // SAFETY: an analysed query, of one column.
    unsafe {
        if !is_one_value(query) {
            return false;
        }
        let entry = (*(*(*query).targetList).elements).ptr_value.cast::<pg_sys::TargetEntry>();
        let inner = (*entry).expr.cast::<pg_sys::SubLink>();
        (*inner).xpr.type_ == pg_sys::NodeTag::T_SubLink
            && is_one_value((*inner).subselect.cast::<pg_sys::Query>())
    }
}

fn columns_of(query: *mut pg_sys::Query, from: &Table) -> Option<Vec<usize>> {
    if !is_one_value(query) {
        return None;
    }
    // SAFETY: an analysed query.
    unsafe {
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

/// Can what `match_on` makes of the values of both sides be compared?
pub(super) fn check_match(config: &Config, sides: [&Table; 2]) -> Result<(), Failure> {
    for (n, pair) in config.match_on.iter().enumerate() {
        let Some(expression) = &pair.expression else { continue };
        for (table, name) in sides.into_iter().zip([&pair.source, &pair.target]) {
            if table.remote.as_ref().is_some_and(|r| r.assumed) {
                continue;
            }
            let cast = &table.columns[find(table, name, &format!("match_on[{n}]"))?.0].cast;
            let from = format!("(SELECT NULL::{cast} AS value) AS v");
            let path = format!("match_on[{n}]");
            for text in [expression.clone(), format!("({expression}\n) = ({expression}\n)")] {
                analysed(&text, &from, &path, "expression", |query| {
                    is_one_value(query).then_some(())
                })?;
            }
        }
    }
    Ok(())
}

/// The columns by which existing rows of the two sides are paired.
pub(super) fn match_columns(
    config: &Config,
    source: &Table,
    target: &Table,
    fields: &[Field],
) -> Result<Vec<(usize, usize)>, Failure> {
    if !config.match_on.is_empty() {
        return config
            .match_on
            .iter()
            .enumerate()
            .map(|(n, m)| {
                let at = |key: &str| format!("match_on[{n}].{key}");
                Ok((
                    find(source, &m.source, &at("source"))?.0,
                    find(target, &m.target, &at("target"))?.0,
                ))
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
pub(super) fn named_columns(
    config: &Config,
    source: &Table,
    target: &Table,
    side: Side,
) -> Result<Vec<usize>, Failure> {
    let mut named = Vec::new();
    if config.row_function.is_some() && side == Side::Target {
        return Ok((0..target.columns.len()).collect());
    }
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
pub(super) fn timestamp_column(
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
pub(super) fn keep_used(
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

/// What both sides hold is stored once where it is alike and goes one way. Where it goes both ways each side has its place,
/// for they may agree to differ, or one of them may have moved while something is on its way; it is empty else.
pub(super) fn base_shape(
    source: &Table,
    target: &Table,
    fields: &[Field],
    flows: &[Flow],
) -> BaseShape {
    let mut columns: Vec<shape::Column> = Vec::new();
    let mut enums: Vec<Option<Oid>> = Vec::new();
    let mut add = |side: Side, c: &Column| {
        // SAFETY: a catalog lookup.
        let is_enum = unsafe { pg_sys::type_is_enum(c.base_type) };
        enums.push(is_enum.then_some(c.base_type));
        let (type_oid, length, by_value) = if is_enum {
            (pg_sys::ANYENUMOID, -1, false)
        } else {
            (c.base_type, c.length, c.by_value)
        };
        columns.push(shape::Column {
            name: format!("{}.{}", side.name(), c.name),
            attnum: c.attnum,
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
        .zip(flows)
        .map(|(f, flow)| {
            let shared = f.is_copied() && !(flow.to_source && flow.to_target);
            let s = f.column[0].map(|c| add(Side::Source, &source.columns[c]));
            let t = if shared && s.is_some() {
                s
            } else {
                f.column[1].map(|c| add(Side::Target, &target.columns[c]))
            };
            [s.or(t), t]
        })
        .collect();
    let base = shape::Shape { relation: source.oid.to_u32(), leaf: target.oid.to_u32(), columns };
    (base, places, enums)
}
