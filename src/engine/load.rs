//! Whole tables: the first load of a sync, and reconciling after a gap. A table's rows are taken in
//! the order of its key, links in theirs, a piece at a time, each merged like a change.

use super::collect::{Half, Seen};
use super::exits;
use super::guard;
use super::link::{self, Links};
use super::plan::{self, Column, Plan};
use super::polled;
use super::queue;
use super::resolve::{fed_key, key_values};
use super::screen;
use super::shapes::Shapes;
use super::statement::{FED, ORD, Statement};
use super::sync::{Sync, Verdict};
use crate::capture::attach;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::image::{self, Value};
use foldhash::HashSet;
use merge::Side;
use pgrx::pg_sys;

/// What is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The rows of a side.
    Rows,
    /// The links whose row is gone from a side.
    Links,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Rows => "rows",
            Kind::Links => "links",
        }
    }
}

/// A table to go through, as `sync._load` has it.
#[derive(Clone, Debug)]
pub struct Load {
    pub side: Side,
    pub kind: Kind,
    /// Rows are only paired.
    pub match_only: bool,
    /// A person has confirmed the deletes it will find.
    pub confirmed: bool,
    /// A person has decided that they are not sent.
    pub discarded: bool,
    /// It stands in `sync._load`; else it is part of a look at a table that is polled.
    stored: bool,
    /// What a person has decided about the rows it finds outside the filter, and about those that have lost a value.
    pub left: Option<Verdict>,
    pub blanks: Option<Verdict>,
    /// Of a new epoch: nothing is sent for a record that it has not read.
    before_sending: bool,
    pub last_key: Option<Vec<u8>>,
    /// The job of the other system that it goes by, and the page of its result to go on with.
    pub job: Option<String>,
    pub page: Option<String>,
    /// Records worked on so far.
    done: u64,
    /// When it was asked for.
    pub asked_at: String,
    /// What it may delete, as far as that has been counted; and for rows that are outside the filter now.
    count: Count,
    exits: Count,
    /// The transactions that may still write by the rules from before; asked for once.
    writers: Option<Vec<String>>,
}

/// The links whose row is gone from a side are counted before the first of them is worked on: a person
/// is to be asked before anything is deleted.
#[derive(Clone, Debug, Default)]
struct Count {
    complete: bool,
    last_key: Option<Vec<u8>>,
    missing: u64,
    /// How many may be deleted without asking.
    limit: u64,
}

/// What the load at hand, or the look, has met so far: linked rows that have left the filter, and those that have lost a
/// value. Each once, however often its piece is tried.
#[derive(Default)]
pub struct Tally {
    /// When the load that they were met by was asked for, and of which side it is.
    of: Option<(Side, String)>,
    left: HashSet<u64>,
    emptied: HashSet<u64>,
}

impl Tally {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Begins anew for another load.
    fn belong(&mut self, load: &Load) {
        let of = Some((load.side, load.asked_at.clone()));
        if self.of != of {
            *self = Self { of, ..Self::default() };
        }
    }
}

impl Load {
    /// The side whose missing rows this load would delete on the other; `None` if it deletes nothing.
    /// Rows are compared with both sides, so those of one side find what the other lacks.
    fn lacking(&self, plan: &Plan) -> Option<Side> {
        let side = match self.kind {
            Kind::Links => self.side,
            Kind::Rows => self.side.other(),
        };
        let local = !plan.is_remote(side);
        (local && plan.flows_from(side) && !self.match_only && !self.is_decided()).then_some(side)
    }

    /// Part of a look at a table that is polled. What is written while it looks comes with the next one.
    pub fn of_look(side: Side, kind: Kind) -> Self {
        Self {
            side,
            kind,
            match_only: false,
            confirmed: false,
            discarded: false,
            stored: false,
            before_sending: false,
            last_key: None,
            job: None,
            page: None,
            done: 0,
            asked_at: String::new(),
            left: None,
            blanks: None,
            count: Count::default(),
            exits: Count::default(),
            writers: Some(Vec::new()),
        }
    }

    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// Has a person decided about what it would delete or empty?
    pub fn is_decided(&self) -> bool {
        self.confirmed || self.discarded
    }

