//! Filters and rules where one side is another system's.

use local_org::{Options, Rule, RuleAction};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{accounts, names, settle, until};

#[test]
fn records_of_the_org_that_do_not_take_part_are_left_alone_until_they_do() {
    let (org, _cluster, mut c) = accounts(
        Options::default(),
        r#"{"source_where": "\"Industry\" IS DISTINCT FROM ''Secret''"}"#,
    );
    let open = org.insert("Account", json!({"Name": "open", "Industry": "Energy"})).unwrap();
    let secret = org.insert("Account", json!({"Name": "secret", "Industry": "Secret"})).unwrap();
    until(&mut c, "SELECT string_agg(account_name, ',') FROM accounts", "open");
    settle(&mut c);
    // Entering, leaving, edits of both sides meanwhile, and back.
    org.edit(&secret, json!({"Industry": "Banking"})).unwrap();
    until(
        &mut c,
        "SELECT string_agg(account_name, ',' ORDER BY account_name) FROM accounts",
        "open,secret",
    );
    settle(&mut c);
    org.edit(&open, json!({"Industry": "Secret", "AnnualRevenue": 5})).unwrap();
    run(&mut c, "SELECT sync.pull('accounts', sf_id) FROM accounts WHERE account_name = 'open'");
    run(&mut c, "UPDATE accounts SET account_name = 'ours' WHERE account_name = 'open'");
    settle(&mut c);
    assert_eq!(names(&org), ["open", "secret"]);
    assert_eq!(
        query_one(
            &mut c,
            "SELECT industry_type, annual_revenue FROM accounts WHERE account_name = 'ours'"
        ),
        "Energy|"
    );
    org.edit(&open, json!({"Industry": "Retail"})).unwrap();
    until(&mut c, "SELECT industry_type FROM accounts WHERE account_name = 'ours'", "Retail");
    settle(&mut c);
    settle(&mut c);
    assert_eq!(names(&org), ["ours", "secret"]);
    assert_eq!(
        query_one(&mut c, "SELECT annual_revenue FROM accounts WHERE account_name = 'ours'"),
        "5.00"
    );
    // Released, a delete of the row here deletes nothing there.
    org.edit(&secret, json!({"Industry": "Secret"})).unwrap();
    run(&mut c, "SELECT sync.pull('accounts', sf_id) FROM accounts WHERE account_name = 'secret'");
    run(&mut c, "DELETE FROM accounts WHERE account_name = 'secret'");
    settle(&mut c);
    assert_eq!(names(&org), ["ours", "secret"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

#[test]
fn rows_that_come_back_are_read_there_before_they_are_written() {
    let (org, _cluster, mut c) = accounts(Options::default(), r#"{"where": "last_sync IS NULL"}"#);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    run(&mut c, "INSERT INTO accounts (account_name, last_sync) VALUES ('later', now())");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    assert_eq!(names(&org), ["one"]);
    run(&mut c, "UPDATE accounts SET last_sync = now()");
    settle(&mut c);
    let id = query_one(&mut c, "SELECT sf_id FROM accounts WHERE account_name = 'one'");
    org.edit(&id, json!({"Industry": "Energy"})).unwrap();
    run(&mut c, "SELECT sync.pull('accounts', sf_id) FROM accounts WHERE sf_id IS NOT NULL");
    run(&mut c, "UPDATE accounts SET account_name = 'eins' WHERE account_name = 'one'");
    settle(&mut c);
    assert_eq!(names(&org), ["one"]);
    assert_eq!(
        query_one(&mut c, "SELECT industry_type FROM accounts WHERE account_name = 'eins'"),
        ""
    );
    run(&mut c, "UPDATE accounts SET last_sync = NULL");
    settle(&mut c);
    until(&mut c, "SELECT industry_type FROM accounts WHERE account_name = 'eins'", "Energy");
    until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
    settle(&mut c);
    assert_eq!(names(&org), ["eins", "later"]);
    // Also one that nothing has happened to here, and of which no poll would tell once more.
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 600}}')"#,
    );
    run(&mut c, "UPDATE accounts SET last_sync = now() WHERE account_name = 'eins'");
    settle(&mut c);
    org.edit(&id, json!({"Industry": "Retail"})).unwrap();
    run(&mut c, "SELECT sync.pull('accounts', sf_id) FROM accounts WHERE account_name = 'eins'");
    settle(&mut c);
    org.clear_calls();
    run(&mut c, "UPDATE accounts SET last_sync = NULL WHERE account_name = 'eins'");
    until(&mut c, "SELECT industry_type FROM accounts WHERE account_name = 'eins'", "Retail");
    let read = |call: &local_org::Call| call.path.ends_with("composite/sobjects/Account");
    assert!(org.calls().iter().any(read), "{:?}", org.calls());
}

#[test]
fn rules_are_asked_of_what_arrives_on_either_side() {
    let (org, _cluster, mut c) = accounts(
        Options::default(),
        r#"{"validation_rules": [{"field": "account_name", "rule": "length", "max": 8},
             {"field": "Industry", "rule": "allowed_values", "values": ["Energy", "Banking"], "on_error": "standardize_format"},
             {"field": "annual_revenue", "rule": "range", "min": 0}]}"#,
    );
    let long =
        org.insert("Account", json!({"Name": "far too long", "Industry": "Energy"})).unwrap();
    org.insert("Account", json!({"Name": "short", "Industry": " Energy "})).unwrap();
    until(
        &mut c,
        "SELECT string_agg(account_name || ':' || industry_type, ',') FROM accounts",
        "short:Energy",
    );
    run(
        &mut c,
        "INSERT INTO accounts (account_name, annual_revenue) VALUES ('good', 1), ('debts', -1), ('also too long', 1)",
    );
    let parked = query_one(&mut c, "SELECT parked FROM sync.wait('accounts', '60s')");
    assert_eq!(parked, "3", "{:?}", rows(&mut c, "SELECT key, message, detail FROM sync.queue"));
    assert_eq!(names(&org), ["far too long", "good", "short"]);
    let waiting = rows(
        &mut c,
        "SELECT direction, state, sqlstate, message FROM sync.queue ORDER BY message, direction",
    );
    assert_eq!(
        waiting,
        [
            "source to target|review|23514|the field \"account_name\" breaks the rule length",
            "target to source|review|23514|the field \"account_name\" breaks the rule length",
            "target to source|review|23514|the field \"annual_revenue\" breaks the rule range",
        ]
    );
    // Corrected where they are they go by themselves.
    org.edit(&long, json!({"Name": "shorter"})).unwrap();
    run(
        &mut c,
        "UPDATE accounts SET annual_revenue = 0 WHERE account_name = 'debts'; UPDATE accounts SET account_name = 'fits' WHERE account_name ~ 'also'",
    );
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
    settle(&mut c);
    assert_eq!(names(&org), ["debts", "fits", "good", "short", "shorter"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "5");
}

