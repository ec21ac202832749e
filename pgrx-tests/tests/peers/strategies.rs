//! Whose value stands where both sides changed a field: every strategy of `conflict_resolution`.
//! The sync is paused while both sides are changed, so that the worker sees the edits together.

use cluster::postgres::Client;
use pgrx_tests::{Db, query_one, refusal, rows, run};

use super::{prepared, synced, together};

/// Two-way between the schemas `crm` and `erp`, one linked row, with this `conflict_resolution`.
fn pair(conflicts: &str) -> (Db<'static>, Client) {
    let (db, mut c) = prepared(&format!(
        r#"CREATE SCHEMA crm; CREATE SCHEMA erp;
           CREATE TABLE crm.t (id int PRIMARY KEY, email text, billing_address text, phone text);
           CREATE TABLE erp.t (id int PRIMARY KEY, email text, billing_address text, phone text);
           INSERT INTO crm.t VALUES (1, 'base', 'base', 'base');
           SELECT sync.create_sync('s', '{{"source": "crm.t", "target": "erp.t", "sync_type": "bidirectional"}}', '{conflicts}');"#,
    ));
    synced(&mut c, "s");
    (db, c)
}

/// All fields of both sides change, the target's last.
fn meet(c: &mut Client) {
    together(
        c,
        &[
            "UPDATE crm.t SET email = 'crm', billing_address = 'crm', phone = 'crm'",
            "UPDATE erp.t SET email = 'erp', billing_address = 'erp', phone = 'erp'",
        ],
    );
}

fn side(c: &mut Client, schema: &str) -> String {
    rows(c, &format!("SELECT * FROM {schema}.t ORDER BY id")).join(" ")
}

const CONFLICTS: &str =
    "SELECT field, source_value, target_value, winner FROM sync.conflicts ORDER BY field, id";

