//! Shared memory: one slot a database, plain atomics only. It is a hint cache; the tables are the
//! truth. Everything here may be missing (library not preloaded) and everybody copes.

use pgrx::pg_sys;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Databases that can have a worker at the same time.
pub const DATABASES: usize = 64;
/// Syncs of one database whose progress `sync.wait` can follow exactly.
pub const SYNCS: usize = 256;
/// Job workers a database can have.
pub const JOBS: usize = 2;
/// The stream worker, whose number is 0, and the job workers.
pub const WORKERS: usize = 1 + JOBS;
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
    /// The number of the worker that serves it; see [`super::jobs`].
    pub keeper: AtomicU32,
    /// The last request (see [`Slot::asked`]) whose changes are all settled.
    pub done: AtomicU64,
}

/// What a process that reads the log is told by those that write it.
#[repr(C)]
pub struct Worker {
    pid: AtomicI32,
    /// Number of its PGPROC, by which its latch is found; −1: no worker.
    procno: AtomicI32,
    /// Set by the first commit that wrote something, cleared by the worker before it looks.
    wake: AtomicU32,
    /// Of a job worker: where it is in its life, see [`Job`].
    job: AtomicU32,
    /// For each segment the lowest block written to since the worker last looked.
    pub low: [AtomicU32; SEGMENTS],
}

/// The life of a job worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Job {
    /// There is none.
    None = 0,
    /// The stream worker has asked the postmaster for it and no longer serves what it will keep.
    Asked = 1,
    Running = 2,
}

