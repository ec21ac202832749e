//! `test_connection`, `objects`, `fields`: a person's own backend talks with the other side.

use super::{connect_crm, create_crm, with_org};
use cluster::postgres::NoTls;
use local_org::{Fault, FaultRule, Match};
use pgrx_tests::{query_one, refusal, rows, run};
use std::time::{Duration, Instant};

const TEST: &str = "SELECT what, ok, detail, remedy FROM sync.test_connection('crm')";

fn latency(path: &str, ms: u64) -> FaultRule {
    FaultRule {
        matches: Match { path: Some(path.into()), ..Match::default() },
        times: None,
        skip: 0,
        probability: 1.0,
        fault: Fault::Latency { ms },
    }
}

#[test]
fn a_connection_that_works_is_found_to_work() {
    let (org, cluster) = with_org(local_org::Options::default(), &[]);
    let mut client = cluster.connect("postgres").unwrap();
    // In the transaction that makes it: nobody else sees the connection yet.
    run(&mut client, "BEGIN");
    connect_crm(&mut client, &org);
    let found = rows(&mut client, TEST);
    run(&mut client, "COMMIT");
    let whats: Vec<&str> = found.iter().map(|row| row.split('|').next().unwrap()).collect();
    assert_eq!(
        whats,
        [
            "connector",
            "address",
            "secret",
            "reached",
            "login",
            "API version",
            "org",
            "user",
            "quota",
            "clock",
            "objects"
        ],
        "{found:#?}"
    );
    assert!(found.iter().all(|row| row.contains("|t|")), "{found:#?}");
    assert!(!found.concat().contains(org.client_secret()), "{found:#?}");
    let object = "SELECT label, createable, updateable, deletable FROM sync.objects('crm') WHERE name = 'Account'";
    assert_eq!(query_one(&mut client, object), "Account|t|t|t");
    let field = "SELECT type, postgres_type, length, nillable, createable, updateable, external_id, refers_to FROM sync.fields('crm', 'Account') WHERE name = ";
    assert_eq!(query_one(&mut client, &format!("{field}'Name'")), "string|text|255|f|t|t|f|");
    assert_eq!(
        query_one(&mut client, &format!("{field}'AnnualRevenue'")),
        "currency|numeric||t|t|t|f|"
    );
    assert_eq!(
        query_one(&mut client, &format!("{field}'ParentId'")),
        "reference|text|18|t|t|t|f|Account"
    );
    assert_eq!(
        query_one(&mut client, &format!("{field}'SystemModstamp'")),
        "datetime|timestamp with time zone||f|f|f|f|"
    );
    let text = refusal(&mut client, "SELECT * FROM sync.fields('crm', 'Nothing__c')");
    assert!(text.contains("DETAIL: Code: "), "{text}");
    assert_eq!(
        query_one(
            &mut client,
            "SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ),
        "1"
    );
}

/// Up to the first thing that is missing, with its remedy.
#[test]
fn what_a_connection_lacks_is_found_step_by_step() {
    let (org, cluster) = with_org(local_org::Options::default(), &[]);
    let mut client = cluster.connect("postgres").unwrap();
    run(&mut client, r#"SELECT sync.create_connection('erp', '{"type": "netsuite"}')"#);
    let found = rows(&mut client, "SELECT what, ok FROM sync.test_connection('erp')");
    assert_eq!(found, ["connector|f"]);
    assert!(refusal(&mut client, "SELECT * FROM sync.objects('erp')").starts_with("0A000"));
    assert_eq!(
        query_one(&mut client, "SELECT state FROM sync.connections WHERE name = 'erp'"),
        "no connector"
    );

    create_crm(&mut client, org.url());
    let found = rows(&mut client, TEST);
    assert!(
        found.last().unwrap().starts_with("secret|f|") && found[2].contains("sync.set_secret"),
        "{found:#?}"
    );
    assert!(refusal(&mut client, "SELECT * FROM sync.objects('crm')").starts_with("28P01"));

    run(
        &mut client,
        &format!(
            "SELECT sync.set_secret('crm', client_id => '{}', client_secret => 'wrong-4711')",
            org.client_id()
        ),
    );
    let found = rows(&mut client, TEST);
    assert!(
        found.last().unwrap().starts_with("login|f|") && !found.concat().contains("4711"),
        "{found:#?}"
    );
    let text = refusal(&mut client, "SELECT * FROM sync.objects('crm')");
    assert!(text.starts_with("28000") && !text.contains("4711"), "{text}");

    run(
        &mut client,
        r#"SELECT sync.alter_connection('crm', '{"credentials": {"instance_url": null}}')"#,
    );
    assert!(
        rows(&mut client, TEST).last().unwrap().starts_with("settings|f|")
            || rows(&mut client, TEST).iter().any(|r| r.starts_with("address|f|"))
    );
    run(&mut client, "ALTER SERVER crm OPTIONS (ADD instance_url 'https://evil.example.com')");
    let found = rows(&mut client, TEST);
    assert!(
        found.iter().any(|row| row.starts_with("address|f|") && row.contains("allowed_hosts")),
        "{found:#?}"
    );
    let text = refusal(&mut client, "SELECT * FROM sync.objects('crm')");
    assert!(text.starts_with("42501") && text.contains("evil.example.com"), "{text}");

    // Nobody listens there any more.
    run(&mut client, &format!("ALTER SERVER crm OPTIONS (SET instance_url '{}')", org.url()));
    drop(org);
    let found = rows(&mut client, TEST);
    assert!(found.last().unwrap().starts_with("reached|f|"), "{found:#?}");
    assert!(refusal(&mut client, "SELECT * FROM sync.objects('crm')").starts_with("08006"));
}

/// The session waits as for anything else: it can be cancelled, and gives up by itself.
#[test]
fn a_call_is_cancelled_at_once_and_ends_by_itself() {
    let (org, cluster) = with_org(local_org::Options::default(), &[]);
    let mut client = cluster.connect("postgres").unwrap();
    connect_crm(&mut client, &org);
    org.fault(latency("/services", 60_000));
    run(&mut client, "SET sync_ext.call_timeout = '300ms'");
    let begun = Instant::now();
    let text = refusal(&mut client, "SELECT * FROM sync.objects('crm')");
    assert!(text.starts_with("08006") && text.contains("sync_ext.call_timeout"), "{text}");
    let found = rows(&mut client, TEST);
    assert!(found.last().unwrap().starts_with("reached|f|no answer within 300 ms"), "{found:#?}");
    run(&mut client, "RESET sync_ext.call_timeout; SET statement_timeout = '200ms'");
    assert!(refusal(&mut client, "SELECT * FROM sync.objects('crm')").starts_with("57014"));
    run(&mut client, "RESET statement_timeout");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    let token = client.cancel_token();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        token.cancel_query(NoTls).unwrap();
        begun
    });
    let text = refusal(&mut client, "SELECT * FROM sync.objects('crm')");
    let took = canceller.join().unwrap().elapsed();
    assert!(text.starts_with("57014") && took < Duration::from_secs(2), "{text} {took:?}");
    // Fully usable afterwards, and no thread is left. The postmaster signals a cancelled session and its process
    // group, the second of which may meet the next statement.
    org.clear_faults();
    let objects = "SELECT count(*) FROM sync.objects('crm')";
    cluster.wait_until("it is usable", || client.query_one(objects, &[]).is_ok());
    assert_eq!(query_one(&mut client, "SELECT count(*) > 3 FROM sync.objects('crm')"), "t");
    let pid = query_one(&mut client, "SELECT pg_backend_pid()");
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    cluster.wait_until("the network threads are gone", || threads() == 1);
}

