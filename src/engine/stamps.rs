//! Columns of a table in which the sync says how it is with each row. They are written once a piece of work is
//! committed, in a transaction of their own: whatever is wrong with them keeps no record from being synced.

use super::plan::{Column, Plan};
use super::resolve::{fed_key, key_matches, key_values};
use super::statement::{FED, Fed, ORD, Statement};
use super::sync::Sync;
use crate::capture;
use crate::speech;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::image::Value;
use foldhash::{HashMap, HashMapExt};
use merge::Side;
use pgrx::pg_sys;

/// Most rows stamped with one statement.
const MOST: usize = 10_000;

/// What a row without trouble is.
const SYNCED: &str = "synced";

/// What the queue says of a record: its state, and why.
type Waiting = (String, Option<String>);

impl Sync {
    /// Stamps the rows that the last piece of work has touched.
    pub(super) fn stamp(&mut self) {
        let Self { plan, queued, stamping, stamping_fails, .. } = self;
        let Some(stamps) = &plan.stamps else { return };
        let touched = queued.take_touched();
        for keys in touched.chunks(MOST) {
            let done = waiting(plan, stamps.side, keys).and_then(|waiting| {
                as_owner(plan.owner, &plan.search_path, false, || {
                    sql::set_local("lock_timeout", "10ms");
                    write(plan, stamping, keys, &waiting);
                    Ok(())
                })
            });
            match done {
                Ok(()) => *stamping_fails = false,
                Err(failure) => {
                    // Said once, until it works again.
                    if !std::mem::replace(stamping_fails, true) {
                        speech::log(format!(
                            "sync \"{}\" cannot write its \"stamp_columns\": {failure}",
                            plan.name
                        ));
                    }
                }
            }
        }
    }
}

/// Which of these records wait.
fn waiting(
    plan: &Plan,
    side: Side,
    keys: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, Waiting>, Failure> {
    let list: Vec<String> = keys.iter().map(|key| sql::to_hex(key)).collect();
    transaction(|| {
        let rows = sql::read(
            "SELECT pg_catalog.encode(q.key, 'hex'), q.state, q.message FROM sync._queue q
              WHERE q.sync = $1 AND q.side = $2 AND q.state <> 'sending'
                AND q.key IN (SELECT pg_catalog.decode(k, 'hex') FROM pg_catalog.unnest(pg_catalog.string_to_array($3, ',')) AS k)",
            &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Text(&list.join(","))],
        );
        let mut waiting = HashMap::new();
        for row in rows {
            if let (Some(key), Some(state)) = (row[0].as_deref().and_then(sql::from_hex), &row[1]) {
                waiting.insert(key, (state.clone(), row[2].clone()));
            }
        }
        Ok(waiting)
    })
}

fn write(
    plan: &Plan,
    statement: &mut Option<Statement>,
    keys: &[Vec<u8>],
    waiting: &HashMap<Vec<u8>, Waiting>,
) {
    let Some(stamps) = &plan.stamps else { return };
    let table = plan.side(stamps.side);
    let statement = statement.get_or_insert_with(|| {
        let set: Vec<String> = stamps
            .columns
            .iter()
            .map(|(stamp, column)| {
                let name = identifier(column);
                match *stamp {
                    "synced_at" => {
                        format!("{name} = CASE WHEN f.s0 THEN {} ELSE t.{name} END", stamps.now)
                    }
                    "state" => format!("{name} = f.s1"),
                    _ => format!("{name} = f.s2"),
                }
            })
            .collect();
        // Whoever holds the row is about to change it, after which it is stamped again.
        let text = format!(
            "WITH free AS MATERIALIZED (SELECT f.{ORD} AS n FROM {FED} AS f JOIN {1} AS t ON {0} FOR NO KEY UPDATE OF t SKIP LOCKED)
             UPDATE {1} AS t SET {2} FROM {FED} AS f JOIN free ON free.n OPERATOR(pg_catalog.=) f.{ORD} WHERE {0}",
            key_matches(table),
            table.name,
            set.join(", ")
        );
        let mut fed = fed_key(table);
        fed.push(Fed::of("s0".to_owned(), &Column::flag()));
        fed.push(Fed::of("s1".to_owned(), &Column::text()));
        fed.push(Fed::of("s2".to_owned(), &Column::text()));
        Statement::prepare(&text, FED, fed, true)
    });
    let bump = Bump::new();
    let lengths = table.key_lengths();
    let rows = keys.iter().map(|key| {
        let mut row = key_values(&bump, Some(key), &lengths);
        let (state, why) = match waiting.get(key) {
            Some((state, why)) => (state.as_str(), why.as_deref()),
            None => (SYNCED, None),
        };
        let text = |text: &str| Value::Bytes(bump.alloc_slice_copy(&crate::border::readable(text)));
        row.push(Value::Bytes(if waiting.contains_key(key) { &[0] } else { &[1] }));
        row.push(text(state));
        row.push(why.map_or(Value::Null, text));
        row
    });
    let rows: Vec<Vec<Value<'_>>> = rows.collect();
    capture::set_origin(plan.origin(stamps.side));
    statement.run(&bump, rows.iter(), &[], |_, _| {});
    capture::set_origin(0);
}

/// The stamps of a sync.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamps {
    pub side: Side,
    /// Which stamp is in which column.
    pub columns: Vec<(&'static str, String)>,
    /// The time, as the column has it.
    pub now: String,
}

/// The longest state that the queue has for a record is `waiting for parent`.
const LONGEST_STATE: i32 = 18;

/// Text columns take what the queue says, a timestamp takes the time.
pub fn fits(stamp: &str, column: &Column) -> bool {
    // Of a varchar the modifier is its length and four bytes more.
    let room = match column.base_type {
        pg_sys::TEXTOID => i32::MAX,
        pg_sys::VARCHAROID if column.typmod < 0 => i32::MAX,
        pg_sys::VARCHAROID => column.typmod - 4,
        _ => 0,
    };
    match stamp {
        "synced_at" => [pg_sys::TIMESTAMPOID, pg_sys::TIMESTAMPTZOID].contains(&column.base_type),
        "state" => room >= LONGEST_STATE,
        _ => room == i32::MAX,
    }
}
