//! What a sync would take, before it is made: `sync.plan` and `sync.plan_objects`.

use cluster::postgres::Client;
use local_org::Options;
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::json;

use super::{accounts, until};
use crate::connections::{connect_crm, create_crm, with_org};

const DOCUMENT: &str = r#"{"source": {"connection": "crm", "object": "Account"}, "target": {"table": "planned"},
    "field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "Name", "target": "name"}], "sync_type": "bidirectional",
    "ongoing_sync": {"polling_interval_seconds": 60}}"#;

/// Neither syncs nor tables nor connections come of it, nor is anything remembered. (Partitions of history the worker makes when it gets to it.)
fn nothing_is_made(c: &mut Client) -> String {
    query_one(
        c,
        "SELECT (SELECT count(*) FROM sync._sync), (SELECT count(*) FROM sync._object), (SELECT count(*) FROM pg_foreign_server),
                (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition)",
    )
}

#[test]
fn objects_are_priced_and_nothing_is_made() {
    let (org, cluster) = with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    for n in 0..3 {
        org.insert("Account", json!({"Name": n.to_string()})).unwrap();
    }
    // Who asks for limits is told those of events.
    assert_eq!(query_one(&mut c, "SELECT bool_and(ok) FROM sync.test_connection('crm')"), "t");
    let before = nothing_is_made(&mut c);
    run(
        &mut c,
        "CREATE TEMP TABLE plan AS SELECT * FROM sync.plan_objects('crm', '{Account,Contact,Acount}', 'both')",
    );
    run(
        &mut c,
        "CREATE TEMP VIEW said AS SELECT object || ': ' || detail AS said FROM plan WHERE what IN ('warning', 'problem')",
    );
    let figure = "SELECT object, what, figure FROM plan WHERE what IN ('records', 'first load: calls', 'polling: calls a day') ORDER BY 1, 2";
    assert_eq!(
        rows(&mut c, figure),
        [
            "Account|first load: calls|1",
            "Account|polling: calls a day|2880",
            "Account|records|3",
            "Contact|first load: calls|1",
            "Contact|polling: calls a day|2880",
            "Contact|records|0",
            "|first load: calls|2",
            "|polling: calls a day|2880",
        ]
    );
    let said = rows(&mut c, "SELECT said FROM said").join("\n");
    for part in [
        "Account: cannot be written, and travel from there to here only:",
        "SystemModstamp",
        "Acount: ",
        "Perhaps you meant \"Account\".",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(
        query_one(&mut c, "SELECT figure FROM plan WHERE what = 'calls that may be used'"),
        "12000"
    );
    assert_eq!(
        query_one(&mut c, "SELECT figure FROM plan WHERE what = 'events that may be used'"),
        "8000"
    );
    assert_eq!(
        query_one(
            &mut c,
            "SELECT sum(figure) > 0 FROM plan WHERE what = 'disk: bytes' AND object = 'Account'"
        ),
        "t"
    );
    run(&mut c, "DROP VIEW said; DROP TABLE plan");
    assert_eq!(nothing_is_made(&mut c), before);
    let refused =
        refusal(&mut c, "SELECT * FROM sync.plan_objects('crm', '{Account}', 'sideways')");
    assert!(refused.contains("direction \"sideways\" is not known"), "{refused}");
}

#[test]
fn a_document_is_priced_by_what_it_says() {
    let (org, cluster) = with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        "CREATE TABLE planned (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sf_id varchar(18) UNIQUE, name text, nonsense text);
         INSERT INTO planned (name) SELECT n FROM generate_series(1, 5000) n; ANALYZE planned",
    );
    let before = nothing_is_made(&mut c);
    let plan = |c: &mut Client, pieces: &str, what: &str| {
        rows(
            c,
            &format!(
                "SELECT figure, detail FROM sync.plan('planned', '{DOCUMENT}'{pieces}) WHERE what = '{what}' AND object = 'Account'"
            ),
        )
        .join("\n")
    };
    assert!(plan(&mut c, "", "polling: calls a day").starts_with("1440|"));
    let push = plan(&mut c, "", "first push: calls");
    assert!(push.contains("5000 rows by"), "{push}");
    assert_eq!(
        plan(&mut c, r#", '{"initial_sync": {"strategy": "none"}}'"#, "first push: calls"),
        ""
    );
    let warnings = plan(&mut c, "", "warning");
    assert!(warnings.contains("no external id is named"), "{warnings}");
    assert!(!warnings.contains("without: Name"), "{warnings}");
    // What the object does not have is named with what it has.
    let other = DOCUMENT.replace("\"source\": \"Name\"", "\"source\": \"Nam\"");
    let said = rows(
        &mut c,
        &format!("SELECT detail FROM sync.plan('planned', '{other}') WHERE what = 'warning'"),
    )
    .join("\n");
    assert!(said.contains("Account has no field \"Nam\"; perhaps \"Name\" is meant"), "{said}");
    assert!(said.contains("no record can be created there without: Name"), "{said}");
    // A malformed document is refused as it would be.
    let refused = refusal(&mut c, r#"SELECT * FROM sync.plan('planned', '{"sorce": 1}')"#);
    assert!(refused.contains("sorce"), "{refused}");
    let undescribed = DOCUMENT.replace("\"connection\": \"crm\"", "\"connection\": \"none\"");
    assert!(
        !refusal(&mut c, &format!("SELECT * FROM sync.plan('planned', '{undescribed}')"))
            .is_empty()
    );
    assert_eq!(nothing_is_made(&mut c), before);
    create_crm_without_secret(&mut c);
}

/// Nobody can be asked: that is said, as everywhere.
fn create_crm_without_secret(c: &mut Client) {
    run(c, "SELECT sync.drop_connection('crm')");
    create_crm(c, "https://acme.my.salesforce.com");
    let refused = refusal(c, &format!("SELECT * FROM sync.plan('planned', '{DOCUMENT}')"));
    assert!(refused.starts_with("28P01"), "{refused}");
}

#[test]
fn a_patch_of_a_sync_is_priced_and_the_sync_stays_as_it_is() {
    let (_org, _cluster, mut c) = accounts(Options::default(), "{}");
    until(&mut c, "SELECT state FROM sync.status", "running");
    let polling = |c: &mut Client, pieces: &str| {
        query_one(
            c,
            &format!(
                "SELECT figure FROM sync.plan('accounts'{pieces}) WHERE what = 'polling: calls a day' AND object = 'Account'"
            ),
        )
    };
    assert_eq!(polling(&mut c, ""), "86400");
    let patch = r#", '{"ongoing_sync": {"polling_interval_seconds": 3600}}'"#;
    assert_eq!(polling(&mut c, patch), "24");
    assert_eq!(polling(&mut c, ""), "86400");
    // It is there already: nothing is loaded.
    let load = "SELECT count(*) FROM sync.plan('accounts') WHERE what LIKE 'first%'";
    assert_eq!(query_one(&mut c, load), "0");
}
