//! The log of changes: the tables it lies in, the ticks that cut it, reading a batch, rotation.

pub mod batch;
pub mod history;
pub mod rotation;
pub mod segments;
pub mod tick;
