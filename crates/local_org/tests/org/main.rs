//! The org over HTTP, with a plain client.

mod bulk_ingest;
mod bulk_query;
mod client;
mod collections;
mod composite;
mod control;
mod duplicates;
mod family;
mod faults;
mod login;
mod masters;
mod merging;
mod persist;
mod program;
mod queries;
mod replication;
mod rows;
mod schema;
mod standard;
