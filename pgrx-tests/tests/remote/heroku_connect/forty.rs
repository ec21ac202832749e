//! Forty mappings, from Heroku Connect to both ways under load, and back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::postgres::Client;
use local_org::{Field, FieldType, LocalOrg, Object, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::{Value, json};

use super::{Held, export, fill, held, left, mapping, table, triggers};
use crate::connections::with_org;
use crate::remote::until;

const OBJECTS: usize = 40;
/// Of each object at the start.
const RECORDS: usize = 12;
/// Objects that have a parent; the later ones have no children either, and their records may go.
const WITH_PARENT: std::ops::Range<usize> = 1..30;
/// Objects that were mapped read-only.
const READ_ONLY: std::ops::Range<usize> = 35..OBJECTS;

const COLUMNS: [Held; 11] = [
    held("Name", "name", "varchar(80)"),
    held("Ext__c", "ext__c", "varchar(36)"),
    held("Amount__c", "amount__c", "double precision"),
    held("Flag__c", "flag__c", "boolean"),
    held("Kind__c", "kind__c", "varchar(255)"),
    held("Tags__c", "tags__c", "varchar(4099)"),
    held("Day__c", "day__c", "date"),
    held("Seen__c", "seen__c", "timestamp"),
    held("Note__c", "note__c", "text"),
    held("Parent__c", "parent__c", "varchar(18)"),
    held("Parent__r.Ext__c", "parent__r__ext__c", "varchar(36)"),
];

fn columns(n: usize) -> &'static [Held] {
    if WITH_PARENT.contains(&n) { &COLUMNS } else { &COLUMNS[..9] }
}

fn object(n: usize) -> String {
    format!("Thing_{n:02}__c")
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    fn cents(&mut self) -> f64 {
        self.below(10_000_000) as f64 / 100.0
    }
}

fn define(org: &LocalOrg) {
    for n in 0..OBJECTS {
        let mut thing = Object::new(object(n), format!("b{n:02}"))
            .with(Field::new("Ext__c", FieldType::String).length(36).unique().external_id())
            .with(Field::new("Amount__c", FieldType::Currency).digits(18, 2))
            .with(Field::new("Flag__c", FieldType::Boolean))
            .with(Field::new("Kind__c", FieldType::Picklist).values(&["a", "b"]))
            .with(Field::new("Tags__c", FieldType::MultiPicklist).values(&["red", "green", "blue"]))
            .with(Field::new("Day__c", FieldType::Date))
            .with(Field::new("Seen__c", FieldType::DateTime))
            .with(Field::new("Note__c", FieldType::TextArea));
        if WITH_PARENT.contains(&n) {
            let parent = Field::new("Parent__c", FieldType::Reference);
            thing = thing.with(parent.references(&[&object(n - 1)]));
        }
        org.define_object(thing);
    }
}

fn record(org: &LocalOrg, dice: &mut Dice, n: usize, ext: &str) -> Value {
    let mut record = json!({"Name": format!("{n} {ext}"), "Ext__c": ext, "Amount__c": dice.cents(),
      "Flag__c": dice.below(2) == 0, "Kind__c": "a", "Tags__c": "red;blue", "Day__c": "2026-02-28",
      "Seen__c": "2026-03-01T10:00:00.000+0000", "Note__c": "n"});
    if WITH_PARENT.contains(&n) {
        let parents = org.records(&object(n - 1));
        record["Parent__c"] = parents[dice.below(parents.len())]["Id"].clone();
    }
    record
}

