//! P8: an org that fails at random and a worker that is killed again and again, while both sides are edited: no record
//! is lost, doubled or brought back, with a field for an identity in the org and without one.
//!
//! Each value is written once only. What users did here is noted by a trigger in the same transaction, what anybody did
//! there is in the org's history, so that what became of every value can be told exactly (`reckoning`).
//!
//! `SYNC_EXT_ORG_KILLS=50 cargo suite random_faults` runs it longer; `SYNC_EXT_SEED` (drawn by lot) changes a run, and
//! is printed.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::postgres::{self, Client, NoTls};
use cluster::{Cluster, PATIENCE, poll, processes};
use local_org::{Campaign, LocalOrg, Options, Rule, RuleAction};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::reckoning;
use crate::connections::{connect_crm, with_org};
use crate::kill::random::Random;

const WRITERS: u64 = 3;
/// Unless the environment says.
const KILLS: u64 = 5;
/// Kills between two reckonings.
const STRETCH: u64 = 10;
/// What the org refuses as a name.
pub(crate) const POISON: &str = "poison";
const WORKER: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'sync_ext worker' AND datname = 'postgres'";

#[test]
fn random_faults_and_kills_lose_and_double_nothing_with_an_identity() {
    campaign(r#"{"identity": "External_Id__c"}"#);
}

#[test]
fn random_faults_and_kills_lose_and_double_nothing_without_an_identity() {
    campaign("{}");
}

fn campaign(identity: &str) {
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let kills = variable("SYNC_EXT_ORG_KILLS").unwrap_or(KILLS);
    let seed = variable("SYNC_EXT_SEED").unwrap_or_else(Random::lot);
    println!("campaign against the org: SYNC_EXT_SEED={seed} SYNC_EXT_ORG_KILLS={kills}");
    let (org, cluster) =
        with_org(Options { daily_limit: 10_000_000, history: true, ..Options::default() }, &[]);
    org.add_rule(Rule {
        object: "Account".into(),
        action: RuleAction::Reject {
            field: "Name".into(),
            value: POISON.into(),
            message: "no poison".into(),
        },
    });
    create(&cluster, &org, identity);
    let mut random = Random::new(seed);
    let mut done = 0;
    while done < kills {
        let count = STRETCH.min(kills - done);
        stretch(&cluster, &org, &mut random, seed, done, count);
        done += count;
        reckon(&cluster, &org, identity != "{}", seed, done >= kills);
    }
}

fn create(cluster: &Cluster, org: &LocalOrg, identity: &str) {
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, org);
    run(
        &mut c,
        "CREATE TABLE accounts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, born text NOT NULL, f text NOT NULL, g text, h text);
         CREATE TABLE journal (no bigserial PRIMARY KEY, op text, born text, field text, old text, new text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE
             b jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
             a jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
             c text;
         BEGIN
             IF current_setting('application_name') = 'writer' THEN
                 FOREACH c IN ARRAY '{born,f,g,h}'::text[] LOOP
                     IF (b ->> c) IS DISTINCT FROM (a ->> c) THEN
                         INSERT INTO journal (op, born, field, old, new)
                         VALUES (left(TG_OP, 1), COALESCE(a, b) ->> 'born', c, b ->> c, a ->> c);
                     END IF;
                 END LOOP;
             END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION note()",
    );
    run(
        &mut c,
        &format!(
            r#"SELECT sync.create_sync('accounts', '{{
                 "source": {{"connection": "crm", "object": "Account"}}, "target": {{"table": "accounts"}},
                 "field_mappings": [
                   {{"source": "Id", "target": "sf_id"}}, {{"source": "AccountNumber", "target": "born"}},
                   {{"source": "Name", "target": "f"}}, {{"source": "Description", "target": "g"}}, {{"source": "Site", "target": "h"}}],
                 "sync_type": "bidirectional", "delete_limit": 1000000,
                 "ongoing_sync": {{"mode": "real_time", "polling_interval_seconds": 1}},
                 "performance_settings": {{"batch_size": 20}},
                 "error_handling": {{"retry_strategy": {{"max_attempts": 1000, "initial_delay_seconds": 0.05, "backoff_factor": 1.05}}}}}}',
                 '{identity}')"#
        ),
    );
    super::settle(&mut c);
}

