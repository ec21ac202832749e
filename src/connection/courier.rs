//! Storing a new refresh token from a person's own backend. His transaction may be rolled back, and the old token is
//! good no more: a process of its own stores the new one, in a transaction of its own.

use super::secret;
use crate::sql;
use crate::worker::transaction::transaction;
use crate::worker::{environment, launcher, prepare_signals};
use connector::Secret;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// What stands before the texts in the memory that both processes share.
#[repr(C)]
struct Letter {
    /// 1 once the token is stored.
    stored: AtomicU32,
    database: Oid,
    server: Oid,
    /// Of the option, the token before, and the one now.
    lengths: [u32; 3],
}

/// Stores a token in the place of another one. False where that is not to be seen outside this transaction, or no
/// process could be had for it.
pub(super) fn deliver(server: Oid, option: &str, before: &Secret, now: &Secret) -> bool {
    let texts = [option, before.reveal(), now.reveal()];
    let length = size_of::<Letter>() + texts.iter().map(|text| text.len()).sum::<usize>();
    // SAFETY: a segment of that size, written before anybody is told of it. Whoever cancels waits until the token has
    // arrived; the process on the other end waits for no lock for more than a second. An error puts the count back.
    unsafe {
        pg_sys::InterruptHoldoffCount += 1;
        let segment = pg_sys::dsm_create(length, pg_sys::DSM_CREATE_NULL_IF_MAXSEGMENTS as i32);
        let mut stored = false;
        if !segment.is_null() {
            let start = pg_sys::dsm_segment_address(segment).cast::<u8>();
            let letter = start.cast::<Letter>();
            letter.write(Letter {
                stored: AtomicU32::new(0),
                database: pg_sys::MyDatabaseId,
                server,
                lengths: texts.map(|text| text.len() as u32),
            });
            let mut to = start.add(size_of::<Letter>());
            for text in texts {
                to.copy_from_nonoverlapping(text.as_ptr(), text.len());
                to = to.add(text.len());
            }
            if send(pg_sys::dsm_segment_handle(segment)) {
                stored = (*letter).stored.load(Ordering::Acquire) == 1;
            }
            start.write_bytes(0, length);
            pg_sys::dsm_detach(segment);
        }
        pg_sys::InterruptHoldoffCount -= 1;
        stored
    }
}

/// Starts the process and waits for its end.
fn send(segment: pg_sys::dsm_handle) -> bool {
    let name = "sync_ext secret courier";
    let mut description = launcher::description(name, name, c"sync_ext_courier");
    // SAFETY: plain globals; the handle lives in the current memory context.
    unsafe {
        description.bgw_main_arg = pg_sys::Datum::from(segment);
        description.bgw_notify_pid = pg_sys::MyProcPid;
        let mut handle = std::ptr::null_mut();
        if !pg_sys::RegisterDynamicBackgroundWorker(&raw mut description, &raw mut handle) {
            return false;
        }
        let status = pg_sys::WaitForBackgroundWorkerShutdown(handle);
        pg_sys::pfree(handle.cast());
        status == pg_sys::BgwHandleStatus::BGWH_STOPPED
    }
}

/// Main function of the process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn sync_ext_courier(argument: pg_sys::Datum) {
    prepare_signals();
    // SAFETY: the segment is as `deliver` has written it, which waits for the end of this process; where it is gone
    // there is nothing left to do.
    unsafe {
        let segment = pg_sys::dsm_attach(argument.value() as pg_sys::dsm_handle);
        if segment.is_null() {
            return;
        }
        let start = pg_sys::dsm_segment_address(segment).cast::<u8>();
        let letter = &*start.cast::<Letter>();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(letter.database, pg_sys::InvalidOid, 0);
        let mut at = start.add(size_of::<Letter>());
        let texts = letter.lengths.map(|length| {
            let text = std::slice::from_raw_parts(at, length as usize);
            at = at.add(length as usize);
            String::from_utf8_lossy(text).into_owned()
        });
        let [option, before, now] = texts.map(Secret::new);
        // Settings need a transaction, which must not be the one that they are for.
        let ready = transaction(|| Ok(()));
        environment::assert_all();
        let stored = ready.and_then(|()| {
            transaction(|| {
                sql::set_local("synchronous_commit", "on");
                Ok(secret::replace(letter.server, option.reveal(), &before, &now))
            })
        });
        if stored.is_ok_and(|stored| stored) {
            letter.stored.store(1, Ordering::Release);
        }
    }
}
