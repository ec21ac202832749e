//! B1-B3: everything of the user's that runs while a sync applies runs as the sync's owner, to the
//! end of the commit, and cannot become anybody else.

use cluster::postgres::Client;
use pgrx_tests::{Db, db, query_one, rows, run};

use super::{becomes, settle, synced};

/// A role with a schema of its own, in a fresh database.
pub(super) struct Owner {
    pub(super) db: Db<'static>,
    pub(super) admin: Client,
    pub(super) client: Client,
    pub(super) role: String,
}

impl Owner {
    pub(super) fn new() -> Owner {
        let db = db();
        let mut admin = db.connect();
        let role = format!("owner_of_{}", db.name());
        run(
            &mut admin,
            &format!(
                "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; SELECT sync.grant('{role}');
                 CREATE SCHEMA AUTHORIZATION {role};"
            ),
        );
        let mut client = db.connect_as(&role);
        run(
            &mut client,
            "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
             CREATE TABLE witness (id serial, what text, who text);",
        );
        Owner { db, admin, client, role }
    }

    fn sync(&mut self) {
        run(&mut self.client, r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b"}')"#);
    }

    fn witness(&mut self) -> Vec<String> {
        rows(&mut self.client, "SELECT what, who FROM witness ORDER BY id")
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self
            .admin
            .batch_execute(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.role));
    }
}

/// B1: the constraint trigger would fire at COMMIT, after a user id restored too early.
#[test]
fn deferred_triggers_keys_and_defaults_run_as_the_owner() {
    let mut o = Owner::new();
    run(
        &mut o.client,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO witness (what, who) VALUES (TG_NAME, current_user || ' of ' || session_user); RETURN NEW; END $$;
         CREATE TRIGGER at_once BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION note();
         CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON b DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
         ALTER TABLE b ADD by text DEFAULT current_user;
         CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
         ALTER TABLE b ADD FOREIGN KEY (id) REFERENCES parent DEFERRABLE INITIALLY DEFERRED;",
    );
    o.sync();
    run(&mut o.client, "INSERT INTO a VALUES (1, 'x'), (2, 'no parent')");
    assert_eq!(settle(&mut o.client, "s"), 1);
    let role = o.role.clone();
    assert_eq!(rows(&mut o.client, "TABLE b"), [format!("1|x|{role}")]);
    assert_eq!(
        query_one(&mut o.client, "SELECT key, state, sqlstate FROM sync.queue"),
        "2|waiting for parent|23503"
    );
    let who: Vec<String> = o.witness();
    assert_eq!(who.len(), 2, "{who:?}");
    assert!(who[0].starts_with(&format!("at_once|{role} of ")), "{who:?}");
    assert!(who[1].starts_with(&format!("deferred|{role} of ")), "{who:?}");
}

/// A trigger that puts off the constraints again: what is left runs at COMMIT, still as the owner.
#[test]
fn set_constraints_all_deferred_changes_nothing_of_that() {
    let mut o = Owner::new();
    run(
        &mut o.client,
        &format!(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN
                 SET CONSTRAINTS ALL DEFERRED;
                 IF TG_NAME = 'first' THEN INSERT INTO {0}.more VALUES (NEW.id); END IF;
                 INSERT INTO {0}.witness (what, who) VALUES (TG_NAME, current_user); RETURN NEW; END $$;
             CREATE TABLE more (id int);
             CREATE CONSTRAINT TRIGGER first AFTER INSERT ON b DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
             CREATE CONSTRAINT TRIGGER second AFTER INSERT ON more DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();",
            o.role
        ),
    );
    o.sync();
    run(&mut o.client, "INSERT INTO a VALUES (1, 'x')");
    synced(&mut o.client, "s");
    let role = o.role.clone();
    assert_eq!(o.witness(), [format!("first|{role}"), format!("second|{role}")]);
}

