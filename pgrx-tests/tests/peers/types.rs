//! Which types a field may have on the two sides, as the reference tells it.

use pgrx_tests::{db, query_one, rows, run};

const TYPES: [&str; 16] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "numeric",
    "float8",
    "text",
    "varchar(20)",
    "date",
    "timestamp",
    "timestamptz",
    "time",
    "uuid",
    "jsonb",
    "bytea",
    "text[]",
];
const HEADING: &str = "## Types that go together\n";

/// With SYNC_EXT_WRITE=1 the table is written anew.
#[test]
fn the_types_that_go_together_are_those_of_the_reference() {
    let db = db();
    let mut c = db.connect();
    let column = |side: &str| {
        let columns: Vec<String> =
            TYPES.iter().enumerate().map(|(n, of)| format!("{side}{n} {of}")).collect();
        columns.join(", ")
    };
    run(
        &mut c,
        &format!(
            "CREATE TABLE a (id int PRIMARY KEY, {}); CREATE TABLE b (id int PRIMARY KEY, {});
             CREATE FUNCTION goes(source text, target text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM sync.plan('x', jsonb_build_object('source', 'a', 'target', 'b', 'field_mappings', jsonb_build_array(
                     jsonb_build_object('source', 'id', 'target', 'id'), jsonb_build_object('source', source, 'target', target))));
                 RETURN 'yes';
             EXCEPTION WHEN OTHERS THEN
                 RETURN CASE WHEN SQLSTATE = '42846' THEN 'no' ELSE SQLERRM END;
             END $$",
            column("a"),
            column("b")
        ),
    );
    let mut table =
        format!("| from \\ to | {} |\n|---|{}\n", TYPES.join(" | "), "---|".repeat(TYPES.len()));
    for (n, from) in TYPES.iter().enumerate() {
        let cells = rows(
            &mut c,
            &format!(
                "SELECT goes('a{n}', 'b' || m) FROM generate_series(0, {}) m ORDER BY m",
                TYPES.len() - 1
            ),
        );
        for cell in &cells {
            assert!(["yes", "no"].contains(&cell.as_str()), "{from}: {cell}");
        }
        let cells: Vec<&str> =
            cells.iter().map(|cell| if cell == "yes" { "yes" } else { "" }).collect();
        table += &format!("| {from} | {} |\n", cells.join(" | "));
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
    let page = std::fs::read_to_string(file).unwrap();
    let (before, rest) = page.split_once(HEADING).expect("the section");
    let at = rest.find("| from").expect("the table");
    let end = at + rest[at..].find("\n\n").expect("its end") + 1;
    if std::env::var_os("SYNC_EXT_WRITE").is_some() {
        let page = format!("{before}{HEADING}{}{table}{}", &rest[..at], &rest[end..]);
        std::fs::write(file, page).unwrap();
        return;
    }
    assert_eq!(rest[at..end], table, "SYNC_EXT_WRITE=1 writes it anew");
}

/// A value that the other side's type cannot hold is refused by itself, never cut.
#[test]
fn a_value_that_does_not_fit_is_refused_and_never_cut() {
    let db = db();
    let mut c = db.connect();
    run(
        &mut c,
        r#"CREATE TABLE a (id int PRIMARY KEY, t text, n numeric, d text);
           CREATE TABLE b (id int PRIMARY KEY, t varchar(5), n int2, d date);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "error_handling": {"retry_strategy": {"max_attempts": 1}}}');
           INSERT INTO a VALUES (1, 'short', 1, '2026-01-31'), (2, 'far too long', 1, NULL), (3, 'x', 40000, NULL), (4, 'x', 1, 'soon')"#,
    );
    assert_eq!(query_one(&mut c, "SELECT settled, parked FROM sync.wait('s', '60s')"), "t|3");
    assert_eq!(rows(&mut c, "TABLE b"), ["1|short|1|2026-01-31"]);
    assert_eq!(
        rows(&mut c, "SELECT key, sqlstate FROM sync.queue ORDER BY key"),
        ["2|22001", "3|22003", "4|22007"]
    );
}
