//! A long text that changed is told as a difference (Change Data Capture guide, Sending Data Differences for Fields
//! of Updated Records): a unified diff whose second line bears the SHA-256 of the new text.

use ring::digest::{SHA256, digest};

/// Texts shorter than this are told as they are.
const LONG: usize = 1000;

/// Nothing where the new text is told itself.
pub(super) fn difference(old: &str, new: &str) -> Option<String> {
    if old.len() < LONG || new.len() < LONG {
        return None;
    }
    let (before, after): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same =
        |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| pairs.take_while(|(a, b)| a == b).count();
    let head = same(&mut before.iter().zip(&after));
    let room = before.len().min(after.len()) - head;
    let tail = same(&mut before.iter().rev().zip(after.iter().rev())).min(room);
    let (gone, come) = (&before[head..before.len() - tail], &after[head..after.len() - tail]);
    let hash: String =
        digest(&SHA256, new.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let (from, to) = (head + 1, head + 1);
    let mut text = format!("--- \n+++ {hash}\n@@ -{from},{} +{to},{} @@", gone.len(), come.len());
    for line in gone {
        text.push_str("\n-");
        text.push_str(line);
    }
    for line in come {
        text.push_str("\n+");
        text.push_str(line);
    }
    (text.len() < new.len()).then_some(text)
}
