//! The trigger function.

use super::cache::{self, Captured, Column};
use super::{ffi, other_layout, wake};
use crate::log::segments;
use crate::settings;
use crate::worker::slots;
use change::image;
use pgrx::pg_sys::{self, Datum};
use std::sync::atomic::Ordering;

/// What happened, as the log's `op` says it.
pub const INSERT: u8 = b'I';
pub const UPDATE: u8 = b'U';
pub const DELETE: u8 = b'D';
pub const TRUNCATE: u8 = b'T';
/// Changes of this table went past capture because `sync_ext.capture` was off.
pub const BYPASS: u8 = b'B';

/// Who writes in this process: 0 a user, else the sync and side that is being applied.
static mut ORIGIN: i32 = 0;

/// The first number that a statement of the worker's took for a row it wrote itself; 0: none yet.
static mut FIRST: i64 = 0;

/// How many rows that any statement has inserted have been noted since, or left out; and the last number.
static mut INSERTED: usize = 0;
static mut LAST: i64 = 0;
/// Has any row been noted since? Has anything else?
static mut NOTED: bool = false;
static mut MORE: bool = false;

/// What a statement inserts itself is left out of the log where nobody but its own sync wants it: that knows.
static mut QUIET: bool = false;

/// Forgets the numbers of earlier statements.
pub fn begin_statement() {
    // SAFETY: one thread a backend.
    unsafe {
        FIRST = 0;
        INSERTED = 0;
        NOTED = false;
        MORE = false;
        QUIET = false;
    }
}

/// The same for a statement whose rows need not be told to the sync that inserts them.
pub fn begin_quiet_statement() {
    begin_statement();
    // SAFETY: one thread a backend.
    unsafe { QUIET = true }
}

/// Ends a quiet statement. The first and last number that it has taken, and whether its rows stand in the log under
/// them; `None` where more came of it than so many rows, by triggers for one: that may have been left out.
pub fn end_quiet_statement(rows: usize) -> Option<((i64, i64), bool)> {
    // SAFETY: one thread a backend.
    unsafe {
        QUIET = false;
        (FIRST != 0 && INSERTED == rows && !MORE).then_some(((FIRST, LAST), NOTED))
    }
}

/// The first number taken since. AFTER triggers fire when a statement holds all its row locks, so
/// every earlier change of the rows it wrote has a lower one.
pub fn first_of_statement() -> Option<i64> {
    // SAFETY: one thread a backend.
    let first = unsafe { FIRST };
    (first != 0).then_some(first)
}

/// The moment by which captured changes are told apart (microseconds since 2000).
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { ffi::GetCurrentTimestamp() }
}

/// Marks what this process writes from here on as the applying of a sync; 0 ends it.
pub fn set_origin(origin: i32) {
    // SAFETY: one thread a backend.
    unsafe { ORIGIN = origin }
}

#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C" fn pg_finfo_sync_ext_capture() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// `sync._capture()`: the trigger of every captured table, row and statement level.
///
/// # Safety
/// Called by the trigger manager only; anything else is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sync_ext_capture(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: the trigger manager hands over a complete TriggerData; the slots and tuples in it
    // live until we return.
    unsafe {
        let data = (*call).context.cast::<pg_sys::TriggerData>();
        if data.is_null() || (*data).type_ != pg_sys::NodeTag::T_TriggerData {
            cache::refuse_direct_call();
        }
        let relation = (*data).tg_relation;
        let event = (*data).tg_event;
        let captured = cache::lookup(relation);
        if captured.is_null() {
            return Datum::null();
        }
        let captured = &*captured;
        let kind = event & pg_sys::TRIGGER_EVENT_OPMASK;
        if event & pg_sys::TRIGGER_EVENT_ROW == 0 {
            if kind == pg_sys::TRIGGER_EVENT_TRUNCATE {
                let op = if settings::CAPTURE.get() { TRUNCATE } else { BYPASS };
                write(captured, op, ffi::GetCurrentCommandId(true), None, None);
            }
            return Datum::null();
        }
        if !settings::CAPTURE.get() {
            if cache::first_bypass(relation) {
                write(captured, BYPASS, ffi::GetCurrentCommandId(true), None, None);
            }
            return Datum::null();
        }
        let first = (*data).tg_trigslot;
        match kind {
            pg_sys::TRIGGER_EVENT_INSERT if QUIET && is_told(captured) => {
                if FIRST == 0 {
                    FIRST = ffi::nextval_internal(captured.log.sequence, false);
                    LAST = FIRST;
                }
                INSERTED += 1;
            }
            pg_sys::TRIGGER_EVENT_INSERT => {
                let new = Row::of(first, captured.reach);
                let command = ffi::HeapTupleHeaderGetCmin((*(*data).tg_trigtuple).t_data);
                write(captured, INSERT, command, None, Some(encode(captured, new, None, 0)));
            }
            pg_sys::TRIGGER_EVENT_DELETE => {
                let old = Row::of(first, captured.reach);
                let command = ffi::HeapTupleHeaderGetCmax((*(*data).tg_trigtuple).t_data);
                write(captured, DELETE, command, Some(encode(captured, old, None, 0)), None);
            }
            _ => {
                let old = Row::of(first, captured.reach);
                let new = Row::of((*data).tg_newslot, captured.reach);
                let words = captured.columns.len().div_ceil(64);
                let mut few = [0u64; 4];
                let changed: &mut [u64] = if words <= few.len() {
                    &mut few[..words]
                } else {
                    let many = ffi::palloc(words * 8).cast::<u64>();
                    std::ptr::write_bytes(many, 0, words);
                    std::slice::from_raw_parts_mut(many, words)
                };
                if !compare(captured, old, new, changed) {
                    return Datum::null();
                }
                let command = ffi::HeapTupleHeaderGetCmin((*(*data).tg_newtuple).t_data);
                let old = encode(captured, old, Some(changed), KEY_AND_CHANGED);
                let new = encode(captured, new, Some(changed), UNCHANGED_LONG_LEFT_OUT);
                write(captured, UPDATE, command, Some(old), Some(new));
            }
        }
        Datum::null()
    }
}

