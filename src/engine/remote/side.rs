//! The side of a sync that is an object of another system: as a table whose columns are the object's
//! fields, each in the PostgreSQL type that holds its values without loss.

use super::{needs, schema};
use crate::engine::plan::{Column, Field, Table};
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use connector::{Kind, Object, Unfit};
use document::{Config, OnDelete};
use merge::Side;
use pgrx::pg_sys::{self, Oid};

/// The other system has not said yet what the object looks like.
pub const UNDESCRIBED: &str = "SY001";

/// What an object is beside its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    pub connection: String,
    /// As the other system spells it.
    pub object: String,
    /// As requests name the fields, in the order of the table's columns.
    pub columns: Vec<connector::Column>,
    pub identity: Option<Identity>,
    /// Nobody has described it: it is taken to have the fields that the document names.
    pub assumed: bool,
    /// The fields that can be an identity.
    external_ids: Vec<String>,
    /// The fields that point to records of other objects, and to which.
    lookups: Vec<(String, Vec<String>)>,
}

impl Remote {
    /// The objects whose records a field may point to.
    pub fn points_to(&self, field: &str) -> &[String] {
        self.lookups.iter().find(|(name, _)| name == field).map_or(&[], |(_, objects)| objects)
    }
}

/// What makes a create repeatable.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The external-id field of the other system.
    pub field: String,
    pub from: IdentityFrom,
}

/// Where the values of an identity come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityFrom {
    /// What this field sends.
    Field(usize),
    /// The text of this column of the local table.
    Column(usize),
    /// Made up for each record.
    Generated,
}

/// The description of an object, as it was last stored.
pub fn described(connection: &str, object: &str) -> Option<Object> {
    let text = sql::as_extension(|| {
        sql::one(
            "SELECT o.description FROM sync._object o
              WHERE o.connection OPERATOR(pg_catalog.=) $1 AND pg_catalog.lower(o.object) OPERATOR(pg_catalog.=) pg_catalog.lower($2)",
            &[Arg::Text(connection), Arg::Text(object)],
        )
    })?;
    serde_json::from_str(&text).ok()
}

/// Stores what the other system says of an object, and notes what has changed for the syncs of it.
pub fn store(connection: &str, object: &Object) -> bool {
    let Ok(text) = serde_json::to_string(object) else { return false };
    let before = described(connection, &object.name);
    sql::as_extension(|| {
        if let Some(before) = before {
            schema::note(connection, &before, object);
        }
        !sql::query(
            "INSERT INTO sync._object AS o (connection, object, description) VALUES ($1, $2, $3::pg_catalog.jsonb)
             ON CONFLICT (connection, object) DO UPDATE SET described_at = pg_catalog.clock_timestamp(), description = EXCLUDED.description
             RETURNING 1",
            &[Arg::Text(connection), Arg::Text(&object.name), Arg::Text(&text)],
        )
        .is_empty()
    })
}

/// The object as a table.
///
/// # Errors
/// [`UNDESCRIBED`], unless `assume` says to go on with what the document names.
pub fn table(
    connection: &str,
    object: &str,
    config: &Config,
    local: &Table,
    side: Side,
    assume: bool,
) -> Result<Table, Failure> {
    let undescribed = || {
        refuse(
            UNDESCRIBED,
            format!(
                "object \"{object}\" of connection \"{connection}\" has not been described yet"
            ),
            "The sync begins when the other system has been reached.",
            &format!(
                "SELECT * FROM sync.test_connection({}) says what is in the way.",
                sql::literal(connection)
            ),
        )
    };
    let (mut assumed, mut object) = match described(connection, object) {
        Some(object) => (false, object),
        None if assume => (true, assumption(object, config, local, side)),
        None => return Err(undescribed()),
    };
    for name in needs::of_parents(config, side == Side::Source) {
        match (object.field(&name), object.unfit(&name)) {
            (Some(_), _) => {}
            (None, Some(unfit)) => return Err(refuse_unfit(unfit)),
            // It was described before anybody named this one.
            (None, None) if assume => {
                object.fields.push(assumed_field(name));
                assumed = true;
            }
            (None, None) => return Err(undescribed()),
        }
    }
    if !object.queryable {
        return Err(refuse(
            "42501",
            format!("object \"{}\" of connection \"{connection}\" cannot be read", object.name),
            "The other system does not let this user query it.",
            "Give the user of the connection the right to read the object.",
        ));
    }
    let columns: Vec<Column> = object
        .fields
        .iter()
        .enumerate()
        .map(|(n, field)| column(n, &field.name, field.kind, field.read_only()))
        .collect();
    let Some(id) = object.fields.iter().position(|f| f.name == object.id_field) else {
        return Err(Failure::new(
            "0A000",
            format!("object \"{}\" of connection \"{connection}\" has no id", object.name),
        ));
    };
    Ok(Table {
        polled: None,
        oid: pg_sys::InvalidOid,
        name: format!("{connection}:{}", object.name),
        columns,
        numbers: Vec::new(),
        key: vec![id],
        key_equals: vec!["pg_catalog.=".to_owned()],
        remote: Some(Remote {
            connection: connection.to_owned(),
            columns: object.fields.iter().map(connector::Field::column).collect(),
            identity: None,
            assumed,
            external_ids: object
                .fields
                .iter()
                .filter(|f| f.external_id)
                .map(|f| f.name.clone())
                .collect(),
            lookups: object
                .fields
                .iter()
                .filter(|f| !f.reference_to.is_empty())
                .map(|f| (f.name.clone(), f.reference_to.clone()))
                .collect(),
            object: object.name,
        }),
    })
}

