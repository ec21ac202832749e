//! Records of a load that nobody here has met yet. There is nothing to merge them with: their rows are inserted by
//! one statement, converted on the way, and stored many at a time where the table is plain enough, as their links
//! are. Whatever is out of the ordinary about one of them, or goes wrong, undoes the piece, and its records go the way
//! of every other change.

use super::{State, values};
use crate::capture;
use crate::engine::apply;
use crate::engine::insert;
use crate::engine::link::{self, Links};
use crate::engine::plan::{Column, How, Plan};
use crate::engine::queue::{self, Marks};
use crate::engine::statement::{Fed, Statement};
use crate::engine::sync::{Inserted, Sync};
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::image::{self, Value};
use connector::Record;
use merge::{Base, Side};
use pgrx::pg_sys::{self, Oid};

/// What a plan of one load knows of this way.
pub struct Fresh {
    /// The load, by when it was asked for.
    asked_at: String,
    /// Can its records go this way at all?
    suited: bool,
    statement: Option<Statement>,
    /// Can rows be stored many at a time?
    plain: bool,
    /// Memory for a piece, used again for the next.
    bump: Bump,
    /// The highest key of each side so far, while the links have no index yet: all of them come from this load.
    highest: Option<[Vec<u8>; 2]>,
}

impl Sync {
    /// Inserts the records of a piece of a load, read at `moment`. False: nothing was done, they are to be merged.
    pub(super) fn insert_fresh(&mut self, records: &[Record], moment: u64) -> bool {
        let (Some(load), Some((remote, _))) = (&self.loading, self.plan.remote()) else {
            return false;
        };
        let local = remote.other();
        if self.fresh.as_ref().is_none_or(|fresh| fresh.asked_at != load.asked_at) {
            let suited = load.takes_all_new() && is_plain(&self.plan, local).unwrap_or(false);
            let asked_at = load.asked_at.clone();
            self.fresh = Some(Fresh {
                asked_at,
                suited,
                statement: None,
                plain: true,
                bump: Bump::new(),
                highest: None,
            });
        }
        let Self { plan, places, queued, known, remote: Some(state), fresh: Some(fresh), .. } =
            self
        else {
            return false;
        };
        if !fresh.suited {
            return false;
        }
        let mut bump = std::mem::take(&mut fresh.bump);
        let done = as_owner(plan.owner, &plan.search_path, false, || {
            if link::is_indexed(plan) {
                fresh.highest = None;
            } else if fresh.highest.is_none() && link::is_empty(plan) {
                fresh.highest = Some(Default::default());
            }
            let keys = unheard_of(&bump, plan, state, queued, records, moment)?;
            insert(&bump, plan, fresh, places, queued, records, &keys)
        });
        bump.reset();
        if bump.allocated_bytes() <= MOST_KEPT {
            fresh.bump = bump;
        }
        match done {
            Ok((highest, inserted)) => {
                fresh.highest = fresh.highest.is_some().then_some(highest);
                if let Some(inserted) = inserted {
                    known.inserted(inserted);
                }
                true
            }
            Err(failure) => {
                fresh.suited &= failure.sqlstate != NOT_PLAIN;
                false
            }
        }
    }
}

/// Most memory of a piece that is kept for the next one.
const MOST_KEPT: usize = 4 << 20;

/// The code with which a load is turned off this way.
const NOT_PLAIN: &str = "01000";

/// The records are not all new: they are to be merged.
fn to_be_merged() -> Failure {
    Failure::new("00000", "not every record is new")
}

/// More comes of inserting a row than a row.
fn not_plain() -> Failure {
    Failure::new(NOT_PLAIN, "the table does not store rows as they are sent")
}

