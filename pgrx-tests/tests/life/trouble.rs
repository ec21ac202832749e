//! What the server or an administrator may do to a sync: said clearly, survived, gone on with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster::postgres::Client;
use cluster::{Account, Cluster, Options, Stop};
use pgrx_tests::{db, query_one, refusal, run};

use super::{both, own, settle, status, two_tables, until, worker};

#[test]
fn a_right_that_is_taken_away_stops_the_sync_with_the_reason_until_it_is_given_back() {
    let db = db();
    let mut client = db.connect();
    let role = format!("{}_owner", db.name());
    run(
        &mut client,
        &format!(
            r#"CREATE ROLE {role};
               SELECT sync."grant"('{role}');
               CREATE SCHEMA a AUTHORIZATION {role}; CREATE SCHEMA b; GRANT USAGE ON SCHEMA b TO {role};
               CREATE TABLE b.t (id int PRIMARY KEY, v text);
               GRANT SELECT, INSERT, UPDATE, DELETE ON b.t TO {role};
               SET ROLE {role};
               CREATE TABLE a.t (id int PRIMARY KEY, v text);
               INSERT INTO a.t VALUES (1, 'one'), (2, 'two');
               SELECT sync.create_sync('t', '{{"source": {{"table": "a.t"}}, "target": {{"table": "b.t"}}}}');
               RESET ROLE"#
        ),
    );
    settle(&mut client);
    run(&mut client, &format!("REVOKE UPDATE ON b.t FROM {role}"));
    run(&mut client, "UPDATE a.t SET v = 'refused' WHERE id = 1");
    until(&mut client, "SELECT state FROM sync.status", "failing");
    let said = status(&mut client);
    assert!(said.contains("UPDATE") && said.contains("b.t"), "{said}");
    let pid = worker(db.cluster(), db.name());
    run(&mut client, &format!("GRANT UPDATE ON b.t TO {role}"));
    until(&mut client, "SELECT v FROM b.t WHERE id = 1", "refused");
    until(&mut client, "SELECT state FROM sync.status", "running");
    assert_eq!(worker(db.cluster(), db.name()), pid);
    run(
        &mut client,
        &format!(
            "SELECT sync.drop_sync('t'); DROP SCHEMA a, b CASCADE; DROP OWNED BY {role}; DROP ROLE {role}"
        ),
    );
}

/// A small file system of its own, gone at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<SmallDisk> {
        Account::for_server().ok()?.create_dir(&path, 0o700).ok()?;
        let Account::Postgres { uid, gid } = Account::for_server().ok()? else { return None };
        let options = format!("size=6m,uid={uid},gid={gid},mode=0700");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &path).then_some(SmallDisk(path))
    }

    fn enlarge(&self) {
        self.remount("size=200m");
    }

    /// As the kernel does with a disk that fails; only while nobody has a file of it open for writing.
    fn set_read_only(&self, read_only: bool) {
        self.remount(if read_only { "ro" } else { "rw" });
    }

    fn remount(&self, option: &str) {
        assert!(mount(&["-o", &format!("remount,{option}")], &self.0), "remount,{option}");
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    Command::new("mount")
        .args(arguments)
        .arg(path)
        .output()
        .is_ok_and(|output| output.status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_stops_the_sync_with_the_reason_and_it_goes_on_when_there_is_room() {
    // Declared first, so that the disk is gone when the cluster's directory is removed.
    let cluster = own(Options::new("full"));
    let Some(disk) = SmallDisk::mount(cluster.directory().join("small")) else {
        pgrx_tests::left_out("a small file system can only be mounted by root");
        return;
    };
    let mut client = cluster.connect("postgres").unwrap();
    run(&mut client, &format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.display()));
    two_tables(&mut client);
    settle(&mut client);
    run(&mut client, "ALTER TABLE b.t SET TABLESPACE small");
    settle(&mut client);
    let pid = worker(&cluster, "postgres");
    run(
        &mut client,
        "INSERT INTO a.t SELECT n, repeat(md5(n::text), 60) FROM generate_series(10, 6000) n",
    );
    until(&mut client, "SELECT state FROM sync.status", "failing");
    let said = status(&mut client);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM sync.queue"), "0");
    // Each try says it once more, at growing intervals.
    let log = cluster.log_text();
    assert!(log.matches("No space left on device").count() < 50, "{}", cluster.log_tail(20));

    disk.enlarge();
    until(&mut client, "SELECT count(*) FROM b.t", "5993");
    until(&mut client, "SELECT state FROM sync.status", "running");
    assert_eq!(worker(&cluster, "postgres"), pid);
}

/// The log on a disk of its own: capture cannot record, so the user's statement fails, as plainly as any other.
#[test]
fn a_full_disk_of_the_log_fails_the_users_write_and_loses_nothing() {
    let cluster = own(Options::new("full-log")
        .conf("sync_ext.log_segment_size = '1MB'")
        .conf("sync_ext.log_rotate_interval = 0"));
    let Some(disk) = SmallDisk::mount(cluster.directory().join("small")) else {
        pgrx_tests::left_out("a small file system can only be mounted by root");
        return;
    };
    let mut client = cluster.connect("postgres").unwrap();
    run(&mut client, &format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.display()));
    two_tables(&mut client);
    settle(&mut client);
    move_log(&mut client, "small");
    run(&mut client, "UPDATE a.t SET v = 'moved' WHERE id = 1");
    settle(&mut client);
    let pid = worker(&cluster, "postgres");
    let insert =
        "INSERT INTO a.t SELECT n, repeat(md5(n::text), 60) FROM generate_series(10, 6000) n";
    let error = refusal(&mut client, insert);
    assert!(error.starts_with("53100") && error.contains("No space left on device"), "{error}");
    // What there is room for goes on: nothing of the failed statement is wanted any more.
    run(&mut client, "UPDATE b.t SET v = 'still' WHERE id = 2");
    settle(&mut client);
    assert_eq!(both(&mut client), "1moved 2still / 1moved 2still");
    disk.enlarge();
    run(&mut client, insert);
    settle(&mut client);
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM a.t JOIN b.t USING (id, v)"), "5993");
    assert_eq!(worker(&cluster, "postgres"), pid);
    assert_no_crash(&cluster);
}

