//! Tables that are read from time to time in the place of being captured: views, foreign tables, and what may have no
//! trigger. A look goes through the rows in the order of the key, each compared with what was agreed on, and then
//! through the links whose row it has not met. It is kept in memory only: one that was cut short is as well begun anew.

use super::collect::{Half, Seen};
use super::guard;
use super::link::{self, Link, Links};
use super::load::{self, Kind, Load};
use super::plan::{Column, Plan, Table};
use super::queue::{self, Parked};
use super::resolve::{fed_key, key_values};
use super::screen;
use super::shapes::Shapes;
use super::statement::{FED, ORD, Statement};
use super::sync::Sync;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::image::{self, Value};
use merge::{Base, Side};
use std::time::{Duration, Instant};

/// How often a table is read, unless the document says otherwise.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// Most rows read at once, and most bytes of them.
const MOST_ROWS: usize = 10_000;
const MOST_BYTES: usize = 8 << 20;
/// The keys that a look has met are remembered by eight bytes each, up to so many; of the links of a larger table each
/// has its row looked for.
const MOST_MET: usize = 8_000_000;

/// The looks at a table.
pub struct Looks {
    side: Side,
    interval: Duration,
    due: Instant,
    at_work: bool,
    began: Instant,
    ended: Option<Instant>,
    /// Whoever asked up to here to be told is answered by the look at hand, and by those that have ended.
    answers: u64,
    answered: u64,
    /// Hashes of the keys that the look at hand has met, if those are all.
    met: Option<Vec<u64>>,
    /// Rows read at once.
    piece: usize,
    /// It has been said that there are rows without a key.
    said: bool,
}

impl Looks {
    /// When the next begins, if nothing of the last is left to do.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Have those been told that had asked so far?
    pub fn has_answered(&self, asked: u64) -> bool {
        self.answered >= asked
    }

    /// Has the look at hand met this key?
    fn has_met(&self, key: &[u8]) -> bool {
        self.met.as_ref().is_some_and(|met| met.binary_search(&queue::mark(self.side, key)).is_ok())
    }
}

impl Sync {
    /// Takes up the looks at the table that is polled, if one is.
    ///
    /// # Errors
    /// What reading when the last one was raised.
    pub fn keep_looks(&mut self) -> Result<(), Failure> {
        let Some(side) = self.plan.polled() else { return Ok(()) };
        let interval = self.plan.config.polling_interval.unwrap_or(INTERVAL);
        let id = self.plan.id;
        let now = Instant::now();
        let looks = match self.looks.take() {
            Some(looks) if looks.interval == interval => looks,
            _ => {
                let ago = transaction(|| Ok(last_look(id)))?;
                let rest = ago.map_or(Duration::ZERO, |ago| interval.saturating_sub(ago));
                self.loads.retain(Load::is_stored);
                Looks {
                    side,
                    interval,
                    due: now + rest,
                    at_work: false,
                    began: now,
                    ended: None,
                    answers: 0,
                    answered: 0,
                    met: None,
                    piece: 0,
                    said: false,
                }
            }
        };
        self.looks = Some(looks);
        Ok(())
    }

    /// Begins a look when it is time, or when somebody waits: then not sooner than the last one took.
    pub fn begin_look(&mut self, asked: u64) {
        let Some(looks) = &mut self.looks else { return };
        let now = Instant::now();
        let rested = looks.ended.is_none_or(|ended| now - ended >= ended - looks.began);
        let wanted = looks.due <= now || !looks.has_answered(asked) && rested;
        if looks.at_work || !self.loads.is_empty() || !wanted {
            return;
        }
        looks.at_work = true;
        looks.began = now;
        looks.answers = asked;
        looks.met = Some(Vec::new());
        self.tally.clear();
        let side = looks.side;
        self.loads.extend([Load::of_look(side, Kind::Rows), Load::of_look(side, Kind::Links)]);
    }