/// Is the only sync that wants the changes of this table the one that makes this one?
unsafe fn is_told(captured: &Captured) -> bool {
    // SAFETY: one thread a backend, inside a trigger.
    unsafe {
        captured.sole != 0
            && ORIGIN / 2 == captured.sole
            && ffi::pg_trigger_depth(std::ptr::null_mut()).value() == 1
    }
}

/// The deformed values of a slot.
#[derive(Clone, Copy)]
struct Row {
    values: *const Datum,
    nulls: *const bool,
}

impl Row {
    /// # Safety
    /// `slot` holds a tuple with at least `reach` columns.
    #[inline]
    unsafe fn of(slot: *mut pg_sys::TupleTableSlot, reach: i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            if i32::from((*slot).tts_nvalid) < reach {
                ffi::slot_getsomeattrs_int(slot, reach);
            }
            Self { values: (*slot).tts_values, nulls: (*slot).tts_isnull }
        }
    }

    #[inline]
    unsafe fn get(self, column: &Column) -> Option<Datum> {
        // SAFETY: `Row::of` has deformed every watched column.
        unsafe {
            let at = usize::from(column.position);
            if *self.nulls.add(at) { None } else { Some(*self.values.add(at)) }
        }
    }
}

/// How a varlena lies in memory (`postgres.h`, little-endian).
enum Varlena {
    Plain {
        data: *const u8,
        length: usize,
    },
    Compressed,
    /// A TOAST pointer.
    OutOfLine,
}

const TOAST_POINTER: usize = 18;

/// # Safety
/// `value` points to a varlena.
#[inline]
unsafe fn varlena(value: Datum) -> Varlena {
    // SAFETY: the header says how far the value reaches.
    unsafe {
        let at = value.cast_mut_ptr::<u8>();
        let head = *at;
        if head == 1 {
            Varlena::OutOfLine
        } else if head & 1 == 1 {
            Varlena::Plain { data: at.add(1), length: usize::from(head >> 1) - 1 }
        } else {
            let word = at.cast::<u32>().read_unaligned();
            if word & 3 == 2 {
                Varlena::Compressed
            } else {
                Varlena::Plain { data: at.add(4), length: (word >> 2) as usize - 4 }
            }
        }
    }
}

/// Fills the bitmap of changed columns; false when none did.
#[inline]
unsafe fn compare(captured: &Captured, old: Row, new: Row, changed: &mut [u64]) -> bool {
    let mut any = false;
    for (i, column) in captured.columns.iter().enumerate() {
        // SAFETY: both rows are deformed as far as the watched columns reach.
        let differs = match unsafe { (old.get(column), new.get(column)) } {
            (None, None) => false,
            (Some(a), Some(b)) => unsafe { !same(column, a, b) },
            _ => true,
        };
        if differs {
            changed[i / 64] |= 1 << (i % 64);
            any = true;
        }
    }
    any
}

