//! Shared memory: one slot a database, plain atomics only. It is a hint cache; the tables are the
//! truth. Everything here may be missing (library not preloaded) and everybody copes.

use pgrx::pg_sys;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Databases that can have a worker at the same time.
pub const DATABASES: usize = 64;
/// Syncs of one database whose progress `sync.wait` can follow exactly.
pub const SYNCS: usize = 256;
/// Log segments; see [`crate::log::segments`].
pub const SEGMENTS: usize = 4;
/// No block: nothing was written since the worker last looked.
pub const NO_BLOCK: u32 = u32::MAX;

/// How a database's worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Standing {
    /// Nobody has asked for a worker yet.
    None = 0,
    /// The launcher has asked the postmaster for it.
    Starting = 1,
    Running = 2,
    /// It ended with an error; the launcher waits before the next try.
    BackingOff = 3,
    /// `max_worker_processes` is used up.
    NoWorkerSlot = 4,
    /// It found nothing to do here and left.
    NotWanted = 5,
    /// It runs, but round after round ends with an error: it may not even be able to write down why.
    Failing = 6,
}

impl Standing {
    fn from_u32(n: u32) -> Self {
        match n {
            1 => Self::Starting,
            2 => Self::Running,
            3 => Self::BackingOff,
            4 => Self::NoWorkerSlot,
            5 => Self::NotWanted,
            6 => Self::Failing,
            _ => Self::None,
        }
    }
}

/// How far one sync is, for `sync.wait`.
#[repr(C)]
pub struct Progress {
    pub sync: AtomicU32,
    /// The last request (see [`Slot::asked`]) whose changes are all settled.
    pub done: AtomicU64,
}

#[repr(C)]
pub struct Slot {
    /// OID of the database; 0: the slot is free. Once taken it stays with its database.
    pub database: AtomicU32,
    standing: AtomicU32,
    pub pid: AtomicI32,
    /// Number of the worker's PGPROC, by which its latch is found; −1: no worker.
    procno: AtomicI32,
    /// Set by the first commit that wrote something, cleared by the worker before it looks.
    wake: AtomicU32,
    /// Prepared transactions that captured something, since the worker last looked into them.
    pub prepared: AtomicU32,
    /// The worker has read that `sync_ext.enabled` is off.
    pub switched_off: AtomicBool,
    /// Rises with every change of the configuration.
    pub configuration: AtomicU64,
    /// The segment that capture writes to. A hint: readers read all of them.
    pub segment: AtomicU32,
    /// For each segment the lowest block written to since the worker last looked.
    pub low: [AtomicU32; SEGMENTS],
    /// Highest request of `sync.wait`.
    pub asked: AtomicU64,
    pub progress: [Progress; SYNCS],
}

#[repr(C)]
pub struct Shared {
    launcher: AtomicI32,
    /// The server began as a standby: a promotion is a failover and not a copy.
    pub started_as_standby: AtomicU32,
    slots: [Slot; DATABASES],
}

/// The postmaster began with `standby.signal`. Remembered here because shared memory is made anew
/// after a crash, when a promotion has long removed that file.
static mut STANDBY: bool = false;
static mut SHARED: *mut Shared = std::ptr::null_mut();
static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Asks for the memory; only while the postmaster loads its libraries.
pub fn install() {
    // SAFETY: single-threaded postmaster, before any backend exists.
    unsafe {
        STANDBY = std::path::Path::new("standby.signal").exists();
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: called by the postmaster at the point where shared memory may be requested.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size_of::<Shared>());
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: called once the segment exists; an all-zero Shared is a valid one.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        let mut found = false;
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(21)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let shared =
            pg_sys::ShmemInitStruct(c"sync_ext".as_ptr(), size_of::<Shared>(), &raw mut found)
                .cast::<Shared>();
        if !found {
            std::ptr::write_bytes(shared, 0, 1);
            (*shared).launcher.store(-1, Ordering::Relaxed);
            for slot in &(*shared).slots {
                slot.procno.store(-1, Ordering::Relaxed);
                for low in &slot.low {
                    low.store(NO_BLOCK, Ordering::Relaxed);
                }
            }
            (*shared).started_as_standby.store(u32::from(STANDBY), Ordering::Relaxed);
        }
        pg_sys::LWLockRelease(lock);
        SHARED = shared;
    }
}

/// The shared memory, or `None` where the library was not preloaded.
pub fn shared() -> Option<&'static Shared> {
    // SAFETY: written once, before the first backend is forked.
    unsafe { SHARED.as_ref() }
}

/// The slot of a database, if it has one.
#[inline]
pub fn of(database: pg_sys::Oid) -> Option<&'static Slot> {
    let wanted = database.to_u32();
    shared()?.slots.iter().find(|slot| slot.database.load(Ordering::Acquire) == wanted)
}