#[repr(C)]
pub struct Slot {
    /// OID of the database; 0: the slot is free. Once taken it stays with its database.
    pub database: AtomicU32,
    standing: AtomicU32,
    /// The stream worker, then the job workers.
    pub workers: [Worker; WORKERS],
    /// How many job workers there are, so that writers need not look at each.
    jobs: AtomicU32,
    /// How often each segment was emptied.
    pub emptied: [AtomicU32; SEGMENTS],
    /// Prepared transactions that captured something, since the worker last looked into them.
    pub prepared: AtomicU32,
    /// The worker has read that `sync_ext.enabled` is off.
    pub switched_off: AtomicBool,
    /// The segment that capture writes to. A hint: readers read all of them.
    pub segment: AtomicU32,
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
        super::governors::request();
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
            for worker in (*shared).slots.iter().flat_map(|slot| &slot.workers) {
                worker.procno.store(-1, Ordering::Relaxed);
                for low in &worker.low {
                    low.store(NO_BLOCK, Ordering::Relaxed);
                }
            }
            (*shared).started_as_standby.store(u32::from(STANDBY), Ordering::Relaxed);
        }
        super::governors::attach();
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
        progress.keeper.store(0, Ordering::Release);
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
        self.database.store(0, Ordering::Release);
    }

    /// This process is the database's stream worker from here on; false if another one is already.
    pub fn enter(&self) -> bool {
        let entered = self.workers[0].enter();
        if entered {
            self.set_standing(Standing::Running);
        }
        entered
    }

    /// Is the stream worker connected?
    pub fn served(&self) -> bool {
        self.workers[0].is_alive()
    }

    /// Is no process connected for this database?
    pub fn deserted(&self) -> bool {
        self.workers.iter().all(|w| !w.is_alive() && w.job() == Job::None)
    }

    /// Announces a row of the log before its transaction commits.
    ///
    /// The row lies in its block by now. A job worker counts itself in before it reads the log for
    /// the first time: if it is not counted here yet, it will find the row there.
    #[inline]
    pub fn wrote(&self, segment: usize, block: u32) {
        self.workers[0].low[segment].fetch_min(block, Ordering::SeqCst);
        if self.jobs.load(Ordering::SeqCst) > 0 {
            for job in &self.workers[1..] {
                job.low[segment].fetch_min(block, Ordering::SeqCst);
            }
        }
    }

    /// Wakes the workers, unless somebody has already done so since they last looked.
    #[inline]
    pub fn wake(&self) {
        self.workers[0].wake();
        if self.jobs.load(Ordering::SeqCst) > 0 {
            self.workers[1..].iter().for_each(Worker::wake);
        }
    }

    /// A job worker begins, if it is still wanted.
    pub fn begin_job(&self, number: usize) -> bool {
        let worker = &self.workers[number];
        if !worker.enter() {
            return false;
        }
        if !worker.turn(Job::Asked, Job::Running) {
            worker.leave();
            return false;
        }
        self.jobs.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// A job worker ends: what it kept is the stream worker's again.
    pub fn end_job(&self, number: usize) {
        self.jobs.fetch_sub(1, Ordering::SeqCst);
        self.workers[number].leave();
        self.give_back(number, Job::Running);
    }

    /// What a job worker kept, or was to keep, is the stream worker's again. False if it is not in
    /// the state it is thought to be in.
    pub fn give_back(&self, number: usize, thought: Job) -> bool {
        if self.workers[number].job() != thought {
            return false;
        }
        // Nobody begins what is not asked for, so that the stream worker is alone with it.
        if thought == Job::Asked && !self.workers[number].turn(Job::Asked, Job::Running) {
            return false;
        }
        for progress in &self.progress {
            let _ = progress.keeper.compare_exchange(
                number as u32,
                0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        self.workers[number].turn(Job::Running, Job::None);
        self.workers[0].wake();
        true
    }

    /// The number of the worker that serves a sync.
    pub fn keeper(&self, sync: u32) -> usize {
        self.progress_of(sync).map_or(0, |p| p.keeper.load(Ordering::Acquire) as usize)
    }

    pub fn progress_of(&self, sync: u32) -> Option<&Progress> {
        self.progress.iter().find(|p| p.sync.load(Ordering::Acquire) == sync)
    }

    /// Makes room: what was kept of syncs that have ended is free again. Only the stream worker does so.
    pub fn keep_progress_of(&self, syncs: &[u32]) {
        for progress in &self.progress {
            let sync = progress.sync.load(Ordering::Acquire);
            if sync != 0 && !syncs.contains(&sync) {
                progress.keeper.store(0, Ordering::Release);
                progress.done.store(0, Ordering::Release);
                // Last: from here on it may be another's.
                progress.sync.store(0, Ordering::Release);
            }
        }
    }

    pub fn claim_progress(&self, sync: u32) -> Option<&Progress> {
        self.progress_of(sync).or_else(|| {
            self.progress.iter().find(|p| {
                p.sync.compare_exchange(0, sync, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            })
        })
    }
}

impl Worker {
    fn enter(&self) -> bool {
        // SAFETY: plain globals of the backend.
        let pid = unsafe { pg_sys::MyProcPid };
        if self.pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        self.procno.store(my_procno(), Ordering::Release);
        true
    }

    pub fn leave(&self) {
        self.procno.store(-1, Ordering::Release);
        self.pid.store(0, Ordering::Release);
    }

    /// Is this process the worker?
    pub fn is(&self, pid: i32) -> bool {
        self.pid.load(Ordering::Acquire) == pid
    }

    /// Is there such a process?
    pub fn is_alive(&self) -> bool {
        self.pid.load(Ordering::Acquire) != 0
    }

    pub fn job(&self) -> Job {
        match self.job.load(Ordering::Acquire) {
            1 => Job::Asked,
            2 => Job::Running,
            _ => Job::None,
        }
    }

    /// Goes from one state of its life to the next; false if it was in another one.
    pub fn turn(&self, from: Job, to: Job) -> bool {
        self.job
            .compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    fn wake(&self) {
        if self.wake.swap(1, Ordering::AcqRel) == 0 {
            set_latch(self.procno.load(Ordering::Acquire));
        }
    }

    /// Forgets earlier wake-ups; called before looking, so that none is lost.
    pub fn clear_wake(&self) -> bool {
        self.wake.swap(0, Ordering::AcqRel) != 0
    }

    /// Was anything written to the log since it last looked?
    pub fn has_news(&self) -> bool {
        self.low.iter().any(|low| low.load(Ordering::Acquire) != NO_BLOCK)
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
