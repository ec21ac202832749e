//! A function of the user's makes the target's rows: many of one, one of many, or none.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{becomes, prepared, settle, synced};

/// An order holds its lines as a list; a cancelled order has none.
const SPLIT: &str = r#"
    CREATE TABLE orders (id int PRIMARY KEY, items text[], state text DEFAULT 'open');
    CREATE TABLE lines (order_id int, pos int, item text, note text, PRIMARY KEY (order_id, pos));
    CREATE FUNCTION lines_of(operation text, old orders, new orders) RETURNS SETOF lines LANGUAGE sql AS $$
      SELECT new.id, i.pos::int, i.item, operation FROM unnest(new.items) WITH ORDINALITY AS i (item, pos) WHERE new.state <> 'cancelled' $$;"#;
const SYNC: &str = r#"SELECT sync.create_sync('s', '{"source": "orders", "target": "lines", "row_function": "lines_of"}');"#;
const LINES: &str = "SELECT COALESCE(string_agg(concat_ws(':', order_id, pos, item), ' ' ORDER BY order_id, pos), '') FROM lines";

#[test]
fn one_row_becomes_many_and_they_follow_it() {
    let (_db, mut c) =
        prepared(&format!("{SPLIT} INSERT INTO orders VALUES (1, '{{a,b}}'), (2, '{{}}'); {SYNC}"));
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, LINES), "1:1:a 1:2:b");
    run(
        &mut c,
        "INSERT INTO orders VALUES (3, '{x}'); UPDATE orders SET items = '{a,c,d}' WHERE id = 1; UPDATE orders SET items = '{z}' WHERE id = 2",
    );
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, LINES), "1:1:a 1:2:c 1:3:d 2:1:z 3:1:x");
    run(
        &mut c,
        "UPDATE orders SET items = '{only}' WHERE id = 1; UPDATE orders SET state = 'cancelled' WHERE id = 3; DELETE FROM orders WHERE id = 2",
    );
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, LINES), "1:1:only");
    run(
        &mut c,
        "UPDATE orders SET state = 'open' WHERE id = 3; UPDATE orders SET id = 30 WHERE id = 1",
    );
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, LINES), "3:1:x 30:1:only");
    // What it was told: a row whose key was changed is another one.
    assert_eq!(
        rows(&mut c, "SELECT order_id, note FROM lines ORDER BY 1"),
        ["3|UPDATE", "30|INSERT"]
    );
    // P5: taken up once more, nothing changes.
    let versions = "SELECT string_agg(ctid::text, ' ' ORDER BY ctid) FROM lines WHERE order_id = 3";
    let written = query_one(&mut c, versions);
    run(&mut c, "SELECT sync.push('s', '3')");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, LINES), "3:1:x 30:1:only");
    assert_eq!(query_one(&mut c, versions), written);
    run(&mut c, "TRUNCATE orders");
    until_asked(&mut c);
    assert_eq!(query_one(&mut c, LINES), "3:1:x 30:1:only");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, LINES), "");
}

fn until_asked(c: &mut cluster::postgres::Client) {
    let asked = cluster::poll(std::time::Duration::from_secs(30), || {
        query_one(c, "SELECT state FROM sync.status") == "needs decision"
    });
    assert!(asked);
}

/// The sum of a customer's payments; it moves with a payment that is given to another customer, because the function
/// is told what the row was.
#[test]
fn many_rows_become_one() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE payment (id int PRIMARY KEY, customer text, amount int);
           CREATE TABLE total (customer text PRIMARY KEY, amount bigint, payments bigint);
           CREATE FUNCTION total_of(operation text, old payment, new payment) RETURNS SETOF total LANGUAGE sql STABLE AS $$
             SELECT p.customer, sum(p.amount), count(*) FROM payment p WHERE p.customer IN (old.customer, new.customer) GROUP BY 1 $$;
           INSERT INTO payment SELECT n, 'c' || n % 3, n FROM generate_series(1, 9) n;
           SELECT sync.create_sync('s', '{"source": "payment", "target": "total", "row_function": "public.total_of", "performance_settings": {"batch_size": 2}}');"#,
    );
    synced(&mut c, "s");
    let totals = "SELECT string_agg(concat_ws(':', customer, amount, payments), ' ' ORDER BY customer) FROM total";
    let truth = "SELECT string_agg(concat_ws(':', customer, a, n), ' ' ORDER BY customer) FROM (SELECT customer, sum(amount) a, count(*) n FROM payment GROUP BY 1) t";
    assert_eq!(query_one(&mut c, totals), query_one(&mut c, truth));
    run(
        &mut c,
        "UPDATE payment SET customer = 'c9' WHERE id IN (1, 2); UPDATE payment SET amount = 100 WHERE id = 3; DELETE FROM payment WHERE id IN (4, 5)",
    );
    run(
        &mut c,
        "UPDATE payment SET customer = 'c8' WHERE id = 1; UPDATE payment SET customer = 'c9' WHERE id = 1",
    );
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, totals), query_one(&mut c, truth));
    // A customer whose last payment goes has no total.
    run(
        &mut c,
        "DELETE FROM payment WHERE customer = 'c9'; UPDATE payment SET customer = 'c0' WHERE customer = 'c1'",
    );
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, totals), query_one(&mut c, truth));
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM total"), "2");
}

