use std::io;

use nix::sys::signal::{SigSet, SigmaskHow};

/// All signals are blocked in the calling thread while this lives; the mask of before comes back with
/// its drop. Threads inherit the mask of the one that starts them, so there is no moment in which a new
/// one could take a signal.
pub(crate) struct Blocked(SigSet);

impl Blocked {
    pub(crate) fn all() -> io::Result<Self> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Cannot fail: the mask is one that the system gave.
        let _ = self.0.thread_set_mask();
    }
}
