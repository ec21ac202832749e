//! The course of a campaign: stretches of writing and killing, each ended by a reckoning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::postgres::Client;
use cluster::{Cluster, Options, PATIENCE, poll, prepared_server, processes};
use pgrx_tests::{query_one, rows, run};

use super::checks;
use super::random::Random;
use super::schema::{self, HELD};
use super::writers::{self, Stretch};

const WRITERS: u64 = 5;
/// Kills between two reckonings.
const STRETCH: u64 = 20;
const DATABASE: &str = "campaign";
const WORKERS: &str = "SELECT pid, backend_type FROM pg_stat_activity WHERE backend_type IN ('sync_ext worker', 'sync_ext job worker') AND datname = current_database()";
/// How long a slow expression may take to bring a job worker.
const JOB_COMES: Duration = Duration::from_secs(5);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Stream,
    Job,
    Launcher,
    Writer,
    Postmaster,
}

pub(crate) struct Campaign {
    cluster: Cluster,
    sockets: PathBuf,
    seed: u64,
    random: Random,
    /// Every worker there was: none of them may have cost a user his transaction.
    workers: Vec<i32>,
    held: u64,
    killed: BTreeMap<Victim, u64>,
}

/// Ends the writers also when the killer panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Campaign {
    pub(crate) fn start(seed: u64) -> Self {
        println!("kill campaign: SYNC_EXT_SEED={seed}");
        let options = Options::new("kill")
            .conf("max_prepared_transactions = 30")
            .conf("max_worker_processes = 16")
            .conf("log_min_messages = warning")
            .conf("sync_ext.log_segment_size = '1MB'")
            .conf("sync_ext.log_rotate_interval = 1");
        let server = match prepared_server() {
            Ok(server) => server,
            Err(error) => panic!("{error:#}"),
        };
        let cluster = match Cluster::start_new(server, options) {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error:#}"),
        };
        let sockets = cluster.sockets().to_owned();
        let mut client = cluster.connect("postgres").expect("a connection");
        run(&mut client, &format!("CREATE DATABASE {DATABASE}"));
        schema::create(&mut cluster.connect(DATABASE).expect("a connection"));
        let random = Random::new(seed);
        let (workers, killed) = (Vec::new(), BTreeMap::new());
        Self { cluster, sockets, seed, random, workers, held: HELD, killed }
    }

    pub(crate) fn run(mut self, kills: u64) {
        let begun = Instant::now();
        let (mut done, mut stretch) = (0, 0);
        while done < kills {
            let count = STRETCH.min(kills - done);
            self.stretch(stretch, count);
            done += count;
            stretch += 1;
            self.reckon(done >= kills);
            println!("{done} kills, {:.0} s: {:?}", begun.elapsed().as_secs_f64(), self.killed);
        }
    }

    /// Writers write while processes are killed.
    fn stretch(&mut self, stretch: u64, kills: u64) {
        // P9: a transaction that is left prepared all the while, over every restart.
        self.held += 10;
        let mut client = self.client("writer");
        run(
            &mut client,
            &format!(
                "BEGIN; INSERT INTO shop.two (id, f) VALUES ({0}, 'held-{0}'); PREPARE TRANSACTION 'held-{0}'",
                self.held
            ),
        );
        drop(client);
        let (stop, complaints) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let sockets = self.sockets.clone();
        let seed = self.seed;
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            for writer in 0..WRITERS {
                let shared = Stretch {
                    sockets: &sockets,
                    database: DATABASE,
                    keys: 30,
                    stop: &stop,
                    complaints: &complaints,
                };
                let number = stretch * WRITERS + writer + 1;
                scope.spawn(move || writers::write(&shared, seed, number));
            }
            for _ in 0..kills {
                self.kill();
            }
            // What is checked has then also been written without a kill right behind it.
            std::thread::sleep(Duration::from_millis(300));
        });
        let complaints = complaints.into_inner().unwrap_or_default();
        let serious = writers::serious(&complaints, &self.workers);
        assert!(
            serious.is_empty(),
            "seed {}: users got errors that are not their own (P15, C6): {serious:#?}\n{}",
            self.seed,
            self.cluster.log_tail(60)
        );
    }

    /// One kill at a random moment; returns when the next worker is there.
    fn kill(&mut self) {
        let before = self.worker();
        let moment = match self.random.below(3) {
            0 => self.random.below(20),
            1 => self.random.below(120),
            _ => self.random.below(400),
        };
        std::thread::sleep(Duration::from_millis(moment));
        let mut victim = match self.random.below(100) {
            0..35 => Victim::Stream,
            35..50 => Victim::Job,
            50..60 => Victim::Launcher,
            60..92 => Victim::Writer,
            _ => Victim::Postmaster,
        };
        let job = if victim == Victim::Job { self.job_worker() } else { None };
        if victim == Victim::Job && job.is_none() {
            victim = Victim::Stream;
        }
        *self.killed.entry(victim).or_default() += 1;
        match victim {
            Victim::Stream => drop(processes::kill(before)),
            Victim::Job => drop(processes::kill(job.unwrap_or(before))),
            Victim::Launcher => {
                let launcher = self.cluster.pids_of("sync_ext launcher").unwrap_or_default();
                drop(processes::kill(launcher.first().copied().unwrap_or(before)));
            }
            Victim::Writer => {
                let mut client = self.client("killer");
                let pids = rows(
                    &mut client,
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'writer' ORDER BY state <> 'active', random()",
                );
                let victim = pids.first().and_then(|pid| pid.parse().ok()).unwrap_or(before);
                drop(processes::kill(victim));
            }
            Victim::Postmaster => {
                if let Err(error) = self.cluster.kill_postmaster() {
                    panic!("seed {}: {error:#}", self.seed);
                }
                if let Err(error) = self.cluster.start() {
                    panic!("seed {}: {error:#}", self.seed);
                }
            }
        }
        let mut next = before;
        let back = poll(PATIENCE, || {
            next = self.worker_if_any().unwrap_or(before);
            next != before
        });
        assert!(
            back,
            "seed {}: no worker came back within 30 s\n{}",
            self.seed,
            self.cluster.log_tail(60)
        );
    }

    /// Has an expression slow down until a job worker takes its sync over, for as long as the next kill.
    fn job_worker(&mut self) -> Option<i32> {
        let mut client = self.client("killer");
        schema::set_pace(&mut client, 0.05).ok()?;
        let mut job = None;
        poll(JOB_COMES, || {
            job = self.cluster.pids_of("sync_ext job worker").unwrap_or_default().first().copied();
            job.is_some()
        });
        schema::set_pace(&mut client, 0.0).ok()?;
        // It may be anywhere in the work it has taken over.
        std::thread::sleep(Duration::from_millis(self.random.below(200)));
        self.worker_if_any();
        job
    }

    fn client(&self, name: &str) -> Client {
        let mut last = None;
        let connected = poll(PATIENCE, || {
            last = writers::connect(&self.sockets, DATABASE, name).ok();
            last.is_some()
        });
        assert!(connected, "seed {}: no connection\n{}", self.seed, self.cluster.log_tail(40));
        last.expect("a connection")
    }

    fn worker_if_any(&mut self) -> Option<i32> {
        let mut client = writers::connect(&self.sockets, DATABASE, "killer").ok()?;
        let mut stream = None;
        for row in client.query(WORKERS, &[]).ok()? {
            let pid = row.try_get(0).ok()?;
            if !self.workers.contains(&pid) {
                self.workers.push(pid);
            }
            if row.try_get::<_, &str>(1).ok()? == "sync_ext worker" {
                stream = Some(pid);
            }
        }
        stream
    }

    fn worker(&mut self) -> i32 {
        let mut pid = None;
        let found = poll(PATIENCE, || {
            pid = self.worker_if_any();
            pid.is_some()
        });
        assert!(found, "seed {}: no worker\n{}", self.seed, self.cluster.log_tail(60));
        pid.unwrap_or_default()
    }

    /// The writers have stopped: everything settles, and everything is right.
    fn reckon(&mut self, last: bool) {
        let mut client = self.client("writer");
        // What a killed writer had prepared and could not end.
        for name in rows(&mut client, "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'v%'") {
            let end = if self.random.percent(70) { "COMMIT" } else { "ROLLBACK" };
            run(&mut client, &format!("{end} PREPARED '{name}'"));
        }
        let mut open = self.client("writer");
        let held = self.held;
        run(
            &mut open,
            &format!("BEGIN; INSERT INTO shop.two (id, f) VALUES ({0}, 'open-{0}')", held + 1),
        );
        // P9: both are open, everything else settles.
        self.settle(&mut client);
        self.judge(&mut client, "with transactions left open");
        let early = query_one(
            &mut client,
            &format!("SELECT count(*) FROM peer.two WHERE id IN ({held}, {held} + 1)"),
        );
        assert_eq!(early, "0", "seed {}: rows of open transactions were sent", self.seed);
        run(&mut open, "COMMIT");
        run(&mut client, &format!("COMMIT PREPARED 'held-{held}'"));
        if last {
            run(&mut client, "UPDATE shop.one SET g = 'cured' WHERE g = 'poison'");
        }
        self.settle(&mut client);
        self.judge(&mut client, "after all was committed");
        // P5: what was applied is applied once more by a new worker, and nothing happens.
        let last = query_one(&mut client, "SELECT last_value FROM sync._log_seq");
        let before = self.traces(&mut client, &last);
        drop((client, open));
        let worker = self.worker();
        drop(processes::kill(worker));
        poll(PATIENCE, || self.worker_if_any().is_some_and(|pid| pid != worker));
        let mut client = self.client("writer");
        self.settle(&mut client);
        let after = self.traces(&mut client, &last);
        if before != after {
            panic!(
                "seed {}: a restart at rest was not without traces (P5, P6): {before} became {after}\n{}",
                self.seed,
                rows(&mut client, "SELECT sync, seq, \"table\", key, operation, status, origin, old, new FROM sync.change_log ORDER BY seq DESC LIMIT 20").join("\n")
            );
        }
        self.judge(&mut client, "after a restart at rest");
    }

    /// What the engine has written down so far, in the log after a number; at rest it stays as it is, but for the log's
    /// being emptied. The poisoned row is tried again and again, which leaves errors but no history.
    fn traces(&self, client: &mut Client, after: &str) -> String {
        let logged =
            (0..4).map(|n| format!("(SELECT count(*) FROM sync._log_v1_{n} WHERE seq > {after})"));
        query_one(
            client,
            &format!(
                "SELECT {} AS log, (SELECT count(*) FROM sync._history WHERE outcome <> 'p') AS history,
                        (SELECT count(*) FROM sync._conflict) AS conflicts",
                logged.collect::<Vec<_>>().join(" + ")
            ),
        )
    }

    fn settle(&self, client: &mut Client) {
        if let Err(left) = checks::settle(client) {
            panic!("seed {}: {left}\n{}", self.seed, self.cluster.log_tail(40));
        }
    }

    fn judge(&self, client: &mut Client, when: &str) {
        let wrong = checks::all(client);
        if !wrong.is_empty() {
            panic!(
                "seed {}, {when}:\n{}\nlog: {}",
                self.seed,
                wrong.join("\n"),
                kept(&self.cluster, self.seed).display()
            );
        }
    }
}

/// The server's log outlives the cluster when something was wrong.
fn kept(cluster: &Cluster, seed: u64) -> PathBuf {
    let place = std::env::temp_dir().join(format!("sync_ext-kill-{seed}.log"));
    let _ = std::fs::copy(cluster.log_file(), Path::new(&place));
    place
}
