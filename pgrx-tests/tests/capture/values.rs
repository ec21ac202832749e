//! Values of every type, also the odd ones, and values that are stored out of line.

use super::{equal, logged, one_way, pair, settle, two_way};
use pgrx_tests::{db, query_one, rows, run};

/// Sends `values` of `kind` one row each through a two-way pair, then shifts them by one row, so that each value
/// is once inserted, once set and once what an update is checked against.
#[track_caller]
fn survive(before: &str, kind: &str, values: &[&str]) {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        &format!(
            "{before}; CREATE TABLE a (id int PRIMARY KEY, v {kind}); CREATE TABLE b (id int PRIMARY KEY, v {kind});"
        ),
    );
    two_way(&mut client, "s", "public.a", "public.b");
    for (n, value) in values.iter().enumerate() {
        run(&mut client, &format!("INSERT INTO a VALUES ({n}, {value})"));
    }
    assert_eq!(equal(&mut client, "s", "a", "b").len(), values.len());
    for (n, _) in values.iter().enumerate() {
        let next = values[(n + 1) % values.len()];
        run(&mut client, &format!("UPDATE b SET v = {next} WHERE id = {n}"));
    }
    assert_eq!(equal(&mut client, "s", "a", "b").len(), values.len());
    run(&mut client, "DELETE FROM b");
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 0);
}

/// P1
#[test]
fn enums_and_arrays_of_them_survive() {
    let mood = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s \"fine\"')";
    survive(mood, "mood", &["'sad'", "'ok'", "NULL", "'it''s \"fine\"'"]);
    survive(
        mood,
        "mood[]",
        &["'{sad,ok}'", "'{}'", "NULL", "'{NULL,ok}'", "'{{sad,ok},{ok,sad}}'"],
    );
}

/// P1
#[test]
fn arrays_survive() {
    survive("", "int[]", &["'{1,2}'", "'{}'", "NULL", "'{NULL}'", "'[0:1]={1,2}'", "'{{1},{2}}'"]);
    survive(
        "",
        "text[]",
        &["'{a,b}'", "'{NULL,\"NULL\",\"\"}'", "NULL", "ARRAY[repeat('x', 3000)]"],
    );
}

/// P1
#[test]
fn json_survives_to_the_byte() {
    survive(
        "",
        "json",
        &["'{\"b\" : 1,  \"a\":1, \"a\":2}'", "'null'", "NULL", "'\"\\u00e4\"'", "'[]'"],
    );
    survive("", "jsonb", &["'{\"a\": [1, 2.50, null]}'", "'null'", "NULL", "'\"\"'", "'[]'"]);
}

/// P1
#[test]
fn bytes_and_bits_survive() {
    survive("", "bytea", &["'\\x00ff00'", "''", "NULL", "decode(repeat('00', 5000), 'hex')"]);
    survive("", "bit(3)", &["B'101'", "B'000'", "NULL"]);
    survive("", "varbit", &["B'1'", "B''", "NULL"]);
}

/// P1
#[test]
fn numbers_survive_with_nan_infinity_and_signed_zero() {
    survive(
        "",
        "numeric",
        &["1.10", "1.1", "'NaN'", "'Infinity'", "'-Infinity'", "NULL", "1e1000", "0", "-0.0001"],
    );
    survive("", "float8", &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0", "1e-308", "NULL"]);
    survive("", "numeric(6,2)", &["1.10", "-9999.99", "NULL"]);
}

/// P1
#[test]
fn times_survive_with_infinity_and_at_the_ends() {
    survive(
        "",
        "timestamptz",
        &[
            "'infinity'",
            "'-infinity'",
            "'2024-02-29 12:00:00.123456+05:45'",
            "NULL",
            "'4713-01-01 00:00:00 BC'",
        ],
    );
    survive("", "date", &["'infinity'", "'-infinity'", "'0001-01-01 BC'", "NULL"]);
    survive("", "interval", &["'1 mon'", "'30 days'", "'720 hours'", "NULL", "'-178000000 years'"]);
    survive("", "timetz", &["'24:00:00+15:59'", "'00:00:00'", "NULL"]);
}

/// P1: of the types without an equality of their own too.
#[test]
fn composite_range_and_geometric_values_survive() {
    let address = "CREATE TYPE address AS (street text, number int, tags text[])";
    survive(
        address,
        "address",
        &[
            "ROW('a, \"b\"', 1, '{x}')",
            "ROW(NULL, NULL, NULL)",
            "NULL",
            "ROW(repeat('x', 5000), 2, '{}')",
        ],
    );
    survive(address, "address[]", &["ARRAY[ROW('a', 1, NULL)::address]", "'{}'", "NULL"]);
    survive("", "int4range", &["'[1,5)'", "'empty'", "'(,)'", "NULL"]);
    survive("", "nummultirange", &["'{[1,2),[5,)}'", "'{}'", "NULL"]);
    survive("", "point", &["'(1,2)'", "'(NaN,0)'", "NULL"]);
    survive("", "xml", &["'<a>&lt;</a>'", "NULL", "'text'"]);
}

/// P1
#[test]
fn short_types_survive() {
    survive("", "char(5)", &["'a'", "''", "NULL", "'abcde'"]);
    survive("", "\"char\"", &["'x'", "NULL", "''"]);
    survive("", "name", &["'x'", "NULL", "''"]);
    survive("", "bool", &["true", "false", "NULL"]);
    survive("", "inet", &["'10.0.0.1/8'", "'::1'", "NULL"]);
}

/// The target's domain decides what it takes; what it refuses waits with the domain's message.
#[test]
fn a_domain_is_checked_where_the_value_arrives() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE DOMAIN anything AS text; CREATE DOMAIN short AS text CHECK (length(value) < 5);
         CREATE TABLE a (id int PRIMARY KEY, v anything); CREATE TABLE b (id int PRIMARY KEY, v short);",
    );
    two_way(&mut client, "s", "public.a", "public.b");
    run(&mut client, "INSERT INTO a VALUES (1, 'ok'), (2, 'much too long'), (3, NULL)");
    db.wait_until("the record is queued", || {
        rows(&mut client, "SELECT 1 FROM sync.queue").len() == 1
    });
    assert_eq!(
        query_one(&mut client, "SELECT sqlstate, key, message ~ 'short' FROM sync.queue"),
        "23514|2|t"
    );
    run(&mut client, "UPDATE a SET v = 'fine' WHERE id = 2; UPDATE b SET v = 'back' WHERE id = 1");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,back)", "(2,fine)", "(3,)"]);
}

