//! Time that is moved by the control endpoint, and what passes with it.

use crate::ApiError;
use crate::moment::{self, DAY, Millis};
use crate::org::Org;
use serde::Deserialize;
use serde_json::{Value, json};

/// How long deleted records stay in the recycle bin (Salesforce help, Recycle Bin).
const BIN: Millis = 15 * DAY;

/// One of them.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Move {
    /// To this moment, also back.
    Set(String),
    AdvanceMs(Millis),
}

impl Org {
    /// Moves the org's clock, which goes on from there; tells what it shows.
    pub(crate) fn move_clock(&mut self, order: &Move) -> Result<Value, ApiError> {
        // The skew is measured against this machine's clock: what the org's own has shown may be ahead of both.
        let here = moment::system();
        let skew = match order {
            Move::Set(text) => {
                let at = moment::moment(text, false);
                at.ok_or_else(|| ApiError::json(format!("{text} is no date and time")))? - here
            }
            Move::AdvanceMs(by) => self.clock.now() - here + by,
        };
        self.clock.set_skew(skew);
        self.empty_old_bin();
        Ok(json!({"now": moment::text(self.clock.now()), "clock_skew_ms": skew}))
    }

    /// What lay in the recycle bin too long is gone for good.
    pub(crate) fn empty_old_bin(&mut self) {
        let oldest = moment::text(self.clock.now() - BIN);
        let tables = self.tables.values().flat_map(|table| table.rows());
        let old = tables.filter(|row| row.deleted && row.stamp() < oldest.as_str());
        let ids: Vec<String> = old.map(|row| row.id.clone()).collect();
        for id in ids {
            // One that went along with another has gone already.
            let _ = self.purge(&id);
        }
    }

    /// Frees the calls of a day that is over. A real org counts the last 24 hours; here they end together.
    pub(crate) fn renew_quota(&mut self) {
        let now = self.clock.now();
        if now - self.day_began >= DAY {
            self.used = 0;
            self.day_began = now;
        }
        self.day_began = self.day_began.min(now);
    }
}
