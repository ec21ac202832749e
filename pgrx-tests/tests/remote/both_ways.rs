//! Rows become records and records become rows.

use local_org::Options;
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{accounts, names, rarely_asked, settle, until};

#[test]
fn rows_become_records_and_get_their_ids() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(
        &mut c,
        "INSERT INTO accounts (account_name, annual_revenue) SELECT 'a' || i, i + 0.5 FROM generate_series(1, 300) i",
    );
    settle(&mut c);
    assert_eq!(org.count("Account"), 300);
    until(&mut c, "SELECT count(*) FROM accounts WHERE sf_id IS NULL", "0");
    until(&mut c, "SELECT count(*) FROM accounts WHERE last_modified IS NULL", "0");
    run(
        &mut c,
        "UPDATE accounts SET account_name = 'b' WHERE id = 1; DELETE FROM accounts WHERE id = 2",
    );
    settle(&mut c);
    assert_eq!(org.count("Account"), 299);
    assert!(names(&org).contains(&"b".to_owned()), "{:?}", names(&org));
    assert_eq!(org.unserved().len(), 0, "{:?}", org.unserved());
    // What was sent does not come back as a change.
    let calls = org.calls().iter().filter(|call| call.method == "PATCH").count();
    assert_eq!(
        rows(
            &mut c,
            "SELECT status, count(*) FROM sync.change_log WHERE origin = 'user' GROUP BY 1"
        ),
        ["synced|302"]
    );
    assert_eq!(org.calls().iter().filter(|call| call.method == "PATCH").count(), calls);
}

#[test]
fn records_become_rows_and_their_changes_arrive() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    let ids: Vec<String> = (0..2_500)
        .map(|n| {
            org.insert("Account", json!({"Name": format!("n{n}"), "AnnualRevenue": n})).unwrap()
        })
        .collect();
    until(
        &mut c,
        "SELECT count(*), count(sf_id), max(annual_revenue) FROM accounts",
        "2500|2500|2499.00",
    );
    org.edit(&ids[7], json!({"Name": "seven", "Industry": "Banking"})).unwrap();
    org.delete(&ids[8]).unwrap();
    until(&mut c, "SELECT count(*) FROM accounts", "2499");
    until(
        &mut c,
        &format!(
            "SELECT account_name || '|' || industry_type FROM accounts WHERE sf_id = '{}'",
            ids[7]
        ),
        "seven|Banking",
    );
    // A change of each side to another field survives.
    org.edit(&ids[9], json!({"Industry": "Banking"})).unwrap();
    run(&mut c, &format!("UPDATE accounts SET account_name = 'nine' WHERE sf_id = '{}'", ids[9]));
    settle(&mut c);
    until(
        &mut c,
        &format!(
            "SELECT account_name || '|' || industry_type FROM accounts WHERE sf_id = '{}'",
            ids[9]
        ),
        "nine|Banking",
    );
    let record = org.get(&ids[9]).unwrap();
    assert_eq!(
        (record["Name"].as_str(), record["Industry"].as_str()),
        (Some("nine"), Some("Banking"))
    );
}

#[test]
fn records_that_are_there_are_loaded_and_paired_by_their_id() {
    let (org, cluster) = crate::connections::with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    crate::connections::connect_crm(&mut c, &org);
    let id = org.insert("Account", json!({"Name": "there"})).unwrap();
    org.insert("Account", json!({"Name": "new"})).unwrap();
    run(
        &mut c,
        &format!(
            "CREATE TABLE accounts (id SERIAL PRIMARY KEY, sf_id VARCHAR(18) UNIQUE, account_name VARCHAR(255),
               industry_type VARCHAR(100), annual_revenue DECIMAL(18,2), last_modified TIMESTAMP);
             INSERT INTO accounts (sf_id, account_name) VALUES ('{id}', 'there')"
        ),
    );
    super::create_sync(&mut c, "{}");
    until(
        &mut c,
        "SELECT string_agg(account_name, ',' ORDER BY account_name) FROM accounts",
        "new,there",
    );
    settle(&mut c);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "2");
    assert_eq!(org.count("Account"), 2);
}

/// The other system trims: what it holds afterwards is what the row gets, once, and no ping-pong.
#[test]
fn what_the_other_system_makes_of_a_value_comes_back_once() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('  wide  ')");
    settle(&mut c);
    assert_eq!(names(&org), ["wide"]);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    let writes = || {
        org.calls()
            .iter()
            .filter(|call| {
                call.path.contains("composite") && call.method == "POST" || call.method == "PATCH"
            })
            .count()
    };
    let before = writes();
    run(&mut c, "UPDATE accounts SET last_sync = now()");
    settle(&mut c);
    assert_eq!(writes(), before);
}

