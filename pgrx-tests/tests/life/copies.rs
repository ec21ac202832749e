//! A13: a copy of the files sends nothing; the same server goes on in the same epoch.

use cluster::{Options, Stop};
use pgrx_tests::{query_one, run};

use super::{both, own, settle, status, two_tables, until, worker};

const EPOCHS: &str = "SELECT string_agg(epoch || state, ' ' ORDER BY epoch) FROM sync._epoch";

/// P14
#[test]
fn a_copy_of_the_data_directory_is_fenced_with_the_reason_until_it_is_activated() {
    let mut first = own(Options::new("original"));
    let mut client = first.connect("postgres").unwrap();
    two_tables(&mut client);
    settle(&mut client);
    drop(client);
    first.stop(Stop::Fast).unwrap();
    let mut copy = first.copy_stopped(Options::new("copy")).unwrap();
    first.start().unwrap();
    copy.start().unwrap();

    let mut client = copy.connect("postgres").unwrap();
    run(&mut client, "UPDATE a.t SET v = 'copy' WHERE id = 1; DELETE FROM b.t WHERE id = 2");
    worker(&copy, "postgres");
    until(&mut client, EPOCHS, "1active 2fenced");
    assert_eq!(
        status(&mut client),
        "fenced: the data directory is a copy; SELECT sync.activate() if this database is meant to sync"
    );
    assert_eq!(
        query_one(
            &mut client,
            "SELECT detail FROM sync.doctor() WHERE what = 'fencing' AND NOT ok"
        ),
        "fenced: the data directory is a copy"
    );
    // A restart does not forget it.
    drop(client);
    copy.restart(Stop::Fast).unwrap();
    worker(&copy, "postgres");
    let mut client = copy.connect("postgres").unwrap();
    assert!(status(&mut client).starts_with("fenced"));
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM b.t WHERE id = 1 AND v = 'one'"), "1");
    run(&mut client, "SELECT sync.activate()");
    settle(&mut client);
    assert_eq!(both(&mut client), "1copy / 1copy");
    assert_eq!(query_one(&mut client, EPOCHS), "1active 2active");

    // The original knows nothing of all this.
    let mut client = first.connect("postgres").unwrap();
    run(&mut client, "UPDATE b.t SET v = 'original' WHERE id = 1");
    settle(&mut client);
    assert_eq!(both(&mut client), "1original 2two / 1original 2two");
    assert_eq!(query_one(&mut client, EPOCHS), "1active");
}