/// May rows of this table be inserted without being looked at one by one? Not where a trigger may change or
/// swallow them; and a row that is there already has to be told by a unique index.
fn is_plain(plan: &Plan, local: Side) -> Result<bool, Failure> {
    let table = plan.side(local);
    let evaluated = plan.fields.iter().flat_map(|f| &f.how).flatten();
    let evaluated = evaluated.clone().any(|how| how.is_expression() || *how == How::Refer);
    let (l, r) = (local as usize, local.other() as usize);
    // What a row is paired by has to be in the row: else no index tells of another one that has it.
    let told = plan.match_on.iter().all(|&(source, target)| {
        let (own, theirs) = if local == Side::Source { (source, target) } else { (target, source) };
        plan.fields
            .iter()
            .any(|f| f.column[l] == Some(own) && f.column[r] == Some(theirs) && f.how[r].is_some())
    });
    let compared = plan.config.match_on.iter().any(|pair| pair.expression.is_some());
    let screened = !plan.screens.is_empty()
        || plan.fields.iter().any(|f| f.required || f.defaults.iter().any(Option::is_some));
    if evaluated || screened || compared || !told || !plan.flows_from(local.other()) {
        return Ok(false);
    }
    let matched: Vec<String> = plan
        .match_on
        .iter()
        .map(|&(source, target)| if local == Side::Source { source } else { target })
        .map(|column| table.columns[column].attnum.to_string())
        .collect();
    let matched = format!("{{{}}}", matched.join(","));
    transaction(|| {
        // A partition has triggers of its own.
        let partitioned = sql::one(
            "SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1 AND c.relkind OPERATOR(pg_catalog.<>) 'r'",
            &[Arg::Oid(table.oid)],
        );
        if partitioned.is_some() || has_trigger(table.oid) {
            return Ok(false);
        }
        Ok(plan.match_on.is_empty()
            || sql::one(
                "SELECT 1 FROM pg_catalog.pg_index i
                  WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
                    AND i.indpred IS NULL AND i.indexprs IS NULL
                    AND (i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1] OPERATOR(pg_catalog.<@) $2::pg_catalog.int2[]
                    AND NOT EXISTS (SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) k
                          JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.=) i.indkey[k]
                         WHERE a.attcollation OPERATOR(pg_catalog.<>) i.indcollation[k]) LIMIT 1",
                &[Arg::Oid(table.oid), Arg::Text(&matched)],
            )
            .is_some())
    })
}

/// Has the table a trigger that may change or swallow a row, or a rule that puts it elsewhere? The cache of
/// relations says, which whoever makes one renews.
fn has_trigger(table: Oid) -> bool {
    // SAFETY: a table that is locked in this transaction, or has just been looked up.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let triggers = (*relation).trigdesc;
        let found = !(*relation).rd_rules.is_null()
            || !triggers.is_null()
                && ((*triggers).trig_insert_before_row || (*triggers).trig_insert_instead_row);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        found
    }
}

/// The keys of the records, if nothing that has to do with one of them is under way.
fn unheard_of<'b>(
    bump: &'b Bump,
    plan: &Plan,
    state: &State,
    queued: &Marks,
    records: &[Record],
    moment: u64,
) -> Result<Vec<&'b [u8]>, Failure> {
    let Some((remote, _)) = plan.remote() else { return Err(to_be_merged()) };
    let table = plan.side(remote);
    // What a create on its way has made would be taken for somebody else's.
    if !state.creating.is_empty() {
        return Err(to_be_merged());
    }
    let mut keys: Vec<&'b [u8]> = Vec::with_capacity(records.len());
    for record in records {
        let key = values::key_of(table, &record.id).filter(|key| {
            let mark = queue::mark(remote, key);
            !record.deleted
                && !queued.contains(mark)
                && !state.is_taken(remote, key)
                && state.settled_at.get(&mark).is_none_or(|&settled| settled <= moment)
        });
        keys.push(bump.alloc_slice_copy(&key.ok_or_else(to_be_merged)?));
    }
    Ok(keys)
}

/// The lowest and the highest of these keys of a side, if none of them is linked, or there twice.
fn unlinked(
    plan: &Plan,
    highest: Option<&[Vec<u8>; 2]>,
    places: &mut link::Places,
    side: Side,
    keys: &[&[u8]],
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let mut order: Vec<&[u8]> = keys.to_vec();
    order.sort_unstable();
    let (Some(first), Some(last)) = (order.first(), order.last()) else {
        return Err(to_be_merged());
    };
    let known = match highest {
        Some(highest) => *first <= highest[side as usize].as_slice(),
        None => {
            let mut links = Links::open(plan, places);
            let known = links.any(side, &order);
            links.close();
            known
        }
    };
    if known || order.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(to_be_merged());
    }
    Ok((first.to_vec(), last.to_vec()))
}

