//! Tables of every make: keys, generated columns, names, partitions, width.

use super::{equal, one_way, pair, peer, settle, table, two_way};
use pgrx_tests::{db, query_one, rows, run};

/// Inserts, changes and deletes through the pair `a`, `b`: both must be equal after each step.
#[track_caller]
fn goes_through(columns: &str, insert: &str, update: &str, delete: &str) {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, columns);
    run(&mut client, &format!("INSERT INTO a {insert}"));
    assert!(!equal(&mut client, "s", "a", "b").is_empty());
    let before = table(&mut client, "a");
    run(&mut client, &format!("UPDATE a SET {update}"));
    assert_ne!(equal(&mut client, "s", "a", "b"), before);
    let before = table(&mut client, "a").len();
    run(&mut client, &format!("DELETE FROM a WHERE {delete}"));
    assert!(equal(&mut client, "s", "a", "b").len() < before);
}

/// P1
#[test]
fn a_composite_key_identifies_rows() {
    goes_through(
        "region text, number int, v text, PRIMARY KEY (number, region)",
        "VALUES ('north', 1, 'a'), ('south', 1, 'b'), ('north', 2, 'c'), ('', 3, 'd')",
        "v = v || '!' WHERE number = 1",
        "(region, number) = ('north', 1)",
    );
}

/// P1
#[test]
fn a_text_key_identifies_rows() {
    goes_through(
        "code text PRIMARY KEY, v int",
        "VALUES ('', 0), ('x', 1), ('Ünïcødé ☃', 2), (repeat('long', 400), 3), (' x', 4), ('X', 5)",
        "v = v + 10",
        "code IN ('', 'x')",
    );
}

/// P1
#[test]
fn a_uuid_key_identifies_rows() {
    goes_through(
        "id uuid PRIMARY KEY DEFAULT gen_random_uuid(), v int",
        "(v) SELECT generate_series(1, 20)",
        "v = -v WHERE v > 10",
        "v < 5",
    );
}

/// A4: any immediate unique index on NOT NULL columns is a key.
#[test]
fn a_unique_not_null_index_is_a_key() {
    goes_through(
        "v text, code varchar(20) NOT NULL UNIQUE, other int UNIQUE",
        "VALUES ('a', 'k1', 1), ('b', 'k2', NULL), ('c', 'k3', NULL)",
        "v = upper(v)",
        "code = 'k2'",
    );
}

/// P1: equal keys in different spelling are one row.
#[test]
fn a_numeric_key_may_change_its_scale() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id numeric PRIMARY KEY, v text");
    run(&mut client, "INSERT INTO a VALUES (1.0, 'x'), (2.50, 'y')");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "UPDATE a SET id = 1.000 WHERE id = 1; UPDATE a SET v = 'z' WHERE id = 1");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1.000,z)", "(2.50,y)"]);
}

/// Keys and values that are computed on either side stay computed there.
#[test]
fn generated_columns_travel_as_values_and_are_never_written() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE a (id int PRIMARY KEY, net numeric, gross numeric GENERATED ALWAYS AS (net * 1.2) STORED, doubled numeric GENERATED ALWAYS AS (net * 2) STORED);
         CREATE TABLE b (id int PRIMARY KEY, net numeric, gross numeric, doubled numeric GENERATED ALWAYS AS (net * 2) STORED);
         INSERT INTO a (id, net) VALUES (1, 10), (2, NULL);",
    );
    one_way(&mut client, "s", "public.a", "public.b");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "UPDATE a SET net = 11 WHERE id = 1; INSERT INTO a (id, net) VALUES (3, 3)");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,11,13.2,22)", "(2,,,)", "(3,3,3.6,6)"]);
}

#[test]
fn an_identity_always_key_is_taken_over() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
         CREATE TABLE b (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);",
    );
    two_way(&mut client, "s", "public.a", "public.b");
    run(&mut client, "INSERT INTO a (v) VALUES ('x'), ('y')");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "UPDATE b SET v = 'Y' WHERE id = 2; DELETE FROM a WHERE id = 1");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(2,Y)"]);
}

#[test]
fn quoted_non_ascii_and_63_byte_names_are_names() {
    let db = db();
    let mut client = db.connect();
    let (schema, long) = ("Größe \"x\".y", "ü".repeat(31) + "x");
    assert_eq!(long.len(), 63);
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (source, target) =
        (format!("{}.{}", quote(schema), quote(&long)), format!("{}.\"SELECT\"", quote(schema)));
    let columns = format!(
        "\"Schlüssel\" int PRIMARY KEY, \"a.b\" text, {} text, \"\"\"\" text, \"user\" text",
        quote(&long)
    );
    run(
        &mut client,
        &format!(
            "CREATE SCHEMA {}; CREATE TABLE {source} ({columns}); CREATE TABLE {target} ({columns});",
            quote(schema)
        ),
    );
    two_way(&mut client, &long, &source, &target);
    run(
        &mut client,
        &format!(
            "INSERT INTO {source} VALUES (1, 'a', 'b', 'c', 'd'), (2, NULL, NULL, NULL, NULL)"
        ),
    );
    equal(&mut client, &long, &source, &target);
    run(
        &mut client,
        &format!(
            "UPDATE {target} SET \"\"\"\" = 'C', {} = 'B' WHERE \"Schlüssel\" = 2",
            quote(&long)
        ),
    );
    assert_eq!(equal(&mut client, &long, &source, &target), ["(1,a,b,c,d)", "(2,,B,C,)"]);
}

