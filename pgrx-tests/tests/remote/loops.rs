//! An automation of the org and a trigger here that answer each other.

use pgrx_tests::{query_one, rows, run};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{accounts, settle, until};

const F11: &str = r#"{"loop_prevention": {"enabled": true, "detection_window_seconds": 60, "max_update_count": 2}}"#;

#[test]
fn a_flow_that_appends_a_dot_on_each_save_is_stopped() {
    let (org, _cluster, mut c) = accounts(local_org::Options::default(), F11);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('calm'), ('x')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
    let id = query_one(&mut c, "SELECT sf_id FROM accounts WHERE account_name = 'x'");
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        // Whatever is saved there gets another dot, but for what the flow itself saves.
        threads.spawn(|| {
            let mut last = "x".to_owned();
            while !stop.load(Ordering::Relaxed) {
                let now = org.get(&id).unwrap()["Name"].as_str().unwrap().to_owned();
                if now != last {
                    last = format!("{now}.");
                    org.edit(&id, json!({"Name": last})).unwrap();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // One side alone is no circle, however often a user edits.
        for n in 0..8 {
            run(
                &mut c,
                &format!("UPDATE accounts SET account_name = 'edit {n}' WHERE sf_id = '{id}'"),
            );
            until(
                &mut c,
                &format!("SELECT account_name FROM accounts WHERE sf_id = '{id}'"),
                &format!("edit {n}."),
            );
        }
        settle(&mut c);
        run(
            &mut c,
            "CREATE FUNCTION dot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.account_name IS DISTINCT FROM OLD.account_name THEN NEW.account_name := NEW.account_name || '!'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER dot BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION dot()",
        );
        run(&mut c, &format!("UPDATE accounts SET account_name = 'y' WHERE sf_id = '{id}'"));
        until(
            &mut c,
            "SELECT count(*) FROM sync.queue WHERE sqlstate = 'SY003' AND state = 'review'",
            "1",
        );
        stop.store(true, Ordering::Relaxed);
    });
    let detail =
        query_one(&mut c, "SELECT DISTINCT detail FROM sync.queue WHERE sqlstate = 'SY003'");
    assert!(
        detail.contains("crm:Account by \"accounts\", public.accounts by \"accounts\""),
        "{detail}"
    );
    // The others go on.
    run(&mut c, "UPDATE accounts SET industry_type = 'Banking' WHERE account_name = 'calm'");
    let calm = || org.records("Account").into_iter().any(|r| r["Industry"] == "Banking");
    assert!(
        cluster::poll(Duration::from_secs(30), calm),
        "{:?}",
        rows(&mut c, "SELECT * FROM sync.queue")
    );
}
