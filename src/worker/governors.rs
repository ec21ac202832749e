//! The governors in shared memory, one an account: its allowance of calls is shared by all that call
//! it from this server, whatever the connection, the database, or the process.
//!
//! A crash of the server clears them; the first answer of the other side then says how much is used.
//! Without shared memory, or where all places are taken, a process has governors of its own.

use crate::speech;
use connector::{Connector, Fault, FaultKind};
use foldhash::quality::FixedState;
use governor::{DAY, Forecast, Governor, Kind, Limits, Standing, Urgency};
use pgrx::pg_sys;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};

/// Accounts that can share their governors at the same time.
const PLACES: usize = 64;
const TRANCHE: &std::ffi::CStr = c"sync_ext";

/// What identifies an account: a hash of where its org is. Whatever user logs in there, the allowance
/// is the org's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Account(NonZeroU64);

impl Account {
    /// The account that a URL leads to: its host and port count.
    pub fn at(url: &str) -> Self {
        let place = egress::Url::parse(url)
            .ok()
            .and_then(|u| Some(format!("{}:{}", u.host_str()?, u.port_or_known_default()?)))
            .unwrap_or_else(|| url.to_lowercase());
        let hash = FixedState::with_seed(0).hash_one(place);
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN))
    }
}

/// A governor and whose it is. All zero: a free place.
#[repr(C)]
struct Place {
    account: u64,
    used_at: Duration,
    governor: Governor,
}

struct Shared {
    lock: *mut pg_sys::LWLock,
    places: *mut [Place; PLACES],
}

static mut SHARED: Option<Shared> = None;
/// Of accounts that have no place in shared memory.
static mut OWN: Option<HashMap<Account, Governor>> = None;

/// Asks for the memory.
///
/// # Safety
/// In the postmaster's request hook.
pub(super) unsafe fn request() {
    // SAFETY: the caller's promise.
    unsafe {
        pg_sys::RequestAddinShmemSpace(size_of::<[Place; PLACES]>());
        pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), 1);
    }
}

/// Makes the memory, or finds it.
///
/// # Safety
/// In the postmaster's startup hook, under its lock.
pub(super) unsafe fn attach() {
    // SAFETY: the caller's promise; all-zero places are free ones.
    unsafe {
        let (size, mut found) = (size_of::<[Place; PLACES]>(), false);
        let places = pg_sys::ShmemInitStruct(c"sync_ext governors".as_ptr(), size, &raw mut found)
            .cast::<[Place; PLACES]>();
        if !found {
            std::ptr::write_bytes(places, 0, 1);
        }
        let lock = &raw mut (*pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr())).lock;
        SHARED = Some(Shared { lock, places });
    }
}