/// All that there is of an object over there, as a row is written here.
fn there(org: &LocalOrg, n: usize) -> Vec<String> {
    let records = org.records(&object(n));
    let of = |record: &Value| {
        let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let amount = record["Amount__c"].as_f64().map(|a| format!("{a:.2}")).unwrap_or_default();
        let flag = if record["Flag__c"] == true { "t" } else { "f" };
        let mut row = vec![text("Id"), text("Name"), text("Ext__c"), amount, flag.to_owned()];
        row.extend(["Kind__c", "Tags__c", "Day__c", "Seen__c", "Note__c"].map(text));
        if WITH_PARENT.contains(&n) {
            let parent = record["Parent__c"].as_str().and_then(|id| org.get(id));
            let ext = parent.map(|p| p["Ext__c"].as_str().unwrap_or_default().to_owned());
            row.extend([text("Parent__c"), ext.unwrap_or_default()]);
        }
        row.join("|")
    };
    let mut all: Vec<String> = records.iter().map(of).collect();
    all.sort();
    all
}

/// All that there is here.
fn here(c: &mut Client, n: usize) -> Vec<String> {
    let parent = if WITH_PARENT.contains(&n) { ", parent__c, parent__r__ext__c" } else { "" };
    let mut all = rows(
        c,
        &format!(
            "SELECT sfid, name, ext__c, to_char(amount__c::numeric, 'FM9999999990.00'), COALESCE(flag__c, false), kind__c, tags__c, day__c,
                    to_char(seen__c, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"+0000\"'), note__c{parent} FROM salesforce.{}",
            object(n).to_lowercase()
        ),
    );
    all.sort();
    all
}

/// Waits until nothing is under way and both sides are the same, object by object.
#[track_caller]
fn equal(c: &mut Client, org: &LocalOrg) {
    let mut differing = Vec::new();
    let equal = cluster::poll(Duration::from_secs(180), || {
        differing = (0..OBJECTS).filter(|&n| here(c, n) != there(org, n)).collect();
        differing.is_empty() && query_one(c, "SELECT count(*) FROM sync.queue") == "0"
    });
    let n = differing.first().copied().unwrap_or_default();
    assert!(
        equal,
        "{differing:?}\n{:#?}\n{:#?}\n{:?}\n{:?}",
        here(c, n),
        there(org, n),
        rows(c, "SELECT sync, state, detail FROM sync.status WHERE detail <> 'in sync'"),
        rows(c, "SELECT sync, key, state, message, detail FROM sync.queue")
    );
}

/// The key and the version of each row, by the id of its record.
fn versions(c: &mut Client) -> BTreeMap<String, (String, String)> {
    let of =
        |n: usize| format!("SELECT sfid, id, xmin FROM salesforce.{}", object(n).to_lowercase());
    let all: Vec<String> = (0..OBJECTS).map(of).collect();
    rows(c, &all.join(" UNION ALL "))
        .iter()
        .map(|row| {
            let mut cells = row.split('|').map(str::to_owned);
            let mut next = || cells.next().unwrap_or_default();
            (next(), (next(), next()))
        })
        .collect()
}

/// Somebody's edit over there.
fn edit_there(org: &LocalOrg, dice: &mut Dice, number: usize) {
    let n = dice.below(OBJECTS);
    let records = org.records(&object(n));
    if records.is_empty() || dice.below(8) == 0 {
        let new = record(org, dice, n, &format!("there-{number}"));
        org.insert(&object(n), new).unwrap();
        return;
    }
    let id = records[dice.below(records.len())]["Id"].as_str().unwrap().to_owned();
    // It may be gone by now.
    let _ = match dice.below(12) {
        0 if n >= WITH_PARENT.end => org.delete(&id),
        1..=4 => org.edit(&id, json!({"Amount__c": dice.cents(), "Tags__c": "green;blue"})),
        5..=8 => org.edit(&id, json!({"Name": format!("there {number}"), "Kind__c": "b"})),
        _ => org.edit(&id, json!({"Note__c": format!("there {number}"), "Day__c": null})),
    };
}

/// Somebody's edit here.
fn edit_here(c: &mut Client, dice: &mut Dice, number: usize) {
    let n = dice.below(READ_ONLY.start);
    let table = object(n).to_lowercase();
    let (amount, choice) = (dice.cents(), dice.below(12));
    let any = |table: &str| {
        format!("SELECT id FROM salesforce.{table} ORDER BY md5(id::text || '{number}') LIMIT 1")
    };
    let set =
        |what: String| format!("UPDATE salesforce.{table} SET {what} WHERE id = ({})", any(&table));
    let parents = object(n.saturating_sub(1)).to_lowercase();
    run(
        c,
        &match choice {
            0 | 1 if WITH_PARENT.contains(&n) => format!(
                "INSERT INTO salesforce.{table} (name, ext__c, amount__c, parent__r__ext__c)
                   SELECT 'here', 'here-{number}', {amount}, ext__c FROM salesforce.{parents} WHERE id = ({})",
                any(&parents)
            ),
            0 | 1 => format!(
                "INSERT INTO salesforce.{table} (name, ext__c, amount__c) VALUES ('here', 'here-{number}', {amount})"
            ),
            2 if n >= WITH_PARENT.end => {
                format!("DELETE FROM salesforce.{table} WHERE id = ({})", any(&table))
            }
            2..=5 => set(format!("amount__c = {amount}, tags__c = 'red;green'")),
            6..=8 => set(format!("name = 'here {number}', flag__c = NOT COALESCE(flag__c, false)")),
            _ => set(format!("note__c = 'here {number}', seen__c = '2026-04-01 12:00'")),
        },
    );
}

/// The patch to one of the two, for all that were mapped for it.
fn turn(c: &mut Client, sync_type: &str) {
    let turned = query_one(
        c,
        &format!(
            "SELECT count(*) FROM sync.alter_syncs('{{\"sync_type\": \"{sync_type}\"}}',
               names => ARRAY(SELECT sync FROM leaving WHERE access = 'read_write'))"
        ),
    );
    assert_eq!(turned, READ_ONLY.start.to_string());
}

