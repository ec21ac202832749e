//! Fields that point to another record: what they hold is the key that record has on their side, and the links of the
//! sync that it belongs to say what its key is on the other.

use super::fields::{Field, How};
use super::table::Table;
use super::{Stored, read_document, table_of};
use crate::engine::link;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use document::Config;
use merge::Side;
use pgrx::pg_sys::{self, Oid};

/// The sync of the records that a field points to.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// Its number; `None`: the sync that the field itself is of.
    pub sync: Option<i32>,
    pub name: String,
    /// Which of its sides lies where our source does.
    pub source: Side,
    /// For each of our sides how its key lies there, and how our column holds it; see [`Keyed`].
    pub keys: [Keyed; 2],
}

/// The lengths of a key's only column, and of the column that points to it, both as the catalogs have them. They differ
/// only where both are integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keyed {
    pub key: i16,
    pub column: i16,
}

impl Parent {
    /// Its side that lies where this one of ours does.
    pub fn side(&self, ours: Side) -> Side {
        if self.source == Side::Source { ours } else { ours.other() }
    }
}

/// Where one side of a sync is.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Table(Oid),
    Object { connection: String, object: String },
}

/// A sync whose records a field may point to.
struct Candidate {
    stored: Stored,
    own: bool,
    places: [Place; 2],
}

/// Finds out which fields point to records of which syncs: those of which the document says so, and those whose column
/// has a foreign key.
///
/// # Errors
/// What the document says does not fit.
pub(super) fn resolve(
    stored: &Stored,
    config: &Config,
    tables: [&Table; 2],
    fields: &mut [Field],
) -> Result<(), Failure> {
    let mut candidates: Option<Vec<Candidate>> = None;
    for n in 0..fields.len() {
        let named: &[String] = config.fields.mapped.get(n).map_or(&[], |field| &field.reference);
        let [Some(source), Some(target)] = fields[n].column else { continue };
        let columns = [source, target];
        if named.is_empty() && fields[n].how.iter().flatten().any(How::is_expression) {
            continue;
        }
        let keys =
            Side::BOTH.map(|side| foreign_keys(tables[side as usize], columns[side as usize]));
        if named.is_empty() && keys.iter().all(Vec::is_empty) {
            continue;
        }
        let candidates = candidates.get_or_insert_with(|| all(stored));
        let parents = if named.is_empty() {
            let own_is_same = super::has_same_key(tables, fields);
            derived(candidates, tables, columns, &keys, own_is_same)?.into_iter().collect()
        } else {
            let path = format!("field_mappings[{n}].reference");
            let mut parents = Vec::new();
            for name in named {
                parents.push(called(candidates, tables, columns, &keys, name, &path)?);
            }
            parents
        };
        if !parents.is_empty() {
            for how in fields[n].how.iter_mut().flatten() {
                *how = How::Refer;
            }
            fields[n].parents = parents;
        }
    }
    Ok(())
}

/// All syncs whose links the owner of this one may follow, and this one itself.
fn all(stored: &Stored) -> Vec<Candidate> {
    let rows = sql::as_extension(|| {
        sql::read(
            &format!(
                "SELECT {} FROM sync._sync s
                  WHERE s.id <> $1 AND pg_catalog.pg_has_role($2, s.owner::pg_catalog.oid, 'USAGE') ORDER BY s.id",
                super::STORED
            ),
            &[Arg::Int4(stored.id), Arg::Oid(stored.owner)],
        )
    });
    let others = rows.iter().filter_map(|row| Stored::of(row)).map(|stored| (stored, false));
    std::iter::once((stored.clone(), true))
        .chain(others)
        .map(|(stored, own)| {
            let place = |oid: Oid| match &stored.object {
                Some((connection, object)) if oid == pg_sys::InvalidOid => {
                    Place::Object { connection: connection.clone(), object: object.clone() }
                }
                _ => Place::Table(oid),
            };
            Candidate { places: [place(stored.source), place(stored.target)], stored, own }
        })
        .collect()
}

/// The tables and columns that the foreign keys of one column point to.
fn foreign_keys(table: &Table, column: usize) -> Vec<(Oid, i16)> {
    if table.remote.is_some() {
        return Vec::new();
    }
    sql::read(
        "SELECT k.confrelid, k.confkey[1] FROM pg_catalog.pg_constraint k
          WHERE k.conrelid OPERATOR(pg_catalog.=) $1 AND k.contype OPERATOR(pg_catalog.=) 'f'
            AND k.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
            AND k.conkey OPERATOR(pg_catalog.=) ARRAY[$2::pg_catalog.int2] ORDER BY k.oid",
        &[Arg::Oid(table.oid), Arg::Int4(i32::from(table.columns[column].attnum))],
    )
    .into_iter()
    .filter_map(|row| {
        let oid = row[0].as_deref()?.parse::<u32>().ok()?;
        Some((Oid::from(oid), row[1].as_deref()?.parse().ok()?))
    })
    .collect()
}

