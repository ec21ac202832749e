//! C9: what pg_upgrade would refuse, and what it would take along unsettled.

use pgrx_tests::{db, query_one, rows, run};

use super::{settle, two_tables, until};

/// pg_upgrade refuses a cluster that has a column of one of these anywhere, also inside an array, a domain or a
/// composite type: their OIDs are not kept. regclass, regrole and regtype are.
#[test]
fn no_table_of_the_extension_has_a_column_that_pg_upgrade_refuses() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    // With a user's function as a transformation, whose tables are those made at run time too.
    run(
        &mut client,
        r#"CREATE FUNCTION a.loud(v text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper(v)';
           CREATE TABLE a.u (id int PRIMARY KEY, v text); CREATE TABLE b.u (id int PRIMARY KEY, v text);
           SELECT sync.create_sync('u', '{"source": "a.u", "target": "b.u", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "v", "target": "v", "transformation": "a.loud"}]}')"#,
    );
    settle(&mut client);
    let refused = |client: &mut _| {
        rows(
            client,
            "WITH RECURSIVE refused (oid) AS (
                 SELECT t.oid FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace
                    AND t.typname IN ('regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper', 'regoperator',
                                      'regproc', 'regprocedure', 'aclitem', 'unknown', 'sql_identifier')
                 UNION
                 SELECT t.oid FROM refused r JOIN pg_type t ON t.typelem = r.oid OR t.typbasetype = r.oid
                     OR t.typrelid IN (SELECT attrelid FROM pg_attribute a JOIN pg_class k ON k.oid = a.attrelid AND k.relkind = 'c' WHERE a.atttypid = r.oid))
             SELECT a.attrelid::regclass, a.attname, a.atttypid::regtype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
              WHERE a.atttypid IN (SELECT oid FROM refused) AND c.relkind IN ('r', 'm', 'i', 'p')
                AND c.relnamespace = 'sync'::regnamespace",
        )
    };
    assert_eq!(refused(&mut client), Vec::<String>::new());
    // The question finds what it asks for.
    run(&mut client, "CREATE TABLE sync.wrong (f regprocedure, g regproc[])");
    assert_eq!(refused(&mut client), ["sync.wrong|f|regprocedure", "sync.wrong|g|regproc[]"]);
    run(&mut client, "DROP TABLE sync.wrong");
}

/// What is captured and not yet settled would be read by a server of another major, whose types may have another form.
#[test]
fn doctor_says_before_an_upgrade_which_syncs_have_changes_left() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    let left = "SELECT ok, detail FROM sync.doctor() WHERE what = 'undrained'";
    until(&mut client, left, "t|all captured changes are settled");
    run(&mut client, "SELECT sync.pause('t')");
    run(&mut client, "UPDATE a.t SET v = 'pending'");
    assert_eq!(
        query_one(&mut client, left),
        "t|changes are pending: t; before pg_upgrade resume what is paused, and sync.wait"
    );
    run(&mut client, "SELECT sync.resume('t')");
    settle(&mut client);
    until(&mut client, left, "t|all captured changes are settled");
}
