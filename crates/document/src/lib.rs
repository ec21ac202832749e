//! Reads sync configuration documents: joins the pieces a user hands over into one JSON document, holds that
//! document against the grammar of the configuration language, and turns it into one typed [`Config`].
//!
//! The way of a document, in the order of the modules:
//!
//! 1. [`join_create`] and [`merge_patch`] make one document of many pieces (`join`).
//! 2. The grammar (`grammar`) is one table of every key with its type, range and standing; `check` walks a document
//!    along it and finds everything that can be seen without knowing what a key means.
//! 3. The document of a hub is taken apart into one for each of its syncs by [`spokes`] (`hub`).
//! 4. [`Config::read`] (`config`) gives the keys their meaning: endpoints, fields, settings.
//!
//! A document has one of three outcomes, never mixed: it is malformed, it names what does not exist, or it is well
//! formed. Reading is pure: what it must know of the database comes in as a [`Context`].

mod check;
mod config;
mod conflicts;
mod credentials;
mod endpoint;
mod error;
mod fields;
mod grammar;
mod hub;
mod join;
mod mapping;
mod matching;
mod name;
mod nearest;
mod path;
mod polling;
mod rows;
mod schema;
mod settings;
mod transform;
mod validation;

pub use config::{Config, Direction, Identity};
pub use conflicts::{Authority, ColumnGroup, Conflicts, DeletePolicy, FieldRule};
pub use credentials::{check_settings, is_secret_name};
pub use endpoint::{Connection, Context, Endpoint, Remote};
pub use error::{Error, ErrorKind, Notice, Severity};
pub use fields::{Alike, Field, Fields};
pub use hub::{Spoke, is_hub, spokes};
pub use join::{join_create, merge_patch};
pub use mapping::{MappingOptions, Nulls, TimestampFormat};
pub use matching::MatchField;
pub use name::TableName;
pub use nearest::nearest;
pub use polling::Polled;
pub use rows::{OnDelete, OnDifference, OnExit, OnTargetEdit, RowFilter, StampColumns};
pub use schema::schema;
pub use settings::{
    DeleteLimit, Fallback, InitialSync, LoopPrevention, RateLimits, Retry, SchemaPolicy,
};
pub use transform::{Builtin, Transform};
pub use validation::{Check, OnInvalid, ValidationRule};
