//! Outages wait, refusals park their record, and both say what to do.

use local_org::{Fault, FaultRule, Options, Rule, RuleAction};
use pgrx_tests::{query_one, rows, run};

use super::{accounts, names, settle, until};

#[test]
fn an_outage_waits_and_burns_no_attempts() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('before')");
    settle(&mut c);
    org.fault(FaultRule::always(Fault::Html503));
    run(
        &mut c,
        "INSERT INTO accounts (account_name) SELECT 'x' || i FROM generate_series(1, 10) i",
    );
    until(&mut c, "SELECT state FROM sync.status", "waiting");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue WHERE attempts > 0"), "0");
    org.clear_faults();
    settle(&mut c);
    assert_eq!(org.count("Account"), 11, "{:?}", names(&org));
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "running");
}

/// P12.
#[test]
fn a_value_the_org_refuses_parks_its_record_only() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('good'), (NULL), ('fine')");
    until(&mut c, "SELECT count(*) FROM sync.queue", "1");
    until(&mut c, "SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "2");
    assert_eq!(names(&org), ["fine", "good"]);
    let said = rows(&mut c, "SELECT key, message FROM sync.queue");
    assert!(
        said[0].starts_with("2|") && said[0].contains("Required fields are missing"),
        "{said:?}"
    );
    // Mended where it was made.
    run(&mut c, "UPDATE accounts SET account_name = 'mended' WHERE id = 2");
    settle(&mut c);
    assert_eq!(names(&org), ["fine", "good", "mended"]);
}

#[test]
fn wrong_credentials_are_said_and_mended_by_a_new_secret() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    org.set_client(org.client_id(), "rotated");
    org.expire_sessions();
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    until(&mut c, "SELECT state FROM sync.status", "refused");
    run(
        &mut c,
        &format!(
            "SELECT sync.set_secret('crm', client_id => '{}', client_secret => 'rotated')",
            org.client_id()
        ),
    );
    settle(&mut c);
    assert_eq!(names(&org), ["one", "two"]);
}

/// The object is there; what is wrong is the mapping, and no table was dropped.
#[test]
fn a_field_that_the_object_lacks_is_named() {
    let (org, cluster) = crate::connections::with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    crate::connections::connect_crm(&mut c, &org);
    run(
        &mut c,
        r#"CREATE TABLE accounts (id SERIAL PRIMARY KEY, account_name text);
           SELECT sync.create_sync('accounts', '{"source": {"connection": "crm", "object": "Account"}, "target": "accounts",
             "field_mappings": [{"source": "Nmae", "target": "account_name"}], "sync_type": "bidirectional"}')"#,
    );
    until(&mut c, "SELECT state FROM sync.status", "failing");
    let said = query_one(&mut c, "SELECT detail FROM sync.status");
    assert!(said.starts_with("field \"Nmae\" of crm:Account does not exist"), "{said}");
}

/// P5: as long as what was decided is refused it is decided again and again, and told of once.
#[test]
fn a_conflict_whose_outcome_is_refused_is_recorded_once() {
    let quick = r#"{"error_handling": {"retry_strategy": {"max_attempts": 1000, "initial_delay_seconds": 0.05, "backoff_factor": 1.05}}}"#;
    let (org, _cluster, mut c) = accounts(Options::default(), quick);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    let id = query_one(&mut c, "SELECT sf_id FROM accounts");
    org.add_rule(Rule {
        object: "Account".into(),
        action: RuleAction::Reject {
            field: "Name".into(),
            value: "ours".into(),
            message: "not this one".into(),
        },
    });
    run(&mut c, "SELECT sync.pause('accounts')");
    org.delete(&id).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    run(&mut c, "UPDATE accounts SET account_name = 'ours'; SELECT sync.resume('accounts')");
    until(&mut c, "SELECT count(*) > 0 FROM sync.conflicts", "t");
    // The deletion is read again with each look at the changes, for as long as they overlap.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(
        rows(&mut c, "SELECT kind, field, base, target_value, winner FROM sync.conflicts"),
        ["update_deleted|account_name|one|ours|target"]
    );
    org.clear_rules();
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
    settle(&mut c);
    assert_eq!(names(&org), ["ours"]);
}
