use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes the main thread: a file descriptor that is readable from [`Bell::ring`] until [`Bell::clear`].
pub(crate) struct Bell(EventFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?))
    }

    pub(crate) fn ring(&self) {
        // Fails only where the count is at its highest, and then it is readable.
        let _ = self.0.write(1);
    }

    pub(crate) fn clear(&self) {
        // Fails where it has not rung. One read takes the whole count.
        let _ = self.0.read();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