/// A changed interval counts from the call on, not from when the old one has run out.
#[test]
fn another_polling_interval_is_in_force_at_once() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    let polling = |seconds: u32| {
        format!(
            r#"SELECT sync.alter_sync('accounts', '{{"ongoing_sync": {{"polling_interval_seconds": {seconds}}}}}')"#
        )
    };
    run(&mut c, &polling(3600));
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('first')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    // What hurries after a write has been asked; the next time is an hour away.
    let mut asked = 0;
    let quiet = cluster::poll(std::time::Duration::from_secs(10), || {
        let before = std::mem::replace(&mut asked, org.calls().len());
        std::thread::sleep(std::time::Duration::from_secs(2));
        asked == before
    });
    assert!(quiet, "{asked} calls, and more are coming");
    org.insert("Account", json!({"Name": "there"})).unwrap();
    run(&mut c, &polling(1));
    until(&mut c, "SELECT count(*) FROM accounts", "2");
}

/// Nothing but the secrets has to be said apart from the document.
#[test]
fn a_connection_that_the_document_describes_is_made_with_the_sync() {
    let (org, cluster) = crate::connections::with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    org.insert("Account", json!({"Name": "there"})).unwrap();
    run(
        &mut c,
        &format!(
            r#"CREATE TABLE accounts (id SERIAL PRIMARY KEY, sf_id VARCHAR(18) UNIQUE, account_name VARCHAR(255));
               SELECT sync.create_sync('accounts', '{{"connection_name": "Described", "target": "accounts",
                 "source": {{"type": "salesforce", "credentials": {{"auth_type": "oauth2", "instance_url": "{}"}}, "object": "Account"}},
                 "field_mappings": [{{"source": "Id", "target": "sf_id"}}, {{"source": "Name", "target": "account_name"}}],
                 "sync_type": "bidirectional"}}')"#,
            org.url()
        ),
    );
    until(&mut c, "SELECT state FROM sync.status", "needs credentials");
    run(
        &mut c,
        &format!(
            "SELECT sync.set_secret('Described', client_id => '{}', client_secret => '{}')",
            org.client_id(),
            org.client_secret()
        ),
    );
    until(&mut c, "SELECT string_agg(account_name, ', ') FROM accounts", "there");
}

/// P4: an edit after a delete of the other side brings the record back, under the id it is given there.
#[test]
fn a_record_deleted_there_and_edited_here_is_created_again() {
    for identity in ["{}", r#"{"identity": "External_Id__c"}"#] {
        let (org, _cluster, mut c) = accounts(Options::default(), identity);
        run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one'), ('two')");
        settle(&mut c);
        until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
        let id = query_one(&mut c, "SELECT sf_id FROM accounts WHERE id = 1");
        run(&mut c, "SELECT sync.pause('accounts')");
        org.delete(&id).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        run(
            &mut c,
            "UPDATE accounts SET account_name = 'again' WHERE id = 1; SELECT sync.resume('accounts')",
        );
        cluster::poll(std::time::Duration::from_secs(30), || names(&org) == ["again", "two"]);
        assert_eq!(names(&org), ["again", "two"]);
        settle(&mut c);
        let given = org.records("Account").into_iter().find(|r| r["Name"] == "again").unwrap();
        until(&mut c, "SELECT sf_id FROM accounts WHERE id = 1", given["Id"].as_str().unwrap());
        settle(&mut c);
        assert_eq!(query_one(&mut c, "SELECT kind FROM sync.conflicts"), "update_deleted");
        run(&mut c, "UPDATE accounts SET account_name = 'once more' WHERE id = 1");
        settle(&mut c);
        assert_eq!(names(&org), ["once more", "two"]);
    }
}

/// P2: what was edited there, unknown to us, when the row was deleted here is told of.
#[test]
fn an_edit_that_a_delete_has_run_over_is_recorded() {
    let (org, _cluster, mut c, id) = rarely_asked();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    org.edit(&id, json!({"Name": "theirs"})).unwrap();
    run(&mut c, "DELETE FROM accounts");
    settle(&mut c);
    assert_eq!(org.count("Account"), 0);
    assert_eq!(
        rows(&mut c, "SELECT kind, field, base, source_value, winner FROM sync.conflicts"),
        ["update_deleted|account_name|one|theirs|target"]
    );
}

/// What polls do not tell, because it has no later mark than what they have told, is found by comparing all records.
#[test]
fn a_change_without_a_trace_is_found_when_all_is_compared() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    let insert = |name: &str| org.insert("Account", json!({"Name": name})).unwrap();
    let (edited, purged) = (insert("edited"), insert("purged"));
    until(&mut c, "SELECT count(*) FROM accounts", "2");
    org.set_clock_skew_ms(-7_200_000);
    org.edit(&edited, json!({"Name": "unseen"})).unwrap();
    org.delete(&purged).unwrap();
    org.purge(&purged).unwrap();
    org.set_clock_skew_ms(0);
    // Two polls that begin from now on have not told of it.
    for name in ["later", "later still"] {
        insert(name);
        until(&mut c, &format!("SELECT count(*) FROM accounts WHERE account_name = '{name}'"), "1");
    }
    let names = "SELECT string_agg(account_name, ' ' ORDER BY account_name) FROM accounts";
    assert_eq!(query_one(&mut c, names), "edited later later still purged");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"reconcile_interval_seconds": 1}}')"#,
    );
    until(&mut c, names, "later later still unseen");
    // And nothing was written for it.
    assert!(org.calls().iter().all(|call| !(call.method == "PATCH" || call.method == "DELETE")));
}