    /// The last look has ended, if nothing of it is left to do.
    ///
    /// # Errors
    /// What writing it down raised.
    pub fn end_look(&mut self) -> Result<(), Failure> {
        let id = self.plan.id;
        let Some(looks) = self.looks.as_mut().filter(|looks| looks.at_work) else { return Ok(()) };
        if !self.loads.is_empty() {
            return Ok(());
        }
        transaction(|| {
            sql::query(
                "INSERT INTO sync._pull AS p (sync, at) VALUES ($1, '')
                 ON CONFLICT (sync) DO UPDATE SET polled_at = pg_catalog.clock_timestamp()",
                &[Arg::Int4(id)],
            );
            Ok(())
        })?;
        let now = Instant::now();
        looks.at_work = false;
        looks.answered = looks.answers;
        looks.ended = Some(now);
        looks.due = (looks.began + looks.interval).max(now + (now - looks.began));
        looks.met = None;
        Ok(())
    }
}

/// How long ago the last look was.
fn last_look(sync: i32) -> Option<Duration> {
    let text = "SELECT GREATEST(0, EXTRACT(epoch FROM pg_catalog.clock_timestamp() - p.polled_at)) FROM sync._pull p WHERE p.sync = $1";
    let ago = sql::one(text, &[Arg::Int4(sync)])?;
    Duration::try_from_secs_f64(ago.parse().ok()?).ok()
}

/// Links whose row is not among those that the look at hand has met.
pub fn unmet(sync: &Sync, load: &Load, keys: &mut Vec<Vec<u8>>) {
    if let Some(looks) = sync.looks.as_ref().filter(|_| !load.is_stored()) {
        keys.retain(|key| !looks.has_met(key));
    }
}

/// Works on the next rows of a load of the table. True when there is more to do.
///
/// # Errors
/// What reading and merging them raised.
pub fn rows(
    sync: &mut Sync,
    load: &Load,
    epoch: i32,
    shapes: &mut Shapes,
) -> Result<bool, Failure> {
    let bump = Bump::new();
    let batch = sync.plan.config.batch_size as usize;
    let allowed = sync.allowed();
    let Some(looks) = &mut sync.looks else { return Ok(false) };
    looks.piece = looks.piece.max(batch);
    let piece = read(&sync.plan, &bump, load, looks.piece.min(allowed))?;
    let bytes = bump.allocated_bytes();
    looks.piece = if bytes > MOST_BYTES {
        (looks.piece / 2).max(1)
    } else if bytes < MOST_BYTES / 3 {
        (looks.piece * 2).min(MOST_ROWS.max(batch))
    } else {
        looks.piece
    };
    if let Some(met) = looks.met.as_mut().filter(|_| !load.is_stored()) {
        let side = load.side;
        met.extend(piece.rows.iter().map(|half| queue::mark(side, half.key)));
        met.extend(piece.doubled.iter().map(|key| queue::mark(side, key)));
        if met.len() > MOST_MET {
            looks.met = None;
        } else if piece.complete {
            met.sort_unstable();
        }
    }
    let count = piece.rows.len() as i64;
    let Some(changed) = changed(sync, load, shapes, &bump, piece.rows)? else { return Ok(false) };
    if load::meets_exits(sync, shapes, &changed)? {
        return Ok(false);
    }
    review_doubled(sync, load.side, &piece.doubled)?;
    for rows in changed.chunks(batch) {
        sync.loading = Some(load.clone());
        let worked = sync.merge_anew(epoch, shapes, &bump, rows.to_vec());
        sync.loading = None;
        worked?;
    }
    if piece.complete {
        tell_of_unkeyed(sync, load.side)?;
    }
    load::finish_piece(sync, load, piece.last, piece.complete, count)?;
    Ok(!sync.loads.is_empty())
}

struct Piece<'b> {
    rows: Vec<Half<'b>>,
    /// Keys that more than one row has.
    doubled: Vec<&'b [u8]>,
    last: Option<Vec<u8>>,
    complete: bool,
}