impl Candidate {
    /// Do its sides, laid that way, lie where those of this sync do?
    fn lies(&self, tables: [&Table; 2], source: Side) -> bool {
        Side::BOTH.into_iter().all(|ours| {
            let theirs = if source == Side::Source { ours } else { ours.other() };
            match (&tables[ours as usize].remote, &self.places[theirs as usize]) {
                (None, Place::Table(_)) => true,
                (Some(remote), Place::Object { connection, .. }) => {
                    remote.connection == *connection
                }
                _ => false,
            }
        })
    }

    /// The side of it that lies where ours does, if a foreign key of that side's column leads to its table.
    fn pointed_to(&self, keys: &[Vec<(Oid, i16)>; 2], ours: Side, source: Side) -> bool {
        let theirs = if source == Side::Source { ours } else { ours.other() };
        keys[ours as usize]
            .iter()
            .any(|(table, _)| self.places[theirs as usize] == Place::Table(*table))
    }

    fn object(&self) -> Option<&str> {
        self.places.iter().find_map(|place| match place {
            Place::Object { object, .. } => Some(object.as_str()),
            Place::Table(_) => None,
        })
    }

    /// As the parent of a field, whose columns are these.
    fn parent(
        &self,
        tables: [&Table; 2],
        columns: [usize; 2],
        source: Side,
    ) -> Result<Parent, Failure> {
        let mut keys = [Keyed { key: -1, column: -1 }; 2];
        for ours in Side::BOTH {
            let column = &tables[ours as usize].columns[columns[ours as usize]];
            let theirs = if source == Side::Source { ours } else { ours.other() };
            if !matches!(self.places[theirs as usize], Place::Table(_)) {
                continue;
            }
            let table = table_of(&self.stored, theirs)?;
            let &[key] = table.key.as_slice() else {
                return Err(self.unfit(
                    format!("the key of {} has more than one column", table.name),
                    &format!(
                        "\"{}\" of {} would have to hold all of it.",
                        column.name, tables[ours as usize].name
                    ),
                ));
            };
            let key = &table.columns[key];
            let integers = [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID];
            let texts = [pg_sys::TEXTOID, pg_sys::VARCHAROID];
            let alike = key.base_type == column.base_type
                || [&integers[..], &texts[..]]
                    .iter()
                    .any(|of| of.contains(&key.base_type) && of.contains(&column.base_type));
            if !alike {
                return Err(self.unfit(
                    format!(
                        "column \"{}\" of {} cannot hold keys of {}",
                        column.name, tables[ours as usize].name, table.name
                    ),
                    &format!(
                        "The key \"{}\" is of type {}, the column of type {}.",
                        key.name, key.cast, column.cast
                    ),
                ));
            }
            keys[ours as usize] = Keyed { key: key.length, column: column.length };
        }
        let sync = (!self.own).then_some(self.stored.id);
        Ok(Parent { sync, name: self.stored.name.clone(), source, keys })
    }

    fn unfit(&self, message: String, detail: &str) -> Failure {
        refuse(
            "22023",
            message,
            &format!("The field points to records of sync \"{}\". {detail}", self.stored.name),
            "Map a column that holds the key of one such record, or leave the field out.",
        )
    }

    /// Do both sides of it have the same key, or does its key on our side hold the other's id? Then there is nothing to
    /// translate.
    fn is_same(&self, tables: [&Table; 2]) -> bool {
        if tables.iter().all(|table| table.remote.is_none()) {
            return link::is_same(&link::partition(self.stored.id)).unwrap_or(true);
        }
        let Ok((config, _)) = read_document(&self.stored.document) else { return true };
        let is_table = |side: &Side| matches!(self.places[*side as usize], Place::Table(_));
        let Some(local) = Side::BOTH.into_iter().find(is_table) else { return true };
        let Ok(table) = table_of(&self.stored, local) else { return true };
        let remote_is_source = self.stored.source == pg_sys::InvalidOid;
        config.fields.mapped.iter().any(|field| {
            let Some(first) = field.sources.first() else { return false };
            let (theirs, own) =
                if remote_is_source { (first, &field.target) } else { (&field.target, first) };
            theirs.eq_ignore_ascii_case("id")
                && table.like(own).is_some_and(|column| table.key == [column])
        })
    }
}

