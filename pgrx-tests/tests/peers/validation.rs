//! `validation_rules`: what a value has to be like, and what happens to one that is not.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, settle, synced};

const TABLES: &str =
    "CREATE TABLE a (id int PRIMARY KEY, email text, phone text, n numeric, kind text);
     CREATE TABLE b (LIKE a INCLUDING ALL);";

fn create(rules: &str) -> String {
    format!(
        r#"{TABLES} SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "bidirectional",
             "mapping_options": {{"phone_region": "CH"}}, "validation_rules": [{rules}]}}');"#
    )
}

#[test]
fn a_record_that_breaks_a_rule_waits_by_itself_with_rule_field_and_value() {
    let (_db, mut c) = prepared(&create(
        r#"{"field": "email", "rule": "email_format"}, {"field": "n", "rule": "range", "min": 0, "max": 100},
           {"field": "kind", "rule": "allowed_values", "values": ["x", "y"]},
           {"field": "phone", "rule": "length", "min": 3, "max": 20}"#,
    ));
    run(
        &mut c,
        "INSERT INTO a VALUES (1, 'ada@example.com', '123', 5, 'x'), (2, 'nobody', '123', 5, 'x'), (3, NULL, NULL, NULL, NULL),
                (4, 'a@b.ch', '12', 5, 'x'), (5, 'a@b.ch', '123', 100.5, 'x'), (6, 'a@b.ch', '123', 100, 'z')",
    );
    assert_eq!(settle(&mut c, "s"), 4);
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "3"]);
    let parked =
        rows(&mut c, "SELECT key, state, sqlstate, message, detail FROM sync.queue ORDER BY key");
    let says = |key: u32, field: &str, rule: &str, n: u32, value: &str| {
        format!(
            "{key}|review|23514|the field \"{field}\" breaks the rule {rule}|\"validation_rules[{n}]\" is asked of what is sent to public.b: \"{value}\"."
        )
    };
    assert_eq!(
        parked,
        [
            says(2, "email", "email_format", 0, "nobody"),
            says(4, "phone", "length", 3, "12"),
            says(5, "n", "range", 1, "100.5"),
            says(6, "kind", "allowed_values", 2, "z"),
        ]
    );
    // Corrected it goes by itself; and the other way the same is asked.
    run(
        &mut c,
        "UPDATE a SET email = 'n@o.de' WHERE id = 2; UPDATE b SET email = 'wrong' WHERE id = 1",
    );
    assert_eq!(settle(&mut c, "s"), 4);
    assert_eq!(query_one(&mut c, "SELECT email FROM b WHERE id = 2"), "n@o.de");
    assert_eq!(query_one(&mut c, "SELECT email FROM a WHERE id = 1"), "ada@example.com");
    assert_eq!(
        query_one(&mut c, "SELECT detail FROM sync.queue WHERE key = '1'"),
        "\"validation_rules[0]\" is asked of what is sent to public.a: \"wrong\"."
    );
}

#[test]
fn addresses_are_told_from_what_is_none() {
    let (_db, mut c) = prepared(&create(r#"{"field": "email", "rule": "email_format"}"#));
    let good = [
        "a@b.ch",
        "first.last+tag@sub.example.co.uk",
        "o'hara@x-y.de",
        "ä@münchen.de",
        "1@2.museum",
    ];
    let bad = [
        "",
        "a",
        "a@",
        "@b.ch",
        "a@b",
        "a@b.c",
        "a b@c.de",
        "a@b..de",
        "a@-b.de",
        "a@b-.de",
        ".a@b.de",
        "a..b@c.de",
        "a.@b.de",
        "a@b.de ",
        "a@b@c.de",
        "a@b.1",
        "<a@b.de>",
        "a,b@c.de",
    ];
    for (n, email) in good.iter().chain(&bad).enumerate() {
        run(&mut c, &format!("INSERT INTO a VALUES ({n}, '{}')", email.replace('\'', "''")));
    }
    assert_eq!(settle(&mut c, "s"), bad.len() as u64);
    let sent = rows(&mut c, "SELECT email FROM b ORDER BY id");
    assert_eq!(sent, good);
}

#[test]
fn values_are_brought_into_the_form_that_a_rule_asks_for() {
    let (_db, mut c) = prepared(&create(
        r#"{"field": "email", "rule": "email_format", "on_error": "standardize_format"},
           {"field": "phone", "rule": "regex", "pattern": "^\\+[1-9]\\d{1,14}$", "on_error": "standardize_format"},
           {"field": "kind", "rule": "allowed_values", "values": ["NEW", "OLD"], "on_error": "standardize_format"}"#,
    ));
    run(
        &mut c,
        "INSERT INTO a VALUES (1, ' Ada@Example.com', '044 668 18 00', 1, ' new'), (2, 'b@c.de', '+41446681801', 1, 'OLD'),
                (3, 'b@c.de', 'unknown', 1, 'NEW')",
    );
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(
        rows(&mut c, "SELECT id, email, phone, kind FROM b ORDER BY id"),
        ["1|ada@example.com|+41446681800|NEW", "2|b@c.de|+41446681801|OLD"]
    );
    let parked = query_one(&mut c, "SELECT message, detail FROM sync.queue");
    assert!(parked.contains("phone") && parked.contains("\"unknown\""), "{parked}");
    // What has been brought into form does not travel back, nor again.
    run(&mut c, "UPDATE a SET n = 2 WHERE id = 1");
    settle(&mut c, "s");
    settle(&mut c, "s");
    assert_eq!(
        query_one(&mut c, "SELECT email, phone FROM a WHERE id = 1"),
        " Ada@Example.com|044 668 18 00"
    );
    assert_eq!(query_one(&mut c, "SELECT n, email FROM b WHERE id = 1"), "2|ada@example.com");
}

#[test]
fn what_breaks_a_rule_can_be_sent_empty_or_with_a_warning() {
    let (_db, mut c) = prepared(&format!(
        r#"{TABLES} SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "validation_rules": [
             {{"field": "email", "rule": "email_format", "on_error": "set_null"}},
             {{"field": "n", "rule": "condition", "condition": "value > 0 AND kind IS NOT NULL", "on_error": "warn"}}]}}');"#
    ));
    run(
        &mut c,
        "INSERT INTO a VALUES (1, 'wrong', NULL, -1, 'x'), (2, 'a@b.de', NULL, 1, 'x'), (3, 'a@b.de', NULL, 1, NULL)",
    );
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "SELECT id, email, n FROM b ORDER BY id"),
        ["1||-1", "2|a@b.de|1", "3|a@b.de|1"]
    );
    assert_eq!(query_one(&mut c, "SELECT email FROM a WHERE id = 1"), "wrong");
    assert_eq!(
        rows(&mut c, "SELECT key, sqlstate, message FROM sync.errors ORDER BY key"),
        [
            "1|01000|the field \"n\" breaks the rule condition",
            "3|01000|the field \"n\" breaks the rule condition"
        ]
    );
    run(&mut c, "UPDATE a SET email = 'c@d.de' WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT email FROM b WHERE id = 1"), "c@d.de");
}

