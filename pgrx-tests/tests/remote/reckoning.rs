//! What has to hold once both sides are at rest, whatever happened on the way.

use std::collections::{BTreeMap, HashMap, HashSet};

use cluster::postgres::Client;
use local_org::{Deed, Edit, LocalOrg};
use pgrx_tests::{query_one, rows, run};
use serde_json::Value;

use super::campaign::POISON;

/// The fields of a record there, in the order of the columns here.
const FIELDS: [&str; 5] = ["Id", "AccountNumber", "Name", "Description", "Site"];
const HERE: &str =
    "SELECT sf_id, born, f, COALESCE(g, ''), COALESCE(h, '') FROM accounts WHERE f <> 'poison'";

/// What is still on its way; P1: both sides are equal, but for the row that the org refuses (P12).
pub(crate) fn unsettled(c: &mut Client, org: &LocalOrg) -> Vec<String> {
    let mut left = Vec::new();
    if query_one(c, "SELECT settled FROM sync.wait('accounts', '20s')") != "t" {
        left.push("sync.wait was not settled".to_owned());
    }
    left.extend(rows(
        c,
        &format!(
            "SELECT 'in the queue', key, state, attempts, sqlstate, message, detail FROM sync.queue
              WHERE key NOT IN (SELECT id::text FROM accounts WHERE f = '{POISON}') LIMIT 10"
        ),
    ));
    let here: HashSet<String> = rows(c, HERE).into_iter().collect();
    let poisoned: HashSet<String> =
        rows(c, &format!("SELECT born FROM accounts WHERE f = '{POISON}'")).into_iter().collect();
    let there: HashSet<String> = org
        .records("Account")
        .iter()
        .filter(|record| !poisoned.contains(text(&record["AccountNumber"])))
        .map(|record| FIELDS.map(|field| text(&record[field])).join("|"))
        .collect();
    let mut differ: Vec<String> =
        here.difference(&there).map(|row| format!("only here: {row}")).collect();
    differ.extend(there.difference(&here).map(|row| format!("only there: {row}")));
    differ.sort_by_key(|line| line.split('|').nth(1).map(str::to_owned));
    differ.truncate(20);
    for born in differ.iter().filter_map(|line| line.split('|').nth(1)).take(2) {
        left.extend(story(c, org, born));
    }
    left.extend(differ);
    if !left.is_empty() {
        left.extend(rows(c, "SELECT 'status', state, detail FROM sync.status"));
    }
    left
}

/// What a person does about a create that was never answered and whose record has been changed beyond
/// recognition: the row gives way to that record, which comes by itself.
pub(crate) fn give_way(c: &mut Client) {
    run(
        c,
        "DELETE FROM accounts WHERE id::text IN
           (SELECT key FROM sync.queue WHERE state = 'review' AND message LIKE 'more than one record could be%')",
    );
}

