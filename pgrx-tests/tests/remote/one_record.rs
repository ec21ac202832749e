//! One record is read or sent when a person says so.

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{Fault, FaultRule, LocalOrg, Options};
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::json;

use super::{accounts, settle, until};

/// A row and its record, in a sync that asks for changes so seldom that the test is over by then.
fn linked(options: Options) -> (LocalOrg, Cluster, Client, String) {
    let (org, cluster, mut c) = accounts(options, "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 600}}')"#,
    );
    // The last poll of the old pace is over when what it reads has arrived.
    let id = query_one(&mut c, "SELECT sf_id FROM accounts");
    until(&mut c, "SELECT count(*) FROM accounts WHERE last_modified IS NULL", "0");
    settle(&mut c);
    until_no_poll(&org);
    (org, cluster, c, id)
}

/// Polls come a second apart until the worker has read the new interval.
fn until_no_poll(org: &LocalOrg) {
    let quiet = cluster::poll(std::time::Duration::from_secs(30), || {
        org.clear_calls();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        org.calls().iter().all(|call| !call.path.contains("query"))
    });
    assert!(quiet, "the changed interval has no effect: {:?}", org.calls());
}

#[test]
fn a_pull_brings_an_edit_long_before_the_next_poll() {
    let (org, _cluster, mut c, id) = linked(Options::default());
    org.edit(&id, json!({"Name": "theirs"})).unwrap();
    run(&mut c, "SELECT sync.pull('accounts', '1')");
    settle(&mut c);
    assert_eq!(query_one(&mut c, "SELECT account_name FROM accounts"), "theirs");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
    // By the record's own id, in its short form or without its capitals; a record that has no row yet
    // gets one.
    for written in [id[..15].to_owned(), id.to_lowercase()] {
        org.edit(&id, json!({"Name": written})).unwrap();
        run(&mut c, &format!("SELECT sync.pull('accounts', '{written}')"));
        settle(&mut c);
        assert_eq!(query_one(&mut c, "SELECT account_name FROM accounts"), written);
    }
    let new = org.insert("Account", json!({"Name": "new"})).unwrap();
    run(&mut c, &format!("SELECT sync.pull('accounts', '{}')", &new[..15]));
    settle(&mut c);
    assert_eq!(
        query_one(&mut c, &format!("SELECT account_name FROM accounts WHERE sf_id = '{new}'")),
        "new"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._queue"), "0");
    assert_eq!(org.count("Account"), 2);
}

/// P3: an edit that waits is not lost to what was read.
#[test]
fn a_pull_keeps_the_edit_that_waits_here() {
    let (org, _cluster, mut c, id) = linked(Options::default());
    let number = org.fault(FaultRule::always(refused()));
    run(&mut c, "UPDATE accounts SET account_name = 'ours'");
    until(&mut c, "SELECT count(*) FROM sync.queue WHERE message = 'not now'", "1");
    org.edit(&id, json!({"Industry": "Banking"})).unwrap();
    run(&mut c, "SELECT sync.pull('accounts', '1')");
    until(&mut c, "SELECT industry_type FROM accounts", "Banking");
    assert_eq!(query_one(&mut c, "SELECT account_name FROM accounts"), "ours");
    assert!(org.struck(number) > 0);
    org.clear_faults();
    // At once, however long the next attempt would be away.
    run(&mut c, "SELECT sync.push('accounts', '1')");
    settle(&mut c);
    let record = org.get(&id).unwrap();
    assert_eq!(
        (record["Name"].as_str(), record["Industry"].as_str()),
        (Some("ours"), Some("Banking"))
    );
}

fn refused() -> Fault {
    Fault::Record { code: "FIELD_CUSTOM_VALIDATION_EXCEPTION".into(), message: "not now".into() }
}

/// P3.
#[test]
fn a_push_is_merged_with_an_edit_that_no_poll_has_told_of() {
    let (org, _cluster, mut c, id) = linked(Options::default());
    org.fault(FaultRule::always(refused()));
    run(&mut c, "UPDATE accounts SET account_name = 'ours'");
    until(&mut c, "SELECT count(*) FROM sync.queue WHERE message = 'not now'", "1");
    run(&mut c, "SELECT sync.discard(id, reason => 'later') FROM sync.queue");
    org.clear_faults();
    settle(&mut c);
    org.edit(&id, json!({"Industry": "Banking"})).unwrap();
    run(&mut c, "SELECT sync.push('accounts', '1')");
    settle(&mut c);
    let record = org.get(&id).unwrap();
    assert_eq!(
        (record["Name"].as_str(), record["Industry"].as_str()),
        (Some("ours"), Some("Banking"))
    );
    assert_eq!(
        query_one(&mut c, "SELECT account_name, industry_type FROM accounts"),
        "ours|Banking"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
}

/// Where nothing is to be sent, nothing is written, and what the other side holds still arrives.
#[test]
fn a_push_of_a_row_in_sync_writes_nothing() {
    let (org, _cluster, mut c, id) = linked(Options::default());
    org.edit(&id, json!({"Industry": "Banking"})).unwrap();
    org.clear_calls();
    run(&mut c, "SELECT sync.push('accounts', '1')");
    settle(&mut c);
    assert_eq!(query_one(&mut c, "SELECT industry_type FROM accounts"), "Banking");
    let writes: Vec<_> = org.calls().into_iter().filter(|call| call.method == "PATCH").collect();
    assert!(writes.is_empty(), "{writes:?}");
}

/// P4. Deleted over there: the row goes when the record is read, and not by a guess.
#[test]
fn a_pull_of_a_deleted_record_deletes_its_row() {
    let (org, _cluster, mut c, id) = linked(Options::default());
    org.delete(&id).unwrap();
    run(&mut c, "SELECT sync.pull('accounts', '1')");
    settle(&mut c);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._queue"), "0");
}

/// A rolled-back call asks for nothing.
#[test]
fn a_record_is_asked_for_when_the_call_is_committed() {
    let (org, _cluster, mut c, id) = linked(Options::default());
    org.edit(&id, json!({"Name": "theirs"})).unwrap();
    run(&mut c, "BEGIN; SELECT sync.pull('accounts', '1'); ROLLBACK");
    settle(&mut c);
    assert_eq!(query_one(&mut c, "SELECT account_name FROM accounts"), "one");
    run(&mut c, "BEGIN; SELECT sync.pull('accounts', '1'); COMMIT");
    settle(&mut c);
    assert_eq!(query_one(&mut c, "SELECT account_name FROM accounts"), "theirs");
}

#[test]
fn what_cannot_be_asked_for_is_refused_with_its_reason() {
    let (_org, _cluster, mut c, _id) = linked(Options::default());
    let refused = |c: &mut Client, call: &str, words: &[&str]| {
        let said = refusal(c, &format!("SELECT sync.{call}"));
        for word in words.iter().chain(&["\nHINT"]) {
            assert!(said.contains(word), "{call}: {said}");
        }
    };
    refused(&mut c, "pull('nobody', '1')", &["42704", "There are: accounts"]);
    refused(&mut c, "push('accounts', '99')", &["02000", "no row of public.accounts", "\"99\""]);
    refused(&mut c, "push('accounts', 'x')", &["02000", "no row of public.accounts"]);
    refused(&mut c, "pull('accounts', '99')", &["02000", "id of a record"]);
    run(&mut c, "SELECT sync.pause('accounts')");
    refused(&mut c, "pull('accounts', '1')", &["55000", "is paused", "sync.resume"]);
    refused(&mut c, "push('accounts', '1')", &["55000", "is paused", "sync.resume"]);
    // A row that the other side has never heard of.
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"sync_type": "one_way", "conflict_resolution": null}');
           SELECT sync.resume('accounts')"#,
    );
    refused(&mut c, "pull('accounts', '2')", &["02000", "linked to no record", "sync.push"]);
    refused(&mut c, "push('accounts', '1')", &["55000", "sends nothing", "Use sync.pull"]);
    run(
        &mut c,
        "CREATE ROLE clerk LOGIN; SELECT sync.grant('clerk'); GRANT ALL ON accounts TO clerk; SET ROLE clerk",
    );
    refused(&mut c, "pull('accounts', '1')", &["42501", "permission denied"]);
    run(&mut c, "RESET ROLE");
    assert_eq!(rows(&mut c, "SELECT * FROM sync.queue"), Vec::<String>::new());
}

