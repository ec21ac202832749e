//! Syncs whose rows a function of the user's makes: it is given a change and returns the rows of the target that come of
//! it, any number of them. What an earlier call returned for the same source row and this one does not is deleted, unless
//! another source row has it too. So one row may become many, many one, and one none.
//!
//! The links hold for each source row what it was when the function last saw it (a row without the other side's key),
//! and one row for each target row that came of it. The function is therefore given the row before the change also where
//! several changes are taken as one, or one is tried again.

use super::collect::{Half, Seen};
use super::link;
use super::pace;
use super::plan::{Column, Plan};
use super::queue::{self, Marks, Parked};
use super::resolve::{Readers, fed_key, key_matches, key_values, read_rows};
use super::settle::Origin;
use super::shapes::Shapes;
use super::statement::{FED, Fed, ORD, Statement};
use crate::capture;
use crate::log::history::{self, Line};
use crate::sql::{self, identifier};
use crate::worker::transaction::{Failure, as_owner, refuse};
use bumpalo::Bump;
use change::image::{self, Value};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use merge::{Base, Side};
use pgrx::pg_sys;

/// The statements of one such sync.
#[derive(Default)]
pub struct Fan {
    call: Option<Statement>,
    upsert: Option<Statement>,
    delete: Option<Statement>,
    links: HashMap<&'static str, Statement>,
}

/// A source row and what is to be done for it.
pub struct Source<'b> {
    pub key: &'b [u8],
    /// It is to be asked about though it is what it was: a person wants to.
    asked: bool,
    /// `None`: it is gone.
    now: Option<&'b [Value<'b>]>,
    /// What it was when the function last saw it.
    before: Option<Vec<Value<'b>>>,
    /// The keys of the target rows that came of it so far, and those that come of it now.
    had: Vec<&'b [u8]>,
    made: Vec<&'b [u8]>,
    entries: Vec<usize>,
}

/// The rows of the target by their keys.
type Rows<'b> = Vec<(&'b [u8], &'b [Value<'b>])>;

/// Asks the function about the source rows of a piece of work, where it can write nothing; `again`: also about those that
/// have not changed since.
///
/// # Errors
/// It returned a row without a key; what it raises is raised.
pub fn ask<'b>(
    bump: &'b Bump,
    plan: &Plan,
    shapes: &mut Shapes,
    readers: &mut Readers,
    fan: &mut Fan,
    halves: &[Half<'b>],
    again: bool,
) -> Result<(Vec<Source<'b>>, Rows<'b>), Failure> {
    let mut sources = read(bump, plan, readers, halves);
    sources.iter_mut().for_each(|source| source.asked = again);
    recall(bump, plan, shapes, fan, &mut sources);
    // What a load has taken along is in the log too.
    let settled = |s: &Source<'_>| !s.asked && s.before.as_deref() == s.now;
    for source in sources.iter_mut().filter(|s| settled(s)) {
        source.made.clone_from(&source.had);
    }
    let rows = call(bump, plan, fan, &mut sources)?;
    Ok((sources, rows))
}

/// The source rows as they are now.
fn read<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    halves: &[Half<'b>],
) -> Vec<Source<'b>> {
    let of_source = halves.iter().filter(|half| half.side == Side::Source);
    let mut sources: Vec<Source<'b>> = Vec::new();
    let mut unread = Vec::new();
    for half in of_source {
        let now = match &half.seen {
            Seen::Row(row) if !row.contains(&Value::Absent) => Some(*row),
            Seen::Gone => None,
            _ => {
                unread.push(sources.len());
                None
            }
        };
        sources.push(Source {
            key: half.key,
            asked: false,
            now,
            before: None,
            had: Vec::new(),
            made: Vec::new(),
            entries: half.entries.clone(),
        });
    }
    if !unread.is_empty() {
        let keys: Vec<Option<&[u8]>> = unread.iter().map(|&n| Some(sources[n].key)).collect();
        let rows = read_rows(bump, plan, readers, Side::Source, &keys);
        for (&n, row) in unread.iter().zip(rows) {
            sources[n].now = row;
        }
    }
    sources
}

/// A column of the links.
fn bytes(name: &str) -> Fed {
    Fed {
        name: name.to_owned(),
        type_oid: pg_sys::BYTEAOID,
        collation: pg_sys::InvalidOid,
        length: -1,
        by_value: false,
    }
}

