//! An answer that never came: no record twice, none missing.

use local_org::{Fault, FaultRule, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{accounts, names, rarely_asked, settle, until};

fn lost_create(more: &str) {
    let (org, _cluster, mut c) = accounts(Options::default(), more);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('first')");
    settle(&mut c);
    for fault in [Fault::CutAfter, Fault::CutBefore, Fault::CutAfter] {
        let number = org.fault(FaultRule::once(fault).path("composite/sobjects"));
        let n = query_one(&mut c, "SELECT count(*) FROM accounts").parse::<usize>().unwrap();
        run(
            &mut c,
            &format!(
                "INSERT INTO accounts (account_name) SELECT 'x' || {n} || i FROM generate_series(1, 5) i"
            ),
        );
        settle(&mut c);
        assert_eq!(org.struck(number), 1);
        assert_eq!(org.count("Account"), n + 5, "{:?}", names(&org));
        until(&mut c, "SELECT count(*) FROM accounts WHERE sf_id IS NULL", "0");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), (n + 5).to_string());
    }
}

/// P8, with an external-id field.
#[test]
fn a_lost_answer_to_a_create_with_an_identity_makes_no_twin() {
    lost_create(r#"{"identity": "External_Id__c"}"#);
}

/// P8, without one: the record is looked up.
#[test]
fn a_lost_answer_to_a_create_without_an_identity_makes_no_twin() {
    lost_create("{}");
}

/// A9: somebody has changed the record since; sending the lost update again would overwrite it.
#[test]
fn a_lost_update_is_not_repeated_over_a_newer_change() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    let id = query_one(&mut c, "SELECT sf_id FROM accounts");
    let number = org.fault(FaultRule::once(Fault::CutAfter).path("composite"));
    run(&mut c, "UPDATE accounts SET account_name = 'ours'");
    settle(&mut c);
    assert_eq!(org.struck(number), 1);
    org.edit(&id, json!({"Name": "theirs"})).unwrap();
    until(&mut c, "SELECT account_name FROM accounts", "theirs");
    assert_eq!(names(&org), ["theirs"]);
    assert_eq!(rows(&mut c, "SELECT * FROM sync.conflicts"), Vec::<String>::new());
}

#[test]
fn an_update_that_was_to_empty_a_field_and_never_arrived_is_sent_again() {
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let (org, _cluster, mut c) = accounts(Options::default(), "{}");
        run(&mut c, "INSERT INTO accounts (account_name, industry_type) VALUES ('one', 'Energy')");
        settle(&mut c);
        until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
        let id = query_one(&mut c, "SELECT sf_id FROM accounts");
        let number = org.fault(FaultRule::once(fault).path("composite"));
        run(&mut c, "UPDATE accounts SET industry_type = NULL");
        settle(&mut c);
        assert_eq!(org.struck(number), 1);
        let empty = || org.get(&id).unwrap()["Industry"].is_null();
        assert!(cluster::poll(std::time::Duration::from_secs(30), empty));
        settle(&mut c);
        assert_eq!(query_one(&mut c, "SELECT industry_type IS NULL FROM accounts"), "t");
    }
}

/// P4: the update had arrived when somebody deleted the record, so it is no edit that outlives the delete.
#[test]
fn a_record_deleted_after_a_lost_update_had_arrived_stays_deleted() {
    let (org, _cluster, mut c, id) = rarely_asked();
    let cut = org.fault(FaultRule::once(Fault::CutAfter).path("composite"));
    // Nothing can be looked up before the record is gone.
    org.fault(FaultRule::always(Fault::Html503).path("composite/sobjects/Account"));
    run(&mut c, "UPDATE accounts SET account_name = 'ours'");
    assert!(cluster::poll(std::time::Duration::from_secs(20), || names(&org) == ["ours"]));
    assert_eq!(org.struck(cut), 1);
    org.delete(&id).unwrap();
    org.clear_faults();
    until(&mut c, "SELECT count(*) FROM accounts", "0");
    settle(&mut c);
    assert_eq!(names(&org), [""; 0]);
    assert_eq!(rows(&mut c, "SELECT * FROM sync.conflicts"), Vec::<String>::new());
}

