//! Every setting, with its unit, its range, and why it is what it is.

use crate::worker::slots::JOBS;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CString;

/// Off: the session's changes go past capture and leave a mark instead.
pub static CAPTURE: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Values above this many kB are not kept in the log; the worker reads the row instead. Large
/// enough for nearly all columns, small enough that a row of such values can always be captured.
pub static CAPTURE_INLINE_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(64);
/// The mark CREATE EXTENSION leaves on its database (ALTER DATABASE … SET), by which the launcher
/// finds it.
pub static INSTALLED: GucSetting<bool> = GucSetting::<bool>::new(false);
/// Off: no worker works; they stay connected and idle.
pub static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Names the installation across its servers. Set outside the data directory, the same on primary
/// and standby: then a promoted standby goes on by itself.
pub static INSTANCE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Seconds that a sync may hold back the log's rotation. What it is owed then becomes one queue
/// row a key.
pub static LOG_KEEP: GucSetting<i32> = GucSetting::<i32>::new(15 * 60);
/// MB that the log may take before the same happens.
pub static LOG_MAX_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1024);
/// MB at which the log moves on to its next segment.
pub static LOG_SEGMENT_SIZE: GucSetting<i32> = GucSetting::<i32>::new(64);
/// Seconds between two rotations at least: the log is scanned whole after a restart, so small
/// segments gain nothing.
pub static LOG_ROTATE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
/// Most changes of a batch that are read at once: what each one is and where it lies takes about
/// 100 bytes of the worker's memory. A larger batch is read in parts.
pub static READ_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(500_000);
/// Milliseconds that one statement of an apply may take, user triggers included.
pub static APPLY_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
/// Workers beside the stream worker of a database, for syncs whose work would keep the others waiting.
pub static JOB_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(JOBS as i32);
/// Hosts that requests may go to. Salesforce's own, so that the first connection needs no setting.
pub static ALLOWED_HOSTS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(
    c"login.salesforce.com,test.salesforce.com,*.my.salesforce.com,api.pubsub.salesforce.com:7443",
));
/// The proxy through which all requests go; what the environment says counts for nothing.
pub static PROXY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Certificate authorities that are trusted besides those of the system.
pub static CA_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Below it lie the files that secrets may be in. A file is read with the rights of the server, so
/// nobody but who configures the server says where; without it no file is read.
pub static SECRET_DIRECTORY: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
/// The role to whose user mappings secrets belong: one that cannot log in, so that nobody is it.
pub static SECRET_ROLE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"sync_ext_secrets"));
/// Milliseconds that a function may wait for the other side before it gives up.
pub static CALL_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
/// Seconds after which an object of another system is described anew.
pub static DESCRIBE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(900);
/// Seconds after which `sync.doctor` calls an open transaction old: nothing that it changed is synced.
pub static DOCTOR_AGE: GucSetting<i32> = GucSetting::<i32>::new(3600);
/// Days that a link remembers that its record was deleted, so that a side that was away for so long does
/// not bring it back.
pub static TOMBSTONE_KEEP: GucSetting<i32> = GucSetting::<i32>::new(90);
/// Off: nobody is notified of what was synced.
pub static NOTIFY: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Days that history is kept, and failed attempts, conflicts and gaps with it.
pub static HISTORY_KEEP: GucSetting<i32> = GucSetting::<i32>::new(30);