/// Both sides are edited while the org fails and the worker is killed.
fn stretch(
    cluster: &Cluster,
    org: &LocalOrg,
    random: &mut Random,
    seed: u64,
    first: u64,
    kills: u64,
) {
    org.campaign(Campaign {
        seed: seed + first,
        logins: true,
        latency: 0.2,
        latency_ms: 150,
        error: 0.03,
        html503: 0.03,
        cut_before: 0.04,
        cut_after: 0.06,
        cut_during: 0.04,
        expire_session: 0.02,
        record: 0.02,
    });
    let (stop, complaints) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for writer in 0..WRITERS {
            let (stop, complaints) = (&stop, &complaints);
            let number = first * 10 + writer;
            scope.spawn(move || write(cluster.sockets(), stop, complaints, seed, number));
        }
        let stop = &stop;
        scope.spawn(move || write_there(org, stop, seed, first * 10 + WRITERS));
        for _ in 0..kills {
            // A slow moment now and then lets requests of every kind get on their way.
            std::thread::sleep(Duration::from_millis(match random.below(3) {
                0 => random.below(60),
                1 => random.below(400),
                _ => 300 + random.below(1500),
            }));
            let worker = worker(cluster, None);
            drop(processes::kill(worker));
            self::worker(cluster, Some(worker));
        }
        std::thread::sleep(Duration::from_millis(1500));
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "seed {seed}: users got errors (P15): {complaints:#?}");
    org.campaign(Campaign::default());
}

/// Ends the writers also when the killer panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The worker that runs, another one than `before`.
fn worker(cluster: &Cluster, before: Option<i32>) -> i32 {
    let mut found = None;
    let there = poll(PATIENCE, || {
        let Ok(mut client) = connect(cluster.sockets(), "killer") else { return false };
        let pid = client.query(WORKER, &[]).ok().and_then(|rows| rows.first()?.try_get(0).ok());
        found = pid.filter(|_| pid != before);
        found.is_some()
    });
    assert!(there, "no worker\n{}", cluster.log_tail(60));
    found.unwrap()
}

pub(crate) fn connect(sockets: &Path, name: &str) -> Result<Client, postgres::Error> {
    let mut config = postgres::Config::new();
    config.host_path(sockets).user("postgres").dbname("postgres").application_name(name);
    config.connect(NoTls)
}

/// Values that nobody else writes.
struct Values {
    number: u64,
    next: u64,
}

impl Values {
    fn fresh(&mut self) -> String {
        self.next += 1;
        format!("v{}-{}", self.number, self.next)
    }
}

fn write(
    sockets: &Path,
    stop: &AtomicBool,
    complaints: &Mutex<Vec<String>>,
    seed: u64,
    number: u64,
) {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x5851_F42D_4C95_7F2D));
    let mut values = Values { number, next: 0 };
    while !stop.load(Ordering::Acquire) {
        let Ok(mut client) = connect(sockets, "writer") else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        while !stop.load(Ordering::Acquire) {
            if let Err(error) = client.batch_execute(&statements(&mut random, &mut values)) {
                // A server that restarts, or two users in each other's way.
                match error.as_db_error().map(|e| e.code().code().to_owned()).as_deref() {
                    None | Some("57P01" | "57P02" | "57P03") => break,
                    Some("40P01") => {}
                    Some(code) => complaints.lock().unwrap().push(format!("{code}: {error}")),
                }
            }
            std::thread::sleep(Duration::from_millis(random.below(40)));
        }
    }
}