/// A field of a parent that cannot be synced.
pub fn refuse_unfit(unfit: &Unfit) -> Failure {
    let detail = format!(
        "\"{}\" would say by an external id which record is the parent of another.",
        unfit.name
    );
    refuse("22023", unfit.why.clone(), &detail, &unfit.hint)
}

/// Which record a field points to can be said in one way only.
///
/// # Errors
/// Two fields that a sync writes say so.
pub fn check_lookups(remote: &Remote, local: Side, fields: &[Field]) -> Result<(), Failure> {
    let written = fields.iter().filter(|field| field.how[local as usize].is_some());
    let mut said: Vec<(&str, &str)> = Vec::new();
    let column = |field: &Field| remote.columns.get(field.column[local.other() as usize]?);
    for column in written.filter_map(column) {
        let lookup = column.lookup.as_deref().unwrap_or(&column.name);
        if let Some((_, other)) = said.iter().find(|(known, _)| known.eq_ignore_ascii_case(lookup))
        {
            return Err(refuse(
                "22023",
                format!(
                    "\"{other}\" and \"{}\" of {} both say what {lookup} points to",
                    column.name, remote.object
                ),
                "A record has one parent there, and the sync would write both.",
                "Map one of them, or let the other only come from there, with \"direction\".",
            ));
        }
        said.push((lookup, &column.name));
    }
    Ok(())
}

/// The type that holds the values of a kind, its length, and whether it is passed by value.
fn type_of(kind: Kind) -> (Oid, i16, bool, &'static str) {
    match kind {
        Kind::Id | Kind::Text | Kind::Choice => (pg_sys::TEXTOID, -1, false, "pg_catalog.text"),
        Kind::Choices => (pg_sys::TEXTARRAYOID, -1, false, "pg_catalog.text[]"),
        Kind::Boolean => (pg_sys::BOOLOID, 1, true, "pg_catalog.bool"),
        Kind::Integer => (pg_sys::INT8OID, 8, true, "pg_catalog.int8"),
        Kind::Number => (pg_sys::NUMERICOID, -1, false, "pg_catalog.numeric"),
        Kind::Date => (pg_sys::DATEOID, 4, true, "pg_catalog.date"),
        Kind::DateTime => (pg_sys::TIMESTAMPTZOID, 8, true, "pg_catalog.timestamptz"),
        Kind::Time => (pg_sys::TIMEOID, 8, true, "pg_catalog.time"),
        Kind::Bytes => (pg_sys::BYTEAOID, -1, false, "pg_catalog.bytea"),
        Kind::Structure => (pg_sys::JSONBOID, -1, false, "pg_catalog.jsonb"),
    }
}

fn column(n: usize, name: &str, kind: Kind, read_only: bool) -> Column {
    let (type_oid, length, by_value, cast) = type_of(kind);
    let text = [pg_sys::TEXTOID, pg_sys::TEXTARRAYOID].contains(&type_oid);
    Column {
        name: name.to_owned(),
        attnum: n as i16 + 1,
        type_oid,
        base_type: type_oid,
        typmod: -1,
        collation: if text { pg_sys::DEFAULT_COLLATION_OID } else { pg_sys::InvalidOid },
        length,
        by_value,
        generated: read_only,
        identity: false,
        cast: cast.to_owned(),
    }
}