/// Inserts rows and links. Returns the highest key of each side, and what has been inserted, where that side is
/// captured.
fn insert<'b>(
    bump: &'b Bump,
    plan: &Plan,
    fresh: &mut Fresh,
    places: &mut link::Places,
    queued: &Marks,
    records: &[Record],
    remote_keys: &[&'b [u8]],
) -> Result<([Vec<u8>; 2], Option<Inserted>), Failure> {
    let Some((remote, _)) = plan.remote() else { return Err(to_be_merged()) };
    let local = remote.other();
    let (r, l) = (remote as usize, local as usize);
    let (from, table) = (plan.side(remote), plan.side(local));
    let (_, highest_remote) = unlinked(plan, fresh.highest.as_ref(), places, remote, remote_keys)?;
    let fields = apply::inserted_fields(plan, local);
    let mut rows = Vec::with_capacity(records.len());
    for record in records {
        let row = values::row(bump, from, &record.id, &record.values)?;
        // A key that the record does not have is left to its default: not here.
        let keyless = fields.iter().any(|&i| {
            let field = &plan.fields[i];
            field.column[l].is_some_and(|c| table.key.contains(&c))
                && field.inputs[r].iter().any(|&c| row[c] == Value::Null)
        });
        if keyless {
            return Err(to_be_merged());
        }
        rows.push(row);
    }
    let written = apply::written(plan, local, &fields);
    let results: Vec<&Column> = table.key_columns().chain(written).collect();
    let statement = fresh.statement.get_or_insert_with(|| prepare(plan, remote, &fields, &results));
    capture::set_origin(plan.origin(local));
    capture::begin_quiet_statement();
    let (lengths, keys) = (table.key_lengths(), table.key.len());
    let mut stored: Vec<(&'b [u8], &'b [Value<'b>])> = Vec::with_capacity(rows.len());
    let mut keep = |row: &'b [Value<'b>]| {
        let (key, values) = row.split_at(keys);
        if let Some(key) = image::encode_key(key.iter().copied(), &lengths) {
            stored.push((bump.alloc_slice_copy(&key), values));
        }
    };
    fresh.plain = fresh.plain && insert::insert(statement, bump, rows.iter(), &results, &mut keep);
    if !fresh.plain {
        statement.run(bump, rows.iter(), &results, |_, row| keep(row));
    }
    capture::set_origin(0);
    let numbers = capture::end_quiet_statement(rows.len());
    // A trigger made since it was looked for: now nobody can make another.
    if stored.len() != rows.len()
        || numbers.is_none() && plan.captured(local)
        || has_trigger(table.oid)
    {
        return Err(not_plain());
    }
    let local_keys: Vec<&[u8]> = stored.iter().map(|(key, _)| *key).collect();
    if local_keys.iter().any(|key| queued.contains(queue::mark(local, key))) {
        return Err(to_be_merged());
    }
    let local_ends = unlinked(plan, fresh.highest.as_ref(), places, local, &local_keys)?;
    let mut links = link::Writer::open(plan);
    let nothing = vec![Value::Null; plan.fields.len()];
    let mut base = Base { source: nothing.clone(), target: nothing };
    for ((row, key), (own, values)) in rows.iter().zip(remote_keys).zip(&stored) {
        base.source.fill(Value::Null);
        base.target.fill(Value::Null);
        for (i, field) in plan.fields.iter().enumerate() {
            let held = field.column[r].map_or(Value::Null, |c| row[c]);
            base.set(remote, i, held);
        }
        for (&i, &value) in fields.iter().zip(*values) {
            let field = &plan.fields[i];
            let copied = field.how[r].as_ref().is_some_and(|how| how.sql().is_none());
            if copied && field.column[r].is_some_and(|c| row[c] != value) {
                // What came to stand there otherwise than it was sent is news, which the log has to tell.
                return Err(not_plain());
            }
            base.set(local, i, value);
        }
        let (source, target) = if local == Side::Source { (*own, *key) } else { (*key, *own) };
        links.add(source, target, &base);
    }
    links.finish();
    let mut highest = [highest_remote, local_ends.1.clone()];
    if local == Side::Source {
        highest.swap(0, 1);
    }
    let inserted =
        numbers.map(|(numbers, noted)| Inserted { side: local, keys: local_ends, numbers, noted });
    Ok((highest, inserted))
}

fn prepare(plan: &Plan, remote: Side, fields: &[usize], results: &[&Column]) -> Statement {
    let (from, table) = (plan.side(remote), plan.side(remote.other()));
    let (r, l) = (remote as usize, remote.other() as usize);
    let fed: Vec<Fed> = from.columns.iter().map(|c| Fed::of(c.name.clone(), c)).collect();
    let mut names = Vec::new();
    let mut sent = Vec::new();
    let mut overriding = "";
    for field in fields.iter().map(|&i| &plan.fields[i]) {
        let (Some(column), Some(how)) = (field.column[l], &field.how[r]) else { continue };
        let column = &table.columns[column];
        if column.identity {
            overriding = " OVERRIDING SYSTEM VALUE";
        }
        let copied = || field.column[r].map(|c| identifier(&from.columns[c].name));
        let Some(value) = how.sql().map(str::to_owned).or_else(copied) else { continue };
        names.push(identifier(&column.name));
        sent.push(value);
    }
    let returned: Vec<String> =
        results.iter().map(|c| format!("t.{}", identifier(&c.name))).collect();
    // Nothing but a scan of what it is fed with: in that order rows are stored, and told.
    let text = format!(
        "INSERT INTO {} AS t ({}){overriding} SELECT {} FROM source AS source
         RETURNING NULL::pg_catalog.int4, {}",
        table.name,
        names.join(", "),
        sent.join(", "),
        returned.join(", ")
    );
    Statement::prepare(&text, "source", fed, true)
}