/// The sync that a foreign key of one of the columns leads to, if it is one, and keys have to be translated.
fn derived(
    candidates: &[Candidate],
    tables: [&Table; 2],
    columns: [usize; 2],
    keys: &[Vec<(Oid, i16)>; 2],
    own_is_same: bool,
) -> Result<Option<Parent>, Failure> {
    let lookup = points_to(tables, columns);
    let mut found = candidates.iter().filter_map(|candidate| {
        let source = Side::BOTH.into_iter().find(|&source| {
            candidate.lies(tables, source)
                && Side::BOTH.into_iter().any(|ours| candidate.pointed_to(keys, ours, source))
        })?;
        // Over there the field has to point to such records too.
        let fits = lookup.is_none_or(|(_, objects)| {
            let object = candidate.object().unwrap_or_default();
            objects.iter().any(|known| known.eq_ignore_ascii_case(object))
        });
        let local = tables.iter().all(|table| table.remote.is_none());
        let same = if candidate.own && local { own_is_same } else { candidate.is_same(tables) };
        (fits && !same).then_some((candidate, source))
    });
    match (found.next(), found.next()) {
        (Some((candidate, source)), None) => {
            // The key may lead to another column than the one by which records are known.
            let direct = Side::BOTH.into_iter().all(|ours| {
                let theirs = if source == Side::Source { ours } else { ours.other() };
                let Place::Table(table) = candidate.places[theirs as usize] else { return true };
                let mut own = keys[ours as usize].iter().filter(|(to, _)| *to == table).peekable();
                own.peek().is_none()
                    || own.any(|(_, attnum)| {
                        table_of(&candidate.stored, theirs).is_ok_and(|table| {
                            matches!(table.key.as_slice(), &[key] if table.columns[key].attnum == *attnum)
                        })
                    })
            });
            if direct { Ok(candidate.parent(tables, columns, source).ok()) } else { Ok(None) }
        }
        // Which of several is meant only the document can say.
        _ => Ok(None),
    }
}

/// The field of another system that goes with a column, and the objects whose records it may point to.
fn points_to(tables: [&Table; 2], columns: [usize; 2]) -> Option<(&str, &[String])> {
    tables.into_iter().zip(columns).find_map(|(table, column)| {
        let name = table.columns[column].name.as_str();
        Some((name, table.remote.as_ref()?.points_to(name)))
    })
}

/// The sync that a document names.
fn called(
    candidates: &[Candidate],
    tables: [&Table; 2],
    columns: [usize; 2],
    keys: &[Vec<(Oid, i16)>; 2],
    name: &str,
    path: &str,
) -> Result<Parent, Failure> {
    let Some(candidate) = candidates.iter().find(|candidate| candidate.stored.name == name) else {
        let known: Vec<&str> = candidates
            .iter()
            .filter(|candidate| Side::BOTH.into_iter().any(|side| candidate.lies(tables, side)))
            .map(|candidate| candidate.stored.name.as_str())
            .collect();
        return Err(refuse(
            "42704",
            format!("sync \"{name}\" does not exist"),
            &format!(
                "\"{path}\" names it as the sync of the records that the field points to. Between the same systems there are: {}.",
                known.join(", ")
            ),
            "Create the sync of those records first, or name another one; a sync that belongs to somebody else cannot be named.",
        ));
    };
    let lies: Vec<Side> =
        Side::BOTH.into_iter().filter(|&source| candidate.lies(tables, source)).collect();
    let by_key = lies.iter().copied().find(|&source| {
        Side::BOTH.into_iter().any(|ours| candidate.pointed_to(keys, ours, source))
    });
    let lookup = points_to(tables, columns);
    if let (Some((field, objects)), Some(object)) = (lookup, candidate.object())
        && !objects.is_empty()
        && !objects.iter().any(|known| known.eq_ignore_ascii_case(object))
    {
        return Err(refuse(
            "22023",
            format!("field \"{field}\" cannot point to records of sync \"{name}\""),
            &format!(
                "They are of object {object}, and the field points to {}.",
                objects.join(", ")
            ),
            "Name the sync of the object that the field points to.",
        ));
    }
    match by_key.or(lies.first().copied()) {
        Some(source) => candidate.parent(tables, columns, source),
        None => Err(refuse(
            "22023",
            format!("records of sync \"{name}\" cannot be pointed to by this one"),
            &format!("\"{path}\" names it, and it connects other systems."),
            "Name the sync that brings the records it points to between the same two sides.",
        )),
    }
}
