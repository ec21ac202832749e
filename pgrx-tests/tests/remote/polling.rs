//! A view of this database that is read from time to time, and sent to another system.

use cluster::Stop;
use local_org::Options;
use pgrx_tests::run;

use super::{names, settle, until};
use crate::connections::{connect_crm, with_org};

#[test]
fn what_a_view_shows_is_sent_changed_and_deleted_there() {
    let (org, mut cluster) = with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        r#"CREATE TABLE orders (customer text, amount numeric); INSERT INTO orders SELECT 'c' || i % 40, i FROM generate_series(1, 400) i;
           CREATE VIEW customers AS SELECT customer, sum(amount)::numeric(18,2) AS revenue FROM orders GROUP BY customer;
           SELECT sync.create_sync('accounts', '{"source": {"table": "customers", "key": "customer"}, "target": {"connection": "crm", "object": "Account"},
               "field_mappings": [{"source": "customer", "target": "Name"}, {"source": "revenue", "target": "AnnualRevenue"}],
               "performance_settings": {"change_detection": "polling"}, "ongoing_sync": {"polling_interval_seconds": 3600}}')"#,
    );
    settle(&mut c);
    until(&mut c, "SELECT count(*) FROM sync._link WHERE deleted_at IS NULL", "40");
    assert_eq!(names(&org).len(), 40);
    let writes = |org: &local_org::LocalOrg| {
        org.records("Account").iter().filter(|r| r["CreatedDate"] != r["LastModifiedDate"]).count()
    };
    settle(&mut c);
    assert_eq!(writes(&org), 0, "what is equal is not sent again");
    run(
        &mut c,
        "INSERT INTO orders VALUES ('c7', 1000), ('new', 1); DELETE FROM orders WHERE customer = 'c9'",
    );
    settle(&mut c);
    until(&mut c, "SELECT count(*) FROM sync._link WHERE deleted_at IS NULL", "40");
    let there = names(&org);
    assert!(there.len() == 40 && !there.contains(&"c9".into()) && there.contains(&"new".into()));
    let of = |name: &str| {
        let records = org.records("Account");
        records.into_iter().find(|r| r["Name"] == name).unwrap()["AnnualRevenue"].clone()
    };
    // 7, 47, … 367 and what came.
    assert_eq!(of("c7").as_f64(), Some(2870.0));
    assert_eq!(of("c1").as_f64(), Some(1810.0));
    // A worker that starts begins a look of its own, and makes nothing twice.
    drop(c);
    cluster.restart(Stop::Immediate).unwrap();
    let mut c = cluster.connect("postgres").unwrap();
    run(&mut c, "UPDATE orders SET amount = 0 WHERE customer = 'c1'");
    settle(&mut c);
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
    assert_eq!((names(&org).len(), of("c1").as_f64()), (40, Some(0.0)));
}
