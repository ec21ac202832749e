//! The records of a sync that are not settled at a moment: in the log, in the queue, on their way, in the hands of a
//! person. They may differ, and nothing is wrong with that.

use crate::capture::row;
use crate::engine::collect::Collector;
use crate::engine::plan::Plan;
use crate::engine::queue::{self, mark};
use crate::engine::remote::values;
use crate::engine::shapes::Shapes;
use crate::log::segments;
use crate::sql::{self, Arg};
use foldhash::{HashSet, HashSetExt};
use merge::Side;
use pgrx::pg_sys;

/// Why a record may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A change of it is in the log, or its table is being gone through.
    Pending,
    Queued,
    /// A person has been asked whose value is to stand.
    Conflict,
}

pub struct Unsettled {
    changed: HashSet<u64>,
    /// A load is under way, or changes that cannot be told apart: it may be any record.
    any: bool,
    queued: queue::Marks,
    asked: HashSet<u64>,
}

/// Keeps the log from being emptied until the transaction ends: what a later snapshot finds unsettled is still there to
/// be read. To be called before that snapshot is taken.
pub fn keep_log() {
    for segment in segments::relations().iter().flat_map(|log| log.segments) {
        // SAFETY: inside a transaction, whose end gives the lock back.
        unsafe { pg_sys::LockRelationOid(segment, pg_sys::AccessShareLock as i32) };
    }
}

const CHANGES: &str = "SELECT l.shape, l.op, l.old, l.new FROM sync._cursor c,
    LATERAL (SELECT xid, seq, shape, op, old, new FROM sync._log_v1_0
             UNION ALL SELECT xid, seq, shape, op, old, new FROM sync._log_v1_1
             UNION ALL SELECT xid, seq, shape, op, old, new FROM sync._log_v1_2
             UNION ALL SELECT xid, seq, shape, op, old, new FROM sync._log_v1_3) l
     WHERE c.sync = $1 AND NOT pg_catalog.pg_visible_in_snapshot(l.xid::text::xid8, c.seen)
       AND (c.frozen IS NULL OR l.seq > c.seq OR NOT pg_catalog.pg_visible_in_snapshot(l.xid::text::xid8, c.frozen))";

impl Unsettled {
    /// As the active snapshot has it.
    pub fn read(plan: &Plan) -> Self {
        sql::as_extension(|| Self::found(plan))
    }

    fn found(plan: &Plan) -> Self {
        let id = [Arg::Int4(plan.id)];
        let mut changed = HashSet::new();
        let loads = sql::one("SELECT 1 FROM sync._load WHERE sync = $1 LIMIT 1", &id);
        let mut any = loads.is_some();
        let (mut shapes, mut collector) = (Shapes::default(), Collector::new());
        sql::each_image(CHANGES, &id, |shape, op, old, new| {
            let Some((side, reading)) = collector.travelling(plan, &mut shapes, shape) else {
                any |= shapes.is_lost(shape);
                return;
            };
            let keys = [old, new].map(|image| image.and_then(|image| reading.key_of(image)));
            // A change of the whole table, or one that cannot be read.
            any |= op == row::TRUNCATE || op == row::BYPASS || keys == [None, None];
            changed.extend(keys.into_iter().flatten().map(|key| mark(side, &key)));
        });
        if let Some((remote, _)) = plan.remote() {
            let table = plan.side(remote);
            let intents = sql::read(
                "SELECT pg_catalog.encode(key, 'hex'), remote_id FROM sync._intent WHERE sync = $1",
                &id,
            );
            for intent in &intents {
                let own = intent[0].as_deref().and_then(sql::from_hex);
                changed.extend(own.map(|key| mark(remote.other(), &key)));
                let theirs = intent[1].as_deref().and_then(|id| values::key_of(table, id));
                changed.extend(theirs.map(|key| mark(remote, &key)));
            }
        }
        let mut asked = HashSet::new();
        sql::each_key(
            "SELECT side, key FROM sync._conflict WHERE sync = $1 AND winner IS NULL AND key IS NOT NULL",
            &id,
            |side, key| {
                let side = if side == 0 { Side::Source } else { Side::Target };
                asked.insert(mark(side, key));
            },
        );
        Self { changed, any, queued: queue::marks(plan.id), asked }
    }

    /// Why the record with these keys may differ, if it may.
    pub fn why(&self, keys: [Option<&[u8]>; 2]) -> Option<Why> {
        let any_of = |known: &dyn Fn(u64) -> bool| {
            Side::BOTH
                .into_iter()
                .zip(keys)
                .any(|(side, key)| key.is_some_and(|key| known(mark(side, key))))
        };
        if any_of(&|mark| self.asked.contains(&mark)) {
            Some(Why::Conflict)
        } else if any_of(&|mark| self.queued.contains(mark)) {
            Some(Why::Queued)
        } else if self.any || any_of(&|mark| self.changed.contains(&mark)) {
            Some(Why::Pending)
        } else {
            None
        }
    }
}