/// The next rows by key. Where nothing guarantees that a key is one row's, that is seen here: the row after the last is
/// read too.
fn read<'b>(plan: &Plan, bump: &'b Bump, load: &Load, limit: usize) -> Result<Piece<'b>, Failure> {
    let table = plan.side(load.side);
    let lengths = table.key_lengths();
    let mut read: Vec<(&'b [u8], &'b [Value<'b>])> = Vec::with_capacity(limit + 1);
    as_owner(plan.owner, &plan.search_path, true, || {
        let columns: Vec<String> =
            table.columns.iter().map(|c| format!("t.{}", identifier(&c.name))).collect();
        let keys = keys(table);
        let mut conditions: Vec<String> =
            keys.iter().map(|key| format!("{key} IS NOT NULL")).collect();
        if load.last_key.is_some() {
            let fed: Vec<String> = (0..keys.len()).map(|n| format!("f.k{n}")).collect();
            conditions.push(format!("({}) > ({})", keys.join(", "), fed.join(", ")));
        }
        let text = format!(
            "SELECT f.{ORD}, r.* FROM {FED} AS f, LATERAL (SELECT {} FROM {} AS t WHERE {} ORDER BY {} LIMIT {}) AS r",
            columns.join(", "),
            table.name,
            conditions.join(" AND "),
            keys.join(", "),
            limit + 1
        );
        let statement = Statement::prepare(&text, FED, fed_key(table), false);
        let fed = std::iter::once(key_values(bump, load.last_key.as_deref(), &lengths));
        let results: Vec<&Column> = table.columns.iter().collect();
        statement.run(bump, fed, &results, |_, values| {
            if let Some(key) = image::encode_key(table.key.iter().map(|&k| values[k]), &lengths) {
                read.push((bump.alloc_slice_copy(&key), values));
            }
        });
        Ok(())
    })?;
    let next = (read.len() > limit).then(|| read.pop()).flatten();
    let mut piece = Piece {
        rows: Vec::with_capacity(read.len()),
        doubled: Vec::new(),
        last: read.last().map(|row| row.0.to_vec()),
        complete: next.is_none(),
    };
    let key_at = |n: usize| read.get(n).or(next.as_ref().filter(|_| n == read.len())).map(|r| r.0);
    for (n, &(key, values)) in read.iter().enumerate() {
        let before = n.checked_sub(1).and_then(key_at);
        if before == Some(key) || key_at(n + 1) == Some(key) {
            if piece.doubled.last() != Some(&key) {
                piece.doubled.push(key);
            }
            continue;
        }
        let mut half = Half::unread(load.side, key, i64::MIN);
        half.seen = Seen::Row(values);
        // What is there already is found as the sync begins; after that the base says what is new.
        half.both = load.is_stored();
        piece.rows.push(half);
    }
    Ok(piece)
}

fn keys(table: &Table) -> Vec<String> {
    table.key_columns().map(|c| format!("t.{}", identifier(&c.name))).collect()
}

/// Those of the rows that are not as it was agreed. Nothing where more linked ones have lost the value of a field than may be
/// sent without asking: then it has asked.
fn changed<'b>(
    sync: &mut Sync,
    load: &Load,
    shapes: &mut Shapes,
    bump: &'b Bump,
    rows: Vec<Half<'b>>,
) -> Result<Option<Vec<Half<'b>>>, Failure> {
    let Sync { plan, places, queued, .. } = sync;
    let side = load.side;
    let asks = load.counts_blanks(plan);
    let skips = !load.is_stored() && is_told_by_columns(plan, side);
    let (mut changed, mut emptied) = (Vec::new(), Vec::new());
    transaction(|| {
        if !link::is_indexed(plan) {
            changed = rows;
            return Ok(());
        }
        let mut links = Links::open(plan, places);
        for half in rows {
            let Seen::Row(values) = half.seen else { continue };
            if asks && values.contains(&Value::Null) || skips {
                let link = links.find(bump, shapes, side, half.key).filter(|link| !link.deleted);
                if let Some(Link { base: Some(base), standing, .. }) = link {
                    let is_null = |c: usize| values[c] == Value::Null;
                    let waits = queued.contains(queue::mark(side, half.key));
                    if asks
                        && !waits
                        && screen::takes_part(standing)
                        && guard::empties(plan, side, &base, is_null)
                    {
                        emptied.push(half.key);
                    }
                    if skips && standing == 0 && !waits && is_as_agreed(plan, side, values, &base) {
                        continue;
                    }
                }
            }
            changed.push(half);
        }
        links.close();
        Ok(())
    })?;
    let asked = load::asks_about_blanks(sync, &emptied)?;
    Ok((!asked).then_some(changed))
}