/// An edit over there that nobody has told of yet is found by the write itself.
#[test]
fn an_edit_found_while_writing_is_a_conflict_and_the_later_one_wins() {
    let (org, _cluster, mut c, id) = rarely_asked();
    org.edit(&id, json!({"Name": "theirs", "Industry": "Banking"})).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    run(&mut c, "UPDATE accounts SET account_name = 'ours'");
    settle(&mut c);
    until(&mut c, "SELECT account_name || '|' || industry_type FROM accounts", "ours|Banking");
    assert_eq!(names(&org), ["ours"]);
    assert_eq!(
        rows(&mut c, "SELECT field, base, source_value, target_value, winner FROM sync.conflicts"),
        ["account_name|one|theirs|ours|target"]
    );
}

/// Without an identity: nobody can say whether a record that was changed beyond recognition is the row's.
/// An edit of the row must not make a second one; a person decides.
#[test]
fn a_row_in_doubt_is_not_created_again_by_an_edit() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    settle(&mut c);
    org.fault(FaultRule::once(Fault::CutAfter).path("composite/sobjects"));
    org.fault(FaultRule::always(Fault::Html503).path("query"));
    run(
        &mut c,
        "INSERT INTO accounts (account_name, industry_type, annual_revenue) VALUES ('lost', 'Energy', 7)",
    );
    assert!(cluster::poll(std::time::Duration::from_secs(20), || org.count("Account") == 1));
    let id = org.records("Account")[0]["Id"].as_str().unwrap().to_owned();
    org.edit(&id, json!({"Name": "theirs", "AnnualRevenue": 8})).unwrap();
    org.clear_faults();
    let queue = "SELECT string_agg(state, ',') FROM sync.queue";
    until(&mut c, queue, "review");
    run(&mut c, "UPDATE accounts SET industry_type = 'Banking' WHERE account_name = 'lost'");
    assert_eq!(
        query_one(&mut c, "SELECT settled, parked FROM sync.wait('accounts', '60s')"),
        "t|1"
    );
    assert_eq!(names(&org), ["theirs"], "{:?}", rows(&mut c, "SELECT * FROM sync.change_log"));
    assert_eq!(query_one(&mut c, queue), "review");
    // Nor by who has all tried again that waits.
    assert_eq!(query_one(&mut c, "SELECT sync.retry_all('accounts')"), "0");
    // Told to, it is sent with the edit.
    let key = query_one(&mut c, "SELECT id FROM accounts WHERE account_name = 'lost'");
    run(&mut c, &format!("SELECT sync.push('accounts', '{key}')"));
    settle(&mut c);
    assert_eq!(names(&org), ["lost", "theirs"]);
    assert_eq!(rows(&mut c, queue), [""]);
}

/// Without an identity: somebody has changed the record before it could be looked up.
#[test]
fn a_record_changed_before_its_lost_create_is_looked_up_makes_no_twin() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('first')");
    settle(&mut c);
    // All is refused until the record has been changed.
    org.fault(FaultRule::once(Fault::CutAfter).path("composite/sobjects"));
    run(&mut c, "INSERT INTO accounts (account_name, industry_type) VALUES ('lost', 'Energy')");
    let there = || org.records("Account").into_iter().find(|r| r["Name"] == "lost");
    assert!(cluster::poll(std::time::Duration::from_secs(20), || there().is_some()));
    org.edit(there().unwrap()["Id"].as_str().unwrap(), json!({"Name": "changed"})).unwrap();
    settle(&mut c);
    until(
        &mut c,
        "SELECT string_agg(account_name, ', ' ORDER BY id) FROM accounts",
        "first, changed",
    );
    assert_eq!(names(&org), ["changed", "first"]);
}
