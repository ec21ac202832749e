//! A subscriber of Salesforce's Pub/Sub API: changes of records as they are committed, as plain values.
//!
//! ```text
//! client        connections, calls, and the schemas that were fetched
//! subscription  one stream: events one by one, asked for as they are taken
//! event         what an event says
//! decode        the same from its bytes: header, fields, what is told of each
//! bitmap        sets of fields
//! schema        Avro schemas
//! avro          Avro values
//! trouble       errors, sorted by what they ask of the caller
//! ```
//!
//! **Nothing is guessed.** A field is told with its value only where the event leaves no doubt of it; where the
//! parts of an event contradict each other, or a value comes as a difference, the field is told as one to be read.
//! An event that can't be read is told as such, and never left out.
//!
//! The Avro that is read is the part that change events are made of, and is read strictly: apache-avro takes a
//! payload that ends early for nulls, which here would be taken for values that were emptied.

mod avro;
mod bitmap;
mod client;
mod decode;
mod event;
mod schema;
mod subscription;
mod trouble;

pub use avro::Value;
pub use client::{Client, Identity, PUBLIC_ENDPOINT};
pub use decode::decode;
pub use event::{Change, ChangeType, Event, Field, Kind};
pub use schema::Schema;
pub use subscription::{Start, Subscription};
pub use trouble::Trouble;