/// The slot of the database this process is connected to.
#[inline]
pub fn mine() -> Option<&'static Slot> {
    // SAFETY: a plain global of the backend.
    of(unsafe { pg_sys::MyDatabaseId })
}

/// Is the work in this database switched off? The worker's word, because a session may not have read a
/// changed setting yet; its own setting where there is no worker.
pub fn switched_off() -> bool {
    match mine().filter(|slot| slot.served()) {
        Some(slot) => slot.switched_off.load(Ordering::Acquire),
        None => !crate::settings::ENABLED.get(),
    }
}

/// The slot of a database, taken if it had none; `None` when all are in use.
pub fn claim(database: pg_sys::Oid) -> Option<&'static Slot> {
    if let Some(slot) = of(database) {
        return Some(slot);
    }
    let slot = shared()?.slots.iter().find(|slot| {
        slot.database
            .compare_exchange(0, database.to_u32(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    })?;
    // What it says of another database's syncs says nothing of this one's.
    for progress in &slot.progress {
        progress.sync.store(0, Ordering::Release);
        progress.done.store(0, Ordering::Release);
    }
    slot.asked.store(0, Ordering::Release);
    Some(slot)
}

pub fn all() -> impl Iterator<Item = &'static Slot> {
    shared()
        .into_iter()
        .flat_map(|s| s.slots.iter())
        .filter(|slot| slot.database.load(Ordering::Acquire) != 0)
}

impl Slot {
    pub fn standing(&self) -> Standing {
        Standing::from_u32(self.standing.load(Ordering::Acquire))
    }

    pub fn set_standing(&self, standing: Standing) {
        self.standing.store(standing as u32, Ordering::Release);
    }

    /// Gives the slot back, when its database is gone.
    pub fn release(&self) {
        self.set_standing(Standing::None);
        self.pid.store(0, Ordering::Release);
        self.procno.store(-1, Ordering::Release);
        self.database.store(0, Ordering::Release);
    }

    /// This process is the database's worker from here on; false if another one is already.
    pub fn enter(&self) -> bool {
        // SAFETY: plain globals of the backend.
        let pid = unsafe { pg_sys::MyProcPid };
        if self.pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        self.procno.store(my_procno(), Ordering::Release);
        self.set_standing(Standing::Running);
        true
    }

    /// Is a worker connected?
    pub fn served(&self) -> bool {
        self.pid.load(Ordering::Acquire) != 0
    }

    pub fn leave(&self) {
        self.procno.store(-1, Ordering::Release);
        self.pid.store(0, Ordering::Release);
    }

    /// Wakes the worker, unless somebody has already done so since it last looked.
    #[inline]
    pub fn wake(&self) {
        if self.wake.swap(1, Ordering::AcqRel) == 0 {
            set_latch(self.procno.load(Ordering::Acquire));
        }
    }

    /// Forgets earlier wake-ups; called before looking, so that none is lost.
    pub fn clear_wake(&self) -> bool {
        self.wake.swap(0, Ordering::AcqRel) != 0
    }

    pub fn progress_of(&self, sync: u32) -> Option<&Progress> {
        self.progress.iter().find(|p| p.sync.load(Ordering::Acquire) == sync)
    }

    pub fn claim_progress(&self, sync: u32) -> Option<&Progress> {
        self.progress_of(sync).or_else(|| {
            self.progress.iter().find(|p| {
                p.sync.compare_exchange(0, sync, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            })
        })
    }
}

/// This process is the launcher from here on.
pub fn enter_launcher() {
    if let Some(shared) = shared() {
        shared.launcher.store(my_procno(), Ordering::Release);
    }
}

/// Has the launcher been there since the server started?
pub fn launcher_seen() -> bool {
    shared().is_some_and(|s| s.launcher.load(Ordering::Acquire) >= 0)
}

pub fn wake_launcher() {
    if let Some(shared) = shared() {
        set_latch(shared.launcher.load(Ordering::Acquire));
    }
}

fn my_procno() -> i32 {
    // SAFETY: MyProc points into the array of all PGPROCs for the life of the process.
    unsafe { pg_sys::MyProc.offset_from((*pg_sys::ProcGlobal).allProcs) as i32 }
}

unsafe extern "C-unwind" {
    // Not through pgrx's guard: this runs in commit callbacks and never raises.
    fn SetLatch(latch: *mut c_void);
}

fn set_latch(procno: i32) {
    if procno >= 0 {
        // SAFETY: PGPROCs live as long as shared memory; setting a stale latch is harmless.
        unsafe {
            let process = (*pg_sys::ProcGlobal).allProcs.offset(procno as isize);
            SetLatch((&raw mut (*process).procLatch).cast());
        }
    }
}
