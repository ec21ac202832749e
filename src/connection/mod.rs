//! Systems on the other side. A connection is a server of the wrapper `sync_ext` (SQL/MED): what
//! everybody may know is in the server's options, secrets are in its user mapping for a role that
//! nobody can be, or in a file.
//!
//! ```text
//! catalog      the servers and their options          options     which there are, and their values
//! define       making, changing, ending one           secret      the user mapping; old and new secrets
//! given        what somebody hands over as one
//! link         the connector of a connection          file        secrets in files
//! flow         ways to log in, and what they need     rotation    secrets that the other side replaces
//! courier      storing one of them, whatever becomes of the transaction
//! generation   noticing that any of it changed        refusal     a connector's fault as an SQL error
//! inspect      looking at the other side              call        from a person's own backend
//! rights       what its user may do with the objects of syncs
//! records      reading those of an object
//! discretion   keeping secrets out of the server's log and out of pg_stat_activity
//! ```

mod call;
mod catalog;
mod courier;
mod define;
pub mod discretion;
mod file;
mod flow;
mod generation;
mod given;
mod health;
mod inspect;
mod link;
mod options;
mod records;
mod refusal;
mod rights;
mod rotation;
mod secret;

#[allow(unused_imports, reason = "what the engine calls")]
pub use self::{
    catalog::{Connection, all, by_name, by_oid, for_documents, pairs, settings, users_of},
    define::{Patch, alter, create, described, drop},
    generation::changed,
    given::Given,
    health::{is_mended, logged_in, missing_right, note, state_of},
    inspect::{
        Finding, describe, describe_and_count, describe_each, objects, postgres_type, test, usable,
    },
    link::{CLIENT, account, connector, connector_with_new_secret, policy, record_id},
    options::validate,
    records::Records,
    refusal::fault_to_failure,
    rights::{FieldNeed, Need, is_of_parent},
    rotation::Rotating,
    secret::{has_new_secret, promote, refuse_new, set},
};

/// The wrapper that all connections belong to.
const WRAPPER: &str = "sync_ext";

/// The SQLSTATE of a connection that has no secrets yet. Those that the other side refuses are 28000.
pub const NEEDS_CREDENTIALS: &str = "28P01";

/// The SQLSTATE of a connection whose system has no connector.
pub const NO_CONNECTOR: &str = "0A000";