    /// The sides whose rows, outside the filter by now, this load would take for deleted without anybody having said so.
    fn releasing(&self, plan: &Plan) -> Vec<Side> {
        let asks = self.kind == Kind::Rows && !self.match_only && self.left.is_none();
        let local = !plan.is_remote(self.side);
        // Between tables the other row is read as well.
        let read = |side: Side| side == self.side || local && !plan.is_remote(side);
        Side::BOTH
            .into_iter()
            .filter(|&side| asks && read(side) && exits::of_side(plan, side))
            .collect()
    }

    /// Do those have to be counted first?
    pub fn counts_exits(&self, plan: &Plan) -> bool {
        !self.exits.complete && !self.releasing(plan).is_empty()
    }

    /// Does it send what it reads of rows?
    pub fn counts_rows(&self) -> bool {
        self.kind == Kind::Rows && !self.match_only
    }

    /// Is a person to be asked where it empties the fields of many?
    pub fn counts_blanks(&self, plan: &Plan) -> bool {
        let asks = self.counts_rows() && self.blanks.is_none();
        asks && plan.flows_from(self.side) && plan.row_function.is_none()
    }

    /// Where counting them goes on in the links.
    pub fn exits_after(&self) -> &[u8] {
        self.exits.last_key.as_deref().unwrap_or_default()
    }

    /// May it go by a job, whose records are not quite new? Not where it is to confirm what is sent.
    pub fn may_use_job(&self) -> bool {
        self.last_key.is_none() && !self.before_sending
    }

    /// Does it create here whatever it reads for the first time?
    pub fn takes_all_new(&self) -> bool {
        self.kind == Kind::Rows && !self.match_only && !self.discarded
    }

    /// Is nobody left to wait for?
    pub fn ready(&self) -> bool {
        self.writers.as_ref().is_none_or(Vec::is_empty)
    }
}

/// The loads of a sync that are not finished, in the order they are worked on: in a new epoch the other
/// system first, because the rows of this one are sent as they are compared.
pub fn read(plan: &Plan) -> Vec<Load> {
    let mut loads: Vec<Load> = sql::read(
        "SELECT side, kind, reason = 'match_only', confirmed, discarded, pg_catalog.encode(last_key, 'hex'), done, started_at,
                before_sending, job, page, exits, blanks
           FROM sync._load WHERE sync = $1 ORDER BY kind DESC, side",
        &[Arg::Int4(plan.id)],
    )
    .into_iter()
    .map(|row| Load {
        side: if row[0].as_deref() == Some("0") { Side::Source } else { Side::Target },
        kind: if row[1].as_deref() == Some("rows") { Kind::Rows } else { Kind::Links },
        match_only: row[2].as_deref() == Some("t"),
        confirmed: row[3].as_deref() == Some("t"),
        discarded: row[4].as_deref() == Some("t"),
        stored: true,
        last_key: row[5].as_deref().and_then(sql::from_hex),
        done: row[6].as_deref().and_then(|n| n.parse().ok()).unwrap_or(0),
        asked_at: row[7].clone().unwrap_or_default(),
        before_sending: row[8].as_deref() == Some("t"),
        job: row[9].clone(),
        page: row[10].clone(),
        left: verdict(row[11].as_deref()),
        blanks: verdict(row[12].as_deref()),
        count: Count::default(),
        exits: Count::default(),
        writers: None,
    })
    .collect();
    loads.sort_by_key(|load| !(load.before_sending && plan.is_remote(load.side)));
    loads
}

fn verdict(text: Option<&str>) -> Option<Verdict> {
    let discarded = text? == "discarded";
    Some(if discarded { Verdict::Discarded } else { Verdict::Confirmed })
}

/// Does a sync still have to read what a new epoch does not know?
pub fn reads_before_sending(loads: &[Load]) -> bool {
    loads.iter().any(|load| load.before_sending)
}

/// Is everything compared that this epoch did not know? A sync that is stopped does so when it goes on.
pub fn epoch_is_known() -> bool {
    sql::read(
        "SELECT FROM sync._load l JOIN sync._sync s ON s.id = l.sync WHERE l.before_sending AND s.state = 'running' LIMIT 1",
        &[],
    )
    .is_empty()
}

