//! A13, E5, P14: a failover goes on by itself once it has read what the other system holds; a copy asks it nothing
//! before a person says so.

use std::time::Duration;

use cluster::postgres::Client;
use cluster::{Cluster, Options, Stop};
use local_org::{Call, Fault, FaultRule, LocalOrg};
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::json;

use super::{accounts_on, names, settle, until};
use crate::connections::{connect_crm, with_org};

const EPOCHS: &str = "SELECT string_agg(state, ' ' ORDER BY epoch) FROM sync._epoch";
const LINKED: &str =
    "SELECT count(*) || ' ' || count(sf_id) || ' ' || count(DISTINCT sf_id) FROM accounts";

/// A primary that syncs `accounts` with an org, and a standby of it; both are the instance `shop`.
fn pair(more: &str) -> (LocalOrg, Cluster, Cluster, Client) {
    let instance = "sync_ext.instance = 'shop'";
    let (org, primary, c) = accounts_on(with_org(local_org::Options::default(), &[instance]), more);
    let mut standby = copy_of(&org, &primary, Options::new("heir").conf(instance), true);
    standby.start().unwrap();
    (org, primary, standby, c)
}

/// The files of a running cluster in one that may reach the org too.
fn copy_of(org: &LocalOrg, cluster: &Cluster, options: Options, standby: bool) -> Cluster {
    let place = org.url().trim_start_matches("http://");
    let options = options.conf(&format!("sync_ext.allowed_hosts = '{place}'"));
    cluster.base_backup(options, standby).unwrap()
}

/// Waits until a standby has replayed all that the primary has written so far.
fn replayed(primary: &mut Client, standby: &Cluster) {
    let written = query_one(primary, "SELECT pg_current_wal_flush_lsn()");
    until(
        &mut standby.connect("postgres").unwrap(),
        &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"),
        "t",
    );
}

/// Does a call write records? It may read them too: a composite reads those that it is about to write.
fn writes(call: &Call) -> bool {
    let written = |method: &str| matches!(method, "POST" | "PATCH" | "DELETE" | "PUT");
    let body = call.json();
    match body["compositeRequest"].as_array() {
        Some(parts) => parts.iter().any(|part| {
            let reads = part["url"].as_str().is_some_and(|url| url.contains("/query"));
            !reads && part["method"].as_str().is_some_and(written)
        }),
        None => call.path.starts_with("/services/data/") && written(&call.method),
    }
}

/// Does a call read the object by id, from the first record?
fn lists(call: &Call) -> bool {
    call.query.iter().any(|(name, value)| {
        name == "q" && value.contains(" ORDER BY Id ") && !value.contains("Id > ")
    })
}

/// E5: of the calls since they were cleared, the records were read before the first of them was written.
#[track_caller]
fn assert_read_before_written(org: &LocalOrg) {
    let calls = org.calls();
    let read = calls.iter().find(|call| lists(call) && call.status == Some(200));
    let read = read.and_then(|call| call.answered).expect("the records were read");
    let early: Vec<_> = calls.iter().filter(|call| writes(call) && call.arrived < read).collect();
    assert!(early.is_empty(), "{early:#?}");
    assert!(calls.iter().any(writes), "{calls:#?}");
}

