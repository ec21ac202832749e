//! Salesforce as a [`Connector`](connector::Connector): its REST API, spoken over HTTP.
//!
//! Nothing here keeps anything beyond a session and a few counters, and nothing waits for a limit or
//! tries again for long: it reports, and the caller decides. The one thing that is repeated is a
//! request that the org turned away because the session had ended.
//!
//! Where a comment gives a fact of the wire, it names the guide of Salesforce that says so.

mod account;
mod array;
mod bulk;
mod call;
mod client;
mod codes;
mod describe;
pub mod estimate;
mod events;
mod graph;
mod id;
mod json;
mod jsonb;
mod login;
mod moment;
mod number;
mod parents;
mod plan;
mod poll;
mod read;
mod redact;
mod refusal;
mod session;
mod settings;
mod soql;
mod survey;
pub mod transport;
mod value;
mod write;

pub use client::Salesforce;
pub use id::record_id;
pub use login::check_private_key;
pub use settings::{Credentials, DEFAULT_VERSION, Settings};