/// Asks for a side to be gone through. `reason` is what `sync.status` says.
pub fn request(sync: i32, side: Side, kind: Kind, reason: &str) {
    sql::query(
        "INSERT INTO sync._load (sync, side, kind, reason) VALUES ($1, $2::int2, $3, $4)
         ON CONFLICT (sync, kind, side) DO UPDATE SET last_key = NULL, job = NULL, page = NULL, done = 0, reason = EXCLUDED.reason,
                confirmed = false, discarded = false, exits = NULL, blanks = NULL, started_at = pg_catalog.clock_timestamp()",
        &[Arg::Int4(sync), Arg::Int4(side as i32), Arg::Text(kind.name()), Arg::Text(reason)],
    );
}

/// Notes what a person decided about the rows that are gone from a side: for the loads that find them.
pub fn decided(sync: i32, side: Side, verdict: Verdict) {
    let discarded = verdict == Verdict::Discarded;
    sql::query(
        "UPDATE sync._load SET confirmed = NOT $2, discarded = $2
          WHERE sync OPERATOR(pg_catalog.=) $1
            AND (side OPERATOR(pg_catalog.=) $3) OPERATOR(pg_catalog.=) (kind OPERATOR(pg_catalog.=) 'links')",
        &[Arg::Int4(sync), Arg::Bool(discarded), Arg::Int4(side as i32)],
    );
}

/// Notes what a person decided about what a load has found, besides rows that are gone, by what `sync._sync` has of the
/// question: "reconcile exits" is of all loads of rows, "reconcile exits source" of those of one side. False: it is of none
/// of these.
pub fn decided_found(sync: i32, decision: &str, verdict: Verdict) -> bool {
    let mut words = decision.split(' ').skip(1);
    let (column @ ("exits" | "blanks"), side) = (words.next().unwrap_or_default(), words.next())
    else {
        return false;
    };
    let side = Side::BOTH.into_iter().find(|s| side == Some(s.name()));
    let verdict = if verdict == Verdict::Discarded { "discarded" } else { "confirmed" };
    sql::query(
        &format!(
            "UPDATE sync._load SET {column} = $2
              WHERE sync OPERATOR(pg_catalog.=) $1 AND kind OPERATOR(pg_catalog.=) 'rows'
                AND ($3 OPERATOR(pg_catalog.<) 0 OR side OPERATOR(pg_catalog.=) $3)"
        ),
        &[Arg::Int4(sync), Arg::Text(verdict), Arg::Int4(side.map_or(-1, |side| side as i32))],
    );
    true
}

/// Takes over what was counted before the configuration was read anew, and a look that goes on.
pub fn inherit(loads: &mut Vec<Load>, old: Vec<Load>, look_goes_on: bool) {
    for load in loads.iter_mut() {
        let same = |o: &Load| {
            (o.side, o.kind, &o.asked_at) == (load.side, load.kind, &load.asked_at)
                && o.last_key == load.last_key
        };
        if let Some(old) = old.iter().find(|o| same(o)) {
            (load.count, load.exits) = (old.count.clone(), old.exits.clone());
        }
    }
    loads.extend(old.into_iter().filter(|load| look_goes_on && !load.stored));
}

/// Has capture record what the sync wants now. Where a column came to both tables after the sync was
/// made, its values were not recorded so far, and are compared once.
pub fn widen(plan: &Plan) {
    for side in Side::BOTH {
        let (columns, key) = plan::recorded(plan, side);
        let s = side.name();
        let before = sql::query(
            &format!(
                "UPDATE sync._sync n SET {s}_columns = {columns}, {s}_key = {key} FROM sync._sync o
                  WHERE n.id = $1 AND o.id = n.id
                    AND (o.{s}_columns, o.{s}_key) IS DISTINCT FROM ({columns}, {key})
                 RETURNING COALESCE({columns} <@ o.{s}_columns, false)"
            ),
            &[Arg::Int4(plan.id)],
        );
        if let Some(row) = before.first() {
            attach::watch(plan.side(side).oid);
            if plan.flows_from(side) && row[0].as_deref() != Some("t") {
                request(plan.id, side, Kind::Rows, "a column was added");
            }
        }
    }
}

