//! Reading images for people. No function takes bytes from its caller: a row of the log or of
//! history is named by where it lies, fetched here, and shown only to who may read its table.

use super::border;
use crate::engine::plan::Column;
use crate::engine::statement::render;
use crate::engine::{shapes, store};
use crate::speech;
use change::image::{self, Value};
use change::shape::Shape;
use pgrx::AnyElement;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

thread_local! {
    /// Shapes this backend has shown images of. What a shape is follows from its id, so they never
    /// become wrong.
    static SHAPES: RefCell<HashMap<i64, Rc<Shape>>> = RefCell::new(HashMap::new());
    /// The last table found to be a partition of the history, and the statement it was found in: the
    /// statement's lock keeps its number from meaning another table.
    static HISTORY: Cell<(i64, Oid)> = const { Cell::new((0, pg_sys::InvalidOid)) };
}

/// More shapes than this are not kept.
const MOST_SHAPES: usize = 1000;

/// Which part of a change is asked for.
const OLD: &[u8] = b"old";
const NEW: &[u8] = b"new";
const CHANGED: &[u8] = b"changed";

/// `sync._payload(relation oid, row tid, part text) RETURNS jsonb`: `old`, `new`, or the names of the
/// columns that `changed`. NULL to who may not read the table, or where there is nothing to show.
#[pg_extern(sql = false)]
fn payload(relation: Oid, row: pg_sys::ItemPointerData, part: &[u8]) -> Option<AnyElement> {
    speech::function(|| border::jsonb(&part_of(relation, row, part)?))
}

fn part_of(relation: Oid, row: pg_sys::ItemPointerData, part: &[u8]) -> Option<serde_json::Value> {
    let (shape, old, new) = fetch(relation, row)?;
    if !may_read(Oid::from(shape.relation)) {
        return None;
    }
    let lengths = shape.lengths();
    match part {
        OLD => Some(object(&shape, &decoded(old.as_deref()?, &lengths)?)),
        NEW => Some(object(&shape, &decoded(new.as_deref()?, &lengths)?)),
        CHANGED => {
            let (old, new) =
                (decoded(old.as_deref()?, &lengths)?, decoded(new.as_deref()?, &lengths)?);
            let names = shape
                .columns
                .iter()
                .zip(old.iter().zip(&new))
                .filter(|(_, (o, n))| **o != Value::Absent && **n != Value::Absent && o != n)
                .map(|(c, _)| serde_json::Value::from(c.name.clone()))
                .collect();
            Some(serde_json::Value::Array(names))
        }
        _ => None,
    }
}

fn decoded<'a>(bytes: &'a [u8], lengths: &[i16]) -> Option<Vec<Value<'a>>> {
    let mut values = Vec::new();
    image::decode(bytes, lengths, &mut values).ok().map(|()| values)
}

/// `sync._key(relation oid, row tid) RETURNS text`: the key of a change, as people read it.
#[pg_extern(sql = false)]
fn change_key(relation: Oid, row: pg_sys::ItemPointerData) -> Option<Vec<u8>> {
    speech::function(|| Some(border::text(&key_of(relation, row)?)))
}

fn key_of(relation: Oid, row: pg_sys::ItemPointerData) -> Option<String> {
    let (shape, old, new) = fetch(relation, row)?;
    if !may_read(Oid::from(shape.relation)) {
        return None;
    }
    let bytes = new.or(old)?;
    let mut values = Vec::new();
    image::decode(&bytes, &shape.lengths(), &mut values).ok()?;
    Some(key_text(shape.columns.iter().zip(&values).filter(|(c, _)| c.key)))
}

/// The key of an image of this shape, as links and the queue have it and as people read it.
pub(crate) fn key_of_image(shape: i64, bytes: &[u8]) -> Option<(Vec<u8>, String)> {
    let shape = shape_of(shape)?;
    let mut values = Vec::new();
    image::decode(bytes, &shape.lengths(), &mut values).ok()?;
    let key = || shape.columns.iter().zip(&values).filter(|(c, _)| c.key);
    let lengths: Vec<i16> = key().map(|(c, _)| c.length).collect();
    let encoded = image::encode_key(key().map(|(_, v)| *v), &lengths)?;
    Some((encoded, key_text(key())))
}

fn key_text<'a>(key: impl Iterator<Item = (&'a change::shape::Column, &'a Value<'a>)>) -> String {
    let texts: Vec<String> = key
        .map(|(c, v)| v.bytes().map_or_else(|| "null".into(), |b| render(b, &column(c))))
        .collect();
    if texts.len() == 1 { texts.concat() } else { format!("({})", texts.join(", ")) }
}

/// How to read the images of a row, the old one and the new one.
type Fetched = (Rc<Shape>, Option<Vec<u8>>, Option<Vec<u8>>);

