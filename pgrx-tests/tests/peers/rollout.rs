//! The five steps of a phased rollout: each is one call, and is taken back by one.

use pgrx_tests::{query_one, rows, run};

use super::audit::counts;
use super::{prepared, synced};

#[test]
fn a_sync_is_rolled_out_in_steps_each_of_which_can_be_taken_back() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text, region text); CREATE TABLE b (id int PRIMARY KEY, v text, region text);
           INSERT INTO a SELECT n, 'v' || n, CASE WHEN n < 4 THEN 'pilot' ELSE 'rest' END FROM generate_series(1, 10) n;
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "one_way"}');"#,
    );
    synced(&mut c, "s");
    let mut step = |patch: &str, edit: &str, expected: &[&str], of: &str| {
        if !patch.is_empty() {
            run(&mut c, &format!("SELECT sync.alter_sync('s', '{patch}')"));
        }
        synced(&mut c, "s");
        run(&mut c, edit);
        synced(&mut c, "s");
        let values = rows(&mut c, "SELECT v FROM a WHERE id IN (1, 9) ORDER BY id");
        assert_eq!(values, expected, "{patch}");
        assert_eq!(counts(&mut c).join(" "), of, "{patch}");
        run(&mut c, "SELECT sync.repair('s')");
        synced(&mut c, "s");
        assert_eq!(counts(&mut c), [""; 0], "{patch}");
    };
    let edit = |value: &str| format!("UPDATE b SET v = '{value}' WHERE id IN (1, 9)");
    const PILOT: &str = r#"{"sync_type": "bidirectional", "two_way_where": "region = ''pilot''"}"#;
    // Read only: what is edited on the target is found by the audit, and put right.
    step("", &edit("one"), &["v1", "v9"], "differs|2");
    // Two-way for some, and back.
    step(PILOT, &edit("two"), &["two", "v9"], "differs|1");
    let back = r#"{"sync_type": "one_way", "two_way_where": null}"#;
    step(back, &edit("three"), &["two", "v9"], "differs|2");
    step(PILOT, &edit("four"), &["four", "v9"], "differs|1");
    // All, and back to some.
    step(r#"{"two_way_where": null}"#, &edit("five"), &["five", "five"], "");
    step(r#"{"two_way_where": "region = ''pilot''"}"#, &edit("six"), &["six", "five"], "differs|1");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}
