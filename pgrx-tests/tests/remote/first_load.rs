//! The first load of an object: records that nobody here knows are inserted many at a time, and whatever is out of
//! the ordinary about one of them is merged as ever.

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{LocalOrg, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{ACCOUNTS, create_sync, names, settle, until};
use crate::connections::{connect_crm, with_org};

const RECORDS: usize = 1_500;

/// An org with its accounts, and the table, which `setup` has prepared.
fn filled(setup: &str) -> (LocalOrg, Cluster, Client, Vec<String>) {
    let (org, cluster) = with_org(Options::default(), &[]);
    let insert = |n| org.insert("Account", json!({"Name": format!("n{n}"), "AnnualRevenue": n}));
    let ids = (0..RECORDS).map(|n| insert(n).unwrap()).collect();
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(&mut c, ACCOUNTS);
    run(&mut c, setup);
    (org, cluster, c, ids)
}

/// Waits for the end of the load and of what came of it; both sides are the same.
#[track_caller]
fn loaded(c: &mut Client, org: &LocalOrg) {
    until(c, "SELECT count(*) FROM sync.progress", "0");
    settle(c);
    let mut here = Vec::new();
    let mut there = Vec::new();
    cluster::poll(std::time::Duration::from_secs(20), || {
        here = rows(
            c,
            "SELECT sf_id || '|' || account_name || '|' || COALESCE(annual_revenue, 0)::int FROM accounts",
        );
        here.sort();
        there = org
            .records("Account")
            .iter()
            .map(|r| {
                let text = |name: &str| r[name].as_str().unwrap_or_default().to_owned();
                let revenue = r["AnnualRevenue"].as_f64().unwrap_or_default();
                format!("{}|{}|{revenue}", text("Id"), text("Name"))
            })
            .collect();
        there.sort();
        here == there
    });
    assert!(here == there, "{:?}\n{:?}", &here[..here.len().min(9)], &there[..there.len().min(9)]);
    let pairs = "SELECT count(*) || '|' || count(DISTINCT key) || '|' || count(DISTINCT remote_id) FROM sync._link WHERE deleted_at IS NULL";
    let count = there.len();
    assert_eq!(query_one(c, pairs), format!("{count}|{count}|{count}"));
    let indexes =
        "SELECT count(*) FROM pg_index WHERE indrelid = 'sync._link_1'::regclass AND indisvalid";
    assert_eq!(query_one(c, indexes), "2");
}

/// Changes of the table that stand in the log.
const LOGGED: &str =
    "SELECT count(*) FROM (TABLE sync._log_v1_0 UNION ALL TABLE sync._log_v1_1 UNION ALL
    TABLE sync._log_v1_2 UNION ALL TABLE sync._log_v1_3) l";

#[test]
fn what_only_its_own_sync_would_read_back_is_not_logged() {
    let (org, _cluster, mut c, ids) = filled("");
    create_sync(&mut c, "{}");
    loaded(&mut c, &org);
    assert_eq!(query_one(&mut c, LOGGED), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    assert!(!org.calls().iter().any(|call| call.method == "PATCH"), "something was written back");
    // What comes after is told as ever, on both sides.
    run(&mut c, &format!("UPDATE accounts SET account_name = 'here' WHERE sf_id = '{}'", ids[7]));
    org.edit(&ids[8], json!({"Name": "there"})).unwrap();
    run(&mut c, &format!("DELETE FROM accounts WHERE sf_id = '{}'", ids[9]));
    loaded(&mut c, &org);
    assert_eq!(names(&org).iter().filter(|n| ["here", "there"].contains(&n.as_str())).count(), 2);
    assert_eq!(org.records("Account").len(), RECORDS - 1);
}

#[test]
fn another_sync_of_the_table_is_told_of_every_row() {
    let (org, _cluster, mut c, _) =
        filled("CREATE SCHEMA peer; CREATE TABLE peer.accounts (LIKE accounts INCLUDING ALL)");
    run(
        &mut c,
        r#"SELECT sync.create_sync('copy', '{"source": "accounts", "target": "peer.accounts", "sync_type": "one_way"}')"#,
    );
    run(&mut c, "SELECT FROM sync.wait('copy', '30s')");
    create_sync(&mut c, "{}");
    until(&mut c, "SELECT count(*) FROM peer.accounts", &RECORDS.to_string());
    until(&mut c, "SELECT count(*) FROM sync.progress", "0");
    settle(&mut c);
    // Its own inserts came back by the log, and were no news.
    assert_ne!(query_one(&mut c, LOGGED), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    assert!(!org.calls().iter().any(|call| call.method == "PATCH"), "something was written back");
    let differing = "SELECT count(*) FROM accounts FULL JOIN peer.accounts p USING (id) WHERE accounts IS DISTINCT FROM p";
    assert_eq!(query_one(&mut c, differing), "0");
}

#[test]
fn rows_that_are_there_are_paired_not_doubled() {
    // Once an index would refuse the double, once nothing but the look for it does.
    for index in ["", "ALTER TABLE accounts DROP CONSTRAINT accounts_sf_id_key"] {
        let (org, _cluster, mut c, ids) = filled(index);
        run(
            &mut c,
            &format!(
                "INSERT INTO accounts (sf_id, account_name, annual_revenue) VALUES ('{}', 'n3', 3), ('{}', 'n900', 900)",
                ids[3], ids[900]
            ),
        );
        create_sync(&mut c, "{}");
        loaded(&mut c, &org);
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), RECORDS.to_string());
        assert_eq!(org.records("Account").len(), RECORDS);
    }
}

