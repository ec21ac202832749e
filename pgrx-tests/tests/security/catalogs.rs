//! What the catalogs say of the schema, whatever will be added to it.

use pgrx_tests::{db, rows, run};

/// B: nothing is for everybody, neither what the script made nor what the worker makes.
#[test]
fn nothing_in_the_schema_is_granted_to_public() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    run(
        &mut client,
        r#"SELECT sync.create_sync('s', '{"source": {"table": "public.a"}, "target": {"table": "public.b"}}')"#,
    );
    run(&mut client, "INSERT INTO a VALUES (1)");
    run(&mut client, "SELECT sync.wait('s')");
    let open = "
        SELECT 'function ' || p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
         WHERE p.pronamespace = 'sync'::regnamespace AND x.grantee = 0
        UNION ALL
        SELECT 'relation ' || c.oid::regclass FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", c.relowner))) x
         WHERE c.relnamespace = 'sync'::regnamespace AND x.grantee = 0
        UNION ALL
        SELECT 'column ' || a.attname || ' of ' || c.oid::regclass FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) x
         WHERE c.relnamespace = 'sync'::regnamespace AND x.grantee = 0
        UNION ALL
        SELECT 'schema' FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x WHERE n.nspname = 'sync' AND x.grantee = 0";
    assert!(rows(&mut client, open).is_empty(), "{:#?}", rows(&mut client, open));
    let owners = "SELECT DISTINCT relowner FROM pg_class WHERE relnamespace = 'sync'::regnamespace";
    assert_eq!(rows(&mut client, owners), ["10"]);
}

/// B4: bytes never come in as an argument, and neither does a row.
#[test]
fn no_function_takes_a_row_image() {
    let db = db();
    let mut client = db.connect();
    let takes = "SELECT p.oid::regprocedure FROM pg_proc p, unnest(p.proargtypes) AS a (oid) JOIN pg_type t ON t.oid = a.oid
                  WHERE p.pronamespace = 'sync'::regnamespace
                    AND (t.typname IN ('bytea', '_bytea', 'internal') OR t.typtype IN ('c', 'p'))";
    assert!(rows(&mut client, takes).is_empty(), "{:#?}", rows(&mut client, takes));
}

/// B: whoever calls, every function in SQL or PL/pgSQL sees the same objects. A procedure that commits cannot pin its
/// path: it names each of them in full, which pgspot watches over.
#[test]
fn every_function_written_in_sql_has_its_search_path_pinned() {
    let db = db();
    let mut client = db.connect();
    let loose = "SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
                  WHERE p.pronamespace = 'sync'::regnamespace AND (l.lanname <> 'c' OR p.prosecdef)
                    AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
                    AND p.proname <> 'import_objects'";
    assert!(rows(&mut client, loose).is_empty(), "{:#?}", rows(&mut client, loose));
}

/// Views run their functions as the caller: what they show is guarded in the functions.
#[test]
fn every_public_object_says_what_it_is() {
    let db = db();
    let mut client = db.connect();
    let silent = "
        SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'sync'::regnamespace AND p.proname !~ '^_' AND obj_description(p.oid, 'pg_proc') IS NULL
        UNION ALL
        SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'sync'::regnamespace AND c.relkind = 'v' AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'sync'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND c.relname !~ '^_'";
    assert!(rows(&mut client, silent).is_empty(), "{:#?}", rows(&mut client, silent));
}
