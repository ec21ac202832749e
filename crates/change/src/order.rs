//! The order inside a batch.
//!
//! Across transactions the sequence number is the order in which row locks were taken. Inside one
//! transaction it is not: AFTER ROW events of a statement fire row by row, so a user's trigger that
//! writes a later row of the same statement is logged before that row's own, older image. There the
//! command id decides. Each transaction's changes are therefore permuted within the places its
//! sequence numbers hold, by (command id, sequence).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What the order needs to know of a change.
pub trait Ordered {
    fn xid(&self) -> u64;
    fn command(&self) -> u32;
    fn sequence(&self) -> i64;
}

/// Puts the changes of a batch into the order in which they have to be applied.
pub fn sort<T: Ordered + Copy>(changes: &mut [T]) {
    changes.sort_unstable_by_key(Ordered::sequence);
    if !needs_permutation(changes) {
        return;
    }
    let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, change) in changes.iter().enumerate() {
        places.entry(change.xid()).or_default().push(place);
    }
    for places in places.values() {
        let mut own: Vec<T> = places.iter().map(|&place| changes[place]).collect();
        own.sort_unstable_by_key(|c| (c.command(), c.sequence()));
        for (&place, change) in places.iter().zip(own) {
            changes[place] = change;
        }
    }
}

/// Nearly never: only where a trigger wrote rows of the statement that fired it.
fn needs_permutation<T: Ordered>(changes: &[T]) -> bool {
    let mut last: HashMap<u64, u32, BuildHasherDefault<XidHasher>> = HashMap::default();
    let mut previous: Option<(u64, u32)> = None;
    for change in changes {
        let (xid, command) = (change.xid(), change.command());
        match previous {
            Some((same, before)) if same == xid => {
                if command < before {
                    return true;
                }
            }
            _ => {
                if let Some((xid, command)) = previous {
                    last.insert(xid, command);
                }
                if last.get(&xid).is_some_and(|&before| command < before) {
                    return true;
                }
            }
        }
        previous = Some((xid, command));
    }
    false
}

/// Transaction ids are already spread well enough.
#[derive(Default)]
struct XidHasher(u64);

impl Hasher for XidHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u64(&mut self, xid: u64) {
        self.0 = xid.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct C(u64, u32, i64);
    impl Ordered for C {
        fn xid(&self) -> u64 {
            self.0
        }
        fn command(&self) -> u32 {
            self.1
        }
        fn sequence(&self) -> i64 {
            self.2
        }
    }

    #[test]
    fn a_trigger_that_writes_a_later_row_of_its_statement_comes_after_it() {
        let mut changes = [C(9, 0, 1), C(9, 1, 2), C(9, 0, 3)];
        sort(&mut changes);
        assert_eq!(changes, [C(9, 0, 1), C(9, 0, 3), C(9, 1, 2)]);
    }

    #[test]
    fn across_transactions_the_sequence_decides_and_not_the_id() {
        let mut changes = [C(5, 0, 2), C(7, 0, 1)];
        sort(&mut changes);
        assert_eq!(changes, [C(7, 0, 1), C(5, 0, 2)]);
    }

    proptest! {
        #[test]
        fn each_transaction_keeps_its_places(raw in prop::collection::vec((0u64..5, 0u32..4), 0..60)) {
            let mut changes: Vec<C> = raw.iter().enumerate().map(|(i, &(x, c))| C(x, c, i as i64)).collect();
            let owners: Vec<u64> = changes.iter().map(|c| c.0).collect();
            sort(&mut changes);
            prop_assert_eq!(&owners, &changes.iter().map(|c| c.0).collect::<Vec<_>>());
            for xid in 0..5 {
                let own: Vec<_> = changes.iter().filter(|c| c.0 == xid).map(|c| (c.1, c.2)).collect();
                prop_assert!(own.is_sorted());
            }
        }
    }
}