/// A11: a large value in line is compressed, one out of line is only recorded when it changed.
#[test]
fn values_out_of_line_survive_changes_of_other_columns() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY, inline text, outside text, n int");
    run(
        &mut client,
        "ALTER TABLE a ALTER outside SET STORAGE EXTERNAL;
         INSERT INTO a SELECT g, repeat('x', 10000), string_agg(md5(g || ' ' || i), ''), 0
                         FROM generate_series(1, 3) g, generate_series(1, 300) i GROUP BY g;",
    );
    equal(&mut client, "s", "a", "b");
    run(
        &mut client,
        "UPDATE a SET n = 1 WHERE id = 1; UPDATE a SET outside = outside || '!' WHERE id = 2; UPDATE a SET inline = inline || '!' WHERE id = 3",
    );
    equal(&mut client, "s", "a", "b");
    let told = "SELECT changed, new ? 'outside' FROM sync.change_log WHERE operation = 'UPDATE' ORDER BY key";
    assert_eq!(rows(&mut client, told), ["[\"n\"]|f", "[\"outside\"]|t", "[\"inline\"]|f"]);
}

/// D2: a long value that did not change costs the log nothing, and no edit of the other side is lost by it, with a base
/// or without, copied or computed.
#[test]
fn a_long_value_that_did_not_change_is_not_logged() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        r#"CREATE TABLE a (id int PRIMARY KEY, long text, n int, other int);
           CREATE TABLE b (LIKE a INCLUDING ALL);
           CREATE TABLE c (id int PRIMARY KEY, summary text, n int);
           SELECT sync.create_sync('s', '{"source": {"table": "a"}, "target": {"table": "b"}, "sync_type": "bidirectional"}');
           SELECT sync.create_sync('computed', '{"source": {"table": "a"}, "target": {"table": "c"}, "sync_type": "one_way",
             "field_mappings": [{"source": "id", "target": "id"}, {"source": "n", "target": "n"},
                                {"target": "summary", "source": ["long", "n"], "transformation": "left(long, 5) || n"}]}')"#,
    );
    settle(&mut client, "computed");
    run(
        &mut client,
        "INSERT INTO a SELECT g, g || repeat('-', 999), 0, 0 FROM generate_series(1, 5) g",
    );
    equal(&mut client, "s", "a", "b");
    run(&mut client, "SELECT sync.pause('s'); SELECT sync.pause('computed')");
    // Both sides; the long value first and then another; never synced before.
    run(
        &mut client,
        "UPDATE a SET n = 1 WHERE id = 1; UPDATE b SET other = 1 WHERE id = 1;
         UPDATE a SET n = 2 WHERE id = 2; UPDATE b SET long = repeat('b', 1000) WHERE id = 2;
         UPDATE a SET long = repeat('a', 1000) WHERE id = 3; UPDATE a SET n = 3 WHERE id = 3;
         INSERT INTO a VALUES (6, repeat('6', 1000), 0, 0); UPDATE a SET n = 6 WHERE id = 6;
         UPDATE a SET id = 7, n = 4 WHERE id = 4",
    );
    run(&mut client, "SELECT sync.resume('s'); SELECT sync.resume('computed')");
    settle(&mut client, "computed");
    equal(&mut client, "s", "a", "b");
    settle(&mut client, "computed");
    let expected = [
        "1|1-|1000|1|1|1----1",
        "2|bb|1000|2|0|bbbbb2",
        "3|aa|1000|3|0|aaaaa3",
        "5|5-|1000|0|0|5----0",
        "6|66|1000|6|0|666666",
        "7|4-|1000|4|0|4----4",
    ];
    assert_eq!(
        rows(
            &mut client,
            "SELECT id, left(long, 2), length(long), a.n, other, summary FROM a JOIN c USING (id) ORDER BY id"
        ),
        expected
    );
    assert_eq!(
        rows(
            &mut client,
            "SELECT DISTINCT new ? 'long' FROM sync.change_log
              WHERE operation = 'UPDATE' AND origin = 'user' AND changed ? 'n' AND sync = 's'"
        ),
        ["f"]
    );
}