/// Is all that a row of this side sends, and whether it does, a matter of the columns that are agreed on?
fn is_told_by_columns(plan: &Plan, side: Side) -> bool {
    let s = side as usize;
    plan.screens.is_empty()
        && plan.fields.iter().all(|field| field.column[s].is_some() || field.how[s].is_none())
}

fn is_as_agreed(plan: &Plan, side: Side, values: &[Value<'_>], base: &Base<'_>) -> bool {
    let agreed = base.side(side);
    plan.fields
        .iter()
        .zip(agreed)
        .all(|(field, &agreed)| field.column[side as usize].is_none_or(|c| values[c] == agreed))
}

/// Rows that have their key in common with another one go to a person.
fn review_doubled(sync: &mut Sync, side: Side, doubled: &[&[u8]]) -> Result<(), Failure> {
    let Sync { plan, queued, .. } = sync;
    let new: Vec<&&[u8]> =
        doubled.iter().filter(|key| !queued.contains(queue::mark(side, key))).collect();
    if new.is_empty() {
        return Ok(());
    }
    let done = transaction(|| {
        for key in new {
            let why = Parked::Review(twice(plan, side));
            queue::park(plan, side, key, None, i64::MIN, &why, queued);
        }
        Ok(())
    });
    queued.finish(done.is_ok());
    done
}

/// A key is not one row's.
pub fn twice(plan: &Plan, side: Side) -> Failure {
    let table = plan.side(side);
    let columns: Vec<&str> = table.key_columns().map(|c| c.name.as_str()).collect();
    Failure {
        sqlstate: "21000".into(),
        message: format!("more than one row of {} has this key", table.name),
        detail: Some(format!("Its rows are told apart by \"{}\".", columns.join("\", \""))),
        hint: Some(format!(
            "Make it unique, or name more columns in \"{}.key\"; when it is one row's again it goes by itself.",
            side.name()
        )),
    }
}

/// Rows without a key cannot be synced; that is said once.
fn tell_of_unkeyed(sync: &mut Sync, side: Side) -> Result<(), Failure> {
    let plan = &sync.plan;
    let table = plan.side(side);
    let some = as_owner(plan.owner, &plan.search_path, true, || {
        let missing: Vec<String> = keys(table).iter().map(|key| format!("{key} IS NULL")).collect();
        let text = format!(
            "SELECT f.{ORD} FROM {FED} AS f, LATERAL (SELECT FROM {} AS t WHERE {} LIMIT 1) AS r",
            table.name,
            missing.join(" OR ")
        );
        let statement = Statement::prepare(&text, FED, fed_key(table), false);
        let mut some = false;
        let bump = Bump::new();
        let nothing = std::iter::once(vec![Value::Null; table.key.len()]);
        statement.run(&bump, nothing, &[], |_, _| some = true);
        Ok(some)
    })?;
    let Some(looks) = &mut sync.looks else { return Ok(()) };
    if !some || looks.said {
        looks.said = some;
        return Ok(());
    }
    looks.said = true;
    transaction(|| {
        sql::query(
            "INSERT INTO sync._error (sync, side, attempt, sqlstate, message, detail, hint) VALUES ($1, $2::pg_catalog.int2, 1, '22004', $3, $4, $5)",
            &[
                Arg::Int4(plan.id),
                Arg::Int4(side as i32),
                Arg::Text(&format!("rows of {} have no key", table.name)),
                Arg::Text(
                    "A column by which its rows are told apart is null; such rows are not synced.",
                ),
                Arg::Text("Leave them out of it, or name other columns as its key."),
            ],
        );
        Ok(())
    })
}