/// Fetches a row of a log segment or of a history partition, and of nothing else.
fn fetch(relation: Oid, row: pg_sys::ItemPointerData) -> Option<Fetched> {
    // What is on its way is laid out as history is.
    let history = is_history(relation)
        || [store::relation("_sending"), store::relation("_delivery")].contains(&relation);
    let log = crate::log::segments::relations().is_some_and(|l| l.segments.contains(&relation));
    if !history && !log {
        return None;
    }
    let (shape_at, old_at, new_at) = if history { (3, 10, 11) } else { (3, 7, 8) };
    // SAFETY: opened and closed here; the tuple is a row of a table of known layout, visible in the
    // active snapshot.
    unsafe {
        let table = pg_sys::table_open(relation, pg_sys::AccessShareLock as i32);
        let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
        let mut tid = row;
        let found = (*(*table).rd_tableam)
            .tuple_fetch_row_version
            .is_some_and(|fetch| fetch(table, &raw mut tid, pg_sys::GetActiveSnapshot(), slot));
        let result = found.then(|| {
            pg_sys::slot_getsomeattrs_int(slot, (*(*table).rd_att).natts);
            let bytes = |n: usize| {
                Vec::<u8>::from_datum(*(*slot).tts_values.add(n), *(*slot).tts_isnull.add(n))
            };
            let shape = (*(*slot).tts_values.add(shape_at)).value() as i64;
            (shape, bytes(old_at), bytes(new_at))
        });
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
        let (shape, old, new) = result?;
        Some((shape_of(shape)?, old, new))
    }
}

fn shape_of(id: i64) -> Option<Rc<Shape>> {
    SHAPES.with_borrow_mut(|known| {
        if let Some(shape) = known.get(&id) {
            return Some(Rc::clone(shape));
        }
        let shape = Rc::new(shapes::read(id)?);
        if known.len() >= MOST_SHAPES {
            known.clear();
        }
        known.insert(id, Rc::clone(&shape));
        Some(shape)
    })
}

fn is_history(relation: Oid) -> bool {
    // SAFETY: state of this backend.
    let statement = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    if HISTORY.get() == (statement, relation) {
        return true;
    }
    // SAFETY: a catalog lookup.
    let found = unsafe {
        let parent = pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_parent_or_none(relation));
        parent != pg_sys::InvalidOid && parent == store::relation("_history")
    };
    if found {
        HISTORY.set((statement, relation));
    }
    found
}

unsafe extern "C-unwind" {
    fn get_partition_parent(relid: Oid, even_if_detached: bool) -> Oid;
}

unsafe fn get_partition_parent_or_none(relation: Oid) -> Oid {
    // SAFETY: get_partition_parent raises for a table that is no partition, so that is asked first.
    unsafe {
        if pg_sys::get_rel_relispartition(relation) {
            get_partition_parent(relation, true)
        } else {
            pg_sys::InvalidOid
        }
    }
}

/// May the caller see the rows of a table: SELECT on it, and no row security that would hide some?
pub(super) fn may_read(table: Oid) -> bool {
    // SAFETY: catalog lookups for the current user.
    unsafe {
        if pg_sys::superuser() {
            return true;
        }
        if pg_sys::get_rel_name(table).is_null() {
            return false;
        }
        pg_sys::pg_class_aclcheck(table, pg_sys::GetUserId(), u64::from(pg_sys::ACL_SELECT) as _)
            == pg_sys::AclResult::ACLCHECK_OK
            && pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true)
                != pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }
}

fn column(c: &change::shape::Column) -> Column {
    Column {
        name: c.name.clone(),
        attnum: c.attnum,
        type_oid: Oid::from(c.type_oid),
        base_type: Oid::from(c.type_oid),
        typmod: c.typmod,
        collation: pg_sys::InvalidOid,
        length: c.length,
        by_value: c.by_value,
        generated: false,
        identity: false,
        cast: String::new(),
    }
}

/// The values as a JSON object, rendered by the types' output functions and by nothing a user could
/// have defined.
fn object(shape: &Shape, values: &[Value<'_>]) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    for (c, value) in shape.columns.iter().zip(values) {
        let json = match value {
            Value::Absent => continue,
            Value::Null => serde_json::Value::Null,
            Value::Marker => serde_json::Value::from("(too large, not kept)"),
            Value::Bytes(bytes) => json_of(bytes, c),
        };
        object.insert(c.name.clone(), json);
    }
    serde_json::Value::Object(object)
}

fn json_of(bytes: &[u8], c: &change::shape::Column) -> serde_json::Value {
    let type_oid = Oid::from(c.type_oid);
    // SAFETY: a catalog lookup.
    let exists = unsafe { pg_sys::get_typisdefined(type_oid) };
    if !exists {
        return serde_json::Value::from("(type was dropped)");
    }
    let text = render(bytes, &column(c));
    match type_oid {
        pg_sys::BOOLOID => serde_json::Value::Bool(text == "t"),
        pg_sys::INT2OID
        | pg_sys::INT4OID
        | pg_sys::INT8OID
        | pg_sys::NUMERICOID
        | pg_sys::FLOAT4OID
        | pg_sys::FLOAT8OID
        | pg_sys::JSONOID
        | pg_sys::JSONBOID => {
            // A number that JSON could only hold rounded stays text.
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(json) if !json.is_number() => json,
                Ok(json) if *json.to_string() == text => json,
                _ => serde_json::Value::String(text),
            }
        }
        _ => serde_json::Value::String(text),
    }
}
