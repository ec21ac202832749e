//! Change data capture and the Pub/Sub API that carries it: what is committed becomes events, and subscribers are
//! sent them.
//!
//! ```text
//! author     on whose behalf a transaction is committed
//! schema     an object's events as an Avro schema, and a record's fields in its order
//! avro       how values are written
//! bitmap     how sets of fields are written
//! diff       how a small change of a long text is written
//! change     what a transaction did, as events
//! bus        the events in their order: retention, replay ids, who may have how many
//! keep       what of the bus outlives the program
//! faults     what goes wrong with events and with the streams of subscribers
//! service    the calls of the API, but for Subscribe
//! subscribe  one subscriber's stream
//! listen     sockets, with and without TLS
//! control    the control endpoint's part
//! ```

mod author;
mod avro;
mod bitmap;
pub(crate) mod bus;
mod change;
pub(crate) mod control;
mod diff;
mod faults;
mod keep;
mod listen;
mod schema;
mod service;
mod subscribe;

pub(crate) use author::Author;
pub(crate) use bus::Bus;
pub use control::EventSettings;
pub use faults::{EventFault, EventFaultRule};
pub(crate) use keep::Kept;
pub(crate) use listen::{Authority, listen};

/// How many objects can be selected (Change Data Capture guide, allocations; without an add-on).
pub(crate) const MOST_SELECTED: usize = 5;

/// Delivered events of 24 hours in a Developer Edition (Change Data Capture guide, allocations).
pub(crate) const DELIVERIES: u64 = 10_000;
