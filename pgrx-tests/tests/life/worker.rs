//! The worker of a database comes with the extension and stays.

use std::time::{Duration, Instant};

use pgrx_tests::{db, query_one, rows, run};

use super::{both, own, settle, two_tables, until, worker, workers};
use cluster::{Options, processes};

/// C3: nothing names the database but CREATE EXTENSION itself.
#[test]
fn create_extension_starts_a_worker_that_says_what_it_does() {
    let db = db();
    let mut client = db.connect();
    let started = Instant::now();
    let pid = worker(db.cluster(), db.name());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let activity = format!(
        "SELECT state, query FROM pg_stat_activity WHERE pid = {pid} AND datname = current_database()"
    );
    until(&mut client, &activity, "idle|sync_ext: waiting for changes");
    assert_eq!(
        rows(
            &mut client,
            "SELECT name FROM pg_settings WHERE name LIKE '%database%' AND name LIKE 'sync_ext%'"
        )
        .len(),
        0
    );
    assert_eq!(
        query_one(
            &mut client,
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sync_ext launcher'"
        ),
        "1"
    );
}

/// The queue of a sync that has had something in it once is looked at when there is something in it again.
#[test]
fn an_empty_queue_costs_nothing() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    run(&mut client, "SELECT sync.push('t', '1')");
    settle(&mut client);
    let pid = worker(db.cluster(), db.name());
    let before = processes::processor_time(pid).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let used = processes::processor_time(pid).unwrap() - before;
    assert!(used < Duration::from_millis(60), "{used:?} in 3 s of rest");
}

#[test]
fn every_database_with_the_extension_has_its_own_worker() {
    let (first, second) = (db(), db());
    let mut clients = [first.connect(), second.connect()];
    for client in &mut clients {
        two_tables(client);
        settle(client);
    }
    run(&mut clients[0], "UPDATE a.t SET v = 'first' WHERE id = 1");
    run(&mut clients[1], "UPDATE b.t SET v = 'second' WHERE id = 2");
    clients.iter_mut().for_each(settle);
    assert_eq!(both(&mut clients[0]), "1first 2two / 1first 2two");
    assert_eq!(both(&mut clients[1]), "1one 2second / 1one 2second");
    let pids = [worker(first.cluster(), first.name()), worker(second.cluster(), second.name())];
    assert_ne!(pids[0], pids[1]);
}

/// C2
#[test]
fn a_terminated_worker_is_started_again_and_goes_on() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    let before = worker(db.cluster(), db.name());
    run(&mut client, &format!("SELECT pg_terminate_backend({before})"));
    run(&mut client, "UPDATE a.t SET v = 'later' WHERE id = 2");
    db.wait_until("another worker serves the database", || {
        let now = workers(db.cluster(), db.name());
        now.len() == 1 && now[0] != before
    });
    settle(&mut client);
    assert_eq!(both(&mut client), "1one 2later / 1one 2later");
}

/// C2: the launcher of a moment ago knows nothing of the workers that run; P8.
#[test]
fn a_launcher_that_was_terminated_comes_back_and_starts_no_second_worker() {
    let cluster = own(Options::new("launcher"));
    let mut client = cluster.connect("postgres").unwrap();
    two_tables(&mut client);
    settle(&mut client);
    let pid = worker(&cluster, "postgres");
    let launcher = cluster.pids_of("sync_ext launcher").unwrap()[0];
    run(&mut client, &format!("SELECT pg_terminate_backend({launcher})"));
    cluster.wait_until("a new launcher", || {
        cluster.pids_of("sync_ext launcher").unwrap().iter().any(|&now| now != launcher)
    });
    run(&mut client, "INSERT INTO a.t VALUES (3, 'three')");
    settle(&mut client);
    assert_eq!(workers(&cluster, "postgres"), [pid]);
    // It starts the next one, although it has not started this one.
    run(&mut client, &format!("SELECT pg_terminate_backend({pid})"));
    let killed = Instant::now();
    cluster
        .wait_until("a new worker", || workers(&cluster, "postgres").iter().any(|&now| now != pid));
    assert!(killed.elapsed() < Duration::from_secs(8), "not before the launcher's next look");
    assert_eq!(workers(&cluster, "postgres").len(), 1);
}

/// P8, and the budget of the first delivery after a crash.
#[test]
fn after_kill_9_the_first_delivery_takes_at_most_three_seconds() {
    let cluster = own(Options::new("kill9"));
    let mut client = cluster.connect("postgres").unwrap();
    two_tables(&mut client);
    settle(&mut client);
    for (n, process) in ["sync_ext worker", "sync_ext launcher"].into_iter().enumerate() {
        let pid = cluster.pids_of(process).unwrap()[0];
        processes::kill(pid).unwrap();
        let killed = Instant::now();
        cluster.wait_until("the server has recovered", || {
            !processes::is_alive(pid)
                && cluster.connect("postgres").is_ok_and(|mut again| {
                    again.batch_execute(&format!("INSERT INTO a.t VALUES ({n} + 10, 'x')")).is_ok()
                })
        });
        let mut again = cluster.connect("postgres").unwrap();
        until(&mut again, &format!("SELECT count(*) FROM b.t WHERE id = {n} + 10"), "1");
        let took = killed.elapsed();
        assert!(took < Duration::from_secs(3), "{process}: {took:?}");
        worker(&cluster, "postgres");
    }
}

#[test]
fn sighup_switches_the_work_off_and_on() {
    let cluster = own(Options::new("sighup"));
    let mut client = cluster.connect("postgres").unwrap();
    two_tables(&mut client);
    settle(&mut client);
    let pid = worker(&cluster, "postgres");
    run(&mut client, "ALTER SYSTEM SET sync_ext.enabled = off");
    run(&mut client, "SELECT pg_reload_conf()");
    until(&mut client, "SELECT state FROM sync.status", "off");
    // Captured, and not delivered.
    run(&mut client, "UPDATE a.t SET v = 'meanwhile' WHERE id = 1");
    let refusal = pgrx_tests::refusal(&mut client, "SELECT * FROM sync.wait('t')");
    assert!(
        refusal
            .starts_with("55000 there is no worker to wait for\nDETAIL: sync_ext.enabled is off."),
        "{refusal}"
    );
    until(&mut client, "SELECT status FROM sync.change_log WHERE operation = 'UPDATE'", "pending");
    run(&mut client, "ALTER SYSTEM RESET sync_ext.enabled");
    run(&mut client, "SELECT pg_reload_conf()");
    until(&mut client, "SELECT state FROM sync.status", "running");
    settle(&mut client);
    assert_eq!(both(&mut client), "1meanwhile 2two / 1meanwhile 2two");
    assert_eq!(workers(&cluster, "postgres"), [pid]);
}
