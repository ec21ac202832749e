//! The refresh token in use. With rotation each is good for one login, whose answer holds the next one (Salesforce
//! help, Refresh Token Rotation).

use std::sync::{Mutex, MutexGuard, PoisonError};

use connector::Secret;

pub(crate) struct Tokens {
    given: Secret,
    state: Mutex<State>,
}

struct State {
    current: Secret,
    /// The current one was sent, and nothing has come back yet.
    asked: bool,
    /// An answer to it never came. The next token may have been in it, and nobody knows it then.
    lost: bool,
}

impl Tokens {
    pub(super) fn new(given: Secret) -> Self {
        let state = Mutex::new(State { current: given.clone(), asked: false, lost: false });
        Self { given, state }
    }

    /// The token for a login. One of which an answer was lost is sent again: without rotation it is as good as
    /// before, and with rotation there is no other to try.
    pub(super) fn use_current(&self) -> Secret {
        let mut state = self.state();
        state.lost |= state.asked;
        state.asked = true;
        state.current.clone()
    }

    /// The current one has worked, or is replaced by the next.
    pub(super) fn accepted(&self, next: Option<Secret>) {
        let mut state = self.state();
        (state.asked, state.lost) = (false, false);
        if let Some(next) = next {
            state.current = next;
        }
    }

    pub(super) fn refused(&self) {
        self.state().asked = false;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state().lost
    }

    pub(super) fn current(&self) -> Secret {
        self.state().current.clone()
    }

    pub(super) fn all(&self) -> [Secret; 2] {
        [self.given.clone(), self.current()]
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