/// What is to be asked about once more is settled too before `sync.wait` says so: a total whose payments have all gone
/// elsewhere goes with the last row that it came of once.
#[test]
fn what_is_asked_about_once_more_is_waited_for() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE payment (id int PRIMARY KEY, customer int);
           CREATE TABLE total (customer int PRIMARY KEY, payments bigint);
           CREATE FUNCTION total_of(operation text, old payment, new payment) RETURNS SETOF total LANGUAGE sql STABLE AS $$
             SELECT p.customer, count(*) FROM payment p WHERE p.customer IN (old.customer, new.customer) GROUP BY 1 $$;
           INSERT INTO payment SELECT n, 0 FROM generate_series(1, 3) n;
           SELECT sync.create_sync('s', '{"source": "payment", "target": "total", "row_function": "total_of"}');"#,
    );
    for n in 1..40 {
        run(&mut c, &format!("UPDATE payment SET customer = {n} WHERE id = 1"));
        synced(&mut c, "s");
        run(&mut c, &format!("UPDATE payment SET customer = {n} WHERE id > 1"));
        synced(&mut c, "s");
        assert_eq!(rows(&mut c, "SELECT customer, payments FROM total"), [format!("{n}|3")]);
    }
}

/// P12: what the function refuses waits alone, with its change whole when it is tried again.
#[test]
fn what_a_function_refuses_parks_its_row_only() {
    let (db, mut c) = prepared(&format!(
        "{SPLIT} CREATE OR REPLACE FUNCTION lines_of(operation text, old orders, new orders) RETURNS SETOF lines LANGUAGE plpgsql AS $$
           BEGIN
             IF new.state = 'bad' THEN RAISE EXCEPTION 'order % is bad', new.id; END IF;
             IF new.state = 'keyless' THEN RETURN QUERY SELECT new.id, NULL::int, 'x', ''; END IF;
             IF new.state = 'writes' THEN DELETE FROM orders; END IF;
             RETURN QUERY SELECT new.id, 1, concat(old.state, '>', new.state), operation WHERE new.id IS NOT NULL;
           END $$; {SYNC}"
    ));
    run(
        &mut c,
        "INSERT INTO orders VALUES (1, NULL, 'a'), (2, NULL, 'bad'), (3, NULL, 'keyless'), (4, NULL, 'writes'), (5, NULL, 'b')",
    );
    settle(&mut c, "s");
    assert_eq!(query_one(&mut c, LINES), "1:1:>a 5:1:>b");
    becomes(
        &db,
        &mut c,
        "SELECT string_agg(key || ' ' || message, '; ' ORDER BY key) FROM sync.queue",
        "2 order 2 is bad; 3 lines_of returned a row without a key; 4 cannot execute DELETE in a read-only transaction",
    );
    run(&mut c, "UPDATE orders SET state = 'good'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, LINES), "1:1:a>good 2:1:>good 3:1:>good 4:1:>good 5:1:b>good");
    // A row of the target that somebody else has made is taken over, not doubled.
    run(
        &mut c,
        "INSERT INTO lines VALUES (6, 1, 'by hand', NULL); INSERT INTO orders VALUES (6, NULL, 'c')",
    );
    synced(&mut c, "s");
    assert!(query_one(&mut c, LINES).ends_with("6:1:>c"));
}

#[test]
fn what_cannot_be_a_row_function_is_refused() {
    let (_db, mut c) = prepared(SPLIT);
    run(
        &mut c,
        "CREATE FUNCTION wrong(operation text, old orders, new orders) RETURNS SETOF orders LANGUAGE sql AS 'SELECT new'",
    );
    for (document, said) in [
        (
            r#""row_function": "lines""#,
            "42883 function lines(text, public.orders, public.orders) does not exist\n\
             DETAIL: \"row_function\" names it to make the rows of public.lines.\n\
             HINT: Declare it as CREATE FUNCTION lines(operation text, old public.orders, new public.orders) RETURNS SETOF public.lines.",
        ),
        (
            r#""row_function": "wrong""#,
            "42804 function wrong(text, public.orders, public.orders) does not return rows of public.lines",
        ),
        (
            r#""row_function": "lines_of", "sync_type": "bidirectional""#,
            "a sync with \"row_function\" goes from source to target",
        ),
        (
            r#""row_function": "lines_of", "match_on": ["id"]"#,
            "\"match_on\" contradicts \"row_function\"",
        ),
        (r#""row_function": "a.b.c""#, "\"row_function\" must be the name of a function"),
    ] {
        let refused = refusal(
            &mut c,
            &format!(
                r#"SELECT sync.create_sync('s', '{{"source": "orders", "target": "lines", {document}}}')"#
            ),
        );
        assert!(refused.contains(said), "{refused}");
    }
    run(&mut c, SYNC);
    run(&mut c, "CREATE TABLE more (LIKE lines INCLUDING ALL)");
    let refused =
        refusal(&mut c, r#"SELECT sync.create_sync('t', '{"source": "more", "target": "lines"}')"#);
    assert!(refused.contains("is written by sync \"s\" already"), "{refused}");
}