/// Are two values equal, byte by byte, whatever way they are stored?
unsafe fn same(column: &Column, a: Datum, b: Datum) -> bool {
    if column.by_value {
        return a == b;
    }
    // SAFETY: both are values of the column's type.
    unsafe {
        if column.length != -1 {
            let (a, b) = (fixed(column, a), fixed(column, b));
            return a == b;
        }
        match (varlena(a), varlena(b)) {
            (Varlena::Plain { data: x, length: n }, Varlena::Plain { data: y, length: m }) => {
                n == m && bytes(x, n) == bytes(y, m)
            }
            (Varlena::OutOfLine, Varlena::OutOfLine)
                if bytes(a.cast_mut_ptr(), TOAST_POINTER)
                    == bytes(b.cast_mut_ptr(), TOAST_POINTER) =>
            {
                true
            }
            _ => {
                if ffi::toast_raw_datum_size(a) != ffi::toast_raw_datum_size(b) {
                    return false;
                }
                let (a, b) = (plain(a), plain(b));
                bytes(a.0, a.1) == bytes(b.0, b.1)
            }
        }
    }
}

#[inline]
unsafe fn bytes<'a>(data: *const u8, length: usize) -> &'a [u8] {
    // SAFETY: the caller knows that so many bytes lie there.
    unsafe { std::slice::from_raw_parts(data, length) }
}

/// The bytes of a pass-by-reference value that is no varlena.
#[inline]
unsafe fn fixed<'a>(column: &Column, value: Datum) -> &'a [u8] {
    // SAFETY: a value of the column's type.
    unsafe {
        let at = value.cast_mut_ptr::<u8>();
        if column.length > 0 {
            bytes(at, column.length as usize)
        } else {
            std::ffi::CStr::from_ptr(at.cast()).to_bytes()
        }
    }
}

/// The bytes of a varlena after fetching and decompressing it.
unsafe fn plain(value: Datum) -> (*const u8, usize) {
    // SAFETY: a varlena; what comes back is a plain one in the trigger's short-lived memory.
    unsafe {
        let value = ffi::pg_detoast_datum_packed(value.cast_mut_ptr());
        match varlena(Datum::from(value)) {
            Varlena::Plain { data, length } => (data, length),
            _ => (std::ptr::null(), 0),
        }
    }
}

/// Record keys and changed columns only.
const KEY_AND_CHANGED: u8 = 1;
/// Record everything but long values that did not change: the base has them, and PostgreSQL does not
/// log them for the UPDATE either.
const UNCHANGED_LONG_LEFT_OUT: u8 = 2;
/// From how many bytes on a value is long. Those compressed or out of line always are.
const LONG: usize = 256;

/// The image of a row, as a bytea in the trigger's short-lived memory.
unsafe fn encode(captured: &Captured, row: Row, changed: Option<&[u64]>, mode: u8) -> Datum {
    /// What becomes of one column: its state, and where its bytes are.
    #[derive(Clone, Copy)]
    struct Piece {
        state: image::State,
        data: *const u8,
        length: usize,
    }
    let limit = settings::CAPTURE_INLINE_LIMIT.get() as usize * 1024;
    let columns = &captured.columns;
    // SAFETY: memory of the size computed here, filled completely; pieces of up to MAX_COLUMNS
    // columns come from palloc, so that nothing needs dropping if a fetch raises.
    unsafe {
        let mut few = std::mem::MaybeUninit::<[Piece; 32]>::uninit();
        let pieces: *mut Piece = if columns.len() <= 32 {
            few.as_mut_ptr().cast()
        } else {
            ffi::palloc(columns.len() * size_of::<Piece>()).cast()
        };
        let mut size = 4 + image::HEADER + image::state_bytes(columns.len());
        for (i, column) in columns.iter().enumerate() {
            let unchanged = changed.is_some_and(|c| c[i / 64] >> (i % 64) & 1 == 0);
            let piece = &mut *pieces.add(i);
            *piece = Piece { state: image::State::Absent, data: std::ptr::null(), length: 0 };
            if mode == KEY_AND_CHANGED && unchanged && !column.key {
                continue;
            }
            let Some(value) = row.get(column) else {
                piece.state = image::State::Null;
                continue;
            };
            piece.state = image::State::Value;
            if column.by_value {
                // The datum's low bytes, which on a little-endian machine come first.
                piece.data = row.values.add(usize::from(column.position)).cast();
                piece.length = column.length as usize;
            } else if column.length != -1 {
                let data = fixed(column, value);
                (piece.data, piece.length) = (data.as_ptr(), data.len());
            } else if let Varlena::Plain { data, length } = varlena(value) {
                (piece.data, piece.length) = (data, length);
                if mode == UNCHANGED_LONG_LEFT_OUT && unchanged && length >= LONG && !column.key {
                    piece.state = image::State::Absent;
                } else if length > limit && !column.key {
                    piece.state = image::State::Marker;
                }
            } else if mode == UNCHANGED_LONG_LEFT_OUT && unchanged {
                piece.state = image::State::Absent;
            } else if ffi::toast_raw_datum_size(value) > limit + 4 && !column.key {
                piece.state = image::State::Marker;
            } else {
                (piece.data, piece.length) = plain(value);
            }
            if piece.state == image::State::Value {
                size += piece.length + if column.length < 0 { 4 } else { 0 };
            }
        }
        let out = ffi::palloc(size).cast::<u8>();
        out.cast::<u32>().write((size as u32) << 2);
        let states = out.add(4 + image::HEADER);
        std::ptr::write_bytes(states, 0, image::state_bytes(columns.len()));
        let mut at = states.add(image::state_bytes(columns.len()));
        for (i, column) in columns.iter().enumerate() {
            let piece = &*pieces.add(i);
            *states.add(i / 4) |= (piece.state as u8) << (2 * (i % 4));
            if piece.state == image::State::Value {
                if column.length < 0 {
                    at.cast::<u32>().write_unaligned(piece.length as u32);
                    at = at.add(4);
                }
                std::ptr::copy_nonoverlapping(piece.data, at, piece.length);
                at = at.add(piece.length);
            }
        }
        image::seal(std::slice::from_raw_parts_mut(out.add(4), size - 4), columns.len() as u16);
        Datum::from(out)
    }
}