pub fn register() {
    use GucContext::{Sighup, Suset, Userset};
    let flags = GucFlags::default();
    // A setting that only a start can change cannot be defined later: the server would end the
    // session. Without preloading nobody reads this one.
    // SAFETY: a plain global of the server.
    let preloading = unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress };
    let at_start = || if preloading { GucContext::Postmaster } else { Sighup };
    GucRegistry::define_bool_guc(
        c"sync_ext.capture",
        c"Records changes of synced tables.",
        c"When off, changes made by the session are not recorded; each table they touch is marked and reconciled.",
        &CAPTURE,
        Suset,
        flags,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.capture_inline_limit",
        c"Largest column value that is kept in the log.",
        c"Larger values are read from the row when they are needed.",
        &CAPTURE_INLINE_LIMIT,
        1,
        1024,
        Suset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_bool_guc(
        c"sync_ext.installed",
        c"Marks a database that has the extension.",
        c"Set by CREATE EXTENSION with ALTER DATABASE; not meant to be set by hand.",
        &INSTALLED,
        Suset,
        GucFlags::NO_SHOW_ALL,
    );
    GucRegistry::define_bool_guc(
        c"sync_ext.enabled",
        c"Lets the workers work.",
        c"When off, changes are still captured and are synced once it is on again.",
        &ENABLED,
        Sighup,
        flags,
    );
    GucRegistry::define_string_guc(
        c"sync_ext.instance",
        c"Name of this installation, the same on a primary and its standbys.",
        c"Set it outside the data directory. A standby promoted under the same name goes on by itself; a copy under another name is fenced.",
        &INSTANCE,
        at_start(),
        flags,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.log_keep",
        c"Longest time that a paused or slow sync holds back the log.",
        c"After that its pending changes are kept as one queue row a record.",
        &LOG_KEEP,
        1,
        7 * 24 * 3600,
        Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.log_max_size",
        c"Largest size of the log of changes.",
        c"Above it the pending changes of the syncs that lag are kept as one queue row a record.",
        &LOG_MAX_SIZE,
        1,
        1024 * 1024,
        Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.log_segment_size",
        c"Size at which the log moves on to its next segment.",
        c"",
        &LOG_SEGMENT_SIZE,
        1,
        16 * 1024,
        Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.log_rotate_interval",
        c"Shortest time between two rotations of the log.",
        c"",
        &LOG_ROTATE_INTERVAL,
        0,
        24 * 3600,
        Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.read_limit",
        c"Most changes of the log that the worker holds in memory at once.",
        c"A larger batch is read in parts.",
        &READ_LIMIT,
        100,
        10_000_000,
        Sighup,
        flags,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.apply_timeout",
        c"Longest time that one statement of the worker on a user's table may take.",
        c"Triggers and functions of the user's included.",
        &APPLY_TIMEOUT,
        10,
        24 * 3600 * 1000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.job_workers",
        c"Most workers of a database beside its first.",
        c"They take over syncs whose work would keep others waiting: loads, backlogs, slow expressions. Each counts towards max_worker_processes while it runs.",
        &JOB_WORKERS,
        0,
        JOBS as i32,
        Sighup,
        flags,
    );
    GucRegistry::define_bool_guc(
        c"sync_ext.notify",
        c"Notifies listeners of what was synced.",
        c"After a batch, on the channel sync.<schema>, once a table; never values.",
        &NOTIFY,
        Sighup,
        flags,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.doctor_age",
        c"Age from which sync.doctor names an open write transaction.",
        c"What it changed is synced only when it has ended.",
        &DOCTOR_AGE,
        0,
        7 * 24 * 3600,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.tombstone_keep_days",
        c"Days that is remembered that a record was deleted.",
        c"A side that was away for longer may bring it back.",
        &TOMBSTONE_KEEP,
        1,
        3650,
        Sighup,
        flags,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.history_keep_days",
        c"Days that the history of synced changes is kept.",
        c"So are failed attempts, conflicts, and gaps that were made good.",
        &HISTORY_KEEP,
        1,
        3650,
        Sighup,
        flags,
    );
    GucRegistry::define_string_guc(
        c"sync_ext.allowed_hosts",
        c"Hosts that connections may lead to.",
        c"Comma separated; *.example.com allows what lies below. Only https, except to a loopback address that is listed with its port; a name may be listed with a port of its own.",
        &ALLOWED_HOSTS,
        Sighup,
        flags,
    );
    GucRegistry::define_string_guc(
        c"sync_ext.proxy",
        c"Proxy for all requests, as http://host:port.",
        c"",
        &PROXY,
        Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"sync_ext.ca_file",
        c"Certificate authorities that are trusted besides those of the system, in PEM form.",
        c"",
        &CA_FILE,
        Sighup,
        flags,
    );
    GucRegistry::define_string_guc(
        c"sync_ext.secret_directory",
        c"Directory below which the files lie that secrets are read from.",
        c"Empty: secrets are read from no file.",
        &SECRET_DIRECTORY,
        at_start(),
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"sync_ext.secret_role",
        c"Role whose user mappings hold the secrets of connections.",
        c"It must not be able to log in. CREATE EXTENSION creates it.",
        &SECRET_ROLE,
        Sighup,
        flags,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.call_timeout",
        c"Longest time that a function waits for the other side of a connection.",
        c"",
        &CALL_TIMEOUT,
        10,
        3600 * 1000,
        Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sync_ext.describe_interval",
        c"Time after which an object of another system is described anew.",
        c"What has changed of its fields is in sync.schema_changes.",
        &DESCRIBE_INTERVAL,
        1,
        86_400,
        Sighup,
        GucFlags::UNIT_S,
    );
    // SAFETY: a literal.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(c"sync_ext".as_ptr()) };
}