#[test]
fn a_promoted_standby_of_the_same_instance_reads_every_record_before_it_writes_one() {
    let (org, mut primary, standby, mut c) = pair("{}");
    run(
        &mut c,
        "INSERT INTO accounts (account_name) SELECT 'n' || n FROM generate_series(1, 20) n",
    );
    settle(&mut c);
    until(&mut c, LINKED, "20 20 20");
    until(&mut c, "SELECT count(last_modified) FROM accounts", "20");
    let ids = rows(&mut c, "SELECT sf_id FROM accounts ORDER BY id");

    // What the primary can no longer send: an update, a field of a record that is edited there too, a new row, a
    // deleted one.
    org.fault(FaultRule::always(Fault::CutBefore));
    run(
        &mut c,
        "UPDATE accounts SET account_name = 'edited here' WHERE id = 1;
         UPDATE accounts SET account_name = 'edited on both sides' WHERE id = 2;
         INSERT INTO accounts (account_name) VALUES ('new here');
         DELETE FROM accounts WHERE id = 3",
    );
    replayed(&mut c, &standby);
    drop(c);
    primary.crash().unwrap();
    org.edit(&ids[1], json!({"Industry": "Banking"})).unwrap();
    org.edit(&ids[3], json!({"Name": "edited there"})).unwrap();
    org.insert("Account", json!({"Name": "new there"})).unwrap();
    org.delete(&ids[4]).unwrap();

    // The org keeps the heir waiting for what it reads.
    org.clear_faults();
    org.clear_calls();
    org.fault(FaultRule::always(Fault::Latency { ms: 2000 }).path("/query"));
    standby.promote().unwrap();
    let mut c = standby.connect("postgres").unwrap();
    standby.wait_until("the heir reads", || org.calls().iter().any(lists));
    assert_eq!(query_one(&mut c, EPOCHS), "active verifying");
    assert_eq!(
        query_one(&mut c, "SELECT detail FROM sync.doctor() WHERE what = 'fencing'"),
        "verifying: this server was a standby of the same instance and has been promoted"
    );
    assert!(!org.calls().iter().any(writes), "{:#?}", org.calls());
    org.clear_faults();
    settle(&mut c);
    until(&mut c, EPOCHS, "active active");
    settle(&mut c);
    assert_read_before_written(&org);
    let mut expected: Vec<String> = (6..=20).map(|n| format!("n{n}")).collect();
    expected.extend(
        ["edited here", "edited on both sides", "edited there", "new here", "new there"]
            .map(str::to_owned),
    );
    expected.sort();
    assert_eq!(names(&org), expected);
    assert_eq!(
        rows(&mut c, r#"SELECT account_name FROM accounts ORDER BY account_name COLLATE "C""#),
        expected
    );
    until(&mut c, LINKED, "20 20 20");
    // P3: the field of either side.
    assert_eq!(org.get(&ids[1]).unwrap()["Industry"], "Banking");
    assert_eq!(
        query_one(&mut c, "SELECT account_name || '|' || industry_type FROM accounts WHERE id = 2"),
        "edited on both sides|Banking"
    );
    assert_eq!(rows(&mut c, "SELECT * FROM sync.conflicts"), Vec::<String>::new());
}

/// The same where the org is the target, whose records come second in an ordinary comparison. One that the primary was
/// in the middle of begins anew.
#[test]
fn a_promoted_standby_reads_the_target_before_it_writes_there() {
    let instance = "sync_ext.instance = 'shop'";
    let (org, mut primary) = with_org(local_org::Options::default(), &[instance]);
    let mut c = primary.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        r#"CREATE TABLE accounts (id serial PRIMARY KEY, sf_id text UNIQUE, account_name text, industry_type text);
           SELECT sync.create_sync('accounts', '{"source": {"table": "accounts"},
             "target": {"connection": "crm", "object": "Account"}, "sync_type": "bidirectional",
             "field_mappings": [{"source": "sf_id", "target": "Id"}, {"source": "account_name", "target": "Name"},
                                {"source": "industry_type", "target": "Industry"}],
             "ongoing_sync": {"mode": "real_time", "polling_interval_seconds": 1}}');
           INSERT INTO accounts (account_name) VALUES ('one'), ('two')"#,
    );
    settle(&mut c);
    until(&mut c, LINKED, "2 2 2");
    let ids = rows(&mut c, "SELECT sf_id FROM accounts ORDER BY id");
    let mut standby = copy_of(&org, &primary, Options::new("heir").conf(instance), true);
    standby.start().unwrap();
    org.fault(FaultRule::always(Fault::CutBefore));
    run(&mut c, "UPDATE accounts SET account_name = 'edited here' WHERE id = 1");
    run(
        &mut c,
        "INSERT INTO sync._load (sync, side, kind, reason, last_key)
         SELECT sync, 1, 'rows', 'interrupted', remote_id FROM sync._link ORDER BY remote_id DESC LIMIT 1",
    );
    replayed(&mut c, &standby);
    drop(c);
    primary.crash().unwrap();
    org.edit(&ids[0], json!({"Industry": "Banking"})).unwrap();
    org.edit(&ids[1], json!({"Name": "edited there"})).unwrap();
    org.clear_faults();
    org.clear_calls();
    standby.promote().unwrap();
    let mut c = standby.connect("postgres").unwrap();
    until(&mut c, EPOCHS, "active active");
    settle(&mut c);
    assert_read_before_written(&org);
    until(
        &mut c,
        "SELECT string_agg(concat_ws(' ', account_name, industry_type), ', ' ORDER BY id) FROM accounts",
        "edited here Banking, edited there",
    );
    assert_eq!(names(&org), ["edited here", "edited there"]);
    assert_eq!(org.get(&ids[0]).unwrap()["Industry"], "Banking");
}

