//! Capture: one compiled AFTER ROW trigger for every synced table. It writes the row's old and new
//! image straight into the log and nothing else: no SQL, no JSON, no network, no user code, no
//! waiting, so that it adds no failure of its own to the user's statement.

pub mod attach;
mod cache;
mod ffi;
mod other_layout;
pub mod row;
pub mod wake;

pub use cache::install;
pub use row::{
    begin_quiet_statement, begin_statement, end_quiet_statement, first_of_statement, set_origin,
};
