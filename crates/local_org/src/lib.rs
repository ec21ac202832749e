//! A stand-in for a Salesforce org.

// A described field has nearly sixty keys in one literal.
#![recursion_limit = "256"]

mod calls;
mod control;
mod describe;
mod error;
mod exchange;
mod faults;
mod gate;
mod id;
mod late;
mod local_org;
mod moment;
mod options;
mod org;
mod rest;
mod rules;
mod save;
mod schema;
mod serve;
mod session;
mod soql;
mod standard;
mod table;
mod value;
mod wire;

pub use calls::Call;
pub use error::ApiError;
pub use faults::{Campaign, Fault, FaultRule, Match};
pub use local_org::LocalOrg;
pub use options::Options;
pub use rules::{Rule, RuleAction};
pub use schema::{Field, FieldType, Object};
pub use standard::specimen;
pub use value::Manners;