fn result(type_oid: pg_sys::Oid, length: i16) -> Column {
    Column {
        name: String::new(),
        attnum: 0,
        type_oid,
        base_type: type_oid,
        typmod: -1,
        collation: pg_sys::InvalidOid,
        length,
        by_value: length > 0,
        generated: false,
        identity: false,
        cast: String::new(),
    }
}

/// Runs a statement over links, which sees what was written to them before; `{links}` in its text is their table. As the
/// extension, whose they are.
#[allow(clippy::too_many_arguments)]
fn on_links<'b>(
    bump: &'b Bump,
    plan: &Plan,
    fan: &mut Fan,
    text: &'static str,
    columns: &[&str],
    rows: &[Vec<Value<'_>>],
    results: &[&Column],
    each: impl FnMut(usize, &'b [Value<'b>]),
) {
    if rows.is_empty() {
        return;
    }
    sql::as_extension(|| {
        let statement = fan.links.entry(text).or_insert_with(|| {
            let table = format!("sync.{}", link::partition(plan.id));
            let text = text.replace("{links}", &table).replace("{sync}", &plan.id.to_string());
            let text = text.replace("{layout}", &plan.base.id().to_string());
            let text = text.replace("{fed}", FED).replace("{ord}", ORD).replace("{asked}", ASKED);
            Statement::prepare(&text, FED, columns.iter().map(|name| bytes(name)).collect(), true)
        });
        statement.run(bump, rows.iter(), results, each);
    });
}

