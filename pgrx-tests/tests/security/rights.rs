//! Whoever may write a table is captured, without a right on anything of ours.

use super::role;
use crate::capture::{equal, pair, settle};
use pgrx_tests::{db, query_one, refusal, rows, run};

/// P15
#[test]
fn a_role_with_no_right_on_the_schema_writes_as_before() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY, v text");
    let user = role(&db, &mut client, "writer");
    run(&mut client, &format!("GRANT INSERT, UPDATE, DELETE, SELECT, TRUNCATE ON a TO {user}"));
    let mut writer = db.connect_as(&user);
    run(
        &mut writer,
        "INSERT INTO a VALUES (1, 'x'), (2, 'y'); UPDATE a SET v = 'z' WHERE id = 1; DELETE FROM a WHERE id = 2",
    );
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,z)"]);
    for forbidden in [
        "SELECT * FROM sync.change_log",
        "SELECT sync.pause('s')",
        "SELECT * FROM sync._log_v1_0",
        "SELECT sync._capture()",
        "SELECT nextval('sync._log_seq')",
        "SELECT sync.activate()",
        "INSERT INTO sync._sync (name) VALUES ('x')",
    ] {
        assert!(refusal(&mut writer, forbidden).starts_with("42501"), "{forbidden}");
    }
    run(&mut writer, "TRUNCATE a");
    run(&mut client, &format!("DROP OWNED BY {user}"));
}

/// P15
#[test]
fn a_role_that_may_only_insert_is_captured() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY, v text");
    let user = role(&db, &mut client, "inserter");
    run(&mut client, &format!("GRANT INSERT (id, v) ON a TO {user}"));
    run(&mut db.connect_as(&user), "INSERT INTO a VALUES (1, 'x')");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,x)"]);
    run(&mut client, &format!("DROP OWNED BY {user}"));
}

#[test]
fn writes_under_row_security_are_captured() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY, v text");
    let user = role(&db, &mut client, "tenant");
    run(
        &mut client,
        &format!(
            "ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON a TO {user} USING (v = current_user) WITH CHECK (v = current_user); GRANT ALL ON a TO {user}; INSERT INTO a VALUES (1, 'other')"
        ),
    );
    let mut tenant = db.connect_as(&user);
    run(
        &mut tenant,
        "INSERT INTO a VALUES (2, current_user), (3, current_user); UPDATE a SET id = id + 10; DELETE FROM a WHERE id = 13",
    );
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,other)".to_owned(), format!("(12,{user})")]);
    run(&mut client, &format!("DROP OWNED BY {user}"));
}

#[test]
fn a_security_definer_function_is_captured_as_what_it_writes() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY, v text");
    let user = role(&db, &mut client, "caller");
    run(
        &mut client,
        "CREATE FUNCTION put(int) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$ INSERT INTO a VALUES ($1, session_user) $$",
    );
    run(&mut db.connect_as(&user), "SELECT put(1)");
    assert_eq!(equal(&mut client, "s", "a", "b"), [format!("(1,{user})")]);
    run(&mut client, &format!("DROP OWNED BY {user}"));
}

/// Decision 1: going past capture is a right, and leaves a mark.
#[test]
fn only_who_was_given_it_may_go_past_capture() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY, v text");
    let user = role(&db, &mut client, "bulk");
    run(&mut client, &format!("GRANT ALL ON a TO {user}"));
    let mut bulk = db.connect_as(&user);
    assert!(refusal(&mut bulk, "SET sync_ext.capture = off").starts_with("42501"));
    run(&mut client, &format!("GRANT SET ON PARAMETER sync_ext.capture TO {user}"));
    run(
        &mut bulk,
        "SET sync_ext.capture = off; INSERT INTO a SELECT g, 'bulk' FROM generate_series(1, 1000) g; DELETE FROM a WHERE id > 900",
    );
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 900);
    assert_eq!(rows(&mut client, "SELECT reconciled_at IS NOT NULL FROM sync.gaps"), ["t"]);
    assert_eq!(
        query_one(
            &mut client,
            "SELECT count(*) FROM sync._log_v1_0 WHERE op IN ('I', 'D', 'U') AND origin = 0"
        ),
        "0"
    );
    run(
        &mut bulk,
        "BEGIN; SET LOCAL sync_ext.capture = off; TRUNCATE a; INSERT INTO a VALUES (5, 'only'); COMMIT",
    );
    db.wait_until("the sync asks before it deletes so many", || {
        query_one(&mut client, "SELECT state FROM sync.status") == "needs decision"
    });
    run(&mut client, "SELECT sync.resume('s', confirm => true)");
    settle(&mut client, "s");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(5,only)"]);
    run(
        &mut client,
        &format!("DROP OWNED BY {user}; REVOKE ALL ON PARAMETER sync_ext.capture FROM {user}"),
    );
}
