//! `sync.index_recommendations`: what the planner would need.

use pgrx_tests::{query_one, rows, run};

use super::{prepared, synced};

#[test]
fn indexes_that_lack_are_named_with_their_reason_and_made_on_request() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY, email text, parent int REFERENCES parent);
           CREATE TABLE b (id int PRIMARY KEY, email text, parent int);
           INSERT INTO a SELECT i, 'm' || i FROM generate_series(1, 100) i;
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "match_on": [{"source": "email", "target": "email",
              "expression": "lower(trim(value))"}], "exclude_fields": ["parent"]}');"#,
    );
    synced(&mut c, "s");
    let advice = "SELECT \"table\", statement, created FROM sync.index_recommendations('s') ORDER BY statement";
    assert_eq!(
        rows(&mut c, advice),
        [
            "public.a|CREATE INDEX CONCURRENTLY ON public.a (parent)|f",
            "public.b|CREATE INDEX CONCURRENTLY ON public.b ((lower(trim(email))))|f"
        ]
    );
    // A document that asks for it has the doctor say so.
    let doctor = "SELECT remedy FROM sync.doctor() WHERE what = 'indexes' ORDER BY remedy";
    assert!(rows(&mut c, doctor).is_empty());
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"performance_settings": {"index_recommendation": true}}')"#,
    );
    assert_eq!(rows(&mut c, doctor).len(), 2);
    let one = &rows(&mut c, advice)[0];
    let statement = one.split('|').nth(1).unwrap().to_owned();
    run(&mut c, &statement);
    assert_eq!(rows(&mut c, advice).len(), 1);
    assert_eq!(
        query_one(
            &mut c,
            "SELECT statement, created FROM sync.index_recommendations(create_them => true)"
        ),
        "CREATE INDEX CONCURRENTLY ON public.b ((lower(trim(email))))|t"
    );
    assert!(rows(&mut c, advice).is_empty());
    assert!(rows(&mut c, doctor).is_empty());
    assert_eq!(query_one(&mut c, "SHOW enable_seqscan"), "on");
}
