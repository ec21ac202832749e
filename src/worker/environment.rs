//! The worker's own settings. Database and role settings of the user's reach background workers
//! too; what decides how values look or how statements are planned must not depend on them.

use crate::sql;

/// How values look, and how statements on users' tables are planned.
const STATEMENTS: &[(&str, &str)] = &[
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("row_security", "off"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    // Batches join a few rows to large tables by key.
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

const SETTINGS: &[(&str, &str)] = &[
    ("default_transaction_isolation", "read committed"),
    ("transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("search_path", "pg_catalog, pg_temp"),
    ("session_replication_role", "origin"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    // The worker is the one that gives way: it finds a deadlock first and waits for no lock long.
    ("deadlock_timeout", "100ms"),
    ("lock_timeout", "1s"),
    // A batch that a crash takes back is delivered again from the log, so waiting for the disk
    // (or for a standby) on each one buys nothing.
    ("synchronous_commit", "off"),
];

/// Sets all of it; between transactions, and again after user code has run.
pub fn assert_all() {
    for (name, value) in STATEMENTS.iter().chain(SETTINGS) {
        sql::set_session(name, value);
    }
}

/// Sets what makes statements come to the same in another process, to the end of the current GUC nest level.
pub fn assume_for_statements() {
    for (name, value) in STATEMENTS {
        sql::set_local(name, value);
    }
}