/// What the links know of the source rows.
fn recall<'b>(
    bump: &'b Bump,
    plan: &Plan,
    shapes: &mut Shapes,
    fan: &mut Fan,
    sources: &mut [Source<'b>],
) {
    let keys: Vec<Vec<Value<'_>>> = sources.iter().map(|s| vec![Value::Bytes(s.key)]).collect();
    let (layout, image) = (result(pg_sys::INT8OID, 8), result(pg_sys::BYTEAOID, -1));
    let current = plan.base.id();
    let mut found: Vec<(usize, i64, &'b [u8])> = Vec::new();
    on_links(
        bump,
        plan,
        fan,
        "SELECT f.{ord}, l.layout, l.base FROM {fed} AS f JOIN {links} AS l ON l.key = f.k
          WHERE l.remote_id IS NULL AND l.deleted_at IS NULL AND l.base IS NOT NULL",
        &["k"],
        &keys,
        &[&layout, &image],
        |n, values| {
            if let [Value::Bytes(layout), Value::Bytes(image)] = values
                && let Ok(layout) = (*layout).try_into()
            {
                found.push((n, i64::from_ne_bytes(layout), image));
            }
        },
    );
    for (n, layout, image) in found {
        let base = link::decode(bump, plan, shapes, layout, current, image);
        // What cannot be read any more, after its table was changed, is not known.
        sources[n].before =
            base.map(|base| base.source).filter(|row| row.iter().all(|v| v.is_known()));
    }
    on_links(
        bump,
        plan,
        fan,
        "SELECT f.{ord}, l.remote_id FROM {fed} AS f JOIN {links} AS l ON l.key = f.k
          WHERE l.remote_id IS NOT NULL AND l.deleted_at IS NULL",
        &["k"],
        &keys,
        &[&image],
        |n, values| sources[n].had.extend(values[0].bytes()),
    );
}

/// Calls the function for all source rows at once.
fn call<'b>(
    bump: &'b Bump,
    plan: &Plan,
    fan: &mut Fan,
    sources: &mut [Source<'b>],
) -> Result<Rows<'b>, Failure> {
    let (source, target) = (plan.side(Side::Source), plan.side(Side::Target));
    let function = plan.row_function.as_deref().unwrap_or_default();
    let results: Vec<&Column> = target.columns.iter().filter(|c| !c.generated).collect();
    let statement = fan.call.get_or_insert_with(|| {
        let mut fed = vec![
            Fed { type_oid: pg_sys::TEXTOID, collation: pg_sys::DEFAULT_COLLATION_OID, ..bytes("op") },
            Fed { type_oid: pg_sys::BOOLOID, length: 1, by_value: true, ..bytes("has_old") },
            Fed { type_oid: pg_sys::BOOLOID, length: 1, by_value: true, ..bytes("has_new") },
        ];
        let mut row = |prefix: &str| {
            let names = (0..source.columns.len()).map(|n| format!("{prefix}{n}"));
            let names: Vec<String> = names.collect();
            fed.extend(source.columns.iter().zip(&names).map(|(c, name)| Fed::of(name.clone(), c)));
            let values: Vec<String> = names.iter().map(|name| format!("f.{name}")).collect();
            format!("CASE WHEN f.has_{} THEN ROW({})::{} END", if prefix == "o" { "old" } else { "new" }, values.join(", "), source.name)
        };
        let (old, new) = (row("o"), row("n"));
        let returned: Vec<String> = results.iter().map(|c| format!("r.{}", identifier(&c.name))).collect();
        let text = format!(
            "SELECT f.{ORD}, {} FROM {FED} AS f CROSS JOIN LATERAL {function}(f.op, {old}, {new}) AS r ORDER BY f.{ORD}",
            returned.join(", ")
        );
        Statement::prepare(&text, FED, fed, false)
    });
    let flag = |set: bool| Value::Bytes(if set { &[1] } else { &[0] });
    let asked: Vec<usize> = (0..sources.len())
        .filter(|&n| sources[n].asked || sources[n].before.as_deref() != sources[n].now)
        .filter(|&n| sources[n].now.is_some() || sources[n].before.is_some())
        .collect();
    let fed: Vec<Vec<Value<'_>>> = asked
        .iter()
        .map(|&n| {
            let Source { now, before, .. } = &sources[n];
            let op: &[u8] = match (before, now) {
                (_, None) => b"DELETE",
                (None, _) => b"INSERT",
                _ => b"UPDATE",
            };
            let nothing = vec![Value::Null; source.columns.len()];
            let mut row = vec![Value::Bytes(op), flag(before.is_some()), flag(now.is_some())];
            row.extend(before.as_ref().unwrap_or(&nothing));
            row.extend(now.unwrap_or(&nothing));
            row
        })
        .collect();
    let lengths = target.key_lengths();
    let places: Vec<Option<usize>> = target
        .key
        .iter()
        .map(|&k| results.iter().position(|c| c.name == target.columns[k].name))
        .collect();
    let mut rows: Rows<'b> = Vec::new();
    let mut known: HashMap<&'b [u8], usize> = HashMap::new();
    let mut keyless = false;
    statement.run(bump, fed.iter(), &results, |ord, values| {
        // A function that returns one row, or null, returns nothing so.
        if values.iter().all(|value| *value == Value::Null) {
            return;
        }
        let key = image::encode_key(
            places.iter().map(|p| p.map_or(Value::Null, |p| values[p])),
            &lengths,
        );
        let Some(key) = key else {
            keyless = true;
            return;
        };
        let key = &*bump.alloc_slice_copy(&key);
        let source = &mut sources[asked[ord]];
        if !source.made.contains(&key) {
            source.made.push(key);
        }
        // The last word of a piece of work holds.
        let place = *known.entry(key).or_insert(rows.len());
        match rows.get_mut(place) {
            Some(row) => *row = (key, values),
            None => rows.push((key, values)),
        }
    });
    if keyless {
        return Err(refuse(
            "22004",
            format!("{function} returned a row without a key"),
            &format!("By its key a row of {} is found again when its source changes.", target.name),
            "Let the function fill in every column of the key, with values that are the same for the same source row.",
        ));
    }
    Ok(rows)
}

/// Brings the target to what the function returned, and settles the source rows. True if others wait in the queue now,
/// to be asked about again; with how many rows were written.
///
/// # Errors
/// What PostgreSQL refuses is raised.
#[allow(clippy::too_many_arguments)]
pub fn carry_out<'b>(
    bump: &'b Bump,
    plan: &Plan,
    epoch: i32,
    fan: &mut Fan,
    sources: &[Source<'b>],
    rows: &Rows<'b>,
    discard: bool,
    origin: Origin<'_>,
    queued: &mut Marks,
) -> (bool, usize) {
    capture::set_origin(plan.origin(Side::Target));
    upsert(bump, plan, fan, rows);
    let (gone, others) = relink(bump, plan, fan, sources, rows);
    // What a person wants to keep stays, and belongs to nobody any more.
    if !discard {
        delete(bump, plan, fan, &gone);
    }
    capture::set_origin(0);
    let mut history = history::Writer::new(epoch, plan.id);
    for source in sources {
        queue::settled(plan, Side::Source, source.key, queued);
        for &n in &source.entries {
            let (old, new) = (origin.images.old(n), origin.images.new(n));
            history.add(&Line::of(&origin.entries[n], Side::Source, history::SYNCED, old, new));
        }
    }
    history.finish();
    for &key in &others {
        queue::park(plan, Side::Source, key, None, i64::MIN, &Parked::Again, queued);
    }
    (!others.is_empty(), rows.len() + if discard { 0 } else { gone.len() })
}

