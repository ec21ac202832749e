//! A standby: nothing works there, everything can be read; after a promotion the same instance goes on.

use cluster::{Cluster, Options};
use pgrx_tests::{query_one, refusal, rows, run};

use super::{both, own, settle, status, two_tables, until, worker};

const EPOCHS: &str = "SELECT string_agg(state, ' ' ORDER BY epoch) FROM sync._epoch";

/// A primary with a loaded sync and a standby that has caught up.
fn pair(name: &str, instance: &str) -> (Cluster, Cluster) {
    let instance = format!("sync_ext.instance = '{instance}'");
    let primary = own(Options::new(name).conf(&instance));
    let mut client = primary.connect("postgres").unwrap();
    two_tables(&mut client);
    settle(&mut client);
    let options = Options::new(&format!("{name}2")).conf(&instance);
    let mut standby = primary.base_backup(options, true).unwrap();
    standby.start().unwrap();
    run(&mut client, "UPDATE a.t SET v = 'replicated' WHERE id = 1");
    settle(&mut client);
    let mut reader = standby.connect("postgres").unwrap();
    until(&mut reader, "SELECT v FROM b.t WHERE id = 1", "replicated");
    (primary, standby)
}

/// A13: the same non-empty `sync_ext.instance` makes a promotion a failover.
#[test]
fn a_promoted_standby_of_the_same_instance_compares_everything_and_goes_on_by_itself() {
    let (mut primary, standby) = pair("failover", "shop");
    let mut client = standby.connect("postgres").unwrap();

    // Nothing runs, everything is readable.
    assert!(standby.pids_of("sync_ext launcher").unwrap().is_empty());
    assert!(standby.pids_of("sync_ext worker").unwrap().is_empty());
    assert_eq!(status(&mut client), "standby: this server is a standby; the primary syncs");
    for view in ["queue", "errors", "conflicts", "gaps", "progress", "change_log"] {
        rows(&mut client, &format!("SELECT * FROM sync.{view}"));
    }
    rows(&mut client, "SELECT * FROM sync.doctor()");
    assert_eq!(query_one(&mut client, "SELECT sync.show('t') IS NOT NULL"), "t");
    let error = refusal(&mut client, "SELECT * FROM sync.wait('t')");
    assert!(error.contains("This server is a standby."), "{error}");
    drop(client);

    primary.crash().unwrap();
    standby.promote().unwrap();
    let mut client = standby.connect("postgres").unwrap();
    run(&mut client, "INSERT INTO b.t VALUES (3, 'promoted')");
    settle(&mut client);
    assert_eq!(both(&mut client), "1replicated 2two 3promoted / 1replicated 2two 3promoted");
    until(&mut client, EPOCHS, "active active");
    assert_eq!(
        query_one(&mut client, "SELECT reason FROM sync._epoch ORDER BY epoch DESC LIMIT 1"),
        "this server was a standby of the same instance and has been promoted"
    );
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM sync.conflicts"), "0");
    worker(&standby, "postgres");
}

#[test]
fn a_promoted_standby_without_an_instance_is_fenced_until_activated() {
    let (_primary, standby) = pair("clone", "");
    standby.promote().unwrap();
    let mut client = standby.connect("postgres").unwrap();
    run(&mut client, "UPDATE a.t SET v = 'not sent' WHERE id = 2");
    standby.wait_until("the promoted standby is fenced", || {
        status(&mut client).starts_with("fenced: the server was promoted or restored")
    });
    let error = refusal(&mut client, "SELECT * FROM sync.wait('t')");
    assert!(error.contains("sync_ext.instance"), "{error}");
    assert_eq!(query_one(&mut client, EPOCHS), "active fenced");
    assert_eq!(both(&mut client), "1replicated 2not sent / 1replicated 2two");
    run(&mut client, "SELECT sync.activate()");
    settle(&mut client);
    assert_eq!(both(&mut client), "1replicated 2not sent / 1replicated 2not sent");
}