/// The org has made the records; the primary died before it heard so.
fn create_of_the_deceased(more: &str) {
    let (org, mut primary, standby, mut c) = pair(more);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('first')");
    settle(&mut c);
    until(&mut c, LINKED, "1 1 1");
    let made = org.fault(FaultRule::once(Fault::SlowBody { ms: 60_000 }).path("composite"));
    run(&mut c, "INSERT INTO accounts (account_name) SELECT 'x' || i FROM generate_series(1, 5) i");
    primary.wait_until("the org has made them", || org.count("Account") == 6);
    assert_eq!(org.struck(made), 1);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts WHERE sf_id IS NULL"), "5");
    replayed(&mut c, &standby);
    drop(c);
    primary.crash().unwrap();
    standby.promote().unwrap();
    let mut c = standby.connect("postgres").unwrap();
    until(&mut c, EPOCHS, "active active");
    settle(&mut c);
    until(&mut c, LINKED, "6 6 6");
    assert_eq!(names(&org), ["first", "x1", "x2", "x3", "x4", "x5"]);
    // Each row has the record that was made of it.
    let pairs = rows(&mut c, "SELECT sf_id, account_name FROM accounts");
    for pair in pairs {
        let (id, name) = pair.split_once('|').unwrap();
        assert_eq!(org.get(id).unwrap()["Name"], name);
    }
    run(&mut c, "UPDATE accounts SET industry_type = 'Energy'");
    settle(&mut c);
    assert!(org.records("Account").iter().all(|record| record["Industry"] == "Energy"));
}