/// Works on the next piece of the first load. True when there is more to do.
pub fn step(sync: &mut Sync, epoch: i32, shapes: &mut Shapes) -> Result<bool, Failure> {
    if !writers_ended(sync)? {
        return Ok(false);
    }
    let Some(load) = sync.loads.first().cloned() else { return Ok(false) };
    if waits_for_parents(sync)? {
        return Ok(false);
    }
    if sync.plan.is_remote(load.side) {
        return sync.load_remote(shapes);
    }
    if load.kind == Kind::Rows && sync.plan.side(load.side).polled.is_some() {
        return polled::rows(sync, &load, epoch, shapes);
    }
    if let Some(side) = load.lacking(&sync.plan)
        && !load.count.complete
    {
        return count(sync, &load, side);
    }
    if load.counts_exits(&sync.plan) {
        return count_exits(sync, shapes, &load);
    }
    let bump = Bump::new();
    let (halves, last_key, complete) = match load.kind {
        Kind::Rows => {
            let most = (sync.plan.config.batch_size as usize).min(sync.allowed());
            let piece = rows(sync, &bump, &load, most)?;
            if meets_exits(sync, shapes, &piece.0)? || meets_blanks(sync, shapes, &bump, &piece.0)?
            {
                return Ok(false);
            }
            piece
        }
        Kind::Links => match links(sync, &bump, &load)? {
            Some(piece) => piece,
            None => return Ok(false),
        },
    };
    let count = halves.len() as i64;
    let comes = if complete { 0 } else { rows_left(sync, &load)? };
    if let Some(state) = &mut sync.remote {
        state.note_backlog(comes);
    }
    if !halves.is_empty() {
        sync.loading = Some(load.clone());
        let worked = sync.merge_anew(epoch, shapes, &bump, halves);
        sync.loading = None;
        worked?;
    }
    finish_piece(sync, &load, last_key, complete, count)?;
    Ok(!sync.loads.is_empty())
}

/// Are the records still being loaded that those of this sync point to?
fn waits_for_parents(sync: &Sync) -> Result<bool, Failure> {
    if sync.parents.is_empty() {
        return Ok(false);
    }
    let parents: Vec<String> = sync.parents.iter().map(i32::to_string).collect();
    let text = format!(
        "SELECT 1 FROM sync._load l JOIN sync._sync s ON s.id = l.sync
          WHERE l.sync IN ({}) AND s.state = 'running' LIMIT 1",
        parents.join(", ")
    );
    transaction(|| Ok(sql::one(&text, &[]).is_some()))
}

/// About how many rows of a load come after those at hand, rather too many than too few; only those that leave for
/// another system are counted.
fn rows_left(sync: &Sync, load: &Load) -> Result<usize, Failure> {
    if sync.remote.is_none() || load.kind != Kind::Rows {
        return Ok(0);
    }
    let table = sync.plan.side(load.side).oid;
    let rows = transaction(|| {
        Ok(sql::one(
            "SELECT pg_catalog.sum(GREATEST(c.reltuples::int8, pg_catalog.pg_relation_size(c.oid) / 50))::int8
               FROM (SELECT relid FROM pg_catalog.pg_partition_tree($1) UNION SELECT $1) AS p (relid)
               JOIN pg_catalog.pg_class c ON c.oid = p.relid WHERE c.relkind = 'r'",
            &[Arg::Oid(table)],
        ))
    })?;
    let rows: u64 = rows.and_then(|rows| rows.parse().ok()).unwrap_or(0);
    Ok(rows.saturating_sub(load.done) as usize)
}

/// Notes how far a load has come.
///
/// # Errors
/// What writing it down raised.
pub fn finish_piece(
    sync: &mut Sync,
    load: &Load,
    last_key: Option<Vec<u8>>,
    complete: bool,
    count: i64,
) -> Result<(), Failure> {
    let id = sync.plan.id;
    let plan = &sync.plan;
    transaction(|| {
        if !load.stored {
            return Ok(());
        }
        if complete {
            link::index(plan);
            queue::wake_all(id);
            sql::query(
                "DELETE FROM sync._load WHERE sync = $1 AND side = $2 AND kind = $3",
                &[Arg::Int4(id), Arg::Int4(load.side as i32), Arg::Text(load.kind.name())],
            );
            queue::wake_left(id);
            sql::query(
                "UPDATE sync._gap SET reconciled_at = pg_catalog.clock_timestamp()
                  WHERE sync = $1 AND reconciled_at IS NULL
                    AND NOT EXISTS (SELECT FROM sync._load l WHERE l.sync = $1)",
                &[Arg::Int4(id)],
            );
        } else {
            sql::query(
                "UPDATE sync._load SET last_key = $4, done = done + $5
                  WHERE sync = $1 AND side = $2 AND kind = $3",
                &[
                    Arg::Int4(id),
                    Arg::Int4(load.side as i32),
                    Arg::Text(load.kind.name()),
                    Arg::Bytes(last_key.as_deref().unwrap_or_default()),
                    Arg::Int(count),
                ],
            );
        }
        Ok(())
    })?;
    if complete {
        sync.loads.remove(0);
        sync.tally.clear();
        // Everything in the log that is older than this moment is older than what was read.
        // SAFETY: reads a counter.
        let now = transaction(|| Ok(unsafe { pg_sys::ReadNextFullTransactionId().value }))?;
        sync.known.below = [now; 2];
    } else if let Some(first) = sync.loads.first_mut() {
        first.last_key = last_key;
        first.done += count as u64;
    }
    Ok(())
}