#[test]
fn what_a_trigger_makes_of_a_row_travels_back() {
    let before = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN NEW.account_name := upper(NEW.account_name); RETURN NEW; END $$;
         CREATE TRIGGER shout BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION f()";
    let after = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN UPDATE accounts SET account_name = upper(account_name) WHERE id = NEW.id; RETURN NULL; END $$;
         CREATE TRIGGER shout AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION f()";
    for trigger in [before, after] {
        let (org, _cluster, mut c, _) = filled(trigger);
        create_sync(&mut c, "{}");
        until(&mut c, "SELECT count(*) FROM accounts", &RECORDS.to_string());
        loaded(&mut c, &org);
        assert!(names(&org).iter().all(|name| name.starts_with('N')), "{:?}", &names(&org)[..5]);
    }
}

/// Under the mark of the sync itself, at the depth of a trigger or, in a default, of none.
#[test]
fn rows_that_come_of_the_rows_travel_too() {
    let trigger = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
             IF NEW.annual_revenue % 500 = 0 THEN
               INSERT INTO accounts (account_name, annual_revenue) VALUES ('branch of ' || NEW.account_name, 1);
             END IF;
             RETURN NULL;
           END $$;
         CREATE TRIGGER branch AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION f()";
    let default = "CREATE FUNCTION f() RETURNS timestamp LANGUAGE plpgsql AS $$
           BEGIN
             IF NOT EXISTS (SELECT FROM accounts WHERE account_name = 'by the way') THEN
               INSERT INTO accounts (account_name, annual_revenue, last_sync) VALUES ('by the way', 1, now());
             END IF;
             RETURN now();
           END $$;
         ALTER TABLE accounts ALTER last_sync SET DEFAULT f()";
    for (setup, more) in [(trigger, 3), (default, 1)] {
        let (org, _cluster, mut c, _) = filled(setup);
        create_sync(&mut c, "{}");
        until(&mut c, "SELECT count(*) FROM accounts", &(RECORDS + more).to_string());
        loaded(&mut c, &org);
        assert_eq!(org.records("Account").len(), RECORDS + more);
    }
}