/// A11: what is too large for the log is read from the row, and history says so.
#[test]
fn a_value_above_the_limit_is_read_from_its_row() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE a (id int PRIMARY KEY, v text, n int); CREATE TABLE b (id int PRIMARY KEY, v text, n int);",
    );
    two_way(&mut client, "s", "public.a", "public.b");
    settle(&mut client, "s");
    run(
        &mut client,
        "INSERT INTO a SELECT 1, string_agg(md5(i::text), ''), 0 FROM generate_series(1, 10000) i",
    );
    equal(&mut client, "s", "a", "b");
    run(&mut client, "UPDATE a SET n = 1");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "UPDATE b SET v = v || '!'");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "UPDATE a SET v = repeat('y', 100000)");
    equal(&mut client, "s", "a", "b");
    let kept =
        "SELECT new->>'v' FROM sync.change_log WHERE operation = 'INSERT' AND origin = 'user'";
    assert_eq!(query_one(&mut client, kept), "(too large, not kept)");
}

/// A change that leaves all bytes as they were is none, however the value is stored.
#[test]
fn the_same_value_stored_in_another_way_is_no_change() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY, v text");
    run(&mut client, "INSERT INTO a VALUES (1, repeat('xy', 20000))");
    settle(&mut client, "s");
    run(
        &mut client,
        "ALTER TABLE a ALTER v SET STORAGE EXTERNAL; UPDATE a SET v = repeat('xy', 20000)",
    );
    settle(&mut client, "s");
    assert_eq!(logged(&mut client, "operation = 'UPDATE'"), 0);
}

/// P1
#[test]
fn columns_of_other_types_are_converted() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE a (id int PRIMARY KEY, n int, m mood, t varchar(10), at timestamp);
         CREATE TABLE b (id bigint PRIMARY KEY, n numeric, m text, t text, at date);
         SET timezone = 'Asia/Tokyo';",
    );
    one_way(&mut client, "s", "public.a", "public.b");
    run(
        &mut client,
        "INSERT INTO a VALUES (1, 2, 'ok', 'x', '2024-01-01 23:00'), (2, NULL, NULL, NULL, NULL)",
    );
    settle(&mut client, "s");
    assert_eq!(super::table(&mut client, "b"), ["(1,2,ok,x,2024-01-01)", "(2,,,,)"]);
    run(&mut client, "UPDATE a SET n = 5, m = 'sad' WHERE id = 2; DELETE FROM a WHERE id = 1");
    settle(&mut client, "s");
    assert_eq!(super::table(&mut client, "b"), ["(2,5,sad,,)"]);
}

/// A11: two values of 600 MB do not fit into one image; another column of their row can be changed all the same.
#[test]
fn a_row_of_more_than_a_gigabyte_can_be_changed() {
    if !pgrx_tests::expensive("two values of 600 MB take 3 GB of memory") {
        return;
    }
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        r#"CREATE TABLE a (id int PRIMARY KEY, n int, x text, y text); CREATE TABLE b (LIKE a INCLUDING ALL);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "initial_sync": {"strategy": "none"}}')"#,
    );
    run(&mut client, "INSERT INTO a VALUES (1, 0, repeat('x', 600000000))");
    run(&mut client, "UPDATE a SET y = repeat('y', 600000000)");
    run(&mut client, "UPDATE a SET n = 1");
    run(
        &mut client,
        "UPDATE a SET x = x || 'z', n = 2; UPDATE a SET id = 2; DELETE FROM a WHERE n = 7",
    );
    assert_eq!(
        rows(&mut client, "SELECT operation, key, new ->> 'n' FROM sync.change_log ORDER BY seq"),
        ["INSERT|1|0", "UPDATE|1|0", "UPDATE|1|1", "UPDATE|1|2", "UPDATE|2|2"]
    );
    // Too large to be written in one statement: put aside with the reason, and nothing else waits for it.
    run(&mut client, "INSERT INTO a VALUES (3, 3)");
    let answer = query_one(&mut client, "SELECT settled, parked FROM sync.wait('s', '180s')");
    assert!(answer == "t|0" || answer == "t|1", "{answer}");
    assert_eq!(query_one(&mut client, "SELECT n FROM b WHERE id = 3"), "3");
    println!("{answer} {:?}", rows(&mut client, "SELECT state, message FROM sync.queue"));
    run(&mut client, "DELETE FROM a");
    assert_eq!(query_one(&mut client, "SELECT settled FROM sync.wait('s', '180s')"), "t");
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM b"), "0");
}
