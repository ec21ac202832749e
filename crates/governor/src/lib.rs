//! When the next call to an account may go out, so that a reserve of its allowance is never used by us.
//!
//! An allowance counts the calls of a **rolling** 24 hours, of everybody who uses the account. The
//! governor keeps its own calls by quarters of an hour ([`Window`]), and takes the rest of what the other
//! side says is used for that of others. From both follows the [`Pace`]: the fastest even rate that
//! never goes over the share, at any time of the next 24 hours. What is not used of it is saved up
//! to a fiftieth of what remains, so that at a trickle every call goes at once. Where that is not enough for all,
//! polling gives way first ([`Governor::polling`]), and those that wait have their turns ([`Turns`]).
//!
//! Pure: no clock of its own. A moment is the time since some fixed point, the same for all who use one
//! governor (such as the machine's monotonic clock since boot). A moment before the last one known is
//! taken for that one. All is plain data of a fixed size and form, without pointers, so that a governor
//! can lie in shared memory behind a lock; [`Governor::new`] costs nothing and can be a constant.

mod events;
mod forecast;
mod governor;
mod others;
mod pace;
mod polling;
mod refusal;
mod turns;
mod window;

pub use forecast::{Forecast, Standing};
pub use governor::{Governor, Kind, Limits, Urgency};
pub use others::Others;
pub use pace::Pace;
pub use refusal::Refusal;
pub use turns::Turns;
pub use window::Window;

use std::time::Duration;

/// What an allowance is counted over.
pub const DAY: Duration = Duration::from_secs(24 * 3600);
