//! What listeners are told: after a batch one notification a table on the channel `sync.<schema>`,
//! which says what there is to read in `sync.change_log` and never a value of a row, because anybody
//! who can connect may listen.
//!
//! Sent in a transaction of its own, so that a queue that a forgotten listener has filled costs no
//! batch. Nothing is sent where nothing was synced: an idle database stays without transactions.

use super::round::Worker;
use super::transaction::{Failure, transaction};
use crate::border;
use crate::capture::row;
use crate::engine::outlet::Outlet;
use crate::engine::plan::Plan;
use crate::engine::sync::Sync;
use crate::log::batch::Entry;
use crate::settings;
use crate::speech;
use crate::sql::{self, Arg};
use merge::Side;
use pgrx::pg_sys::{self, Oid};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::time::{Duration, Instant};

/// Between two notifications of a table at least; what happens in between is told together.
const PAUSE: Duration = Duration::from_millis(10);
/// Share of the server's queue above which nothing is added to it.
const FULLEST: f64 = 0.25;
/// Bytes of a channel's name (commands/async.c).
const LONGEST_CHANNEL: usize = pg_sys::NAMEDATALEN as usize - 1;

unsafe extern "C-unwind" {
    // commands/async.h; not among pgrx's bindings.
    fn Async_Notify(channel: *const c_char, payload: *const c_char);
}

/// The changes of one table that a batch has settled.
#[derive(Clone, Copy)]
pub struct Span {
    from: i64,
    to: i64,
    count: u64,
    /// What all of them were; 0 where they differ.
    op: u8,
}

impl Span {
    /// One change.
    pub fn of(entry: &Entry) -> Self {
        Self { from: entry.seq, to: entry.seq, count: 1, op: entry.op }
    }

    /// Both.
    pub fn and(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    fn add(&mut self, other: Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.count += other.count;
        if self.op != other.op {
            self.op = 0;
        }
    }

    fn op(&self) -> Option<&'static str> {
        match self.op {
            row::INSERT => Some("INSERT"),
            row::UPDATE => Some("UPDATE"),
            row::DELETE => Some("DELETE"),
            row::TRUNCATE => Some("TRUNCATE"),
            _ => None,
        }
    }
}

/// What a sync has settled of its batch, a span a side.
#[derive(Default)]
pub struct Settled([Option<Span>; 2]);

impl Settled {
    /// Takes note of a change, unless it only repeats what the sync itself wrote there.
    pub fn add(&mut self, plan: &Plan, side: Side, entry: &Entry) {
        if entry.origin == plan.origin(side) {
            return;
        }
        let one = Span::of(entry);
        match &mut self.0[side as usize] {
            Some(span) => span.add(one),
            none => *none = Some(one),
        }
    }
}

/// What is yet to be told, a span a table and sync, and when something was last told.
#[derive(Default)]
pub struct Notes {
    waiting: BTreeMap<(u32, String), (String, Span)>,
    told: Option<Instant>,
    complained: bool,
}

impl Notes {
    /// Changes of a table wait to be taken.
    ///
    /// # Errors
    /// What looking the table up raised.
    pub fn put_down(&mut self, outlet: &Outlet, span: Span) -> Result<(), Failure> {
        if !settings::NOTIFY.get() {
            return Ok(());
        }
        let place = (outlet.table.to_u32(), outlet.name.clone());
        if let Some(known) = self.waiting.get_mut(&place) {
            known.1.add(span);
            return Ok(());
        }
        let table = transaction(|| {
            Ok(sql::one(
                "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
                &[Arg::Oid(outlet.table)],
            ))
        })?;
        self.waiting.insert(place, (table.unwrap_or_default(), span));
        Ok(())
    }
}

impl Worker {
    /// A sync is through with its batch.
    pub(super) fn note_batch(&mut self, sync: &mut Sync) {
        let settled = std::mem::take(&mut sync.settled);
        if !settings::NOTIFY.get() {
            return;
        }
        for side in Side::BOTH {
            let Some(span) = settled.0[side as usize] else { continue };
            let (plan, table) = (&sync.plan, sync.plan.side(side));
            self.notes
                .waiting
                .entry((table.oid.to_u32(), plan.name.clone()))
                .and_modify(|known| known.1.add(span))
                .or_insert_with(|| (table.name.clone(), span));
        }
    }

    /// Tells what there is to tell, if that was not done just now. Returns how long to wait for it.
    pub(super) fn notify(&mut self) -> Option<Duration> {
        let (notes, epoch) = (&mut self.notes, self.epoch.number);
        if notes.waiting.is_empty() {
            return None;
        }
        let pause = notes.told.map_or(Duration::ZERO, |at| PAUSE.saturating_sub(at.elapsed()));
        if !pause.is_zero() {
            return Some(pause);
        }
        notes.told = Some(Instant::now());
        let waiting = std::mem::take(&mut notes.waiting);
        let sent = transaction(|| {
            tell(&waiting, epoch);
            Ok(())
        });
        match sent {
            Ok(()) => notes.complained = false,
            // Once: the batches go on, and so may this.
            Err(failure) if !std::mem::replace(&mut notes.complained, true) => {
                speech::log(format!("sync_ext worker cannot notify listeners: {failure}"));
            }
            Err(_) => {}
        }
        None
    }
}

fn tell(waiting: &BTreeMap<(u32, String), (String, Span)>, epoch: i32) {
    // SAFETY: a function without arguments.
    let full = unsafe {
        pgrx::direct_function_call::<f64>(pg_sys::pg_notification_queue_usage, &[]).unwrap_or(1.0)
    };
    if full > FULLEST {
        return;
    }
    for ((oid, sync), (table, span)) in waiting {
        let Some(channel) = channel(Oid::from(*oid)) else { continue };
        let mut payload = json!({ "sync": sync, "table": table });
        if let Some(op) = span.op() {
            payload["op"] = op.into();
        }
        payload["count"] = span.count.into();
        payload["from"] = format!("{epoch}:{}", span.from).into();
        payload["to"] = format!("{epoch}:{}", span.to).into();
        // Names are short: far below the 8,000 bytes that a payload may have.
        let payload = border::exact(&payload.to_string());
        // SAFETY: both texts are copied.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                Async_Notify(channel.as_ptr(), payload.as_ptr());
            });
        }
    }
}

/// The channel of a table's schema, cut as LISTEN cuts a long name.
fn channel(table: Oid) -> Option<CString> {
    // SAFETY: inside a transaction; the name is copied.
    unsafe {
        let name = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table));
        if name.is_null() {
            return None;
        }
        let mut channel = b"sync.".to_vec();
        channel.extend_from_slice(CStr::from_ptr(name).to_bytes());
        let length = pg_sys::pg_mbcliplen(
            channel.as_ptr().cast(),
            channel.len() as i32,
            LONGEST_CHANNEL as i32,
        );
        channel.truncate(length as usize);
        CString::new(channel).ok()
    }
}