#[test]
fn a_create_whose_answer_died_with_the_primary_makes_no_twin_with_an_identity() {
    create_of_the_deceased(r#"{"identity": "External_Id__c"}"#);
}

#[test]
fn a_create_whose_answer_died_with_the_primary_makes_no_twin_without_an_identity() {
    create_of_the_deceased("{}");
}

#[test]
fn a_copy_beside_the_living_primary_asks_the_org_nothing_until_it_is_activated() {
    let (org, mut primary, mut c) = accounts_on(with_org(local_org::Options::default(), &[]), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) SELECT 'n' || n FROM generate_series(1, 4) n");
    settle(&mut c);
    until(&mut c, LINKED, "4 4 4");
    until(&mut c, "SELECT count(last_modified) FROM accounts", "4");
    let touched = query_one(&mut c, "SELECT sf_id FROM accounts WHERE id = 4");
    let mut copy = copy_of(&org, &primary, Options::new("stranger"), false);

    // The original goes on beside it; then it is stopped, so that every call is the copy's.
    copy.start().unwrap();
    let mut stranger = copy.connect("postgres").unwrap();
    run(
        &mut stranger,
        "UPDATE accounts SET account_name = 'of the copy' WHERE id = 1; DELETE FROM accounts WHERE id = 4",
    );
    // P4: of what is synced only the time of the last change is new, and that is nobody's edit.
    std::thread::sleep(Duration::from_millis(1100));
    org.edit(&touched, json!({"Site": "of no concern"})).unwrap();
    until(&mut stranger, "SELECT state FROM sync.status", "fenced");
    run(&mut c, "UPDATE accounts SET account_name = 'of the original' WHERE id = 2");
    settle(&mut c);
    drop(c);
    primary.stop(Stop::Fast).unwrap();
    org.clear_calls();
    run(&mut stranger, "INSERT INTO accounts (account_name) VALUES ('new of the copy')");
    org.insert("Account", json!({"Name": "new there"})).unwrap();
    let error = refusal(&mut stranger, "SELECT * FROM sync.wait('accounts')");
    assert!(error.contains("fenced") && error.contains("sync.activate()"), "{error}");
    // Two intervals of polling, and a restart.
    std::thread::sleep(Duration::from_millis(2500));
    drop(stranger);
    copy.restart(Stop::Fast).unwrap();
    let mut stranger = copy.connect("postgres").unwrap();
    crate::life::worker(&copy, "postgres");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(org.calls().is_empty(), "{:#?}", org.calls());
    assert_eq!(names(&org), ["n1", "n3", "n4", "new there", "of the original"]);

    let error = refusal(&mut stranger, "SELECT sync.activate('erp')");
    assert!(error.contains("connection \"erp\" does not exist"), "{error}");
    // What has nothing to do with the org goes on alone.
    run(&mut stranger, "SELECT sync.activate('local')");
    until(&mut stranger, "SELECT state FROM sync._epoch_now()", "active");
    let fenced = "SELECT state, detail LIKE '%for other connections only%' FROM sync.status";
    assert_eq!(rows(&mut stranger, fenced), ["fenced|t"]);
    assert!(org.calls().is_empty(), "{:#?}", org.calls());
    // The org keeps it waiting for what it reads, and what is edited meanwhile waits too.
    org.fault(FaultRule::always(Fault::Latency { ms: 1500 }).path("/query"));
    run(&mut stranger, "SELECT sync.activate('crm')");
    run(&mut stranger, "UPDATE accounts SET industry_type = 'Energy' WHERE id = 3");
    copy.wait_until("the copy reads", || org.calls().iter().any(lists));
    org.clear_faults();
    settle(&mut stranger);
    assert_read_before_written(&org);
    until(&mut stranger, LINKED, "5 5 5");
    assert_eq!(org.records("Account").iter().filter(|r| r["Industry"] == "Energy").count(), 1);
    let expected = ["n3", "new of the copy", "new there", "of the copy", "of the original"];
    assert_eq!(names(&org), expected);
    assert_eq!(rows(&mut stranger, "SELECT account_name FROM accounts ORDER BY 1"), expected);
    assert_eq!(rows(&mut stranger, "SELECT * FROM sync.conflicts"), Vec::<String>::new());
}

#[test]
fn a_copied_database_asks_the_org_nothing_until_it_is_activated() {
    let (org, cluster, mut c) = accounts_on(with_org(local_org::Options::default(), &[]), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one'), ('two')");
    settle(&mut c);
    until(&mut c, LINKED, "2 2 2");
    run(&mut c, "SELECT sync.pause('accounts')");
    drop(c);
    run(&mut cluster.connect("template1").unwrap(), "CREATE DATABASE copy TEMPLATE postgres");

    let mut copy = cluster.connect("copy").unwrap();
    until(&mut copy, "SELECT state FROM sync.status", "fenced");
    quiet(&org);
    run(&mut copy, "SELECT sync.resume('accounts')");
    run(&mut copy, "UPDATE accounts SET account_name = 'of the copy' WHERE account_name = 'one'");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(org.calls().is_empty(), "{:#?}", org.calls());
    run(&mut copy, "SELECT sync.activate()");
    settle(&mut copy);
    until(&mut copy, LINKED, "2 2 2");
    assert_eq!(names(&org), ["of the copy", "two"]);
}

#[test]
fn a_restored_dump_without_secrets_is_fenced_then_needs_credentials_then_goes_on() {
    let (org, cluster, mut c) = accounts_on(with_org(local_org::Options::default(), &[]), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one'), ('two')");
    run(&mut c, "CREATE ROLE reader LOGIN; GRANT pg_read_all_data, pg_monitor TO reader");
    settle(&mut c);
    until(&mut c, LINKED, "2 2 2");
    run(&mut c, "SELECT sync.pause('accounts')");
    let dump = cluster
        .client_program("pg_dump", "postgres")
        .args(["--username", "reader"])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let dump = String::from_utf8(dump.stdout).unwrap();
    assert!(!dump.contains(org.client_secret()));
    run(&mut c, "CREATE DATABASE restored");
    drop(c);
    let file = cluster.directory().join("without_secrets.sql");
    std::fs::write(&file, dump).unwrap();
    let restored = cluster
        .client_program("psql", "restored")
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));

    let mut c = cluster.connect("restored").unwrap();
    until(&mut c, "SELECT state FROM sync.status", "fenced");
    quiet(&org);
    run(&mut c, "SELECT sync.resume('accounts'); SELECT sync.activate()");
    until(&mut c, "SELECT state FROM sync.status", "needs credentials");
    let detail = query_one(&mut c, "SELECT detail FROM sync.status");
    assert!(detail.contains("sync.set_secret('crm'"), "{detail}");
    run(&mut c, "UPDATE accounts SET account_name = 'restored' WHERE account_name = 'one'");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(org.calls().is_empty(), "{:#?}", org.calls());
    run(
        &mut c,
        &format!(
            "SELECT sync.set_secret('crm', client_id => '{}', client_secret => '{}')",
            org.client_id(),
            org.client_secret()
        ),
    );
    settle(&mut c);
    until(&mut c, LINKED, "2 2 2");
    assert_eq!(names(&org), ["restored", "two"]);
}

/// Waits until the original, which is paused, makes no more calls, and forgets those it made.
#[track_caller]
fn quiet(org: &LocalOrg) {
    let rest = cluster::poll(Duration::from_secs(20), || {
        org.clear_calls();
        std::thread::sleep(Duration::from_millis(1500));
        org.calls().is_empty()
    });
    assert!(rest, "a paused sync goes on asking: {:#?}", org.calls());
}
