//! What an org deletes or empties at once, beyond the sync's limit, waits for a person before it reaches the table.

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{LocalOrg, Options};
use pgrx_tests::{query_one, refusal, run};
use serde_json::json;

use super::{accounts, settle, until};

/// Sixty accounts on both sides, of which twenty may be lost at once; their ids in the org.
fn sixty() -> (LocalOrg, Cluster, Client, Vec<String>) {
    let (org, cluster, mut c) = accounts(Options::default(), r#"{"delete_limit": 20}"#);
    run(
        &mut c,
        "INSERT INTO accounts (account_name, industry_type) SELECT 'n' || n, 'Energy' FROM generate_series(1, 60) n",
    );
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "60");
    settle(&mut c);
    let ids = pgrx_tests::rows(&mut c, "SELECT sf_id FROM accounts ORDER BY id");
    (org, cluster, c, ids)
}

const ASKED: &str = "SELECT state FROM sync.status WHERE sync = 'accounts'";
const KEPT: &str = "SELECT count(industry_type) FROM accounts";

#[test]
fn an_org_that_empties_a_field_of_many_records_is_asked_about() {
    let (org, _cluster, mut c, ids) = sixty();
    // So many are allowed.
    for id in &ids[..20] {
        org.edit(id, json!({"Industry": null})).unwrap();
    }
    until(&mut c, KEPT, "40");
    for id in &ids[20..50] {
        org.edit(id, json!({"Industry": null})).unwrap();
    }
    until(&mut c, ASKED, "needs decision");
    assert_eq!(
        query_one(&mut c, "SELECT detail FROM sync.status"),
        "30 or more records of crm:Account lost the value of a field, more than the limit of 20; nothing of it has been emptied in public.accounts"
    );
    assert_eq!(query_one(&mut c, KEPT), "40");
    let refused = refusal(&mut c, "SELECT sync.resume('accounts')");
    assert!(refused.contains("needs a decision"), "{refused}");
    // They stay here, and there they stay empty until one side is edited again.
    run(&mut c, "SELECT sync.resume('accounts', discard => true)");
    settle(&mut c);
    assert_eq!(query_one(&mut c, KEPT), "40");
    std::thread::sleep(std::time::Duration::from_secs(2));
    settle(&mut c);
    assert!(ids[..50].iter().all(|id| org.get(id).unwrap()["Industry"].is_null()));
    org.edit(&ids[20], json!({"Name": "renamed"})).unwrap();
    let renamed =
        "SELECT count(*) FROM accounts WHERE account_name = 'renamed' AND industry_type = 'Energy'";
    until(&mut c, renamed, "1");
    assert!(org.get(&ids[20]).unwrap()["Industry"].is_null());
    run(&mut c, "UPDATE accounts SET industry_type = 'Media' WHERE account_name = 'renamed'");
    settle(&mut c);
    assert_eq!(org.get(&ids[20]).unwrap()["Industry"], "Media");
    // Confirmed, they are emptied here too.
    run(&mut c, "UPDATE accounts SET industry_type = 'Retail'");
    settle(&mut c);
    for id in &ids[..30] {
        org.edit(id, json!({"Industry": null})).unwrap();
    }
    until(&mut c, ASKED, "needs decision");
    assert_eq!(query_one(&mut c, KEPT), "60");
    run(&mut c, "SELECT sync.resume('accounts', confirm => true)");
    until(&mut c, KEPT, "30");
    settle(&mut c);
}

#[test]
fn an_org_that_deletes_many_records_is_asked_about() {
    let (org, _cluster, mut c, ids) = sixty();
    for id in &ids[..30] {
        org.delete(id).unwrap();
    }
    until(&mut c, ASKED, "needs decision");
    assert_eq!(
        query_one(&mut c, "SELECT detail FROM sync.status"),
        "30 or more records were deleted in crm:Account, more than the limit of 20; nothing of it has been deleted from public.accounts"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "60");
    run(&mut c, "SELECT sync.resume('accounts', confirm => true)");
    until(&mut c, "SELECT count(*) FROM accounts", "30");
    settle(&mut c);
}

/// What a batch of ours empties there is asked about once, on our side, and not again when it comes back.
#[test]
fn what_we_emptied_ourselves_is_not_asked_about_twice() {
    let (org, _cluster, mut c, ids) = sixty();
    run(&mut c, "UPDATE accounts SET industry_type = NULL");
    until(&mut c, ASKED, "needs decision");
    assert_eq!(org.get(&ids[0]).unwrap()["Industry"], "Energy");
    run(&mut c, "SELECT sync.resume('accounts', confirm => true)");
    settle(&mut c);
    assert!(ids.iter().all(|id| org.get(id).unwrap()["Industry"].is_null()));
    std::thread::sleep(std::time::Duration::from_secs(3));
    settle(&mut c);
}