/// Puts one row into the log.
unsafe fn write(captured: &Captured, op: u8, command: u32, old: Option<Datum>, new: Option<Datum>) {
    // SAFETY: the log's relations were checked when the cache was built; the segment's lock is kept
    // to the end of the transaction, which is what tells the worker that a writer is still there.
    unsafe {
        let slot = slots::mine();
        let log = &captured.log;
        let mut segment = slot.map_or(0, |s| s.segment.load(Ordering::Acquire) as usize);
        let mut relation;
        loop {
            relation = ffi::table_open(
                log.segments[segment & (slots::SEGMENTS - 1)],
                pg_sys::RowExclusiveLock as i32,
            );
            let now = slot.map_or(0, |s| s.segment.load(Ordering::Acquire) as usize);
            if now == segment {
                break;
            }
            ffi::table_close(relation, pg_sys::NoLock as i32);
            segment = now;
        }
        let known = segments::is_known() || segments::has_known_layout(relation);
        // Waits for nothing: the key's row lock or unique entry is already ours, so the number
        // taken here is in the order of the locks.
        let sequence = ffi::nextval_internal(log.sequence, false);
        // What a user's BEFORE trigger writes in between comes before our own locks.
        if ORIGIN != 0 && FIRST == 0 && ffi::pg_trigger_depth(std::ptr::null_mut()).value() == 1 {
            FIRST = sequence;
        }
        LAST = sequence;
        NOTED = true;
        if op == INSERT {
            INSERTED += 1;
        } else {
            MORE = true;
        }
        if !known {
            let row = segments::Row {
                seq: sequence,
                xid: ffi::GetTopFullTransactionId() as i64,
                at: ffi::GetCurrentTimestamp(),
                shape: captured.shape,
                command: command as i32,
                origin: *(&raw const ORIGIN),
                op,
                old,
                new,
            };
            other_layout::write(segment & (slots::SEGMENTS - 1), &row);
            ffi::table_close(relation, pg_sys::NoLock as i32);
            wake::arm();
            return;
        }
        let none = Datum::null();
        let values: [Datum; segments::COLUMNS] = [
            Datum::from(sequence),
            Datum::from(ffi::GetTopFullTransactionId() as i64),
            Datum::from(ffi::GetCurrentTimestamp()),
            Datum::from(captured.shape),
            Datum::from(command as i32),
            Datum::from(*(&raw const ORIGIN)),
            Datum::from(op as i8),
            old.unwrap_or(none),
            new.unwrap_or(none),
        ];
        // Columns that were added to the log and dropped again come after ours, and are null.
        let mut nulls = [true; segments::ROOM];
        nulls[..7].fill(false);
        nulls[7] = old.is_none();
        nulls[8] = new.is_none();
        let tuple = ffi::heap_form_tuple(
            (*relation).rd_att,
            values.as_ptr().cast_mut(),
            nulls.as_mut_ptr(),
        );
        // Kept out of logical decoding: a subscriber of this database must not get the log.
        ffi::heap_insert(
            relation,
            tuple,
            ffi::GetCurrentCommandId(true),
            pg_sys::HEAP_INSERT_NO_LOGICAL as i32,
            std::ptr::null_mut(),
        );
        if let Some(slot) = slots::mine() {
            let id = (*tuple).t_self.ip_blkid;
            let block = u32::from(id.bi_hi) << 16 | u32::from(id.bi_lo);
            slot.wrote(segment & (slots::SEGMENTS - 1), block);
        }
        ffi::table_close(relation, pg_sys::NoLock as i32);
        wake::arm();
    }
}