/// Looking takes USAGE on the server; it gives no right to change anything.
#[test]
fn usage_on_the_server_lets_somebody_look() {
    let (org, cluster) = with_org(local_org::Options::default(), &[]);
    let mut client = cluster.connect("postgres").unwrap();
    connect_crm(&mut client, &org);
    run(&mut client, "CREATE ROLE looker LOGIN; SELECT sync.\"grant\"('looker')");
    let mut looker = cluster.connect_as("postgres", "looker").unwrap();
    for look in
        ["sync.test_connection('crm')", "sync.objects('crm')", "sync.fields('crm', 'Account')"]
    {
        let text = refusal(&mut looker, &format!("SELECT * FROM {look}"));
        assert!(text.starts_with("42501") && text.contains("USAGE"), "{text}");
    }
    assert_eq!(org.calls().len(), 0);
    run(&mut client, "GRANT USAGE ON FOREIGN SERVER crm TO looker");
    for look in
        ["sync.test_connection('crm')", "sync.objects('crm')", "sync.fields('crm', 'Account')"]
    {
        assert!(!rows(&mut looker, &format!("SELECT * FROM {look}")).is_empty());
    }
    assert!(
        refusal(&mut looker, "SELECT sync.set_secret('crm', client_id => 'x')")
            .starts_with("42501")
    );
    assert!(refusal(&mut looker, "SELECT sync.alter_connection('crm', '{}')").starts_with("42501"));
}