/// One record that the table does not take, for every way of that; whatever has been stored with it is undone.
#[test]
fn a_row_that_is_refused_waits_alone() {
    let kept_out = [
        (
            "ALTER TABLE accounts ADD CONSTRAINT c CHECK (account_name <> 'n700')",
            "23514",
            "ALTER TABLE accounts DROP CONSTRAINT c",
        ),
        (
            "CREATE DOMAIN d AS varchar(255) CONSTRAINT c CHECK (VALUE <> 'n700');
             ALTER TABLE accounts ALTER account_name TYPE d",
            "23514",
            "ALTER DOMAIN d DROP CONSTRAINT c",
        ),
        (
            "CREATE TABLE known AS SELECT 'n' || n AS name FROM generate_series(0, 1499) n WHERE n <> 700;
             ALTER TABLE known ADD PRIMARY KEY (name);
             ALTER TABLE accounts ADD CONSTRAINT c FOREIGN KEY (account_name) REFERENCES known",
            "23503",
            "INSERT INTO known VALUES ('n700')",
        ),
        (
            "ALTER TABLE accounts ADD CONSTRAINT c EXCLUDE (((account_name = 'n699' OR account_name = 'n700')::int) WITH =)
                 WHERE (account_name IN ('n699', 'n700'))",
            "23P01",
            "ALTER TABLE accounts DROP CONSTRAINT c",
        ),
        (
            "CREATE UNIQUE INDEX c ON accounts (replace(account_name, '700', '699'))",
            "23505",
            "DROP INDEX c",
        ),
        (
            "ALTER TABLE accounts ADD CONSTRAINT c EXCLUDE (replace(account_name, '700', '699') WITH =) DEFERRABLE INITIALLY DEFERRED",
            "23P01",
            "ALTER TABLE accounts DROP CONSTRAINT c",
        ),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN RAISE SQLSTATE '22023' USING MESSAGE = 'not this one'; END $$;
             CREATE TRIGGER c AFTER INSERT ON accounts FOR EACH ROW WHEN (NEW.account_name = 'n700') EXECUTE FUNCTION f()",
            "22023",
            "DROP TRIGGER c ON accounts",
        ),
    ];
    for (setup, sqlstate, remedy) in kept_out {
        let (org, _cluster, mut c, ids) = filled(setup);
        create_sync(&mut c, "{}");
        until(&mut c, "SELECT count(*) FROM accounts", &(RECORDS - 1).to_string());
        until(&mut c, "SELECT count(*) FROM sync.progress", "0");
        let waits = rows(&mut c, "SELECT key || '|' || sqlstate FROM sync.queue");
        assert_eq!(waits, [format!("{}|{sqlstate}", ids[700])], "{setup}");
        run(&mut c, &format!("{remedy}; SELECT sync.retry(id) FROM sync.queue"));
        until(&mut c, "SELECT count(*) FROM sync.queue", "0");
        loaded(&mut c, &org);
        sound(&mut c);
    }
}

/// Every row is in every index, under what it holds.
#[track_caller]
fn sound(c: &mut Client) {
    run(
        c,
        "CREATE EXTENSION IF NOT EXISTS amcheck;
         SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
          WHERE i.indrelid IN ('accounts'::regclass, 'sync._link_1'::regclass) AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')",
    );
}

/// What the table gives a row by itself, and what its triggers get to see.
#[test]
fn a_loaded_row_is_what_an_insert_makes_of_it() {
    let (org, _cluster, mut c, _) = filled(
        "ALTER TABLE accounts ADD gone int DEFAULT 3, ADD kept text NOT NULL DEFAULT 'here', ADD at timestamptz DEFAULT now(),
           ADD number int GENERATED ALWAYS AS IDENTITY, ADD wide numeric(30, 10) DEFAULT 1.5, ADD none text;
         ALTER TABLE accounts DROP gone;
         CREATE INDEX ON accounts (lower(account_name)) WHERE annual_revenue > 700;
         CREATE TABLE seen (id int, name text, same bool);
         CREATE TABLE told (n bigint, least numeric, most numeric);
         CREATE TABLE begun (n bigint);
         CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO seen SELECT id, account_name, a = NEW FROM accounts a WHERE id = NEW.id; RETURN NULL; END $$;
         CREATE FUNCTION note_all() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO told SELECT count(*), min(annual_revenue), max(annual_revenue) FROM fresh; RETURN NULL; END $$;
         CREATE FUNCTION note_begin() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO begun SELECT count(*) FROM accounts; RETURN NULL; END $$;
         CREATE TRIGGER a AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION note_row();
         CREATE TRIGGER b AFTER INSERT ON accounts REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION note_all();
         CREATE TRIGGER c BEFORE INSERT ON accounts FOR EACH STATEMENT EXECUTE FUNCTION note_begin()",
    );
    create_sync(&mut c, "{}");
    loaded(&mut c, &org);
    sound(&mut c);
    assert_eq!(
        query_one(
            &mut c,
            "SELECT count(*), count(DISTINCT id), count(DISTINCT number), min(number), bool_and(kept = 'here'), bool_and(at <= now()),
                    bool_and(wide = 1.5), count(none), count(last_sync), bool_and(tableoid = 'accounts'::regclass) FROM accounts"
        ),
        format!("{RECORDS}|{RECORDS}|{RECORDS}|1|t|t|t|0|0|t")
    );
    let seen = "SELECT count(*), count(*) FILTER (WHERE s.same), count(DISTINCT s.id) FROM seen s JOIN accounts a ON a.id = s.id AND a.account_name = s.name";
    assert_eq!(query_one(&mut c, seen), format!("{RECORDS}|{RECORDS}|{RECORDS}"));
    let last = RECORDS - 1;
    assert_eq!(
        query_one(
            &mut c,
            "SELECT sum(n), min(least), max(most), count(*) = (SELECT count(*) FROM begun) FROM told WHERE n > 0"
        ),
        format!("{RECORDS}|0.00|{last}.00|t")
    );
    // Every statement began with the rows of those before it.
    assert_eq!(
        query_one(
            &mut c,
            "SELECT array_agg(n ORDER BY n) = (SELECT array_agg(s) FROM (SELECT (sum(n) OVER (ORDER BY least) - n)::bigint AS s FROM told ORDER BY 1) t) FROM begun"
        ),
        "t"
    );
}