fn upsert<'b>(bump: &'b Bump, plan: &Plan, fan: &mut Fan, rows: &Rows<'b>) {
    if rows.is_empty() {
        return;
    }
    let target = plan.side(Side::Target);
    let columns: Vec<&Column> = target.columns.iter().filter(|c| !c.generated).collect();
    let statement = fan.upsert.get_or_insert_with(|| {
        let names: Vec<String> = columns.iter().map(|c| identifier(&c.name)).collect();
        let values: Vec<String> = (0..columns.len()).map(|n| format!("f.v{n}")).collect();
        let key: Vec<String> = target.key_columns().map(|c| identifier(&c.name)).collect();
        let rest: Vec<&String> = names.iter().filter(|name| !key.contains(name)).collect();
        let overriding =
            if columns.iter().any(|c| c.identity) { " OVERRIDING SYSTEM VALUE" } else { "" };
        let list = |of: &str| rest.iter().map(|name| format!("{of}.{name}")).collect::<Vec<_>>().join(", ");
        let then = if rest.is_empty() {
            "NOTHING".to_owned()
        } else {
            let set: Vec<String> = rest.iter().map(|name| format!("{name} = EXCLUDED.{name}")).collect();
            format!(
                "UPDATE SET {} WHERE ROW({})::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW({})::pg_catalog.record",
                set.join(", "),
                list("t"),
                list("EXCLUDED")
            )
        };
        let text = format!(
            "INSERT INTO {} AS t ({}){overriding} SELECT {} FROM {FED} AS f ON CONFLICT ({}) DO {then}",
            target.name,
            names.join(", "),
            values.join(", "),
            key.join(", ")
        );
        let fed = columns.iter().enumerate().map(|(n, c)| Fed::of(format!("v{n}"), c)).collect();
        Statement::prepare(&text, FED, fed, true)
    });
    // Always in the order of the keys, so that two of us would never wait for each other.
    let mut order: Vec<&(&[u8], &[Value<'b>])> = rows.iter().collect();
    order.sort_by_key(|(key, _)| *key);
    capture::begin_statement();
    statement.run(bump, order.iter().map(|(_, values)| values), &[], |_, _| {});
}

/// Of so many others that had a target row the function is asked at once; mostly the first still has it.
const ASKED: &str = "3";

/// Writes down what came of which source row. Returns the keys of target rows that come of none any more, and of those
/// that once came of others too the keys of some of these.
fn relink<'b>(
    bump: &'b Bump,
    plan: &Plan,
    fan: &mut Fan,
    sources: &[Source<'b>],
    rows: &Rows<'b>,
) -> (Vec<&'b [u8]>, Vec<&'b [u8]>) {
    let pair =
        |source: &'b [u8], target: &'b [u8]| vec![Value::Bytes(source), Value::Bytes(target)];
    let (mut ended, mut begun) = (Vec::new(), Vec::new());
    let mut left: Vec<&'b [u8]> = Vec::new();
    let mut seen = HashSet::new();
    for source in sources {
        for &key in source.had.iter().filter(|key| !source.made.contains(key)) {
            ended.push(pair(source.key, key));
            if seen.insert(key) {
                left.push(key);
            }
        }
        for &key in source.made.iter().filter(|key| !source.had.contains(key)) {
            begun.push(pair(source.key, key));
        }
    }
    let nothing: [&Column; 0] = [];
    on_links(
        bump,
        plan,
        fan,
        "DELETE FROM {links} AS l USING {fed} AS f WHERE l.key = f.k AND l.remote_id = f.r",
        &["k", "r"],
        &ended,
        &nothing,
        |_, _| {},
    );
    on_links(
        bump,
        plan,
        fan,
        "INSERT INTO {links} (sync, layout, key, remote_id) SELECT {sync}, {layout}, f.k, f.r FROM {fed} AS f",
        &["k", "r"],
        &begun,
        &nothing,
        |_, _| {},
    );
    let keys: Vec<Vec<Value<'_>>> = sources.iter().map(|s| vec![Value::Bytes(s.key)]).collect();
    on_links(
        bump,
        plan,
        fan,
        "DELETE FROM {links} AS l USING {fed} AS f WHERE l.key = f.k AND l.remote_id IS NULL",
        &["k"],
        &keys,
        &nothing,
        |_, _| {},
    );
    let images: Vec<(&[u8], Vec<u8>)> = sources
        .iter()
        .filter_map(|source| {
            let base = Base { source: source.now?.to_vec(), target: source.now?.to_vec() };
            let mut image = Vec::new();
            link::encode(plan, &base, &mut image);
            Some((source.key, image))
        })
        .collect();
    let heads: Vec<Vec<Value<'_>>> =
        images.iter().map(|(key, image)| vec![Value::Bytes(key), Value::Bytes(image)]).collect();
    on_links(
        bump,
        plan,
        fan,
        "INSERT INTO {links} (sync, layout, key, base) SELECT {sync}, {layout}, f.k, f.b FROM {fed} AS f",
        &["k", "b"],
        &heads,
        &nothing,
        |_, _| {},
    );
    // One that another source row has too stays.
    let made: HashSet<&[u8]> = rows.iter().map(|(key, _)| *key).collect();
    left.retain(|key| !made.contains(key));
    let asked: Vec<Vec<Value<'_>>> = left.iter().map(|key| vec![Value::Bytes(key)]).collect();
    let (mut others, mut had) = (Vec::new(), HashSet::new());
    on_links(
        bump,
        plan,
        fan,
        "SELECT f.{ord}, o.key FROM {fed} AS f CROSS JOIN LATERAL
                (SELECT l.key FROM {links} AS l WHERE l.remote_id = f.k AND l.deleted_at IS NULL LIMIT {asked}) AS o",
        &["k"],
        &asked,
        &[&result(pg_sys::BYTEAOID, -1)],
        |n, values| {
            had.insert(n);
            others.extend(values[0].bytes());
        },
    );
    let gone = (0..left.len()).filter(|n| !had.contains(n)).map(|n| left[n]).collect();
    (gone, others)
}

fn delete<'b>(bump: &'b Bump, plan: &Plan, fan: &mut Fan, keys: &[&'b [u8]]) {
    if keys.is_empty() {
        return;
    }
    let target = plan.side(Side::Target);
    let statement = fan.delete.get_or_insert_with(|| {
        let text = format!(
            "DELETE FROM {} AS t USING {FED} AS f WHERE {}",
            target.name,
            key_matches(target)
        );
        Statement::prepare(&text, FED, fed_key(target), true)
    });
    let lengths = target.key_lengths();
    let rows: Vec<Vec<Value<'_>>> =
        keys.iter().map(|key| key_values(bump, Some(key), &lengths)).collect();
    capture::begin_statement();
    statement.run(bump, rows.iter(), &[], |_, _| {});
}

/// One try of a piece of work, up to the cursor, which `settle` moves in the same transaction.
///
/// # Errors
/// Whatever was in the way; nothing has been done.
#[allow(clippy::too_many_arguments)]
pub fn attempt<'b>(
    bump: &'b Bump,
    plan: &Plan,
    epoch: i32,
    shapes: &mut Shapes,
    readers: &mut Readers,
    fan: &mut Fan,
    halves: &[Half<'b>],
    (again, discard): (bool, bool),
    origin: Origin<'_>,
    queued: &mut Marks,
    settle: impl FnOnce(),
) -> Result<(bool, usize), Failure> {
    let (sources, rows) = as_owner(plan.owner, &plan.search_path, true, || {
        ask(bump, plan, shapes, readers, fan, halves, again)
    })?;
    let done = as_owner(plan.owner, &plan.search_path, false, || {
        let (more, written) =
            carry_out(bump, plan, epoch, fan, &sources, &rows, discard, origin, queued);
        pace::note(plan, written);
        settle();
        Ok((more, written))
    });
    queued.finish(done.is_ok());
    done
}