/// A transaction that was writing to the table when the sync came to be may still commit what it
/// did not record. Only when those have ended is the first row read; no lock is taken.
fn writers_ended(sync: &mut Sync) -> Result<bool, Failure> {
    if sync.loads.is_empty() {
        return Ok(true);
    }
    // Of both sides: what a writer of the other side does not record would differ for ever.
    let [source, target] = [&sync.plan.sides[0], &sync.plan.sides[1]].map(|t| t.oid);
    let now = transaction(|| {
        Ok(sql::read(
            "SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks l
              WHERE l.locktype = 'relation' AND l.granted
                AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                AND l.relation IN (SELECT relid FROM pg_catalog.pg_partition_tree($1) UNION ALL SELECT relid FROM pg_catalog.pg_partition_tree($2)
                                   UNION ALL SELECT $1 UNION ALL SELECT $2)
                AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()",
            &[Arg::Oid(source), Arg::Oid(target)],
        )
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect::<Vec<String>>())
    })?;
    let id = sync.plan.id;
    let Some(load) = sync.loads.first_mut() else { return Ok(true) };
    let before = load.writers.is_none();
    let waits: Vec<String> = match &load.writers {
        None => now,
        Some(known) => known.iter().filter(|w| now.contains(w)).cloned().collect(),
    };
    let changed = load.writers.as_ref() != Some(&waits);
    let ended = waits.is_empty();
    if changed && !(before && ended) {
        let list = waits.join(",");
        transaction(|| {
            sql::query(
                "UPDATE sync._load SET waits_for = pg_catalog.string_to_array(NULLIF($2, ''), ',') WHERE sync = $1",
                &[Arg::Int4(id), Arg::Text(&list)],
            );
            Ok(())
        })
        .ok();
    }
    load.writers = Some(waits);
    Ok(ended)
}

/// Stops a sync until a person has decided about so many records that are gone from a side.
///
/// # Errors
/// What writing it down raised.
pub fn ask_about(plan: &Plan, side: Side, missing: u64, limit: u64) -> Result<(), Failure> {
    let count = Count { missing, limit, ..Count::default() };
    ask(plan, None, &format!("reconcile {}", side.name()), &rows_gone(plan, side, &count))
}

type Piece<'b> = (Vec<Half<'b>>, Option<Vec<u8>>, bool);

/// The next rows of a side, by key.
fn rows<'b>(sync: &Sync, bump: &'b Bump, load: &Load, limit: usize) -> Result<Piece<'b>, Failure> {
    let plan = &sync.plan;
    let table = plan.side(load.side);
    let lengths = table.key_lengths();
    as_owner(plan.owner, &plan.search_path, false, || {
        let columns: Vec<String> =
            table.columns.iter().map(|c| format!("t.{}", identifier(&c.name))).collect();
        let keys: Vec<String> =
            table.key_columns().map(|c| format!("t.{}", identifier(&c.name))).collect();
        let after = if load.last_key.is_some() {
            let fed: Vec<String> = (0..keys.len()).map(|n| format!("f.k{n}")).collect();
            format!("WHERE ({}) > ({})", keys.join(", "), fed.join(", "))
        } else {
            String::new()
        };
        let text = format!(
            "SELECT f.{ORD}, r.* FROM {FED} AS f, LATERAL (SELECT {} FROM {} AS t {after} ORDER BY {} LIMIT {limit}) AS r",
            columns.join(", "),
            table.name,
            keys.join(", ")
        );
        let statement = Statement::prepare(&text, FED, fed_key(table), false);
        let fed = std::iter::once(key_values(bump, load.last_key.as_deref(), &lengths));
        let results: Vec<&Column> = table.columns.iter().collect();
        let mut halves = Vec::with_capacity(limit);
        let mut last = None;
        statement.run(bump, fed, &results, |_, values| {
            if let Some(key) = image::encode_key(table.key.iter().map(|&k| values[k]), &lengths) {
                let mut half = Half::unread(load.side, bump.alloc_slice_copy(&key), i64::MIN);
                half.seen = Seen::Row(values);
                halves.push(half);
                last = Some(key);
            }
        });
        let complete = halves.len() < limit;
        Ok((halves, last, complete))
    })
}