/// A row's own, whatever was sent; and what an expression would see of the rows before.
#[test]
fn what_is_made_of_a_row_as_it_is_stored_is_made_of_every_one() {
    let (org, _cluster, mut c, _) = filled(
        "ALTER TABLE accounts ADD also text GENERATED ALWAYS AS (upper(account_name)) STORED",
    );
    create_sync(&mut c, "{}");
    loaded(&mut c, &org);
    sound(&mut c);
    let also = "SELECT count(*) FROM accounts WHERE also = upper(account_name)";
    assert_eq!(query_one(&mut c, also), RECORDS.to_string());

    let (org, _cluster, mut c, _) = filled(
        "CREATE FUNCTION place() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM accounts); END $$;
         ALTER TABLE accounts ADD place int DEFAULT place()",
    );
    create_sync(&mut c, "{}");
    loaded(&mut c, &org);
    sound(&mut c);
    assert_eq!(
        query_one(&mut c, "SELECT count(DISTINCT place), min(place), max(place) FROM accounts"),
        format!("{RECORDS}|0|{}", RECORDS - 1)
    );
}

/// Whose rights count is who made the sync: what he may not do stops it, and nothing of it is half done.
#[test]
fn a_load_has_the_rights_of_its_owner() {
    let lacks = [
        ("REVOKE INSERT ON accounts FROM clerk", "GRANT INSERT ON accounts TO clerk"),
        (
            "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON accounts FOR INSERT WITH CHECK (false)",
            "ALTER TABLE accounts DISABLE ROW LEVEL SECURITY",
        ),
    ];
    for (taken, given) in lacks {
        let (org, cluster, mut c, _) = filled(
            "CREATE ROLE clerk LOGIN; SELECT sync.\"grant\"('clerk'); ALTER SERVER crm OWNER TO clerk;
             ALTER TABLE accounts OWNER TO clerk;
             CREATE TABLE told (who text); GRANT INSERT ON told TO clerk;
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN INSERT INTO told VALUES (current_user); RETURN NULL; END $$;
             CREATE TRIGGER f AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION f()",
        );
        let switch = |c: &mut Client, to: &str| {
            run(c, &format!("ALTER SYSTEM SET sync_ext.enabled = {to}"));
            run(c, "SELECT pg_reload_conf()");
        };
        switch(&mut c, "off");
        create_sync(&mut cluster.connect_as("postgres", "clerk").unwrap(), "{}");
        run(&mut c, taken);
        switch(&mut c, "on");
        until(&mut c, "SELECT state FROM sync.status", "failing");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "0");
        run(&mut c, given);
        loaded(&mut c, &org);
        sound(&mut c);
        let who = format!("SELECT count(*) = {RECORDS}, min(who), max(who) FROM told");
        assert_eq!(query_one(&mut c, &who), "t|clerk|clerk");
    }
}

/// A value that the column rounds is not what was sent: the rounded one is the row's own.
#[test]
fn values_that_a_column_holds_otherwise_are_agreed_on_as_they_are_held() {
    let (org, _cluster, mut c, _) = filled(
        "ALTER TABLE accounts ALTER annual_revenue TYPE numeric(18, 0), ALTER account_name TYPE char(12)",
    );
    org.insert("Account", json!({"Name": "half", "AnnualRevenue": 2.6})).unwrap();
    create_sync(&mut c, "{}");
    until(&mut c, "SELECT count(*) FROM accounts", &(RECORDS + 1).to_string());
    until(&mut c, "SELECT count(*) FROM sync.progress", "0");
    settle(&mut c);
    assert_eq!(
        query_one(&mut c, "SELECT annual_revenue FROM accounts WHERE account_name = 'half'"),
        "3"
    );
    // Nobody has edited it: the org keeps what it has.
    let half = org.records("Account").into_iter().find(|r| r["Name"] == "half").unwrap();
    assert_eq!(half["AnnualRevenue"], 2.6);
}
