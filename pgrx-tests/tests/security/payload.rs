//! Who sees the values of a change, and what is run to show them.

use super::role;
use crate::capture::{equal, pair, settle, two_way};
use pgrx_tests::{db, query_one, rows, run};

const SEEN: &str = "SELECT bool_or(key IS NOT NULL), bool_or(new IS NOT NULL), bool_or(old IS NOT NULL), bool_or(changed IS NOT NULL), count(*) > 0 FROM sync.change_log";

/// B4: SELECT on the whole table, and no row security that would hide rows.
#[test]
fn values_are_shown_only_to_who_may_read_the_table() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY, v text");
    run(&mut client, "INSERT INTO a VALUES (1, 'secret')");
    run(&mut client, "UPDATE a SET v = 'more'");
    settle(&mut client, "s");
    let monitor = role(&db, &mut client, "monitor");
    run(&mut client, &format!("SELECT sync.\"grant\"('{monitor}', 'monitor')"));
    let mut other = db.connect_as(&monitor);
    assert_eq!(query_one(&mut other, SEEN), "||||t".replace("||||", "f|f|f|f|"));
    run(&mut client, &format!("GRANT SELECT (id) ON a TO {monitor}"));
    assert_eq!(query_one(&mut other, SEEN), "f|f|f|f|t");
    run(&mut client, &format!("GRANT SELECT ON a TO {monitor}"));
    assert_eq!(query_one(&mut other, SEEN), "t|t|t|t|t");
    run(&mut client, "ALTER TABLE a ENABLE ROW LEVEL SECURITY");
    assert_eq!(query_one(&mut other, SEEN), "f|f|f|f|t");
    // Nothing is hidden from who is free of it: the table's owner, and whoever may bypass.
    run(&mut client, &format!("ALTER TABLE a OWNER TO {monitor}"));
    assert_eq!(query_one(&mut other, SEEN), "t|t|t|t|t");
    run(&mut client, "ALTER TABLE a FORCE ROW LEVEL SECURITY");
    assert_eq!(query_one(&mut other, SEEN), "f|f|f|f|t");
    run(&mut client, &format!("ALTER ROLE {monitor} BYPASSRLS"));
    assert_eq!(query_one(&mut other, SEEN), "t|t|t|t|t");
    run(&mut client, &format!("ALTER TABLE a OWNER TO postgres; DROP OWNED BY {monitor}"));
}

