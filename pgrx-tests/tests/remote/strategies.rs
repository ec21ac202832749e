//! Whose value stands where the org and the table both changed a field, of which the sync has heard only from the table.

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{LocalOrg, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::until;
use crate::connections::{connect_crm, with_org};

/// One account on both sides; the org is not asked for its changes again.
fn pair(conflicts: &str) -> (LocalOrg, Cluster, Client, String) {
    let (org, cluster) = with_org(Options { history: true, ..Options::default() }, &[]);
    let id = org
        .insert("Account", json!({"Name": "base", "Phone": "base", "Industry": "Banking"}))
        .unwrap();
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        &format!(
            r#"CREATE TABLE account (id serial PRIMARY KEY, sf_id text UNIQUE, name text, phone text, industry text);
               SELECT sync.create_sync('accounts', '{{
                 "source": {{"connection": "crm", "object": "Account"}}, "target": {{"table": "account"}},
                 "field_mappings": [{{"source": "Id", "target": "sf_id"}}, {{"source": "Name", "target": "name"}},
                   {{"source": "Phone", "target": "phone"}}, {{"source": "Industry", "target": "industry"}}],
                 "sync_type": "bidirectional", "ongoing_sync": {{"polling_interval_seconds": 3600}}}}', '{conflicts}')"#
        ),
    );
    until(&mut c, "SELECT count(*) FROM account", "1");
    settled(&mut c);
    (org, cluster, c, id)
}

#[track_caller]
fn settled(c: &mut Client) {
    let told = query_one(c, "SELECT settled, parked FROM sync.wait('accounts', '60s')");
    assert_eq!(told, "t|0", "{:?}", rows(c, "SELECT key, state, message FROM sync.queue"));
}

fn there(org: &LocalOrg, id: &str) -> String {
    let record = org.get(id).unwrap();
    ["Name", "Phone", "Industry"]
        .map(|field| record[field].as_str().unwrap_or("-").to_owned())
        .join("|")
}

fn here(c: &mut Client) -> String {
    query_one(c, "SELECT name, phone, industry FROM account")
}

/// Both change the phone, the org another field too; the row is changed last.
fn meet(org: &LocalOrg, c: &mut Client, id: &str) {
    org.edit(id, json!({"Phone": "org", "Industry": "Media"})).unwrap();
    run(c, "UPDATE account SET phone = 'row', name = 'row'");
    settled(c);
}

const CONFLICTS: &str = "SELECT field, source_value, target_value, winner FROM sync.conflicts";

#[test]
fn an_org_with_priority_is_not_even_written_over_for_a_moment() {
    let (org, _cluster, mut c, id) = pair(
        r#"{"conflict_resolution": {"strategy": "system_priority", "priority_system": "crm"}}"#,
    );
    meet(&org, &mut c, &id);
    until(&mut c, "SELECT name, phone, industry FROM account", "row|org|Media");
    assert_eq!(there(&org, &id), "row|org|Media");
    assert_eq!(rows(&mut c, CONFLICTS), ["phone|org|row|source"]);
    assert!(
        org.history()
            .iter()
            .all(|change| !format!("{change:?}").contains("\"Phone\": String(\"row\")"))
    );
    // Its record was read first, which is no refusal.
    let told = "SELECT DISTINCT status FROM sync.change_log WHERE \"table\" = 'account' AND status IN ('parked', 'merged again')";
    assert_eq!(rows(&mut c, told), ["merged again"]);
    // Alone, the row's change arrives.
    run(&mut c, "UPDATE account SET phone = 'again'");
    settled(&mut c);
    assert_eq!(there(&org, &id), "row|again|Media");
}

#[test]
fn a_table_with_priority_wins_also_when_it_was_first() {
    let (org, _cluster, mut c, id) = pair(
        r#"{"conflict_resolution": {"strategy": "field_level_priority", "field_rules": [
             {"field": "Phone", "priority_system": "local"}]}}"#,
    );
    run(&mut c, "SELECT sync.pause('accounts'); UPDATE account SET phone = 'row', name = 'row'");
    org.edit(&id, json!({"Phone": "org", "Industry": "Media"})).unwrap();
    run(&mut c, "SELECT sync.resume('accounts')");
    settled(&mut c);
    until(&mut c, "SELECT name, phone, industry FROM account", "row|row|Media");
    assert_eq!(there(&org, &id), "row|row|Media");
    assert_eq!(rows(&mut c, CONFLICTS), ["phone|org|row|target"]);
}

