//! The harness itself, on a server without the extension.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cluster::{Cluster, Options, Server, Stop, processes};

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::prepare(cluster::major_from_environment().unwrap()).unwrap())
}

fn bare(name: &str) -> Options {
    Options::new(name).preload(false)
}

fn count(cluster: &Cluster) -> i64 {
    cluster.connect("postgres").unwrap().query_one("SELECT count(*) FROM t", &[]).unwrap().get(0)
}

#[test]
fn committed_rows_outlive_stops_kills_and_crashes() {
    let mut cluster = Cluster::start_new(server(), bare("lifecycle")).unwrap();
    cluster.psql("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").unwrap();

    assert!(cluster.stop(Stop::Fast).unwrap() < Duration::from_secs(5));
    cluster.start().unwrap();
    cluster.psql("postgres", "INSERT INTO t VALUES (2)").unwrap();
    cluster.restart(Stop::Immediate).unwrap();
    cluster.psql("postgres", "INSERT INTO t VALUES (3)").unwrap();
    cluster.kill_postmaster().unwrap();
    assert!(processes::in_directory(&cluster.data()).is_empty());
    cluster.start().unwrap();
    cluster.psql("postgres", "INSERT INTO t VALUES (4)").unwrap();
    cluster.crash().unwrap();
    cluster.start().unwrap();

    assert_eq!(count(&cluster), 4);
    assert_eq!(cluster.pids_of("checkpointer").unwrap().len(), 1);
    assert!(cluster.log_text().contains("ready to accept connections"));
}

#[test]
fn copies_stand_on_their_own_and_a_standby_follows_until_promoted() {
    let mut first = Cluster::start_new(server(), bare("first")).unwrap();
    first.psql("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").unwrap();
    let mut standby = first.base_backup(bare("standby"), true).unwrap();
    standby.start().unwrap();
    first.psql("postgres", "INSERT INTO t VALUES (2)").unwrap();
    standby.wait_until("the second row reaches the standby", || count(&standby) == 2);
    standby.promote().unwrap();
    standby.psql("postgres", "INSERT INTO t VALUES (3)").unwrap();

    first.stop(Stop::Fast).unwrap();
    let mut copy = first.copy_stopped(bare("copy")).unwrap();
    copy.start().unwrap();
    copy.psql("postgres", "TRUNCATE t").unwrap();
    first.start().unwrap();
    assert_eq!((count(&first), count(&standby), count(&copy)), (2, 3, 0));
}

#[test]
fn a_database_is_gone_with_its_value_and_a_cluster_with_its_own() {
    let cluster = Cluster::start_new(server(), bare("gone")).unwrap();
    let directory = cluster.directory().to_path_buf();
    let pid = cluster.pid().unwrap();
    let database = cluster.database("it's \"quoted\"").unwrap();
    let mut client = database.connect();
    client.batch_execute("CREATE TABLE t ()").unwrap();
    drop(database);
    let left = cluster
        .psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'it%'")
        .unwrap();
    assert_eq!(left.trim(), "0");
    drop(cluster);
    assert!(!directory.exists());
    assert!(!processes::is_alive(pid));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let cluster = Cluster::start_new(server(), bare("broken").conf("no_such_setting = 1"));
    let error = cluster.unwrap_err().to_string();
    assert!(error.contains("unrecognized configuration parameter \"no_such_setting\""), "{error}");
}

/// Run by the test below in a process of its own, which it then kills.
#[test]
#[ignore = "waits to be killed"]
fn holds_a_cluster_until_killed() {
    let cluster = Cluster::start_new(server(), bare("orphan")).unwrap();
    println!("directory {}", cluster.directory().display());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_test_process_leaves_nothing_behind() {
    use std::io::{BufRead, BufReader};
    server();
    let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "holds_a_cluster_until_killed", "--nocapture"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let directory = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            line.split_once("directory ").map(|(_, path)| std::path::PathBuf::from(path))
        })
        .unwrap();
    let data = directory.join("data");
    assert!(!processes::in_directory(&data).is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
    let started = Instant::now();
    while directory.exists() {
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{} is still there",
            directory.display()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(processes::in_directory(&data).is_empty());
}
