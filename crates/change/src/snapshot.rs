//! Snapshots as plain data, and which transactions lie between two of them.
//!
//! A batch is what is visible in the later snapshot and was not in the earlier one. That is safe
//! because a row lock is released only after its holder has left the list of running transactions:
//! a snapshot that sees the later writer of a row sees the earlier one too.

/// A `pg_snapshot`: 64-bit top-level transaction ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Snapshot {
    /// Every id below has ended.
    pub xmin: u64,
    /// No id from here on had ended.
    pub xmax: u64,
    /// The ids between the two that were running, ascending.
    pub running: Vec<u64>,
}

impl Snapshot {
    /// A snapshot in which nothing has ended.
    pub const fn empty() -> Self {
        Self { xmin: 0, xmax: 0, running: Vec::new() }
    }

    /// Had the transaction ended when the snapshot was taken? (`pg_visible_in_snapshot`)
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Reads the text form `xmin:xmax:xid,xid`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let list = parts.next()?;
        if parts.next().is_some() || xmin > xmax {
            return None;
        }
        let running = if list.is_empty() {
            Vec::new()
        } else {
            list.split(',').map(|x| x.parse().ok()).collect::<Option<Vec<u64>>>()?
        };
        let ordered = running.windows(2).all(|w| w[0] < w[1])
            && running.iter().all(|&x| x >= xmin && x < xmax);
        ordered.then_some(Self { xmin, xmax, running })
    }
}

impl std::fmt::Display for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (i, xid) in self.running.iter().enumerate() {
            write!(f, "{}{xid}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The transactions of one batch: seen by `to`, not by `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: Snapshot,
    pub to: Snapshot,
    /// Running in `from`, ended in `to`: one extra id each, so that a long transaction does not
    /// widen the range that has to be looked through.
    stragglers: Vec<u64>,
}

impl Span {
    pub fn new(from: Snapshot, to: Snapshot) -> Self {
        let stragglers = from.running.iter().copied().filter(|&xid| to.sees(xid)).collect();
        Self { from, to, stragglers }
    }

    pub fn contains(&self, xid: u64) -> bool {
        if xid >= self.from.xmax {
            self.to.sees(xid)
        } else {
            !self.stragglers.is_empty() && self.stragglers.binary_search(&xid).is_ok()
        }
    }

    /// Can a stretch of the log whose ids lie in `min..=max` hold anything of this batch?
    pub fn may_touch(&self, min: u64, max: u64) -> bool {
        (max >= self.from.xmax && min < self.to.xmax)
            || self.stragglers.iter().any(|&xid| (min..=max).contains(&xid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_form_is_postgresqls() {
        let s = Snapshot::parse("729:734:729,731").unwrap();
        assert!(!s.sees(729) && s.sees(730) && !s.sees(731) && s.sees(733) && !s.sees(734));
        assert_eq!(s.to_string(), "729:734:729,731");
        for bad in ["", "1:2", "3:2:", "1:9:7,3", "1:9:9", "a:b:", "1:2::"] {
            assert_eq!(Snapshot::parse(bad), None, "{bad}");
        }
    }

    /// A history of transactions that begin and end, with snapshots in between.
    fn history() -> impl Strategy<Value = Vec<Snapshot>> {
        prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..80).prop_map(|steps| {
            let (mut next, mut running, mut taken) = (100u64, Vec::<u64>::new(), Vec::new());
            for (step, which) in steps {
                match step {
                    0 | 1 => {
                        running.push(next);
                        next += 1;
                    }
                    2 if !running.is_empty() => {
                        running.remove(which.index(running.len()));
                    }
                    _ => taken.push(Snapshot {
                        xmin: running.first().copied().unwrap_or(next),
                        xmax: next,
                        running: running.clone(),
                    }),
                }
            }
            taken
        })
    }

    proptest! {
        #[test]
        fn every_transaction_is_in_exactly_one_batch(taken in history()) {
            let mut spans = Vec::new();
            let mut from = Snapshot { xmin: 100, xmax: 100, running: vec![] };
            for to in taken {
                spans.push(Span::new(from, to.clone()));
                from = to;
            }
            for xid in 100..200u64 {
                let batches = spans.iter().filter(|s| s.contains(xid)).count();
                prop_assert_eq!(batches, usize::from(from.sees(xid)));
                for span in &spans {
                    prop_assert_eq!(span.contains(xid), span.to.sees(xid) && !span.from.sees(xid));
                    if span.contains(xid) {
                        prop_assert!(span.may_touch(xid, xid) && span.may_touch(xid - 1, xid + 50));
                    }
                }
            }
        }
    }
}