/// P12: the attempt is refused, the record parked, and the sync goes on.
#[test]
fn a_function_cannot_become_somebody_else() {
    let mut o = Owner::new();
    run(
        &mut o.client,
        "CREATE FUNCTION escape() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
             CASE NEW.v WHEN 'reset' THEN RESET ROLE;
                        WHEN 'set' THEN SET ROLE postgres;
                        WHEN 'session' THEN SET SESSION AUTHORIZATION postgres;
                        WHEN 'default' THEN RESET SESSION AUTHORIZATION;
                        WHEN 'config' THEN PERFORM set_config('role', 'postgres', false);
                        ELSE NULL; END CASE;
             INSERT INTO witness (what, who) VALUES (NEW.v, current_user); RETURN NEW; END $$;
         CREATE TRIGGER escape BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION escape();",
    );
    o.sync();
    run(
        &mut o.client,
        "INSERT INTO a VALUES (1, 'reset'), (2, 'set'), (3, 'session'), (4, 'default'), (5, 'config'), (6, 'fine')",
    );
    assert_eq!(settle(&mut o.client, "s"), 5);
    let role = o.role.clone();
    assert_eq!(o.witness(), [format!("fine|{role}")]);
    assert_eq!(rows(&mut o.client, "TABLE b"), ["6|fine"]);
    assert_eq!(rows(&mut o.client, "SELECT DISTINCT sqlstate FROM sync.queue"), ["42501"]);
    run(&mut o.client, "INSERT INTO a VALUES (7, 'later')");
    settle(&mut o.client, "s");
    assert_eq!(query_one(&mut o.client, "SELECT count(*) FROM b"), "2");
}

/// B2: no cast, operator or output of a user's type is run as anybody but the owner.
#[test]
fn casts_and_operators_of_a_users_type_run_as_the_owner() {
    let mut o = Owner::new();
    run(
        &mut o.client,
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE FUNCTION spy(m mood) RETURNS json LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO witness (what, who) VALUES ('cast', current_user); RETURN '1'; END $$;
         CREATE CAST (mood AS json) WITH FUNCTION spy(mood);
         ALTER TABLE a ADD m mood; ALTER TABLE b ADD m mood;",
    );
    o.sync();
    run(&mut o.client, "INSERT INTO a VALUES (1, 'x', 'happy')");
    synced(&mut o.client, "s");
    run(&mut o.admin, "SELECT * FROM sync.change_log; SELECT * FROM sync.trace('s', '1')");
    assert_eq!(rows(&mut o.client, "TABLE b"), ["1|x|happy"]);
    assert_eq!(o.witness(), Vec::<String>::new());
}

/// B2: what a domain checks is its owner's code, also of a default that a document gives.
#[test]
fn a_domain_is_checked_as_the_owner_whoever_changes_the_sync() {
    let mut o = Owner::new();
    let role = o.role.clone();
    run(
        &mut o.client,
        &format!(
            r#"CREATE FUNCTION mine(text) RETURNS bool LANGUAGE plpgsql AS $$
                 BEGIN IF current_user <> '{role}' THEN RAISE EXCEPTION 'run as %', current_user; END IF; RETURN true; END $$;
               CREATE DOMAIN own AS text CHECK (mine(VALUE)); ALTER TABLE b ALTER v TYPE own;
               SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "field_mappings": [
                 {{"source": "id", "target": "id"}}, {{"source": "v", "target": "v", "default": "none"}}]}}');"#
        ),
    );
    run(
        &mut o.admin,
        &format!(
            r#"CREATE TABLE c (id int PRIMARY KEY, w text);
               SELECT * FROM sync.plan('s', '{{"delete_limit": 5}}'); SELECT sync.alter_sync('s', '{{"delete_limit": 5}}');
               SELECT sync.create_sync('beside it', '{{"source": "c", "target": "{role}.a", "field_mappings": [
                 {{"source": "id", "target": "id"}}]}}');"#
        ),
    );
    run(&mut o.client, "INSERT INTO a VALUES (1, NULL)");
    synced(&mut o.client, "s");
    assert_eq!(rows(&mut o.client, "TABLE b"), ["1|none"]);
}

#[test]
fn a_right_lost_in_the_middle_stops_the_sync_and_says_the_remedy() {
    let mut o = Owner::new();
    o.sync();
    run(&mut o.client, "INSERT INTO a VALUES (1, 'x')");
    synced(&mut o.client, "s");
    let role = o.role.clone();
    run(&mut o.client, &format!("REVOKE INSERT ON b FROM {role}"));
    run(&mut o.client, "INSERT INTO a VALUES (2, 'y')");
    becomes(&o.db, &mut o.admin, "SELECT state FROM sync.status", "failing");
    assert_eq!(
        query_one(&mut o.admin, "SELECT detail FROM sync.status"),
        format!(
            "permission denied: role \"{role}\" lacks INSERT on {role}.b - A sync works with the rights of the role that created it. - GRANT INSERT ON {role}.b TO {role};"
        )
    );
    assert_eq!(query_one(&mut o.admin, "SELECT count(*) FROM sync.queue"), "0");
    run(&mut o.client, &format!("GRANT INSERT ON b TO {role}"));
    becomes(&o.db, &mut o.client, "SELECT count(*) FROM b", "2");
    becomes(&o.db, &mut o.admin, "SELECT state FROM sync.status", "running");
}