fn ask_of(plan: &Plan, load: &Load, side: Side, count: &Count) -> Result<(), Failure> {
    let decision = format!("reconcile {}", side.name());
    ask(plan, Some(load), &decision, &rows_gone(plan, side, count))
}

/// Counts the next links whose row is gone from a side, and asks when they are too many. True when
/// there is more to do.
fn count(sync: &mut Sync, load: &Load, side: Side) -> Result<bool, Failure> {
    let mut count = load.count.clone();
    let plan = &sync.plan;
    let links = load.kind == Kind::Links;
    if count.last_key.is_none() {
        count.limit = transaction(|| Ok(plan.delete_limit(link::estimate(plan))))?;
        // What it deleted before a restart was within the limit, and belongs to the sum.
        if links {
            count.missing = load.done;
            count.last_key.clone_from(&load.last_key);
        }
    }
    let found = missing(sync, load, side, count.last_key.as_deref().unwrap_or_default())?;
    count.missing += found.keys.len() as u64;
    count.complete = found.complete;
    count.last_key = found.last_key.or(count.last_key);
    if count.missing > count.limit {
        ask_of(plan, load, side, &count)?;
        return Ok(false);
    }
    if let Some(first) = sync.loads.first_mut() {
        first.count = count;
    }
    Ok(true)
}

/// Counts the next linked rows that are outside the filter by now. True when there is more to do.
fn count_exits(sync: &mut Sync, shapes: &mut Shapes, load: &Load) -> Result<bool, Failure> {
    let limit = 5_000;
    let keys = link::after(&sync.plan, load.exits_after(), limit)?;
    let halves: Vec<Half<'_>> = load
        .releasing(&sync.plan)
        .into_iter()
        .flat_map(|side| {
            keys.iter().map(move |(source, target)| {
                let key = if side == Side::Source { source } else { target };
                Half::unread(side, key, i64::MIN)
            })
        })
        .collect();
    let last_key = keys.last().map(|keys| keys.0.clone());
    note_exits(sync, shapes, &halves, last_key, keys.len() < limit)
}

