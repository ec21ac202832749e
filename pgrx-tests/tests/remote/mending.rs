//! What is wrong with a connection, or with what its user may do, is said with what mends it; once it is
//! mended all goes on by itself, and no record was given up or sent twice.

use cluster::postgres::Client;
use local_org::{Fault, FaultRule, Object, Options};
use pgrx_tests::{query_one, refusal, rows, run};

use super::{accounts, names, settle, until};

/// Waits for this state of the sync, and for these parts of what is said of it.
#[track_caller]
fn says(c: &mut Client, state: &str, parts: &[&str]) {
    let mut last = String::new();
    let found = cluster::poll(std::time::Duration::from_secs(60), || {
        last = query_one(c, "SELECT state || ': ' || detail FROM sync.status");
        last.starts_with(&format!("{state}: ")) && parts.iter().all(|part| last.contains(part))
    });
    assert!(found, "not {state} with {parts:?}: {last}");
}

/// Nothing of it has counted against any record.
#[track_caller]
fn burnt_nothing(c: &mut Client) {
    assert_eq!(rows(c, "SELECT * FROM sync.queue"), Vec::<String>::new());
    assert_eq!(query_one(c, "SELECT count(*) FROM sync.errors WHERE key IS NOT NULL"), "0");
    until(c, "SELECT state FROM sync.status", "running");
    until(c, "SELECT count(*) FROM accounts WHERE sf_id IS NULL", "0");
}

#[test]
fn a_wrong_host_is_named_with_what_is_wrong_about_it() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('before')");
    settle(&mut c);
    let place = org.url().trim_start_matches("http://").to_owned();
    run(
        &mut c,
        &format!(
            "ALTER SYSTEM SET sync_ext.allowed_hosts = '{place}, nowhere.invalid, 127.0.0.1:1'"
        ),
    );
    run(&mut c, "SELECT pg_reload_conf()");
    // Where the settings lead is looked at as they are changed; later the list may be.
    let refused = refusal(
        &mut c,
        r#"SELECT sync.alter_connection('crm', '{"credentials": {"instance_url": "https://elsewhere.example.com"}}')"#,
    );
    assert!(refused.contains("HINT: An administrator can add it to the setting"), "{refused}");
    let lead_to = |c: &mut Client, url: &str| {
        run(c, &format!("ALTER SERVER crm OPTIONS (SET instance_url '{url}')"));
    };
    let cases: [(&str, &str, &[&str]); 3] = [
        (
            "https://nowhere.invalid",
            "waiting",
            &["no address is found for host \"nowhere.invalid\"", "Check the name", "next try at"],
        ),
        (
            "https://elsewhere.example.com",
            "unreachable",
            &[
                "host \"elsewhere.example.com\" is not among the allowed hosts",
                "sync_ext.allowed_hosts",
            ],
        ),
        (
            "http://127.0.0.1:1",
            "waiting",
            &[
                "no connection to host \"127.0.0.1\"",
                "refused",
                "Check host and port",
                "next try at",
            ],
        ),
    ];
    for (n, (url, state, parts)) in cases.into_iter().enumerate() {
        lead_to(&mut c, url);
        run(&mut c, &format!("INSERT INTO accounts (account_name) VALUES ('x{n}')"));
        says(&mut c, state, parts);
        assert_eq!(query_one(&mut c, "SELECT state FROM sync.connections"), state);
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
    }
    lead_to(&mut c, org.url());
    settle(&mut c);
    burnt_nothing(&mut c);
    assert_eq!(names(&org), ["before", "x0", "x1", "x2"]);
}

#[test]
fn an_expired_secret_is_replaced_and_one_that_does_not_work_takes_no_place() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    let set = |c: &mut Client, secret: &str| {
        let id = org.client_id();
        run(
            c,
            &format!(
                "SELECT sync.set_secret('crm', client_id => '{id}', client_secret => '{secret}')"
            ),
        );
    };
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    // A mistake beside a secret that works is said, and nothing waits for it.
    set(&mut c, "mistyped");
    until(&mut c, "SELECT detail ~ 'invalid client credentials' FROM sync.connections", "t");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    settle(&mut c);
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.connections"), "ok");

    org.set_client(org.client_id(), "rotated");
    org.expire_sessions();
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('three')");
    let parts = ["invalid client credentials", "Check the consumer key and the consumer secret"];
    says(&mut c, "refused", &parts);
    set(&mut c, "mistyped again");
    until(&mut c, "SELECT state FROM sync.connections", "refused");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
    set(&mut c, "rotated");
    settle(&mut c);
    burnt_nothing(&mut c);
    assert_eq!(names(&org), ["one", "three", "two"]);
}