/// Everything that is not as it has to be, with the story of the records concerned. `named`: the org has
/// an identity of each record, so that a create that was not answered is always found.
pub(crate) fn wrong(c: &mut Client, org: &LocalOrg, named: bool) -> Vec<String> {
    let (ours, other) = org.users();
    let history = org.history();
    let noted: Vec<Noted> =
        rows(c, "SELECT op, born, COALESCE(old, ''), COALESCE(new, '') FROM journal ORDER BY no")
            .iter()
            .map(|line| Noted::parse(line))
            .collect();
    let born: HashMap<&str, &str> = history
        .iter()
        .filter(|edit| edit.field == "AccountNumber" && edit.deed == Deed::Created)
        .map(|edit| (edit.id.as_str(), text(&edit.new)))
        .collect();
    let theirs: Vec<_> =
        history.iter().filter(|edit| edit.user == other && edit.object == "Account").collect();

    let here: Vec<String> = rows(c, "SELECT unnest(ARRAY[born, f, g, h]) FROM accounts");
    let there = org.records("Account");
    let mut seen: HashSet<&str> = here.iter().map(String::as_str).collect();
    seen.extend(there.iter().flat_map(|record| FIELDS.map(|field| text(&record[field]))));
    let conflicts = rows(
        c,
        "SELECT kind = 'update_deleted', COALESCE(base, ''), COALESCE(source_value, ''), COALESCE(target_value, '') FROM sync.conflicts",
    );
    for line in &conflicts {
        seen.extend(line.split('|').skip(2));
    }
    // What we overwrote there in a call whose answer was lost, nobody can know of (P2 says so).
    let ours_over = history.iter().filter(|edit| edit.user == ours);
    seen.extend(ours_over.map(|edit| text(&edit.old)));
    // Whoever replaces or deletes a value has seen it.
    seen.extend(noted.iter().map(|n| n.old.as_str()));
    seen.extend(theirs.iter().map(|edit| text(&edit.old)));

    let mut wrong = Vec::new();
    let written = noted.iter().map(|n| (n.born.as_str(), n.new.as_str())).chain(
        theirs.iter().map(|e| (born.get(e.id.as_str()).copied().unwrap_or_default(), text(&e.new))),
    );
    for (record, value) in written {
        if value.starts_with('v') && !seen.contains(value) {
            wrong.push(format!("P2: {value} of {record} is nowhere"));
        }
    }

    let mut living: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let lives = rows(c, "SELECT born FROM accounts");
    for record in &lives {
        living.entry(record).or_default()[0] += 1;
    }
    for record in &there {
        living.entry(text(&record["AccountNumber"])).or_default()[1] += 1;
    }
    for (record, times) in &living {
        if times.iter().any(|&n| n > 1) {
            wrong.push(format!("{record} is there more than once: {times:?} (here, there)"));
        }
    }
    let deleted: HashSet<&str> = noted
        .iter()
        .filter(|n| n.op == "D")
        .map(|n| n.born.as_str())
        .chain(
            theirs
                .iter()
                .filter(|e| e.deed == Deed::Deleted)
                .filter_map(|e| born.get(e.id.as_str()).copied()),
        )
        .collect();
    let made = noted.iter().filter(|n| n.op == "I").map(|n| n.born.as_str());
    let made: HashSet<&str> = made
        .chain(
            theirs
                .iter()
                .filter(|e| e.deed == Deed::Created)
                .filter_map(|e| born.get(e.id.as_str()).copied()),
        )
        .collect();
    for record in made.difference(&deleted).filter(|record| !living.contains_key(*record)) {
        wrong.push(format!("{record} is gone, and nobody has deleted it"));
    }
    // P4: only an edit of the other side brings a deleted record back, and says so.
    let mut values: HashMap<&str, HashSet<&str>> = HashMap::new();
    for n in &noted {
        values.entry(&n.born).or_default().extend([n.old.as_str(), n.new.as_str()]);
    }
    for edit in history.iter().filter(|edit| edit.object == "Account") {
        let record = born.get(edit.id.as_str()).copied().unwrap_or_default();
        values.entry(record).or_default().extend([text(&edit.old), text(&edit.new)]);
    }
    let restored: HashSet<&str> = conflicts
        .iter()
        .filter(|l| l.starts_with("t|"))
        .flat_map(|l| l.split('|').skip(1))
        .collect();
    for record in deleted.iter().filter(|record| living.contains_key(*record)) {
        let told = values
            .get(record)
            .is_some_and(|values| values.iter().any(|v| !v.is_empty() && restored.contains(v)));
        // A record whose create was never answered, and that somebody deleted before it was looked for.
        let ids = rows(
            c,
            &format!(
                "SELECT DISTINCT new ->> 'sf_id' FROM sync.change_log WHERE new ->> 'born' = '{record}'"
            ),
        );
        let unknown = theirs.iter().any(|e| {
            e.deed == Deed::Deleted
                && born.get(e.id.as_str()) == Some(record)
                && !ids.contains(&e.id)
        });
        let nameless = format!(
            "SELECT count(*) FROM sync.change_log WHERE operation = 'DELETE' AND origin = 'user'
                AND old ->> 'born' = '{record}' AND old ->> 'sf_id' IS NULL"
        );
        let unknown = unknown || !named && query_one(c, &nameless) != "0";
        if !told && !unknown {
            wrong.push(format!("P4: {record} was deleted and is there"));
        }
    }
    // P6: what we wrote there, against what users wrote anywhere.
    let writes =
        history.iter().filter(|edit| edit.user == ours && edit.object == "Account").count();
    if writes > 2 * (noted.len() + theirs.len()) + 100 {
        wrong.push(format!("P6: {writes} fields written for {} edits", noted.len() + theirs.len()));
    }
    let told: Vec<String> = wrong
        .iter()
        .flat_map(|line| line.split(' '))
        .filter(|word| made.contains(word))
        .take(3)
        .map(str::to_owned)
        .collect();
    for record in told {
        wrong.extend(story(c, org, &record));
    }
    wrong
}

/// A line of the journal.
struct Noted {
    op: String,
    born: String,
    old: String,
    new: String,
}

impl Noted {
    fn parse(line: &str) -> Self {
        let mut parts = line.split('|').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { op: next(), born: next(), old: next(), new: next() }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The edits, and all that is known of their records.
pub(crate) fn stories(c: &mut Client, org: &LocalOrg, edits: &[Edit]) -> Vec<String> {
    let mut lines: Vec<String> = edits.iter().map(|edit| format!("{edit:?}")).collect();
    let ids: HashSet<&str> = edits.iter().map(|edit| edit.id.as_str()).collect();
    for record in org.all_records("Account").iter().filter(|r| ids.contains(text(&r["Id"]))) {
        lines.extend(story(c, org, text(&record["AccountNumber"])));
    }
    lines
}

/// All that is known of a record: for whoever has to find out what went wrong.
fn story(c: &mut Client, org: &LocalOrg, born: &str) -> Vec<String> {
    let mut lines = vec![format!("--- {born}")];
    let keys = rows(
        c,
        &format!(
            "SELECT DISTINCT key FROM sync.change_log WHERE COALESCE(new, old) ->> 'born' = '{born}'
             UNION SELECT id::text FROM accounts WHERE born = '{born}'"
        ),
    );
    for (what, sql) in [
        ("row", format!("SELECT *, xmin FROM accounts WHERE born = '{born}'")),
        ("journal", format!("SELECT * FROM journal WHERE born = '{born}' ORDER BY no")),
        (
            "changes",
            format!(
                "SELECT seq, operation, status, origin, old, new, captured_at, synced_at FROM sync.change_log
                  WHERE key IN ('{}') ORDER BY seq",
                keys.join("', '")
            ),
        ),
        ("conflicts", format!("SELECT * FROM sync.conflicts WHERE key IN ('{}')", keys.join("', '"))),
        ("queue", format!("SELECT * FROM sync.queue WHERE key IN ('{}')", keys.join("', '"))),
    ] {
        lines.push(format!("  {what}:"));
        lines.extend(rows(c, &sql).iter().map(|row| format!("    {row}")));
    }
    lines.push("  there:".into());
    for record in org.all_records("Account").iter().filter(|r| text(&r["AccountNumber"]) == born) {
        let id = text(&record["Id"]);
        lines.push(format!("    {id} deleted: {}", record["IsDeleted"]));
        let edits = org.history().into_iter().filter(|edit| edit.id == id);
        lines.extend(edits.map(|e| {
            format!("      {:?} {} by {}: {} -> {}", e.deed, e.field, e.user, e.old, e.new)
        }));
    }
    lines
}
