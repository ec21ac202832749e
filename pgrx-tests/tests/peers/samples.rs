//! Whether `reverse` brings back what `transformation` sends is tried on the rows that are there.

use std::time::{Duration, Instant};

use pgrx_tests::{Shared, query_one, rows, run};

use super::{prepared, privileges::Owner};

fn warnings(c: &mut cluster::postgres::Client, document: &str) -> Vec<String> {
    let sql =
        format!("SELECT detail, figure FROM sync.plan('s', '{document}') WHERE what = 'warning'");
    rows(c, &sql)
}

const TABLES: &str = "CREATE FUNCTION to_cents(euro numeric) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT (euro * 100)::int8';
     CREATE FUNCTION to_euro(cents int8) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT cents / 100.0';
     CREATE FUNCTION to_tens(cents int8) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT cents / 10.0';
     CREATE TABLE priced (id int PRIMARY KEY, price numeric(10,2), name text);
     CREATE TABLE counted (id int PRIMARY KEY, cents int8, name text);";

fn document(price: &str, name: &str) -> String {
    format!(
        r#"{{"source": "priced", "target": "counted", "sync_type": "bidirectional", "field_mappings": [
             {{"source": "id", "target": "id"}},
             {{"source": "price", "target": "cents", "transformation": "to_cents", "reverse": "{price}"}},
             {{"source": "name", "target": "name", {name}}}]}}"#
    )
}

const UPPER: &str = r#""transformation": "upper(name)", "reverse": "lower(name)""#;

#[test]
fn a_reverse_that_brings_back_something_else_is_told_with_how_many_and_an_example() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} INSERT INTO priced SELECT i, i, 'name ' || i FROM generate_series(1, 300) i; INSERT INTO priced VALUES (0, 0, NULL)"
    ));
    // Brought into a form for good: sent again it is the same.
    assert_eq!(warnings(&mut c, &document("to_euro", UPPER)), Vec::<String>::new());
    let told = warnings(&mut c, &document("to_tens", UPPER));
    assert_eq!(
        told,
        [
            "\"field_mappings[1].reverse\" does not bring back what \"transformation\" sends: of 100 of the 100 values of public.priced \
             that were tried another one comes back; for example \"1.00\" arrives as \"100\" and comes back as \"10.00\"|100"
        ]
    );
    // It is made all the same, with a warning, which is in the server's log too: without values.
    run(&mut c, &format!("SELECT sync.create_sync('s', '{}')", document("to_tens", UPPER)));
    let log = Shared::cluster().log_text();
    let line = log.lines().find(|line| line.contains("WARNING") && line.contains("public.priced"));
    let line = line.unwrap_or_else(|| panic!("no warning:\n{log}"));
    assert!(line.contains("of 100 of the 100 values") && !line.contains("1.00"), "{line}");
    assert_eq!(warnings(&mut c, &document("to_euro", UPPER)), Vec::<String>::new());
}

#[test]
fn rows_of_the_target_are_tried_as_well_and_what_raises_is_told() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} INSERT INTO counted VALUES (1, 100, 'ONE'), (2, 200, 'two'), (3, 300, NULL);
         CREATE TABLE seen (v text);
         CREATE FUNCTION note(text) RETURNS text LANGUAGE sql AS 'INSERT INTO seen VALUES ($1) RETURNING $1';"
    ));
    let told = warnings(&mut c, &document("to_euro", UPPER));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("of 1 of the 2 values of public.counted"), "{told:?}");
    assert!(
        told[0].ends_with("\"two\" arrives as \"two\" and comes back as \"TWO\"|1"),
        "{told:?}"
    );
    let noted = r#""transformation": "upper(name)", "reverse": "note(name)""#;
    let told = warnings(&mut c, &document("to_euro", noted));
    assert!(
        told[0].contains("\"ONE\" fails: cannot execute INSERT in a read-only transaction|2"),
        "{told:?}"
    );
    run(&mut c, "INSERT INTO seen VALUES ('still writable')");
}

#[test]
fn a_slow_function_is_not_waited_for() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} INSERT INTO priced SELECT i, i, 'name ' || i FROM generate_series(1, 100) i;
         CREATE FUNCTION slow(text) RETURNS text LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(60)';"
    ));
    let slow = r#""transformation": "slow(name)", "reverse": "name""#;
    let begun = Instant::now();
    assert_eq!(warnings(&mut c, &document("to_euro", slow)), Vec::<String>::new());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // The time that a statement of the caller's may take is as it was.
    run(&mut c, "SET statement_timeout = '3s'");
    assert_eq!(warnings(&mut c, &document("to_euro", slow)), Vec::<String>::new());
    run(&mut c, "SELECT pg_sleep(1.5)");
    // Nor is it waited for where it does not want to end.
    run(
        &mut c,
        "RESET statement_timeout; INSERT INTO counted VALUES (1, 100, 'ONE');
         CREATE FUNCTION stubborn(v text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; END LOOP; END $$;
         CREATE FUNCTION broken(v text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'odd' USING ERRCODE = 'XX000'; END $$;",
    );
    let stubborn = r#""transformation": "stubborn(name)", "reverse": "stubborn(name)""#;
    let begun = Instant::now();
    assert_eq!(warnings(&mut c, &document("to_euro", stubborn)), Vec::<String>::new());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    run(&mut c, "SELECT pg_sleep(1.5)");
    let broken = r#""transformation": "broken(name)", "reverse": "name""#;
    let told = warnings(&mut c, &document("to_euro", broken));
    assert!(told[0].contains("fails: odd"), "{told:?}");
    run(&mut c, "SET statement_timeout = '200ms'");
    let plan = format!("SELECT * FROM sync.plan('s', '{}')", document("to_euro", slow));
    assert!(pgrx_tests::refusal(&mut c, &plan).starts_with("57014"));
    run(&mut c, "SET statement_timeout = 0; SELECT pg_sleep(1.5)");
}

#[test]
fn nothing_is_looked_at_for_who_may_not_read_the_table() {
    let mut o = Owner::new();
    let role = o.role.clone();
    run(
        &mut o.client,
        &format!(
            "{TABLES} INSERT INTO priced VALUES (1, 12.34, 'secret'); ANALYZE priced; REVOKE SELECT ON priced FROM {role}"
        ),
    );
    let document = document("to_tens", UPPER);
    let sql = format!("SELECT detail FROM sync.plan('s', '{document}') WHERE what = 'warning'");
    assert_eq!(rows(&mut o.client, &sql), Vec::<String>::new());
    run(&mut o.client, &format!("GRANT SELECT ON priced TO {role}"));
    assert_eq!(query_one(&mut o.client, &sql).matches("12.34").count(), 1);
}