/// An org that Connect has synced, and the export of its mappings.
fn connected(org: &LocalOrg, c: &mut Client) -> String {
    let mut mappings = Vec::new();
    for n in 0..OBJECTS {
        let name = object(n).to_lowercase();
        run(c, &table(&object(n), columns(n)));
        fill(org, c, &object(n), columns(n));
        run(c, &format!("CREATE UNIQUE INDEX hcu_idx_{name}_ext__c ON salesforce.{name} (ext__c)"));
        run(c, &triggers(&object(n)));
        let access = if READ_ONLY.contains(&n) { "read_only" } else { "read_write" };
        let more = json!({"upsert_field": "Ext__c", "sf_max_daily_api_calls": 1_000_000});
        mappings.push(mapping(&object(n), access, columns(n), more));
    }
    export(&mappings)
}

#[test]
fn forty_mappings_go_over_under_load_and_back() {
    let options = Options { daily_limit: 10_000_000, ..Options::default() };
    let (org, cluster) = with_org(options, &[]);
    define(&org);
    let mut dice = Dice(42);
    for n in 0..OBJECTS {
        for k in 0..RECORDS {
            let new = record(&org, &mut dice, n, &format!("{n}-{k}"));
            org.insert(&object(n), new).unwrap();
        }
    }
    let mut c = left(&org, &cluster);
    let export = connected(&org, &mut c);
    let before = versions(&mut c);
    assert_eq!(before.len(), OBJECTS * RECORDS);
    // The org has moved on since the copy was taken.
    let mut moved = Vec::new();
    for n in (0..OBJECTS).step_by(7) {
        let id = org.records(&object(n))[n % RECORDS]["Id"].as_str().unwrap().to_owned();
        org.edit(&id, json!({"Name": "moved"})).unwrap();
        moved.push(id);
    }
    moved.sort();

    run(
        &mut c,
        &format!(
            "CREATE TABLE leaving AS SELECT * FROM sync.import_heroku_connect('crm', export => '{export}')"
        ),
    );
    assert_eq!(
        rows(
            &mut c,
            "SELECT outcome, access, count(*), max(remedy) FROM leaving GROUP BY 1, 2 ORDER BY 2"
        ),
        ["created|read_only|5|", "created|read_write|35|"]
    );
    let paused = "SELECT count(*) FROM sync.status WHERE state = 'paused' AND direction = '->'";
    assert_eq!(query_one(&mut c, paused), OBJECTS.to_string());

    // Shadow: only what has moved is written.
    run(
        &mut c,
        r#"SELECT FROM sync.alter_syncs('{"ongoing_sync": {"polling_interval_seconds": 2}}', matching => 'salesforce.%');
           SELECT sync.resume(sync) FROM leaving"#,
    );
    until(&mut c, "SELECT count(*) FROM sync._link", &(OBJECTS * RECORDS).to_string());
    until(&mut c, "SELECT count(*) FROM sync.progress", "0");
    equal(&mut c, &org);
    let linked = versions(&mut c);
    let written: Vec<&String> =
        linked.iter().filter(|(id, row)| before[*id] != **row).map(|(id, _)| id).collect();
    assert_eq!(written, moved.iter().collect::<Vec<_>>());

    audited(&mut c);

    // Both ways, switched while the org is being edited.
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut dice = Dice(7);
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                edit_there(&org, &mut dice, number);
                number += 1;
                std::thread::sleep(Duration::from_millis(25));
            }
        });
        turn(&mut c, "bidirectional");
        for number in 0..400 {
            edit_here(&mut c, &mut dice, number);
            std::thread::sleep(Duration::from_millis(10));
        }
        done.store(true, Ordering::Relaxed);
    });
    equal(&mut c, &org);
    no_doubles(&mut c, &org);
    audited(&mut c);
    let after = versions(&mut c);
    let kept = |(id, (key, _)): (&String, &(String, String))| {
        after.get(id).is_none_or(|(now, _)| now == key)
    };
    assert!(before.iter().all(kept), "a local id has changed");
    let made = "SELECT count(*) FROM salesforce.thing_03__c WHERE id > 100000 AND sfid IS NOT NULL";
    assert_ne!(query_one(&mut c, made), "0");

    // And back: what is written here stays here, what is written there comes.
    turn(&mut c, "one_way");
    run(&mut c, "UPDATE salesforce.thing_00__c SET name = 'only here' WHERE id = 7");
    let id = org.records(&object(1))[0]["Id"].as_str().unwrap().to_owned();
    org.edit(&id, json!({"Name": "from there"})).unwrap();
    let came = "SELECT count(*) FROM salesforce.thing_01__c WHERE name = 'from there'";
    until(&mut c, came, "1");
    let named = |name: &str| org.records(&object(0)).iter().any(|r| r["Name"] == name);
    assert!(!named("only here"));
    turn(&mut c, "bidirectional");
    assert!(cluster::poll(Duration::from_secs(60), || named("only here")));
    equal(&mut c, &org);
    no_doubles(&mut c, &org);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM salesforce._trigger_log"), "0");
}

/// The audit of all of them finds what is alike, and nothing else.
#[track_caller]
fn audited(c: &mut Client) {
    let text = "SELECT l.sync, a.what, a.records FROM leaving l, LATERAL sync.audit(l.sync, show => 0) a
          WHERE a.records > 0 AND a.what NOT IN ('rows on source', 'rows on target', 'linked pairs', 'calls')";
    // The last poll may have brought something that is not through the log yet.
    let mut found = rows(c, text);
    cluster::poll(Duration::from_secs(30), || {
        found = rows(c, text);
        found.iter().all(|line| !line.contains("|pending|"))
    });
    assert_eq!(found, [""; 0]);
}

#[track_caller]
fn no_doubles(c: &mut Client, org: &LocalOrg) {
    for n in 0..OBJECTS {
        let count = format!(
            "SELECT count(*), count(DISTINCT ext__c), count(DISTINCT sfid) FROM salesforce.{}",
            object(n).to_lowercase()
        );
        let records = org.count(&object(n));
        assert_eq!(query_one(c, &count), format!("{records}|{records}|{records}"), "{}", object(n));
    }
}
