//! Whose value stands where both sides changed a field: every strategy of `conflict_resolution`.
//! The sync is paused while both sides are changed, so that the worker sees the edits together.

use cluster::postgres::Client;
use pgrx_tests::{Db, query_one, refusal, rows, run};

use super::{becomes, prepared, synced, together};

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
        "both sides changed the field; each side keeps what it has until a person has decided"
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
            "target|both sides changed the field; each side keeps what it has until a person has decided; an edit of the target has decided|t"
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

#[test]
fn a_function_of_the_users_chooses_and_both_sides_get_what_it_chose() {
    let (_db, mut c) = pair("{}");
    run(
        &mut c,
        r#"CREATE FUNCTION public.all_three(base text, ours text, theirs text) RETURNS text LANGUAGE sql IMMUTABLE
             AS $$ SELECT concat_ws('|', base, ours, theirs) $$;
           CREATE FUNCTION public.longer(base anyelement, ours anyelement, theirs anyelement) RETURNS anyelement LANGUAGE plpgsql
             AS $$ BEGIN
               IF ours::text = 'trouble' THEN RAISE EXCEPTION 'no value will do'; END IF;
               RETURN CASE WHEN length(ours::text) >= length(theirs::text) THEN ours ELSE theirs END;
             END $$;
           SELECT sync.alter_sync('s', '{"conflict_resolution": {"strategy": "field_level_priority", "field_rules": [
             {"field": "email", "function": "all_three"}, {"field": "phone", "function": "public.longer"}]}}')"#,
    );
    meet(&mut c);
    let one = "1|base|erp|crm|erp|erp";
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], [one; 2]);
    assert_eq!(
        rows(
            &mut c,
            "SELECT field, base, source_value, target_value, winner, reason FROM sync.conflicts WHERE field <> 'billing_address' ORDER BY 1"
        ),
        [
            "email|base|crm|erp|function|both sides changed the field; all_three chose base|erp|crm",
            "phone|base|crm|erp|function|both sides changed the field; public.longer chose erp"
        ]
    );
    // One edit, or twice the same, is nothing to choose.
    together(&mut c, &["UPDATE crm.t SET email = 'alone'"]);
    together(&mut c, &["UPDATE crm.t SET phone = 'p'", "UPDATE erp.t SET phone = 'p'"]);
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|alone|erp|p"; 2]);
    // What it raises is the record's trouble, and nobody else's.
    run(&mut c, "INSERT INTO crm.t VALUES (2, 'b', 'b', 'b')");
    synced(&mut c, "s");
    run(&mut c, "SELECT sync.pause('s')");
    run(
        &mut c,
        "UPDATE crm.t SET phone = 'mine'; UPDATE erp.t SET phone = CASE id WHEN 1 THEN 'trouble' ELSE 'longest' END",
    );
    run(&mut c, "SELECT sync.resume('s')");
    super::settle(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT key, message FROM sync.queue"), ["1|no value will do"; 2]);
    assert_eq!(query_one(&mut c, "SELECT phone FROM crm.t WHERE id = 2"), "longest");
    // Functions that do not exist, or would decide what is decided with others, are refused.
    for (patch, said) in [
        (
            r#"{"strategy": "function", "function": "nobodys"}"#,
            "42883 function nobodys(integer, integer, integer) does not exist",
        ),
        (
            r#"{"strategy": "function", "function": "public.longer", "strict": true}"#,
            "the function public.longer cannot decide \"id\"",
        ),
        (
            r#"{"field_rules": [{"field": "email", "function": "all_three", "priority_system": "crm"}]}"#,
            "the field \"email\" has two authorities",
        ),
        (
            r#"{"field_rules": [{"field": "email"}]}"#,
            "\"conflict_resolution.field_rules[0].priority_system\" is missing",
        ),
    ] {
        let refused = refusal(
            &mut c,
            &format!(r#"SELECT sync.alter_sync('s', '{{"conflict_resolution": {patch}}}')"#),
        );
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn a_person_decides_about_a_delete_against_an_edit() {
    let (_db, mut c) =
        pair(r#"{"conflict_resolution": {"strategy": "last_write_wins", "deletes": "review"}}"#);
    run(&mut c, "INSERT INTO crm.t SELECT n, 'e', 'b', 'p' FROM generate_series(2, 4) n");
    synced(&mut c, "s");
    together(
        &mut c,
        &[
            "DELETE FROM erp.t WHERE id IN (1, 2, 3)",
            "UPDATE crm.t SET phone = 'kept', email = 'kept' WHERE id IN (1, 2)",
        ],
    );
    // What nobody edited is gone on both sides.
    let keys = |c: &mut Client, schema: &str| {
        query_one(c, &format!("SELECT string_agg(id::text, ' ' ORDER BY id) FROM {schema}.t"))
    };
    assert_eq!([keys(&mut c, "crm"), keys(&mut c, "erp")], ["1 2 4", "4"]);
    assert_eq!(
        rows(
            &mut c,
            "SELECT key, field, kind, source_value, target_value, winner FROM sync.conflicts ORDER BY key, field"
        ),
        [
            "1|email|update_deleted|kept||",
            "1|phone|update_deleted|kept||",
            "2|email|update_deleted|kept||",
            "2|phone|update_deleted|kept||"
        ]
    );
    // Another edit asks nothing new, and brings nothing back.
    run(&mut c, "UPDATE crm.t SET phone = 'again' WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(keys(&mut c, "erp"), "4");
    run(
        &mut c,
        "SELECT sync.resolve(min(id), keep => 'crm') FROM sync.conflicts WHERE key = '1' AND winner IS NULL",
    );
    run(&mut c, "SELECT sync.resolve(min(id), keep => 'erp') FROM sync.conflicts WHERE key = '2'");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!([keys(&mut c, "crm"), keys(&mut c, "erp")], ["1 4"; 2]);
    assert_eq!(query_one(&mut c, "SELECT phone, email FROM erp.t WHERE id = 1"), "again|kept");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL"), "0");
    assert_eq!(
        rows(
            &mut c,
            "SELECT DISTINCT key, winner, resolved_by = session_user FROM sync.conflicts ORDER BY 1"
        ),
        ["1|source|t", "2|target|t"]
    );
}

#[test]
fn a_person_may_give_the_values_that_go_to_both_sides() {
    let (_db, mut c) = pair(r#"{"conflict_resolution": "manual"}"#);
    meet(&mut c);
    let any = "(SELECT min(id) FROM sync.conflicts WHERE winner IS NULL)";
    run(
        &mut c,
        &format!(r#"SELECT sync.resolve({any}, set => '{{"email": "a third", "phone": null}}')"#),
    );
    synced(&mut c, "s");
    assert_eq!(side(&mut c, "crm"), "1|a third|crm|");
    assert_eq!(side(&mut c, "erp"), "1|a third|erp|");
    assert_eq!(
        rows(
            &mut c,
            "SELECT field, winner, resolved_by = session_user FROM sync.conflicts ORDER BY 1"
        ),
        ["billing_address||", "email|target|t", "phone|target|t"]
    );
    // The value that one side has already is a decision too.
    run(&mut c, &format!(r#"SELECT sync.resolve({any}, set => '{{"billing_address": "erp"}}')"#));
    synced(&mut c, "s");
    assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], ["1|a third|erp|"; 2]);
    meet(&mut c);
    for (call, said) in [
        ("set => '[]'", "the values are not an object"),
        ("set => '{}'", "there is no value to set"),
        (r#"set => '{"mail": 1}'"#, "\"mail\" is no field of sync \"s\" that can be set"),
        (r#"keep => 'crm', set => '{"email": "x"}'"#, "resolved by a side or by values"),
        ("keep => NULL", "resolved by a side or by values"),
    ] {
        let refused = refusal(&mut c, &format!("SELECT sync.resolve({any}, {call})"));
        assert!(refused.contains(said), "{refused}");
    }
}

/// What a trigger made of an older value stands against no edit that a user made since, whoever has the priority; nor is
/// there anything for a person to decide.
#[test]
fn what_a_trigger_makes_of_our_write_beats_no_edit() {
    for conflicts in [
        r#"{"conflict_resolution": {"strategy": "system_priority", "priority_system": "erp"}}"#,
        r#"{"conflict_resolution": {"strategy": "manual"}}"#,
    ] {
        let (db, mut c) = pair(conflicts);
        run(
            &mut c,
            "CREATE FUNCTION erp.prefix() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN
                 IF NEW.phone NOT LIKE 'erp:%' THEN
                   IF NEW.phone = 'one' THEN PERFORM pg_sleep(1); END IF;
                   UPDATE erp.t SET phone = 'erp:' || NEW.phone WHERE id = NEW.id;
                 END IF;
                 RETURN NULL;
               END $$;
             CREATE TRIGGER prefix AFTER UPDATE ON erp.t FOR EACH ROW EXECUTE FUNCTION erp.prefix();
             UPDATE crm.t SET phone = 'one'",
        );
        becomes(
            &db,
            &mut c,
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
            "1",
        );
        run(&mut c, "UPDATE crm.t SET phone = 'two'");
        synced(&mut c, "s");
        synced(&mut c, "s");
        let expected = "1|base|base|erp:two";
        assert_eq!([side(&mut c, "crm"), side(&mut c, "erp")], [expected; 2], "{conflicts}");
        assert_eq!(
            query_one(&mut c, "SELECT DISTINCT winner || ': ' || reason FROM sync.conflicts"),
            "source: both sides changed the field; what came of our own write stands against no edit of the source"
        );
    }
}