#[test]
fn rules_that_cannot_be_asked_are_refused_and_leave_nothing() {
    let (_db, mut c) = prepared(TABLES);
    let cases = [
        (r#"{"field": "fax", "rule": "email_format"}"#, "42703", "validation_rules[0]"),
        (r#"{"field": "n", "rule": "email_format"}"#, "22023", "range"),
        (
            r#"{"field": "email", "rule": "email_format", "on_error": "set_null"}"#,
            "22023",
            "direction",
        ),
        (
            r#"{"field": "email", "rule": "regex", "pattern": "("}"#,
            "2201B",
            "\"validation_rules[0].pattern\" cannot be used: invalid regular expression: parentheses",
        ),
        (r#"{"field": "n", "rule": "range", "min": "low"}"#, "22P02", "low"),
        (r#"{"field": "n", "rule": "condition", "condition": "fax > 1"}"#, "42703", "fax"),
        (
            r#"{"field": "n", "rule": "condition", "condition": "true); DELETE FROM a; SELECT (true"}"#,
            "42601",
            "validation_rules[0].condition",
        ),
        (
            r#"{"field": "n", "rule": "condition", "condition": "true) FROM a WHERE (true"}"#,
            "42601",
            "FROM",
        ),
        (
            r#"{"field": "n", "rule": "condition", "condition": "true), (true"}"#,
            "42601",
            "validation_rules[0].condition",
        ),
    ];
    for (rule, state, says) in cases {
        let rule = rule.replace('\'', "''");
        let text = refusal(
            &mut c,
            &format!(
                r#"SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "bidirectional", "validation_rules": [{rule}]}}')"#
            ),
        );
        assert!(text.starts_with(state) && text.contains(says), "{rule}: {text}");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
}

#[test]
fn a_record_that_was_refused_waits_once_however_often_it_is_looked_at() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (uid uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, kind text);
           CREATE TABLE b (no int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, uid uuid, name text, kind text CHECK (kind <> 'wrong'));
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
             "error_handling": {"retry_strategy": {"max_attempts": 1}}}');
           INSERT INTO a (name, kind) VALUES ('Ada', 'one'), ('Grace', 'two'), ('Alan', 'three')"#,
    );
    synced(&mut c, "s");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"validation_rules": [{"field": "name", "rule": "length", "min": 3}]}')"#,
    );
    synced(&mut c, "s");
    // One is refused by the rule as it is sent, one as it comes back, one by the other table.
    run(
        &mut c,
        "UPDATE a SET name = 'Ad' WHERE kind = 'one'; UPDATE b SET name = 'Gr' WHERE kind = 'two';
         UPDATE a SET kind = 'wrong' WHERE kind = 'three'",
    );
    let waiting = |c: &mut _| {
        rows(
            c,
            r#"SELECT q."table", coalesce(a.name, b.name) FROM sync.queue q LEFT JOIN a ON a.uid::text = q.key LEFT JOIN b ON b.no::text = q.key ORDER BY 1, 2"#,
        )
    };
    let once = ["a|Ad", "a|Alan", "b|Gr"];
    assert_eq!(settle(&mut c, "s"), 3);
    assert_eq!(waiting(&mut c), once);
    for _ in 0..2 {
        assert_eq!(query_one(&mut c, "SELECT sync.retry_all('s')"), "3");
        assert_eq!(settle(&mut c, "s"), 3);
        assert_eq!(waiting(&mut c), once);
    }
    // And where both tables are gone through.
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"where": "kind IS NOT NULL"}')"#);
    assert_eq!(settle(&mut c, "s"), 3);
    assert_eq!(waiting(&mut c), once);
    run(
        &mut c,
        "UPDATE a SET name = 'Ada King' WHERE name = 'Ad'; UPDATE b SET name = 'Grace H.' WHERE name = 'Gr';
         UPDATE a SET kind = 'four' WHERE kind = 'wrong'",
    );
    assert_eq!(settle(&mut c, "s"), 0);
    assert_eq!(
        rows(&mut c, "SELECT name, kind FROM b ORDER BY name"),
        ["Ada King|one", "Alan|four", "Grace H.|two"]
    );
}