/// A10: the log knows the root, the shape is the leaf's.
#[test]
fn partitions_of_two_levels_with_other_column_orders_are_one_table() {
    let db = db();
    let mut client = db.connect();
    for root in ["a", "b"] {
        run(
            &mut client,
            &format!(
                "CREATE TABLE {root} (id int, region text, v text, n numeric, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
                 CREATE TABLE {root}_north PARTITION OF {root} FOR VALUES IN ('north') PARTITION BY RANGE (id);
                 CREATE TABLE {root}_north_1 PARTITION OF {root}_north FOR VALUES FROM (0) TO (100);
                 CREATE TABLE {root}_north_2 (n numeric, gone int, v text, region text NOT NULL, also_gone text, id int NOT NULL);
                 ALTER TABLE {root}_north_2 DROP COLUMN gone, DROP COLUMN also_gone;
                 ALTER TABLE {root}_north ATTACH PARTITION {root}_north_2 FOR VALUES FROM (100) TO (200);
                 CREATE TABLE {root}_rest PARTITION OF {root} DEFAULT;"
            ),
        );
    }
    run(
        &mut client,
        "INSERT INTO a VALUES (1, 'north', 'before', 0.5), (101, 'north', 'before', 0.5)",
    );
    two_way(&mut client, "s", "public.a", "public.b");
    equal(&mut client, "s", "a", "b");
    run(
        &mut client,
        "INSERT INTO a SELECT g, CASE g % 3 WHEN 0 THEN 'north' ELSE 'south' END, 'v' || g, g / 7.0 FROM generate_series(2, 199) g WHERE g <> 101;
         UPDATE a SET v = v || '!' WHERE id % 5 = 0;
         UPDATE a_north_2 SET n = -n;
         DELETE FROM a WHERE id BETWEEN 50 AND 60;",
    );
    equal(&mut client, "s", "a", "b");
    run(
        &mut client,
        "UPDATE b_north_2 SET v = 'from b' WHERE id = 150; UPDATE b SET n = 1 WHERE id = 4",
    );
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 188);
    assert_eq!(query_one(&mut client, "SELECT v FROM a WHERE id = 150"), "from b");
}

#[test]
fn a_partitioned_table_syncs_with_a_plain_one() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE a (id int PRIMARY KEY, v text) PARTITION BY HASH (id);
         CREATE TABLE a_0 PARTITION OF a FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE a_1 PARTITION OF a FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         CREATE TABLE b (id int PRIMARY KEY, v text);",
    );
    two_way(&mut client, "s", "public.a", "public.b");
    run(
        &mut client,
        "INSERT INTO a SELECT g, 'a' FROM generate_series(1, 20) g; INSERT INTO b SELECT g, 'b' FROM generate_series(21, 40) g",
    );
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 40);
}

/// More columns than fit into the trigger's memory on the stack.
#[test]
fn a_table_of_three_hundred_columns_is_captured() {
    let db = db();
    let mut client = db.connect();
    let columns: Vec<String> =
        (1..300).map(|n| format!("c{n} {}", ["int", "text", "numeric"][n % 3])).collect();
    pair(&mut client, &format!("id int PRIMARY KEY, {}", columns.join(", ")));
    run(&mut client, "INSERT INTO a (id, c1, c299) VALUES (1, 'x', 4.5), (2, NULL, NULL)");
    equal(&mut client, "s", "a", "b");
    run(
        &mut client,
        "UPDATE a SET c298 = 'last but one' WHERE id = 1; UPDATE a SET c150 = 7, c1 = NULL",
    );
    equal(&mut client, "s", "a", "b");
    let changed =
        "SELECT changed FROM sync.change_log WHERE operation = 'UPDATE' AND key = '1' ORDER BY seq";
    assert_eq!(rows(&mut client, changed), ["[\"c298\"]", "[\"c1\", \"c150\"]"]);
}

#[test]
fn a_key_and_nothing_else_is_a_table() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int, part int, PRIMARY KEY (id, part)");
    run(
        &mut client,
        "INSERT INTO a SELECT g, g FROM generate_series(1, 5) g; DELETE FROM a WHERE id = 2; UPDATE a SET part = 9 WHERE id = 3",
    );
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,1)", "(3,9)", "(4,4)", "(5,5)"]);
}

/// A unique index may hold columns that are no part of the key.
#[test]
fn included_columns_of_an_index_are_no_key() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE a (id int NOT NULL, v text NOT NULL); CREATE UNIQUE INDEX ON a (id) INCLUDE (v);
         CREATE TABLE b (id int NOT NULL, v text NOT NULL); CREATE UNIQUE INDEX ON b (id) INCLUDE (v);",
    );
    peer(&mut client, "s", "public.a", "public.b", "{}");
    run(&mut client, "INSERT INTO a VALUES (1, 'x')");
    settle(&mut client, "s");
    run(&mut client, "UPDATE a SET v = 'y'");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,y)"]);
}