/// An object with the fields that a document names, of which nothing else is known.
fn assumption(name: &str, config: &Config, local: &Table, side: Side) -> Object {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    };
    add(ID);
    if let Some(alike) = &config.fields.alike {
        let local: Vec<String> = local.columns.iter().map(|c| c.name.clone()).collect();
        for name in alike.include.as_ref().unwrap_or(&local) {
            if config.fields.pairs(name) {
                add(name);
            }
        }
    }
    for field in &config.fields.mapped {
        match side {
            Side::Source => field.sources.iter().for_each(|s| add(s)),
            Side::Target => add(&field.target),
        }
    }
    for pair in &config.match_on {
        add(if side == Side::Source { &pair.source } else { &pair.target });
    }
    if let Some(identity) = &config.identity {
        add(&identity.field);
    }
    if let OnDelete::Mark { column } = &config.on_delete[side.other() as usize] {
        add(column);
    }
    if let Some(timestamp) = &config.timestamp_field
        && local.like(timestamp).is_none()
    {
        add(timestamp);
    }
    Object {
        name: name.to_owned(),
        label: name.to_owned(),
        createable: true,
        updateable: true,
        deletable: true,
        undeletable: false,
        queryable: true,
        id_field: names[0].clone(),
        version_field: String::new(),
        fields: names.into_iter().map(assumed_field).collect(),
        ..Object::default()
    }
}

fn assumed_field(name: String) -> connector::Field {
    let id = name.eq_ignore_ascii_case(ID);
    connector::Field {
        label: name.clone(),
        kind: if id { Kind::Id } else { Kind::Text },
        nillable: true,
        createable: !id,
        updateable: !id,
        fixed: id,
        external_id: true,
        filterable: true,
        name,
        ..connector::Field::default()
    }
}

/// The usual name of a record's id, until the other system says it.
const ID: &str = "Id";

/// The other system's id and a column of ours that only happens to have the same name.
pub fn is_other_id(tables: [&Table; 2], columns: [usize; 2]) -> bool {
    let id = |n: usize| tables[n].remote.is_some() && tables[n].key.contains(&columns[n]);
    let text = [pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::BPCHAROID];
    let ours = |n: usize| {
        tables[n].key.contains(&columns[n])
            || !text.contains(&tables[n].columns[columns[n]].base_type)
    };
    id(0) && ours(1) || id(1) && ours(0)
}

/// Where the identity of a record that is to be created comes from.
///
/// # Errors
/// Where the field cannot be one, or its values may come to name other records.
pub fn identity(
    config: &Config,
    remote: &Remote,
    side: Side,
    local: &Table,
    fields: &[Field],
) -> Result<Option<Identity>, Failure> {
    let Some(wanted) = &config.identity else { return Ok(None) };
    let Some(field) = remote.external_ids.iter().find(|f| f.eq_ignore_ascii_case(&wanted.field))
    else {
        return Err(refuse(
            "22023",
            format!("\"{}\" is no external id of {}", wanted.field, remote.object),
            "\"identity\" names the field by which a record that was created there is found again.",
            &match remote.external_ids.as_slice() {
                [] => "The object has no external-id field that this user can see; make one, or leave \"identity\" out.".to_owned(),
                known => format!("The external ids of the object are: {}.", known.join(", ")),
            },
        ));
    };
    let mapped = fields.iter().position(|f| {
        f.how[side as usize].is_some()
            && f.column[side.other() as usize]
                .is_some_and(|c| remote.columns.get(c).is_some_and(|c| c.name == *field))
    });
    let from = match (&wanted.column, mapped) {
        (Some(name), _) => match local.like(name) {
            Some(column) => IdentityFrom::Column(column),
            None => IdentityFrom::Generated,
        },
        (None, Some(field)) => IdentityFrom::Field(field),
        (None, None) => IdentityFrom::Generated,
    };
    let column = match from {
        IdentityFrom::Field(field) => match fields[field].inputs[side as usize].as_slice() {
            &[column] => Some(column),
            _ => None,
        },
        IdentityFrom::Column(column) => Some(column),
        IdentityFrom::Generated => None,
    };
    if let Some(column) = column
        && !wanted.accept_reuse
        && is_serial(local, column)
    {
        let column = &local.columns[column].name;
        return Err(refuse(
            "22023",
            format!("column \"{column}\" of {} cannot be the identity as it is", local.name),
            "Its values come from a sequence: after a failover that loses the last transactions a number is given to another row, and the record of the first would be overwritten.",
            "Leave the column out of \"identity\", so that values are made up; or say \"accept_reuse\": true.",
        ));
    }
    Ok(Some(Identity { field: field.clone(), from }))
}

/// Do a column's values come from a sequence?
pub fn is_serial(table: &Table, column: usize) -> bool {
    sql::one(
        "SELECT 1 FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d
             ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid AND d.adnum OPERATOR(pg_catalog.=) a.attnum
          WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.=) $2::pg_catalog.int2
            AND (a.attidentity OPERATOR(pg_catalog.<>) ''
                 OR pg_catalog.pg_get_expr(d.adbin, d.adrelid) OPERATOR(pg_catalog.~~) 'nextval(%')",
        &[Arg::Oid(table.oid), Arg::Int4(i32::from(table.columns[column].attnum))],
    )
    .is_some()
}