/// P7: an answer that was long on its way says nothing of a record that has been read since. The simulator found it.
#[test]
fn what_was_asked_earlier_does_not_take_a_record_back() {
    let (org, _cluster, mut c, id) = linked(Options::default());
    run(
        &mut c,
        "CREATE TABLE seen (n serial, name text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen (name) VALUES (NEW.account_name); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION note()",
    );
    org.edit(&id, json!({"Name": "older"})).unwrap();
    // The next poll reads it, and its answer takes its time.
    org.clear_calls();
    org.fault(FaultRule::once(Fault::SlowBody { ms: 3000 }).path("/query"));
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 1}}')"#,
    );
    let asked = || org.calls().iter().any(|call| call.path.contains("query"));
    assert!(cluster::poll(std::time::Duration::from_secs(30), asked));
    org.edit(&id, json!({"Name": "newer"})).unwrap();
    run(&mut c, "SELECT sync.pull('accounts', '1')");
    until(&mut c, "SELECT account_name FROM accounts", "newer");
    let arrived = || org.calls().iter().filter(|call| call.path.contains("query")).count() > 1;
    assert!(cluster::poll(std::time::Duration::from_secs(30), arrived));
    settle(&mut c);
    assert_eq!(rows(&mut c, "SELECT name FROM seen ORDER BY n"), ["newer"]);
}