/// What the kernel makes of a disk with errors.
#[test]
fn a_read_only_disk_holds_the_sync_with_the_reason_and_fails_only_writes_that_need_it() {
    let mut cluster = own(Options::new("read-only"));
    let Some(disk) = SmallDisk::mount(cluster.directory().join("small")) else {
        pgrx_tests::left_out("a small file system can only be mounted by root");
        return;
    };
    disk.enlarge();
    let mut client = cluster.connect("postgres").unwrap();
    run(&mut client, &format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.display()));
    two_tables(&mut client);
    settle(&mut client);
    // The target is on it.
    run(&mut client, "ALTER TABLE b.t SET TABLESPACE small");
    settle(&mut client);
    drop(client);
    restart_with(&mut cluster, &disk, true);
    let mut client = cluster.connect("postgres").unwrap();
    run(&mut client, "UPDATE a.t SET v = 'captured' WHERE id = 1");
    until(&mut client, "SELECT state FROM sync.status", "failing");
    let said = status(&mut client);
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM sync.queue"), "0");
    assert!(cluster.log_text().matches("Read-only file system").count() < 50);
    drop(client);
    restart_with(&mut cluster, &disk, false);
    let mut client = cluster.connect("postgres").unwrap();
    settle(&mut client);
    assert_eq!(both(&mut client), "1captured 2two / 1captured 2two");

    // The log is on it.
    run(&mut client, "ALTER TABLE b.t SET TABLESPACE pg_default");
    move_log(&mut client, "small");
    settle(&mut client);
    drop(client);
    restart_with(&mut cluster, &disk, true);
    let mut client = cluster.connect("postgres").unwrap();
    let pid = worker(&cluster, "postgres");
    let error = refusal(&mut client, "UPDATE a.t SET v = 'refused' WHERE id = 1");
    assert!(error.contains("Read-only file system"), "{error}");
    run(&mut client, "CREATE TABLE a.uncaptured AS SELECT 1 AS one");
    until(
        &mut client,
        "SELECT state, detail FROM sync.status",
        "failing|its worker cannot work, the server log says why; changes are captured",
    );
    assert_eq!(worker(&cluster, "postgres"), pid);
    drop(client);
    restart_with(&mut cluster, &disk, false);
    let mut client = cluster.connect("postgres").unwrap();
    run(&mut client, "UPDATE a.t SET v = 'after' WHERE id = 1");
    settle(&mut client);
    assert_eq!(both(&mut client), "1after 2two / 1after 2two");
    assert_no_crash(&cluster);
}

fn move_log(client: &mut Client, tablespace: &str) {
    for n in 0..4 {
        run(client, &format!("ALTER TABLE sync._log_v1_{n} SET TABLESPACE {tablespace}"));
    }
}

fn restart_with(cluster: &mut Cluster, disk: &SmallDisk, read_only: bool) {
    cluster.stop(Stop::Fast).unwrap();
    disk.set_read_only(read_only);
    cluster.start().unwrap();
}

fn assert_no_crash(cluster: &Cluster) {
    let log = cluster.log_text();
    assert!(!log.contains("PANIC") && !log.contains("was terminated by signal"), "{log}");
}

#[test]
fn a_missing_synchronous_standby_holds_up_neither_deliveries_nor_shutdown() {
    let mut cluster = own(Options::new("alone"));
    let mut client = cluster.connect("postgres").unwrap();
    two_tables(&mut client);
    settle(&mut client);
    run(&mut client, "ALTER SYSTEM SET synchronous_standby_names = 'missing'");
    run(&mut client, "SELECT pg_reload_conf()");
    until(&mut client, "SHOW synchronous_standby_names", "missing");
    run(&mut client, "SET synchronous_commit = local");
    for n in 3..6 {
        run(&mut client, &format!("INSERT INTO a.t VALUES ({n}, 'x')"));
        settle(&mut client);
    }
    assert_eq!(both(&mut client), "1one 2two 3x 4x 5x / 1one 2two 3x 4x 5x");
    run(&mut client, "INSERT INTO a.t SELECT n, 'x' FROM generate_series(10, 5000) n");
    drop(client);
    let took = cluster.stop(Stop::Fast).unwrap();
    assert!(took < Duration::from_secs(2), "{took:?}");
}
