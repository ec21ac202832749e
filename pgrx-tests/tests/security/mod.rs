//! Who may do and see what; whose code runs as whom.

mod catalogs;
mod grants;
mod injection;
mod payload;
mod rights;

use pgrx_tests::cluster::Db;
use pgrx_tests::cluster::postgres::Client;
use pgrx_tests::run;

/// A role of this database's own, dropped with it at the end of the test run.
pub(crate) fn role(db: &Db<'_>, client: &mut Client, name: &str) -> String {
    let role = format!("{}_{name}", db.name());
    run(client, &format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN"));
    role
}