/// B2: a cast, an operator or a function that a user made is never run to show or to capture a row.
#[test]
fn casts_and_operators_of_users_are_not_run() {
    let db = db();
    let mut client = db.connect();
    let user = role(&db, &mut client, "clever");
    run(
        &mut client,
        &format!(
            "CREATE SCHEMA own AUTHORIZATION {user}; CREATE TABLE ran (who text); GRANT INSERT, SELECT ON ran TO PUBLIC; SELECT sync.\"grant\"('{user}')"
        ),
    );
    let mut clever = db.connect_as(&user);
    run(
        &mut clever,
        "SET search_path = own, public, pg_catalog;
         CREATE TYPE own.mood AS ENUM ('ok', 'sad'); CREATE TYPE own.pair AS (m own.mood, n int);
         CREATE FUNCTION own.caught(own.mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user || ' json'); RETURN '1'; END $$;
         CREATE FUNCTION own.caught_b(own.mood) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user || ' jsonb'); RETURN '1'; END $$;
         CREATE FUNCTION own.caught_t(own.mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user || ' text'); RETURN '1'; END $$;
         CREATE CAST (own.mood AS json) WITH FUNCTION own.caught(own.mood);
         CREATE CAST (own.mood AS jsonb) WITH FUNCTION own.caught_b(own.mood);
         CREATE CAST (own.mood AS text) WITH FUNCTION own.caught_t(own.mood) AS ASSIGNMENT;
         CREATE FUNCTION own.eq(own.mood, own.mood) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user || ' ='); RETURN true; END $$;
         CREATE OPERATOR own.= (LEFTARG = own.mood, RIGHTARG = own.mood, FUNCTION = own.eq);
         CREATE FUNCTION own.int_eq(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user || ' int ='); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
         CREATE OPERATOR own.= (LEFTARG = int, RIGHTARG = int, FUNCTION = own.int_eq);
         CREATE FUNCTION own.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user || ' format'); RETURN ''; END $$;
         CREATE FUNCTION own.count() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user || ' count'); RETURN 1; END $$;
         CREATE TABLE own.a (id int PRIMARY KEY, m own.mood, ms own.mood[], p own.pair); CREATE TABLE own.b (id int PRIMARY KEY, m own.mood, ms own.mood[], p own.pair);",
    );
    two_way(&mut clever, "s", "own.a", "own.b");
    run(
        &mut clever,
        "INSERT INTO own.a VALUES (1, 'ok', '{sad}', ROW('ok', 1)), (2, NULL, NULL, NULL)",
    );
    settle(&mut clever, "s");
    run(
        &mut client,
        "ALTER DATABASE NAME SET search_path = own, public, pg_catalog"
            .replace("NAME", db.name())
            .as_str(),
    );
    let mut watcher = db.connect();
    run(&mut watcher, "UPDATE own.b SET m = 'sad' WHERE id OPERATOR(pg_catalog.=) 1");
    run(&mut watcher, "DELETE FROM own.a WHERE id OPERATOR(pg_catalog.=) 2");
    settle(&mut watcher, "s");
    for what in [
        "sync.change_log",
        "sync.status",
        "sync.queue",
        "sync.errors",
        "sync.conflicts",
        "sync.gaps",
        "sync.progress",
        "sync.doctor()",
        "sync.trace('s', '1')",
    ] {
        rows(&mut watcher, &format!("SELECT x::text FROM {what} AS x"));
    }
    let as_others = "SELECT DISTINCT who FROM ran WHERE who !~ '_clever'";
    assert!(rows(&mut client, as_others).is_empty(), "{:?}", rows(&mut client, as_others));
    assert_eq!(
        query_one(&mut client, "SELECT new->>'m' FROM sync.change_log WHERE operation = 'UPDATE'"),
        "sad"
    );
    run(&mut client, "RESET search_path");
    assert_eq!(equal(&mut clever, "s", "own.a", "own.b"), ["(1,sad,{sad},\"(ok,1)\")"]);
    run(&mut client, &format!("SELECT sync.drop_sync('s'); DROP OWNED BY {user} CASCADE"));
}

/// B1: what the owner's triggers do, they do as the owner, deferred ones too.
#[test]
fn triggers_of_the_target_run_as_the_owner_of_the_sync() {
    let db = db();
    let mut client = db.connect();
    let user = role(&db, &mut client, "owner");
    run(
        &mut client,
        &format!("CREATE SCHEMA own AUTHORIZATION {user}; SELECT sync.\"grant\"('{user}')"),
    );
    let mut owner = db.connect_as(&user);
    run(
        &mut owner,
        "CREATE TABLE own.a (id int PRIMARY KEY); CREATE TABLE own.b (id int PRIMARY KEY); CREATE TABLE own.ran (who text, rights bool);
         CREATE FUNCTION own.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO own.ran SELECT current_user, usesuper FROM pg_catalog.pg_user WHERE usename = current_user; RETURN NEW; END $$;
         CREATE TRIGGER now BEFORE INSERT ON own.b FOR EACH ROW EXECUTE FUNCTION own.note();
         CREATE CONSTRAINT TRIGGER later AFTER INSERT ON own.b DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION own.note();",
    );
    crate::capture::one_way(&mut owner, "s", "own.a", "own.b");
    run(&mut owner, "INSERT INTO own.a VALUES (1)");
    settle(&mut owner, "s");
    assert_eq!(
        rows(&mut client, "SELECT DISTINCT who, rights FROM own.ran"),
        [format!("{user}|f")]
    );
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM own.ran"), "2");
    run(&mut client, &format!("SELECT sync.drop_sync('s'); DROP OWNED BY {user} CASCADE"));
}