#[test]
fn a_row_says_how_it_is_with_its_record() {
    let (org, _cluster, mut c) =
        accounts(Options::default(), r#"{"stamp_columns": {"synced_at": "last_sync"}}"#);
    run(&mut c, "ALTER TABLE accounts ADD trouble text");
    run(&mut c, r#"SELECT sync.alter_sync('accounts', '{"stamp_columns": {"error": "trouble"}}')"#);
    let row = |name: &str| {
        format!(
            "SELECT last_sync > now() AT TIME ZONE 'UTC' - interval '1 minute', trouble FROM accounts WHERE account_name = '{name}'"
        )
    };
    let id = org.insert("Account", json!({"Name": "theirs"})).unwrap();
    until(&mut c, "SELECT count(last_sync) FROM accounts", "1");
    until(&mut c, &row("theirs"), "t|");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('ours')");
    settle(&mut c);
    until(&mut c, &row("ours"), "t|");
    org.add_rule(Rule {
        object: "Account".into(),
        action: RuleAction::Reject {
            field: "Name".into(),
            value: json!("bad"),
            message: "No such names".into(),
        },
    });
    run(
        &mut c,
        "UPDATE accounts SET account_name = 'bad', last_sync = NULL WHERE account_name = 'theirs'",
    );
    until(
        &mut c,
        "SELECT last_sync IS NULL AND trouble LIKE '%No such names%' FROM accounts WHERE account_name = 'bad'",
        "t",
    );
    run(&mut c, "UPDATE accounts SET account_name = 'good' WHERE account_name = 'bad'");
    until(&mut c, &row("good"), "t|");
    assert_eq!(org.get(&id).unwrap()["Name"], "good");
}

#[test]
fn no_more_calls_leave_in_any_second_than_the_document_allows() {
    let (org, _cluster, mut c) = accounts(
        Options::default(),
        r#"{"performance_settings": {"rate_limits": {"per_second": 2}}}"#,
    );
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    org.clear_calls();
    let begun = std::time::Instant::now();
    let mut v = 0;
    while begun.elapsed() < std::time::Duration::from_secs(4) {
        v += 1;
        run(&mut c, &format!("UPDATE accounts SET annual_revenue = {v}"));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    settle(&mut c);
    let calls: Vec<std::time::Instant> = org
        .calls()
        .iter()
        .filter(|call| call.path.contains("/composite") || call.path.contains("/query"))
        .map(|call| call.arrived)
        .collect();
    // As they arrive, two that left a second apart may be a little closer.
    let window = std::time::Duration::from_millis(800);
    let most = calls
        .iter()
        .map(|&from| calls.iter().filter(|&&at| at >= from && at < from + window).count())
        .max();
    assert!(most <= Some(2) && calls.len() >= 6, "{most:?} of {}", calls.len());
    let id = query_one(&mut c, "SELECT sf_id FROM accounts");
    assert_eq!(org.get(&id).unwrap()["AnnualRevenue"], f64::from(v));
}

#[test]
fn a_restart_lets_no_more_calls_leave_than_the_document_allows() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"performance_settings": {"rate_limits": {"per_hour": 2}}}')"#,
    );
    org.clear_calls();
    let calls = || {
        let of_records = |path: &str| path.contains("/composite") || path.contains("/query");
        org.calls().iter().filter(|call| of_records(&call.path)).count()
    };
    let says = "SELECT detail ~ '^rate limit of 2 an hour: next at 2' FROM sync.status";
    let mut v = 0;
    let held = cluster::poll(std::time::Duration::from_secs(30), || {
        v += 1;
        run(&mut c, &format!("UPDATE accounts SET annual_revenue = {v}"));
        query_one(&mut c, says) == "t"
    });
    assert!(held, "{:?}", rows(&mut c, "SELECT * FROM sync.status"));
    assert_eq!(calls(), 2);
    let worker = "FROM pg_stat_activity WHERE backend_type LIKE 'sync_ext%' AND datname = current_database()";
    let pid = query_one(&mut c, &format!("SELECT pid {worker}"));
    run(&mut c, &format!("SELECT pg_terminate_backend({pid})"));
    until(&mut c, &format!("SELECT count(*) {worker} AND pid <> {pid}"), "1");
    run(&mut c, "UPDATE accounts SET annual_revenue = 4711");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(calls(), 2);
    run(&mut c, r#"SELECT sync.alter_sync('accounts', '{"performance_settings": null}')"#);
    settle(&mut c);
    let id = query_one(&mut c, "SELECT sf_id FROM accounts");
    assert_eq!(org.get(&id).unwrap()["AnnualRevenue"], 4711.0);
}

/// What is not among the living is looked for among the deleted: two requests for one thing to know.
#[test]
fn a_call_that_takes_several_requests_counts_as_so_many() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one'), ('two')");
    settle(&mut c);
    let id = query_one(&mut c, "SELECT sf_id FROM accounts WHERE account_name = 'one'");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"performance_settings": {"rate_limits": {"per_hour": 3}}}')"#,
    );
    settle(&mut c);
    org.clear_calls();
    org.delete(&id).unwrap();
    run(&mut c, &format!("SELECT sync.pull('accounts', '{id}')"));
    let says = "SELECT detail ~ '^rate limit of 3 an hour' FROM sync.status";
    let mut v = 0;
    let held = cluster::poll(std::time::Duration::from_secs(30), || {
        v += 1;
        run(
            &mut c,
            &format!("UPDATE accounts SET annual_revenue = {v} WHERE account_name = 'two'"),
        );
        query_one(&mut c, says) == "t"
    });
    assert!(held, "{:?}", rows(&mut c, "SELECT * FROM sync.status"));
    let paths: Vec<String> = org
        .calls()
        .iter()
        .map(|call| call.path.clone())
        .filter(|path| path.contains("/composite") || path.contains("/query"))
        .collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
}

/// The row waits for a person; what is edited over there meanwhile is not forgotten when it needs none any more.
#[test]
fn an_edit_of_the_org_arrives_after_the_row_was_refused_and_put_back() {
    let (org, _cluster, mut c) = accounts(
        Options::default(),
        r#"{"validation_rules": [{"field": "account_name", "rule": "length", "min": 3}]}"#,
    );
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    let id = query_one(&mut c, "SELECT sf_id FROM accounts");
    run(&mut c, "UPDATE accounts SET account_name = 'x'");
    until(&mut c, "SELECT count(*) FROM sync.queue WHERE state = 'review'", "1");
    org.edit(&id, json!({"Industry": "Energy"})).unwrap();
    run(&mut c, &format!("SELECT sync.pull('accounts', '{id}')"));
    run(&mut c, "SELECT sync.wait('accounts', '60s')");
    run(&mut c, "UPDATE accounts SET account_name = 'one'");
    until(&mut c, "SELECT industry_type FROM accounts", "Energy");
    settle(&mut c);
}