/// One sync's object is closed to the user: the others of the connection go on.
#[test]
fn an_object_that_the_user_may_not_read_keeps_only_its_sync_waiting() {
    let closed = Object { queryable: false, ..Object::new("Closed__c", "a0C") };
    let options = Options { objects: vec![closed.clone()], ..Options::default() };
    let (org, _cluster, mut c) = accounts(options, "{}");
    run(
        &mut c,
        r#"CREATE TABLE closed (id serial PRIMARY KEY, sf_id text, name text);
           SELECT sync.create_sync('closed', '{"source": {"connection": "crm", "object": "Closed__c"}, "target": "closed",
             "field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "Name", "target": "name"}], "sync_type": "bidirectional"}');
           CREATE TABLE missing (id serial PRIMARY KEY, sf_id text);
           SELECT sync.create_sync('missing', '{"source": {"connection": "crm", "object": "Missing__c"}, "target": "missing",
             "field_mappings": [{"source": "Id", "target": "sf_id"}], "sync_type": "bidirectional"}')"#,
    );
    let said = "SELECT state || ': ' || detail FROM sync.status WHERE sync = ";
    until(
        &mut c,
        &format!(
            "SELECT x ~ '^failing: .*cannot be read.*Give the user of the connection the right' FROM ({said}'closed') s (x)"
        ),
        "t",
    );
    until(
        &mut c,
        &format!(
            "SELECT x ~ '^failing: .*Check that the object Missing__c exists' FROM ({said}'missing') s (x)"
        ),
        "t",
    );
    run(
        &mut c,
        "INSERT INTO accounts (account_name) VALUES ('one'); INSERT INTO closed (name) VALUES ('mine')",
    );
    settle(&mut c);
    assert_eq!(names(&org), ["one"]);
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.connections"), "ok");

    org.define_object(Object { queryable: true, ..closed });
    org.define_object(Object::new("Missing__c", "a0M"));
    until(&mut c, "SELECT string_agg(state, ' ') FROM sync.status", "running running running");
    until(&mut c, "SELECT count(sf_id) FROM closed", "1");
    assert_eq!(org.count("Closed__c"), 1);
}

#[test]
fn a_field_that_the_user_may_not_see_stops_the_sync_until_he_may() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name, industry_type) VALUES ('one', 'Banking')");
    settle(&mut c);
    org.set_access("Account", "Industry", false, false).unwrap();
    run(
        &mut c,
        "UPDATE accounts SET industry_type = 'Retail'; INSERT INTO accounts (account_name) VALUES ('two')",
    );
    says(&mut c, "failing", &["Industry"]);
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.connections"), "ok");
    // As soon as the object has been described anew.
    says(
        &mut c,
        "failing",
        &["field \"Industry\" of crm:Account does not exist", "This user can see: "],
    );
    org.set_access("Account", "Industry", true, true).unwrap();
    until(&mut c, "SELECT state FROM sync.status", "running");
    settle(&mut c);
    burnt_nothing(&mut c);
    assert_eq!(names(&org), ["one", "two"]);
    assert_eq!(
        org.records("Account").iter().filter(|r| r["Industry"] == "Retail").count(),
        1,
        "{:?}",
        org.records("Account")
    );
}

/// P12: what the user may not write is refused record by record, with the right that is missing.
#[test]
fn a_right_to_write_that_is_missing_is_named_and_the_record_goes_on_when_it_is_given() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one'), ('two')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
    org.set_access("Account", "Industry", true, false).unwrap();
    run(&mut c, "UPDATE accounts SET industry_type = 'Banking' WHERE account_name = 'one'");
    until(&mut c, "SELECT count(*) FROM sync.queue", "1");
    let said = query_one(&mut c, "SELECT sqlstate, detail, hint FROM sync.queue");
    for part in
        ["Fields: Industry", "the right to edit the field, or take the field out of the mapping"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    run(&mut c, "UPDATE accounts SET account_name = 'zwei' WHERE account_name = 'two'");
    let arrived = || names(&org) == ["one", "zwei"];
    assert!(cluster::poll(std::time::Duration::from_secs(60), arrived), "{:?}", names(&org));
    org.set_access("Account", "Industry", true, true).unwrap();
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
    assert_eq!(org.records("Account").iter().filter(|r| r["Industry"] == "Banking").count(), 1);

    let fault = Fault::Record {
        code: "INSUFFICIENT_ACCESS_OR_READONLY".into(),
        message: "insufficient access rights on object id".into(),
    };
    org.fault(FaultRule::always(fault).object("Account"));
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('three')");
    until(&mut c, "SELECT count(*) FROM sync.queue", "1");
    let said = query_one(&mut c, "SELECT sqlstate, message, detail, hint FROM sync.queue");
    for part in [
        "42501|insufficient access rights",
        "INSUFFICIENT_ACCESS_OR_READONLY",
        "the right to change the record",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    org.clear_faults();
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
    settle(&mut c);
    assert_eq!(names(&org), ["one", "three", "zwei"]);
}

/// A write that is refused for what the object is: no record's fault, and said for as long as it is so.
#[test]
fn a_refusal_of_the_object_counts_against_no_record_and_is_said_until_it_ends() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    let fault = Fault::Error {
        status: 400,
        code: "INVALID_TYPE".into(),
        message: "sObject type 'Account' is not supported.".into(),
    };
    let number = org.fault(FaultRule::always(fault).path("composite"));
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two'), ('three')");
    let parts = ["sObject type 'Account' is not supported", "Check that the object exists"];
    says(&mut c, "failing", &parts);
    // While polls succeed, and the object is described anew.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(7) {
        assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "failing");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.connections"), "ok");
    assert!((1..=2).contains(&org.struck(number)), "{}", org.struck(number));
    org.clear_faults();
    settle(&mut c);
    burnt_nothing(&mut c);
    assert_eq!(names(&org), ["one", "three", "two"]);
}