#[test]
fn where_a_person_decides_nothing_is_written_over() {
    let (org, _cluster, mut c, id) = pair(r#"{"conflict_resolution": "manual"}"#);
    meet(&org, &mut c, &id);
    until(&mut c, "SELECT name, phone, industry FROM account", "row|row|Media");
    assert_eq!(there(&org, &id), "row|org|Media");
    assert_eq!(rows(&mut c, CONFLICTS), ["phone|org|row|"]);
    // It stays so, also when the record is looked at again and other fields change.
    run(&mut c, "UPDATE account SET industry = 'Energy'");
    settled(&mut c);
    run(&mut c, &format!("SELECT sync.pull('accounts', '{id}')"));
    settled(&mut c);
    assert_eq!(
        (there(&org, &id).as_str(), here(&mut c).as_str()),
        ("row|org|Energy", "row|row|Energy")
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "1");
    // Until somebody decides.
    run(&mut c, "UPDATE account SET phone = 'decided'");
    settled(&mut c);
    assert_eq!(
        (there(&org, &id).as_str(), here(&mut c).as_str()),
        ("row|decided|Energy", "row|decided|Energy")
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "1");
}

#[test]
fn a_decision_travels_to_the_org_and_from_it() {
    let (org, _cluster, mut c, id) = pair(r#"{"conflict_resolution": "manual"}"#);
    meet(&org, &mut c, &id);
    until(&mut c, "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL", "1");
    run(&mut c, "SELECT sync.resolve_all('accounts', 'crm')");
    until(&mut c, "SELECT phone FROM account", "org");
    org.edit(&id, json!({"Phone": "theirs"})).unwrap();
    run(&mut c, "UPDATE account SET phone = 'ours'");
    settled(&mut c);
    until(&mut c, "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL", "1");
    assert_eq!(
        (there(&org, &id).as_str(), here(&mut c).as_str()),
        ("row|theirs|Media", "row|ours|Media")
    );
    run(&mut c, "SELECT sync.resolve(id, 'local') FROM sync.conflicts WHERE winner IS NULL");
    settled(&mut c);
    assert_eq!(
        (there(&org, &id).as_str(), here(&mut c).as_str()),
        ("row|ours|Media", "row|ours|Media")
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL"), "0");
}

/// The row that waits for its record to be read does not wait for ever.
#[test]
fn a_record_that_is_gone_is_told_and_its_delete_merged() {
    let (org, _cluster, mut c, id) = pair(r#"{"conflict_resolution": "manual"}"#);
    org.delete(&id).unwrap();
    run(&mut c, "UPDATE account SET phone = 'kept'");
    // Nothing is deleted over an edit: it is created again.
    until(
        &mut c,
        &format!("SELECT count(*) FROM account WHERE sf_id <> '{id}' AND phone = 'kept'"),
        "1",
    );
    settled(&mut c);
    assert_eq!(org.records("Account").len(), 1);
}

#[test]
fn a_function_of_the_users_chooses_for_both() {
    let (org, _cluster, mut c, id) = pair("{}");
    run(
        &mut c,
        r#"CREATE FUNCTION public.both(base text, ours text, theirs text) RETURNS text LANGUAGE sql
             AS $$ SELECT concat_ws('/', base, ours, theirs) $$;
           SELECT sync.alter_sync('accounts', '{"conflict_resolution": {"strategy": "field_level_priority",
             "field_rules": [{"field": "phone", "function": "both"}]}}')"#,
    );
    meet(&org, &mut c, &id);
    until(&mut c, "SELECT name, phone, industry FROM account", "row|base/row/org|Media");
    settled(&mut c);
    assert_eq!(there(&org, &id), "row|base/row/org|Media");
    assert_eq!(rows(&mut c, CONFLICTS), ["phone|org|row|function"]);
    // Chosen once: it is an edit of nobody's, and comes back as none.
    run(&mut c, "SELECT sync.pull('accounts', (SELECT id::text FROM account))");
    settled(&mut c);
    assert_eq!(there(&org, &id), "row|base/row/org|Media");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "1");
}

#[test]
fn a_person_decides_about_a_record_that_the_org_deleted() {
    let (org, _cluster, mut c, id) =
        pair(r#"{"conflict_resolution": {"strategy": "last_write_wins", "deletes": "review"}}"#);
    org.delete(&id).unwrap();
    run(&mut c, "UPDATE account SET phone = 'row'");
    until(
        &mut c,
        "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL AND kind = 'update_deleted'",
        "1",
    );
    assert_eq!(org.records("Account").len(), 0);
    assert_eq!(here(&mut c), "base|row|Banking");
    run(&mut c, "SELECT sync.resolve(id, keep => 'local') FROM sync.conflicts");
    until(&mut c, "SELECT count(*) FROM sync.conflicts WHERE winner = 'target'", "1");
    settled(&mut c);
    let all = org.records("Account");
    assert_eq!(all.len(), 1, "{:?}", rows(&mut c, "SELECT * FROM sync.conflicts"));
    assert_eq!(all[0]["Phone"], "row");
    // The other way: what the org did stands.
    let again = all[0]["Id"].as_str().unwrap();
    until(&mut c, "SELECT sf_id FROM account", again);
    org.delete(again).unwrap();
    run(&mut c, "UPDATE account SET phone = 'late'");
    until(
        &mut c,
        "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL AND kind = 'update_deleted'",
        "1",
    );
    run(
        &mut c,
        "SELECT sync.resolve(id, keep => 'remote') FROM sync.conflicts WHERE winner IS NULL",
    );
    until(&mut c, "SELECT count(*) FROM account", "0");
    settled(&mut c);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL"), "0");
}
