//! Two owners in one database: neither sees, changes or disturbs the other's.

use pgrx_tests::{query_one, refusal, rows, run};

use super::privileges::Owner;
use super::{settle, synced};

#[test]
fn the_syncs_of_two_owners_do_not_disturb_each_other() {
    let mut first = Owner::new();
    let second = format!("{}_2", first.role);
    run(
        &mut first.admin,
        &format!(
            "DROP ROLE IF EXISTS {second}; CREATE ROLE {second} LOGIN; SELECT sync.grant('{second}'); CREATE SCHEMA AUTHORIZATION {second};"
        ),
    );
    let mut other = first.db.connect_as(&second);
    run(
        &mut other,
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text DEFAULT current_user, who text DEFAULT current_user);
           SELECT sync.create_sync('theirs', '{"source": "a", "target": "b"}');"#,
    );
    run(
        &mut first.client,
        r#"ALTER TABLE b ADD who text DEFAULT current_user;
        CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.v = 'bad' THEN RAISE EXCEPTION 'bad'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER bad BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION bad();
        SELECT sync.create_sync('mine', '{"source": "a", "target": "b"}');"#,
    );
    run(
        &mut first.client,
        "INSERT INTO a SELECT i, CASE WHEN i % 3 = 0 THEN 'bad' ELSE 'good' END FROM generate_series(1, 9) i",
    );
    run(&mut other, "INSERT INTO a SELECT i, 'fine' FROM generate_series(1, 9) i");
    assert_eq!(settle(&mut first.client, "mine"), 3);
    synced(&mut other, "theirs");
    let role = first.role.clone();
    assert_eq!(
        rows(&mut first.client, "SELECT count(*), who FROM b GROUP BY who"),
        [format!("6|{role}")]
    );
    assert_eq!(
        rows(&mut other, "SELECT count(*), who FROM b GROUP BY who"),
        [format!("9|{second}")]
    );
    // What belongs to the one is not the other's to change, nor are its values his to see.
    for call in [
        "SELECT sync.pause('mine')",
        "SELECT sync.resume('mine')",
        "SELECT sync.drop_sync('mine')",
        "SELECT sync.show('mine')",
        "SELECT sync.alter_sync('mine', '{}')",
        "SELECT sync.wait('mine')",
        "SELECT sync.retry(id) FROM sync.queue",
        "SELECT sync.discard(id, '') FROM sync.queue",
    ] {
        let refused = refusal(&mut other, call);
        assert!(
            refused.starts_with("42501 permission denied for sync \"mine\""),
            "{call}: {refused}"
        );
    }
    assert_eq!(rows(&mut other, "SELECT DISTINCT key, detail FROM sync.queue"), ["|"]);
    assert_eq!(
        rows(
            &mut other,
            "SELECT DISTINCT key, old, new, changed FROM sync.change_log WHERE sync = 'mine'"
        ),
        ["|||"]
    );
    let refused = refusal(
        &mut other,
        &format!(r#"SELECT sync.create_sync('steal', '{{"source": "{role}.a", "target": "b"}}')"#),
    );
    assert!(refused.starts_with("42501"), "{refused}");
    assert_eq!(query_one(&mut first.admin, "SELECT count(*) FROM sync._sync"), "2");
    // pause_all is about one's own.
    run(&mut first.admin, &format!("DROP OWNED BY {second} CASCADE; DROP ROLE {second};"));
}
