//! B6: row security on the side that is written to. The worker does not work on a part of a table that a policy
//! happens to show: rows that it does not see it would insert again, or take for deleted.

use pgrx_tests::{query_one, refusal, rows, run};

use super::privileges::Owner;
use super::{becomes, synced};

/// The target belongs to somebody else, who has given the rights to it.
fn target_of_another(o: &mut Owner) {
    run(
        &mut o.admin,
        &format!(
            "CREATE TABLE theirs (id int PRIMARY KEY, v text); GRANT SELECT, INSERT, UPDATE, DELETE ON theirs TO {0}",
            o.role
        ),
    );
    run(
        &mut o.client,
        r#"SELECT sync.create_sync('s', '{"source": "a", "target": "public.theirs"}'); INSERT INTO a VALUES (1, 'mine'), (2, 'hidden')"#,
    );
    synced(&mut o.client, "s");
}

const STATE: &str = "SELECT state FROM sync.status";

#[test]
fn a_policy_on_the_target_holds_the_sync_with_the_reason_and_hides_nothing_from_it() {
    let mut o = Owner::new();
    target_of_another(&mut o);
    for policy in [
        // Hides rows, refuses rows, raises.
        "USING (v <> 'hidden')",
        "USING (true) WITH CHECK (v <> 'hidden')",
        "USING (1 / (id - id) = 1)",
    ] {
        run(
            &mut o.admin,
            &format!(
                "ALTER TABLE theirs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON theirs {policy}"
            ),
        );
        run(&mut o.client, "UPDATE a SET v = v || '!' WHERE id = 1; DELETE FROM a WHERE id = 2");
        let Owner { db, admin, .. } = &mut o;
        becomes(db, admin, STATE, "failing");
        let detail = query_one(admin, "SELECT detail FROM sync.status");
        assert!(detail.contains("the row security of public.theirs applies"), "{detail}");
        // Not a single record is given up for it.
        assert_eq!(query_one(admin, "SELECT count(*) FROM sync.queue"), "0");
        assert_eq!(query_one(admin, "SELECT count(*) FROM theirs WHERE v = 'hidden'"), "1");
        run(admin, "DROP POLICY p ON theirs; ALTER TABLE theirs DISABLE ROW LEVEL SECURITY");
        becomes(db, admin, STATE, "running");
        run(&mut o.client, "INSERT INTO a VALUES (2, 'hidden')");
        synced(&mut o.client, "s");
        assert_eq!(rows(&mut o.admin, &format!("TABLE theirs EXCEPT TABLE {}.a", o.role)).len(), 0);
    }
    run(&mut o.admin, "DROP TABLE theirs");
}

#[test]
fn a_sync_is_refused_where_a_policy_applies_to_its_owner() {
    let mut o = Owner::new();
    run(
        &mut o.admin,
        &format!(
            "CREATE TABLE theirs (id int PRIMARY KEY, v text); GRANT ALL ON theirs TO {0}; ALTER TABLE theirs ENABLE ROW LEVEL SECURITY",
            o.role
        ),
    );
    let create = r#"SELECT sync.create_sync('s', '{"source": "a", "target": "public.theirs"}')"#;
    let error = refusal(&mut o.client, create);
    assert!(error.starts_with("42501 the row security of public.theirs applies"), "{error}");
    assert!(error.contains("HINT: Let a role own the sync"), "{error}");
    run(&mut o.admin, &format!("ALTER ROLE {} BYPASSRLS", o.role));
    run(&mut o.client, create);
    run(&mut o.admin, "DROP TABLE theirs CASCADE");
}

#[test]
fn policies_do_not_concern_the_owner_of_the_target_until_they_are_forced_on_him() {
    let mut o = Owner::new();
    run(
        &mut o.client,
        "ALTER TABLE b ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON b USING (false)",
    );
    // The owner of a table is above its policies, unless they are forced on him.
    run(
        &mut o.client,
        r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b"}'); INSERT INTO a VALUES (1, 'x')"#,
    );
    synced(&mut o.client, "s");
    assert_eq!(rows(&mut o.client, "TABLE b"), ["1|x"]);
    run(&mut o.client, "ALTER TABLE b FORCE ROW LEVEL SECURITY");
    run(&mut o.client, "INSERT INTO a VALUES (2, 'y')");
    let Owner { db, admin, .. } = &mut o;
    becomes(db, admin, STATE, "failing");
    let detail = query_one(admin, "SELECT detail FROM sync.status");
    assert!(detail.contains("the row security of"), "{detail}");
    run(&mut o.client, "ALTER TABLE b NO FORCE ROW LEVEL SECURITY");
    synced(&mut o.client, "s");
    assert_eq!(rows(&mut o.client, "TABLE b"), ["1|x", "2|y"]);
}
