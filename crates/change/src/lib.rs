//! What a captured change is, without PostgreSQL: the binary image of a row, the shape that
//! describes it, the snapshots that cut the log into batches, and the order inside a batch.

pub mod image;
pub mod order;
pub mod shape;
pub mod snapshot;