/// The places, locked.
struct Locked(&'static Shared);

impl Locked {
    fn take() -> Option<Self> {
        // SAFETY: set before the first backend was forked; the main thread of the process alone comes here.
        unsafe {
            let shared = (*(&raw const SHARED)).as_ref()?;
            pg_sys::LWLockAcquire(shared.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
            Some(Self(shared))
        }
    }

    fn places(&mut self) -> &mut [Place; PLACES] {
        // SAFETY: the lock is held.
        unsafe { &mut *self.0.places }
    }

    fn known(&mut self, account: Account) -> Option<&mut Place> {
        self.places().iter_mut().find(|place| place.account == account.0.get())
    }

    /// The governor of an account. One that was not used for a day knows of nothing that still counts:
    /// its place may be taken.
    fn governor(&mut self, account: Account, now: Duration) -> Option<&mut Governor> {
        let free = |place: &Place| place.account == 0 || now.saturating_sub(place.used_at) > DAY;
        if self.known(account).is_none() {
            let place = self.places().iter_mut().find(|place| free(place))?;
            place.account = account.0.get();
            place.governor = Governor::new(Limits::default());
        }
        let place = self.known(account)?;
        place.used_at = now;
        Some(&mut place.governor)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: it is held.
        unsafe { pg_sys::LWLockRelease(self.0.lock) };
    }
}

/// Works on the governor of an account; shortly, and without calling the server: the lock is held.
fn with<T>(account: Account, work: impl FnOnce(&mut Governor, Duration) -> T) -> T {
    let now = now();
    if let Some(mut locked) = Locked::take()
        && let Some(governor) = locked.governor(account, now)
    {
        return work(governor, now);
    }
    // SAFETY: as above.
    let own = unsafe { &mut *(&raw mut OWN) }.get_or_insert_with(|| {
        speech::log(
            "sync_ext counts the calls of this process by themselves: shared memory has no place for them"
                .to_owned(),
        );
        HashMap::new()
    });
    work(own.entry(account).or_insert_with(|| Governor::new(Limits::default())), now)
}

/// The time since the machine was started, the same for all processes.
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What is known of an allowance.
pub struct Reading {
    /// Calls of the last 24 hours, those of others included.
    pub used: u64,
    /// Calls a day that are allowed, where the other side has said so.
    pub allowed: Option<u64>,
    /// How long the next change has to wait.
    pub wait: Duration,
    /// Our own calls of the last 24 hours, in the order of [`Kind::ALL`].
    pub by_us: [u64; Kind::ALL.len()],
    /// Calls a day that are left to others, and what is left to us at this moment; `None`: there is no limit.
    pub reserve: u64,
    pub left: Option<u64>,
    /// Calls an hour that can be kept up.
    pub an_hour: Option<f64>,
    /// How many times as long as wished intervals of polling are.
    pub stretch: f64,
    pub standing: Standing,
    pub forecast: Option<Forecast>,
    /// Events of the last 24 hours that were delivered to us, and to all, and those that may be.
    pub events_by_us: u64,
    pub events_used: u64,
    pub events_allowed: Option<u64>,
}

/// What is known of the allowance of an account; `None` where nobody has called it.
pub fn read(account: Account) -> Option<Reading> {
    let now = now();
    let reading = |governor: &Governor| {
        let pace = governor.pace(now);
        Reading {
            used: governor.used(now),
            allowed: governor.allowed(),
            wait: governor.next_call_at(now, Urgency::Change).saturating_sub(now),
            by_us: governor.used_by_us(now),
            reserve: governor.reserve(),
            left: pace.map(|pace| pace.left),
            an_hour: pace.map(|pace| pace.rate * 3600.0),
            stretch: governor.stretch(),
            standing: governor.standing(now),
            forecast: governor.forecast(now),
            events_by_us: governor.events_by_us(now),
            events_used: governor.events_used(now),
            events_allowed: governor.events_allowed(),
        }
    };
    if let Some(mut locked) = Locked::take()
        && let Some(place) = locked.known(account)
    {
        return Some(reading(&place.governor));
    }
    // SAFETY: the main thread of the process alone comes here.
    unsafe { (*(&raw const OWN)).as_ref() }?.get(&account).map(reading)
}

/// Tells the governor of an account what calls a connector makes, and what the other side says of them.
pub struct Meter {
    account: Account,
    /// So many of the connector's requests have been counted.
    counted: u64,
    /// When the other side said what was last passed on, of calls and of events.
    heard: Option<SystemTime>,
    events_heard: Option<SystemTime>,
    /// What the last call was for: requests beyond those that were counted as they left are for the same.
    kind: Kind,
}

impl Meter {
    pub fn new(account: Account) -> Self {
        Self { account, counted: 0, heard: None, events_heard: None, kind: Kind::Other }
    }

    /// How long a call has to wait. Where it need not, it has been counted and has to leave.
    pub fn leave(&mut self, urgency: Urgency, kind: Kind) -> Duration {
        let wait = with(self.account, |governor, now| {
            let wait = governor.next_call_at(now, urgency).saturating_sub(now);
            if wait.is_zero() {
                governor.note_call(kind, 1, now);
            }
            wait
        });
        if wait.is_zero() {
            (self.counted, self.kind) = (self.counted + 1, kind);
        }
        wait
    }

    /// How long a call would have to wait.
    pub fn wait(&self, urgency: Urgency) -> Duration {
        with(self.account, |governor, now| governor.next_call_at(now, urgency).saturating_sub(now))
    }

    /// Counts a call that leaves because a person wants to know what becomes of it, whatever is left.
    pub fn insist(&mut self) {
        with(self.account, |governor, now| {
            governor.try_now(now);
            governor.note_call(Kind::Other, 1, now);
        });
        (self.counted, self.kind) = (self.counted + 1, Kind::Other);
    }

    /// How many times as long as wished intervals of polling are to be, where so many polls a second are wished.
    pub fn polling(&self, wished: f64) -> f64 {
        with(self.account, |governor, now| governor.polling(wished, now))
    }

    /// May more events be delivered for the object of this rank among so many?
    pub fn may_listen(&self, rank: usize, of: usize) -> bool {
        with(self.account, |governor, now| governor.may_listen(rank, of, now))
    }

    /// Counts events that were delivered.
    pub fn delivered(&self, events: usize) {
        with(self.account, |governor, now| {
            governor.note_events(u32::try_from(events).unwrap_or(u32::MAX), now);
        });
    }

    /// Are all calls used up, those of the reserve too?
    pub fn used_up(&self) -> bool {
        with(self.account, |governor, now| {
            governor.next_call_at(now, Urgency::Person) > now
                || governor.allowed().is_some_and(|allowed| governor.used(now) >= allowed)
        })
    }

    /// Counts the requests that a connector has made beyond those that were counted as they left.
    pub fn count(&mut self, connector: &dyn Connector) {
        let more = connector.calls().saturating_sub(self.counted);
        self.counted += more;
        if more > 0 {
            with(self.account, |governor, now| {
                governor.note_call(self.kind, u32::try_from(more).unwrap_or(u32::MAX), now);
            });
        }
    }

    /// Takes what an answer says of the allowance: how many calls are used, and whether this one was
    /// refused for want of them. Returns how long the next has to wait after such a refusal.
    pub fn answered(
        &mut self,
        connector: &dyn Connector,
        fault: Option<&Fault>,
    ) -> Option<Duration> {
        self.count(connector);
        let usage = connector.usage().filter(|usage| self.heard != Some(usage.at));
        self.heard = usage.map(|usage| usage.at).or(self.heard);
        let events = connector.events_usage().filter(|usage| self.events_heard != Some(usage.at));
        self.events_heard = events.map(|usage| usage.at).or(self.events_heard);
        with(self.account, |governor, now| {
            if let Some(usage) = usage {
                governor.usage(usage.used, usage.allowed, now);
            }
            if let Some(events) = events {
                governor.events_usage(events.used, events.allowed, now);
            }
            match fault {
                None => governor.went_through(now),
                Some(fault) if fault.kind == FaultKind::Quota => {
                    let until = governor.blocked_until(now, fault.retry_after);
                    return Some(until.saturating_sub(now));
                }
                Some(_) => {}
            }
            None
        })
    }
}