#[test]
fn a_sync_whose_owner_is_gone_says_so() {
    let mut o = Owner::new();
    o.sync();
    synced(&mut o.client, "s");
    let role = o.role.clone();
    run(&mut o.admin, &format!("REASSIGN OWNED BY {role} TO postgres"));
    run(&mut o.client, "SELECT 1");
    run(&mut o.admin, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    run(&mut o.admin, &format!("INSERT INTO {role}.a VALUES (1, 'x')"));
    becomes(&o.db, &mut o.admin, "SELECT state FROM sync.status", "failing");
    let detail = query_one(&mut o.admin, "SELECT detail FROM sync.status");
    assert!(detail.contains("the role that owns the sync is gone"), "{detail}");
    assert_eq!(query_one(&mut o.admin, &format!("SELECT count(*) FROM {role}.b")), "0");
    run(&mut o.admin, "SELECT sync.drop_sync('s')");
    assert_eq!(query_one(&mut o.admin, "SELECT count(*) FROM sync.status"), "0");
}

/// What a hub is made of stays its owner's, whoever plans it, changes it, or counts the rows of a view of his.
#[test]
fn a_hub_and_a_view_are_their_owners_whoever_asks() {
    let mut o = Owner::new();
    let (schema, role) = (o.role.clone(), o.role.clone());
    run(
        &mut o.client,
        "CREATE FUNCTION who(v text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
         CREATE FUNCTION seen(v text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             IF current_user = 'postgres' THEN RAISE EXCEPTION 'run as %', current_user; END IF; RETURN v; END $$;
         INSERT INTO a VALUES (1, 'one'); CREATE TABLE c (id int PRIMARY KEY, v text);
         CREATE TABLE hub (id int PRIMARY KEY, v text); INSERT INTO hub VALUES (1, 'one');
         CREATE VIEW shown AS SELECT id, v FROM a WHERE seen(v) = v; CREATE TABLE copied (id int PRIMARY KEY, v text);",
    );
    let hub = |more: &str| {
        format!(
            r#"{{"sync_hub": "h", "tables": ["{schema}.hub"], "connected_systems": [{{"system": "local", "objects": ["{schema}.b"{more}],
                 "sync_settings": {{"field_mappings": [{{"source": "id", "target": "id"}},
                   {{"source": "v", "target": "v", "transformation": "{schema}.who(v)", "reverse": "{schema}.who(v)"}}]}}}}]}}"#
        )
    };
    run(&mut o.client, &format!("SELECT sync.create_sync('h', '{}')", hub("")));
    let told = "SELECT string_agg(DISTINCT substring(detail FROM 'run as [a-z0-9_]+'), ',')
                  FROM sync.plan('h') WHERE what = 'warning'";
    assert_eq!(query_one(&mut o.admin, told), format!("run as {role}"));
    run(
        &mut o.admin,
        &format!(
            "SELECT sync.alter_sync('h', '{}')",
            hub(&format!(r#", {{"object": "{schema}.c", "table": "{schema}.hub"}}"#))
        ),
    );
    assert_eq!(
        query_one(
            &mut o.admin,
            "SELECT count(*), string_agg(DISTINCT owner::text, ',') FROM sync._sync"
        ),
        format!("2|{role}")
    );
    run(&mut o.client, "SELECT sync.drop_sync('h')");
    run(
        &mut o.client,
        r#"SELECT sync.create_sync('polled', '{"source": {"table": "shown", "key": "id"}, "target": "copied",
             "performance_settings": {"change_detection": "polling"}}')"#,
    );
    synced(&mut o.client, "polled");
    let planned = "SELECT figure FROM sync.plan('polled') WHERE what = 'polling: rows'";
    assert_eq!(query_one(&mut o.admin, planned), "1");
    run(&mut o.admin, "SELECT sync.push('polled', '1')");
}