#[test]
fn the_system_with_priority_wins_also_when_it_was_first() {
    let (_db, mut c) = pair(
        r#"{"conflict_resolution": {"strategy": "system_priority", "priority_system": "crm"}}"#,
    );
    meet(&mut c);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|crm|crm|crm"; 2]);
    assert_eq!(rows(&mut c, CONFLICTS)[0], "billing_address|crm|erp|source");
    assert_eq!(
        query_one(&mut c, "SELECT DISTINCT reason FROM sync.conflicts"),
        "both sides changed the field; the source's change stands, which has priority"
    );
    // What only the other side changes arrives all the same.
    run(&mut c, "UPDATE erp.t SET phone = 'new'");
    synced(&mut c, "s");
    assert_eq!(side(&mut c, "crm"), "1|crm|crm|new");
    // Its delete stands against a later edit, and its edit against a later delete.
    together(&mut c, &["DELETE FROM crm.t", "UPDATE erp.t SET phone = 'late'"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["", ""]);
    run(&mut c, "INSERT INTO crm.t VALUES (2, 'b', 'b', 'b')");
    synced(&mut c, "s");
    together(&mut c, &["UPDATE crm.t SET phone = 'kept'", "DELETE FROM erp.t"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["2|b|b|kept"; 2]);
}

/// The Stacksync text's own rules.
#[test]
fn each_field_has_its_own_system() {
    let (_db, mut c) = pair(
        r#"{"conflict_resolution": {"strategy": "field_level_priority", "field_rules": [
             {"field": "email", "priority_system": "crm"},
             {"field": "billing_address", "priority_system": "erp"},
             {"field": "phone", "priority_system": "last_updated"}]}}"#,
    );
    meet(&mut c);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|crm|erp|erp"; 2]);
    together(&mut c, &["UPDATE erp.t SET phone = 'first'", "UPDATE crm.t SET phone = 'last'"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|crm|erp|last"; 2]);
    assert_eq!(
        rows(&mut c, CONFLICTS),
        [
            "billing_address|crm|erp|target",
            "email|crm|erp|source",
            "phone|crm|erp|target",
            "phone|last|first|source"
        ]
    );
}

#[test]
fn a_person_decides_and_until_then_each_side_keeps_its_value() {
    let (_db, mut c) = pair(r#"{"conflict_resolution": "manual"}"#);
    together(
        &mut c,
        &["UPDATE crm.t SET email = 'crm', phone = 'only here'", "UPDATE erp.t SET email = 'erp'"],
    );
    assert_eq!(side(&mut c, "crm"), "1|crm|base|only here");
    assert_eq!(side(&mut c, "erp"), "1|erp|base|only here");
    assert_eq!(rows(&mut c, CONFLICTS), ["email|crm|erp|"]);
    assert_eq!(
        query_one(&mut c, "SELECT reason FROM sync.conflicts"),
        "both sides changed the field; each side keeps its value until a person has decided"
    );
    let told = query_one(&mut c, "SELECT detail FROM sync.trace('s', '1') WHERE what = 'conflict'");
    assert!(
        told.starts_with("email: base base, source crm, target erp; it waits for a person: "),
        "{told}"
    );
    // Other fields go on, and the conflict is not met again, neither by them nor by a comparison of all rows.
    run(&mut c, "UPDATE erp.t SET phone = 'later'");
    synced(&mut c, "s");
    run(&mut c, "SELECT sync.push('s', '1')");
    synced(&mut c, "s");
    assert_eq!(
        [side(&mut c, "crm"), side(&mut c, "erp")],
        ["1|crm|base|later", "1|erp|base|later"]
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "1");
    // A person's edit of either side decides.
    run(&mut c, "UPDATE erp.t SET email = 'decided'");
    synced(&mut c, "s");
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|decided|base|later"; 2]);
    assert_eq!(
        rows(&mut c, "SELECT winner, reason, resolved_at IS NOT NULL FROM sync.conflicts"),
        [
            "target|both sides changed the field; each side keeps its value until a person has decided; an edit of the target has decided|t"
        ]
    );
    // Nothing is deleted over an edit.
    together(&mut c, &["UPDATE crm.t SET phone = 'kept'", "DELETE FROM erp.t"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|decided|base|kept"; 2]);
}

#[test]
fn deletes_have_a_policy_of_their_own() {
    let (_db, mut c) =
        pair(r#"{"conflict_resolution": {"strategy": "last_write_wins", "deletes": "edit_wins"}}"#);
    together(&mut c, &["UPDATE crm.t SET phone = 'kept'", "DELETE FROM erp.t"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|base|base|kept"; 2]);
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"conflict_resolution": {"deletes": "delete_wins"}}')"#,
    );
    together(&mut c, &["DELETE FROM erp.t", "UPDATE crm.t SET phone = 'late'"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["", ""]);
    assert_eq!(
        query_one(&mut c, "SELECT reason FROM sync.conflicts ORDER BY id DESC LIMIT 1"),
        "the target deleted the record, the source changed the field; the target's change stands, for deletes win"
    );
}

#[test]
fn a_strategy_can_be_changed_and_taken_back() {
    let (_db, mut c) = pair("{}");
    let prefer = |c: &mut Client, patch: &str| {
        run(c, &format!(r#"SELECT sync.alter_sync('s', '{{"conflict_resolution": {patch}}}')"#));
    };
    prefer(&mut c, r#"{"strategy": "system_priority", "priority_system": "source"}"#);
    meet(&mut c);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|crm|crm|crm"; 2]);
    prefer(&mut c, r#"{"strategy": "last_write_wins"}"#);
    together(&mut c, &["UPDATE crm.t SET email = 'first'", "UPDATE erp.t SET email = 'last'"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|last|crm|crm"; 2]);
    // What was agreed on before holds under another strategy, and one edit is no conflict.
    prefer(&mut c, r#"{"strategy": "manual"}"#);
    together(&mut c, &["UPDATE crm.t SET email = 'one'", "UPDATE erp.t SET phone = 'other'"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|one|crm|other"; 2]);
    let open = "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL";
    assert_eq!(query_one(&mut c, open), "0");
    prefer(&mut c, "null");
    let shown = query_one(&mut c, "SELECT sync.show('s') ? 'conflict_resolution'");
    assert_eq!(shown, "f");
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_changed() {
    let (_db, mut c) = pair("{}");
    let before = query_one(&mut c, "SELECT sync.show('s')");
    for (conflicts, said) in [
        (r#""system_priority""#, "\"system_priority\" needs \"priority_system\""),
        (
            r#"{"strategy": "system_priority", "priority_system": "crn"}"#,
            "there is no system \"crn\"",
        ),
        (
            r#"{"strategy": "field_level_priority", "field_rules": [{"field": "mail", "priority_system": "crm"}]}"#,
            "the sync has no field \"mail\"",
        ),
        (
            r#"{"strategy": "field_level_priority", "field_rules": [
                 {"field": "email", "priority_system": "crm"}, {"field": "email", "priority_system": "erp"}]}"#,
            "the field \"email\" has two rules",
        ),
    ] {
        let sql =
            format!(r#"SELECT sync.alter_sync('s', '{{"conflict_resolution": {conflicts}}}')"#);
        let refused = refusal(&mut c, &sql);
        assert!(refused.contains(said), "{refused}");
    }
    assert_eq!(query_one(&mut c, "SELECT sync.show('s')"), before);
    meet(&mut c);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|erp|erp|erp"; 2]);
}

#[test]
fn what_a_person_keeps_goes_to_the_other_side() {
    let (_db, mut c) = pair(r#"{"conflict_resolution": "manual"}"#);
    meet(&mut c);
    let open =
        "SELECT string_agg(field, ' ' ORDER BY field) FROM sync.conflicts WHERE winner IS NULL";
    assert_eq!(query_one(&mut c, open), "billing_address email phone");
    let keep = |c: &mut Client, field: &str, side: &str| {
        run(
            c,
            &format!(
                "SELECT sync.resolve(id, '{side}') FROM sync.conflicts WHERE field = '{field}' AND winner IS NULL"
            ),
        );
        synced(c, "s");
    };
    keep(&mut c, "email", "crm");
    keep(&mut c, "phone", "target");
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|crm|crm|erp", "1|crm|erp|erp"]);
    assert_eq!(query_one(&mut c, open), "billing_address");
    let decided = "SELECT field, winner, resolved_by = session_user, reason ~ 'has decided$' FROM sync.conflicts
                    WHERE winner IS NOT NULL ORDER BY field";
    assert_eq!(rows(&mut c, decided), ["email|source|t|t", "phone|target|t|t"]);
    // Of many at once.
    run(&mut c, "INSERT INTO crm.t SELECT n, 'e', 'b', 'p' FROM generate_series(2, 50) n");
    synced(&mut c, "s");
    together(
        &mut c,
        &[
            "UPDATE crm.t SET phone = 'c' || id WHERE id > 1",
            "UPDATE erp.t SET phone = 'e' || id WHERE id > 1",
        ],
    );
    run(&mut c, "SELECT sync.pause('s')");
    assert_eq!(
        query_one(&mut c, "SELECT sync.resolve_all('s', keep => 'erp', field => 'phone')"),
        "49"
    );
    run(&mut c, "UPDATE crm.t SET phone = 'again' WHERE id = 7; SELECT sync.resume('s')");
    synced(&mut c, "s");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT count(*) FROM crm.t JOIN erp.t USING (id, phone) WHERE id > 1 AND phone = 'e' || id"
        ),
        "48"
    );
    // A later edit has the last word.
    assert_eq!(
        rows(
            &mut c,
            "SELECT phone FROM crm.t WHERE id = 7 UNION SELECT phone FROM erp.t WHERE id = 7"
        ),
        ["again"]
    );
    assert_eq!(query_one(&mut c, open), "billing_address");
    assert_eq!(query_one(&mut c, "SELECT sync.resolve_all('s', 'source')"), "1");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL"), "0");
    assert_eq!(query_one(&mut c, "SELECT billing_address FROM erp.t WHERE id = 1"), "crm");
    let refused =
        refusal(&mut c, "SELECT sync.resolve((SELECT max(id) FROM sync.conflicts), 'source')");
    assert!(refused.contains("is decided already"), "{refused}");
    assert!(
        refusal(&mut c, "SELECT sync.resolve(0, 'source')")
            .contains("no conflict has the number 0")
    );
    assert!(
        refusal(&mut c, "SELECT sync.resolve_all('s', 'crn')")
            .contains("\"crn\" is no side of sync \"s\"")
    );
}

#[test]
fn a_group_of_columns_comes_from_one_side() {
    let (_db, mut c) = pair(
        r#"{"conflict_resolution": {"strategy": "field_level_priority",
             "column_groups": [{"name": "contact", "fields": ["email", "phone"]}],
             "field_rules": [{"field": "contact", "priority_system": "erp"}]}}"#,
    );
    together(
        &mut c,
        &[
            "UPDATE erp.t SET phone = 'erp'",
            "UPDATE crm.t SET email = 'crm', billing_address = 'crm'",
        ],
    );
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|base|crm|erp"; 2]);
    assert_eq!(rows(&mut c, CONFLICTS), ["email|crm|base|target", "phone|base|erp|target"]);
    // One side's edit is none.
    run(&mut c, "UPDATE crm.t SET email = 'alone'");
    synced(&mut c, "s");
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|alone|crm|erp"; 2]);
    let twice = r#"[{"name": "a", "fields": ["email", "phone"]}, {"name": "b", "fields": ["phone", "billing_address"]}]"#;
    let refused = refusal(
        &mut c,
        &format!(
            r#"SELECT sync.alter_sync('s', '{{"conflict_resolution": {{"field_rules": null, "strategy": "last_write_wins", "column_groups": {twice}}}}}')"#
        ),
    );
    assert!(refused.contains("\"phone\" is in a column group already"), "{refused}");
}

#[test]
fn a_strict_sync_takes_any_two_edits_of_a_record_for_a_conflict() {
    let (_db, mut c) = pair(r#"{"conflict_resolution": {"strategy": "manual", "strict": true}}"#);
    together(&mut c, &["UPDATE erp.t SET phone = 'erp'", "UPDATE crm.t SET email = 'crm'"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|crm|base|base", "1|base|base|erp"]);
    assert_eq!(rows(&mut c, CONFLICTS), ["email|crm|base|", "phone|base|erp|"]);
    assert_eq!(query_one(&mut c, "SELECT sync.resolve_all('s', 'crm')"), "2");
    synced(&mut c, "s");
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|crm|base|base"; 2]);
}