fn statements(random: &mut Random, values: &mut Values) -> String {
    const SOME: &str = "(SELECT id FROM accounts ORDER BY id OFFSET";
    let pick = random.below(60);
    let field = *random.one_of(&["f", "g", "h"]);
    let insert = |values: &mut Values| {
        format!(
            "INSERT INTO accounts (born, f, g, h) VALUES ('{0}', '{0}', '{1}', NULL)",
            values.fresh(),
            values.fresh()
        )
    };
    match random.below(100) {
        0..20 => insert(values),
        20..30 => format!(
            "BEGIN; {}; UPDATE accounts SET {field} = '{}' WHERE id = lastval(); COMMIT",
            insert(values),
            values.fresh()
        ),
        30..75 => format!(
            "UPDATE accounts SET {field} = '{}' WHERE id = {SOME} {pick} LIMIT 1)",
            values.fresh()
        ),
        75..88 => {
            format!(
                "UPDATE accounts SET {field} = '{}-' || id WHERE id IN {SOME} {pick} LIMIT 5)",
                values.fresh()
            )
        }
        // P12: one row that the org refuses.
        88..90 => format!("UPDATE accounts SET f = '{POISON}' WHERE id = {SOME} 3 LIMIT 1)"),
        _ => format!("DELETE FROM accounts WHERE id = {SOME} {pick} LIMIT 1)"),
    }
}

/// Somebody who works in the org itself.
fn write_there(org: &LocalOrg, stop: &AtomicBool, seed: u64, number: u64) {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x5851_F42D_4C95_7F2D));
    let mut values = Values { number, next: 0 };
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(random.below(120)));
        let fresh = values.fresh();
        let there = org.records("Account");
        if there.is_empty() || random.percent(20) {
            org.insert(
                "Account",
                json!({"AccountNumber": fresh, "Name": fresh, "Site": values.fresh()}),
            )
            .unwrap();
            continue;
        }
        let id = there[random.below(there.len() as u64) as usize]["Id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let field = *random.one_of(&["Name", "Description", "Site"]);
        // It may have been deleted since.
        let _ =
            if random.percent(8) { org.delete(&id) } else { org.edit(&id, json!({field: fresh})) };
    }
}

/// Everything settles, and everything is right.
fn reckon(cluster: &Cluster, org: &LocalOrg, named: bool, seed: u64, last: bool) {
    let mut c = connect(cluster.sockets(), "writer").unwrap();
    if last {
        run(&mut c, &format!("UPDATE accounts SET f = 'cured-' || id WHERE f = '{POISON}'"));
    }
    let fail = |what: &str, wrong: Vec<String>| -> ! {
        let log = std::env::temp_dir().join(format!("sync_ext-org-{seed}.log"));
        let _ = std::fs::copy(cluster.log_file(), &log);
        panic!("seed {seed}: {what}\n{}\nlog: {}", wrong.join("\n"), log.display())
    };
    let all_is_right = |c: &mut Client| {
        let mut left = Vec::new();
        if !poll(4 * PATIENCE, || {
            if !named {
                reckoning::give_way(c);
            }
            left = reckoning::unsettled(c, org);
            left.is_empty()
        }) {
            fail("not settled", left);
        }
        let wrong = reckoning::wrong(c, org, named);
        if !wrong.is_empty() {
            fail("after all had settled", wrong);
        }
    };
    let restart = || {
        let pid = worker(cluster, None);
        drop(processes::kill(pid));
        worker(cluster, Some(pid));
        connect(cluster.sockets(), "writer").unwrap()
    };
    all_is_right(&mut c);
    // The worker's last commits may not be on the disk yet: what a crash takes back is done once more.
    let mut c = restart();
    all_is_right(&mut c);
    // P5, P6: a worker that starts at rest writes nothing, here or there.
    let traces = |c: &mut Client| {
        (
            org.history().len(),
            query_one(
                c,
                "SELECT (SELECT count(*) FROM sync._history WHERE outcome <> 'p') || ' ' || (SELECT count(*) FROM sync._conflict)",
            ),
        )
    };
    // A commit that waits for the disk takes all earlier ones there.
    run(&mut c, "SET synchronous_commit = on; SELECT pg_current_xact_id()");
    let before = traces(&mut c);
    let mut c = restart();
    assert_eq!(query_one(&mut c, "SELECT settled FROM sync.wait('accounts', '60s')"), "t");
    std::thread::sleep(Duration::from_secs(2));
    let after = traces(&mut c);
    if before != after {
        let sql = "SELECT * FROM sync.conflicts ORDER BY id DESC LIMIT 20";
        let mut traces = rows(&mut c, sql);
        traces.extend(reckoning::stories(&mut c, org, &org.history()[before.0..]));
        fail(
            &format!("a restart at rest was not without traces: {before:?} became {after:?}"),
            traces,
        );
    }
}
