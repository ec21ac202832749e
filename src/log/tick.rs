//! Ticks: the snapshots that cut the log into batches.

use change::snapshot::Snapshot;
use pgrx::pg_sys;

/// The server's current snapshot, top-level transactions only.
///
/// A transaction that writes must not take one: its own id would count as visible, and what it
/// captures would fall between two batches.
pub fn current_snapshot() -> Snapshot {
    // SAFETY: inside a transaction with a snapshot; pg_current_snapshot returns a pg_snapshot,
    // whose layout (pg_snapshot.c) is: length, count, xmin, xmax, ids.
    unsafe {
        debug_assert_eq!(pg_sys::GetTopTransactionIdIfAny(), pg_sys::InvalidTransactionId);
        let Some(datum) = pgrx::direct_function_call_as_datum(pg_sys::pg_current_snapshot, &[])
        else {
            return Snapshot::empty();
        };
        from_datum(datum)
    }
}

/// # Safety
/// `datum` is a `pg_snapshot`.
pub unsafe fn from_datum(datum: pg_sys::Datum) -> Snapshot {
    // SAFETY: see current_snapshot.
    unsafe {
        let raw = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<u8>();
        let count = raw.add(4).cast::<u32>().read_unaligned() as usize;
        let word = |n: usize| raw.add(8 + 8 * n).cast::<u64>().read_unaligned();
        Snapshot {
            xmin: word(0),
            xmax: word(1),
            running: (0..count).map(|i| word(2 + i)).collect(),
        }
    }
}
