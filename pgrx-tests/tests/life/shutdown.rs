//! Fast shutdown is fast, whatever the worker is doing.

use std::time::Duration;

use cluster::{Cluster, Options, Stop};
use pgrx_tests::{query_one, run};

use super::{own, settle, two_tables, until, worker};

const CYCLES: usize = 10;

/// One cycle may meet a machine that is busy elsewhere; most must not.
fn assert_fast(mut times: Vec<Duration>) {
    times.sort();
    assert!(times[CYCLES / 2] < Duration::from_secs(1), "{times:?}");
    assert!(times[CYCLES - 1] < Duration::from_secs(3), "{times:?}");
}

fn stop_and_start(cluster: &mut Cluster) -> Duration {
    let took = cluster.stop(Stop::Fast).unwrap();
    cluster.start().unwrap();
    took
}

#[test]
fn an_idle_server_stops_within_a_second() {
    let mut cluster = own(Options::new("idle"));
    two_tables(&mut cluster.connect("postgres").unwrap());
    let times = (0..CYCLES).map(|_| {
        worker(&cluster, "postgres");
        stop_and_start(&mut cluster)
    });
    assert_fast(times.collect());
    let log = cluster.log_text();
    assert!(!log.contains("PANIC") && !log.contains("exit code 2"), "{log}");
}

/// P8: what a shutdown interrupts goes on after the start, and nothing is lost.
#[test]
fn a_server_in_the_middle_of_a_drain_stops_within_a_second() {
    let mut cluster = own(Options::new("busy"));
    let mut client = cluster.connect("postgres").unwrap();
    two_tables(&mut client);
    settle(&mut client);
    let mut times = Vec::new();
    for n in 1..=CYCLES {
        run(
            &mut client,
            &format!(
                "INSERT INTO a.t SELECT {n} * 100000 + i, 'x' FROM generate_series(1, 5000) i"
            ),
        );
        until(&mut client, &format!("SELECT count(*) > 0 FROM b.t WHERE id > {n} * 100000"), "t");
        drop(client);
        times.push(stop_and_start(&mut cluster));
        client = cluster.connect("postgres").unwrap();
    }
    assert_fast(times);
    settle(&mut client);
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM a.t JOIN b.t USING (id, v)"), "50002");
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM b.t"), "50002");
}