/// Notes how many of these, the next linked ones, would be taken for deleted, and asks when they are too many. False when
/// it has asked.
///
/// # Errors
/// Trouble of the sync as a whole.
pub fn note_exits(
    sync: &mut Sync,
    shapes: &mut Shapes,
    halves: &[Half<'_>],
    last_key: Option<Vec<u8>>,
    complete: bool,
) -> Result<bool, Failure> {
    let Sync { plan, readers, places, loads, .. } = sync;
    let Some(load) = loads.first_mut() else { return Ok(false) };
    let found = exits::leaving_of(plan, readers, places, shapes, halves)?.len() as u64;
    let mut count = load.exits.clone();
    if count.last_key.is_none() {
        count.limit = transaction(|| Ok(plan.delete_limit(link::estimate(plan))))?;
    }
    count.missing += found;
    count.complete = complete;
    count.last_key = last_key.or(count.last_key);
    if count.missing > count.limit {
        ask_about_exits(plan, load, (count.missing, count.limit), false)?;
        return Ok(false);
    }
    load.exits = count;
    Ok(true)
}

/// Are there, with these, more to be taken for deleted than a load or a look may without asking? Then it has asked.
///
/// # Errors
/// Trouble of the sync as a whole.
pub fn meets_exits(
    sync: &mut Sync,
    shapes: &mut Shapes,
    halves: &[Half<'_>],
) -> Result<bool, Failure> {
    let Sync { plan, readers, places, loads, tally, .. } = sync;
    let Some(load) = loads.first() else { return Ok(false) };
    // Without a link none has anything to take along.
    let no_link = load.exits.complete && load.exits.last_key.is_none();
    if no_link || load.releasing(plan).is_empty() {
        return Ok(false);
    }
    tally.belong(load);
    let before = tally.left.len();
    for n in exits::leaving_of(plan, readers, places, shapes, halves)? {
        tally.left.insert(queue::mark(halves[n].side, halves[n].key));
    }
    let met = tally.left.len();
    if met == before {
        return Ok(false);
    }
    let limit = transaction(|| Ok(plan.delete_limit(link::estimate(plan))))?;
    if met as u64 <= limit {
        return Ok(false);
    }
    ask_about_exits(plan, load, (met as u64, limit), before > 0)?;
    Ok(true)
}

/// Asks about so many rows outside the filter, more than the limit. `more`: some have gone already.
fn ask_about_exits(
    plan: &Plan,
    load: &Load,
    (found, limit): (u64, u64),
    more: bool,
) -> Result<(), Failure> {
    let sides = load.releasing(plan);
    let names = |of: &dyn Fn(Side) -> Side| {
        let names: Vec<&str> =
            sides.iter().map(|&side| plan.side(of(side)).name.as_str()).collect();
        names.join(" and ")
    };
    let sentence = format!(
        "{found} or more rows of {} are outside the filter, more than the limit of {limit}; {} has been deleted from {}",
        names(&|side| side),
        if more { "nothing more" } else { "nothing" },
        names(&Side::other)
    );
    // Between two tables each load finds those of both.
    let decision = match plan.remote_side() {
        Some(_) => format!("reconcile exits {}", load.side.name()),
        None => "reconcile exits".to_owned(),
    };
    ask(plan, Some(load), &decision, &sentence)
}

/// Are there, with these, more linked rows that have lost the value of a field than may be sent without asking? Then it has
/// asked.
fn meets_blanks(
    sync: &mut Sync,
    shapes: &mut Shapes,
    bump: &Bump,
    halves: &[Half<'_>],
) -> Result<bool, Failure> {
    let Sync { plan, places, loads, queued, .. } = sync;
    let Some(load) = loads.first() else { return Ok(false) };
    let side = load.side;
    if !load.counts_blanks(plan) {
        return Ok(false);
    }
    let mut emptied = Vec::new();
    transaction(|| {
        // Before there is an index nothing is linked that was not just read.
        if !link::is_indexed(plan) {
            return Ok(());
        }
        let mut links = Links::open(plan, places);
        for half in halves {
            let Seen::Row(values) = half.seen else { continue };
            if !values.contains(&Value::Null) {
                continue;
            }
            let link = links.find(bump, shapes, side, half.key);
            let link = link.filter(|link| !link.deleted && screen::takes_part(link.standing));
            let base = link.and_then(|link| link.base);
            let is_null = |c: usize| values[c] == Value::Null;
            // One that a person has to look at is not sent.
            let waits = queued.contains(queue::mark(side, half.key))
                && !queue::is_left(plan, side, half.key);
            if !waits && base.is_some_and(|base| guard::empties(plan, side, &base, is_null)) {
                emptied.push(half.key);
            }
        }
        links.close();
        Ok(())
    })?;
    asks_about_blanks(sync, &emptied)
}

/// Notes linked rows that the load at hand has found to have lost the value of a field. When they are more than may be
/// sent without asking, it has asked.
///
/// # Errors
/// What writing it down raised.
pub fn asks_about_blanks(sync: &mut Sync, emptied: &[&[u8]]) -> Result<bool, Failure> {
    let Sync { plan, loads, tally, .. } = sync;
    let Some(load) = loads.first().filter(|_| !emptied.is_empty()) else { return Ok(false) };
    tally.belong(load);
    let (side, before) = (load.side, tally.emptied.len());
    tally.emptied.extend(emptied.iter().map(|key| queue::mark(side, key)));
    let found = tally.emptied.len();
    let limit = transaction(|| Ok(plan.delete_limit(link::estimate(plan))))?;
    if found as u64 <= limit {
        return Ok(false);
    }
    let sentence = format!(
        "{found} or more rows of {} lost the value of a field, more than the limit of {limit}; {} has been emptied in {}",
        plan.side(side).name,
        if before > 0 { "nothing more" } else { "nothing" },
        plan.side(side.other()).name
    );
    ask(plan, Some(load), &format!("reconcile blanks {}", side.name()), &sentence)?;
    Ok(true)
}

fn rows_gone(plan: &Plan, side: Side, count: &Count) -> String {
    format!(
        "{} or more rows are gone from {}, more than the limit of {}; nothing has been deleted from {}",
        count.missing,
        plan.side(side).name,
        count.limit,
        plan.side(side.other()).name
    )
}

/// Stops the sync and asks a person about what a load has found; what he decides stands with the load.
///
/// # Errors
/// What writing it down raised.
pub fn ask(plan: &Plan, load: Option<&Load>, decision: &str, why: &str) -> Result<(), Failure> {
    transaction(|| {
        if let Some(load) = load.filter(|load| !load.stored) {
            request(plan.id, load.side, load.kind, "polling");
        }
        sql::query(
            "UPDATE sync._sync SET state = 'needs decision', decision = $3, reason = $2, changed_at = pg_catalog.clock_timestamp()
              WHERE id = $1 AND state = 'running'",
            &[Arg::Int4(plan.id), Arg::Text(why), Arg::Text(decision)],
        );
        Ok(())
    })?;
    super::mark_configuration_stale();
    Ok(())
}

/// The next links whose row is gone from a side, to be worked on. `None`: they have become more than
/// the sync may delete without asking, and it has asked.
fn links<'b>(sync: &mut Sync, bump: &'b Bump, load: &Load) -> Result<Option<Piece<'b>>, Failure> {
    let plan = &sync.plan;
    let found = missing(sync, load, load.side, load.last_key.as_deref().unwrap_or_default())?;
    if let Some(side) = load.lacking(plan) {
        // More may have gone since they were counted.
        let count = Count { missing: load.done + found.keys.len() as u64, ..load.count.clone() };
        if count.missing > count.limit {
            ask_of(plan, load, side, &count)?;
            return Ok(None);
        }
    }
    let half = |key: &Vec<u8>| Half::unread(load.side, bump.alloc_slice_copy(key), i64::MIN);
    Ok(Some((found.keys.iter().map(half).collect(), found.last_key, found.complete)))
}

/// Links looked at at once, and those of them whose row is gone.
struct Missing {
    /// Their keys on the side they are gone from.
    keys: Vec<Vec<u8>>,
    /// The last link that was looked at, by its own key.
    last_key: Option<Vec<u8>>,
    /// It was the last one there is.
    complete: bool,
}

/// Looks for the rows of a side that the next links speak of. The links are ours, the rows are read as
/// the sync's owner, so that no single statement can look at both.
fn missing(sync: &Sync, load: &Load, side: Side, after: &[u8]) -> Result<Missing, Failure> {
    let plan = &sync.plan;
    let table = plan.side(side);
    let limit = 5_000;
    // Keys only, in pieces; the rows are looked for by the resolve step.
    let keys = link::after(plan, after, limit)?;
    let complete = keys.len() < limit;
    let last_key = keys.last().map(|k| k.0.clone());
    let mut side_keys: Vec<Vec<u8>> = keys
        .into_iter()
        .map(|(key, remote)| if side == Side::Source { key } else { remote })
        .collect();
    polled::unmet(sync, load, &mut side_keys);
    if side_keys.is_empty() {
        return Ok(Missing { keys: side_keys, last_key, complete });
    }
    let lengths = table.key_lengths();
    let mut present = vec![false; side_keys.len()];
    as_owner(plan.owner, &plan.search_path, table.polled.is_some(), || {
        let text = format!(
            "SELECT f.{ORD} FROM {FED} AS f JOIN {} AS t ON {}",
            table.name,
            super::resolve::key_matches(table)
        );
        let statement = Statement::prepare(&text, FED, fed_key(table), false);
        let bump = Bump::new();
        let fed = side_keys.iter().map(|k| key_values(&bump, Some(k), &lengths));
        statement.run(&bump, fed, &[], |ord, _| present[ord] = true);
        Ok(())
    })?;
    let keys = side_keys.into_iter().zip(present).filter(|(_, p)| !p).map(|(k, _)| k).collect();
    Ok(Missing { keys, last_key, complete })
}
