use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::{Cluster, Options, poll, processes};

use super::bench::{self, DATABASE, Kind, SEVEN_COLUMNS, SEVEN_VALUES};
use super::{Budget, Figure, Run};

/// A long transaction holds the table; a writer of other rows must not wait behind a registration that waits for it.
pub(super) fn register_wait(_: &Run) -> Result<Vec<Figure>> {
    const HELD: Duration = Duration::from_secs(15);
    let cluster = bench::cluster(Options::new("register"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, 1000)?;
    client.batch_execute(&format!("CREATE TABLE peer.account ({SEVEN_COLUMNS})"))?;

    let mut holder = cluster.connect(DATABASE)?;
    let mut long = holder.transaction()?;
    long.batch_execute("UPDATE account SET counter = counter + 1 WHERE id = 1")?;

    let done = AtomicBool::new(false);
    let (longest, created) = std::thread::scope(|scope| -> Result<(Duration, bool)> {
        let writer = scope.spawn(|| -> Result<Duration> {
            let mut client = cluster.connect(DATABASE)?;
            let update = client.prepare("UPDATE account SET counter = counter + 1 WHERE id = 2")?;
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let started = Instant::now();
                client.execute(&update, &[])?;
                longest = longest.max(started.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(longest)
        });
        let registrar = scope.spawn(|| -> Result<bool> {
            let mut client = cluster.connect(DATABASE)?;
            // Refusing because of the long transaction, naming it, is as good as waiting for it.
            Ok(bench::create_sync(&mut client, "account", Kind::OneWay, "none").is_ok())
        });
        std::thread::sleep(HELD);
        let released = long.commit();
        let created = join(registrar.join());
        done.store(true, Ordering::Relaxed);
        let longest = join(writer.join());
        released?;
        Ok((longest?, created?))
    })?;
    Ok(vec![
        Figure::new("register_wait", longest.as_secs_f64(), "s", Budget::AtMost(2.0)),
        Figure::new("register_wait_created", f64::from(u8::from(created)), "1 = yes", Budget::None),
    ])
}

fn join<T>(joined: std::thread::Result<T>) -> T {
    match joined {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// While the worker delivers a backlog.
pub(super) fn drop_database(_: &Run) -> Result<Vec<Figure>> {
    let cluster = busy("drop", 200_000)?;
    let mut client = cluster.connect("postgres")?;
    let started = Instant::now();
    client.batch_execute(&format!("DROP DATABASE {DATABASE}"))?;
    Ok(vec![Figure::new(
        "drop_database",
        started.elapsed().as_secs_f64(),
        "s",
        Budget::AtMost(2.0),
    )])
}

/// A database whose worker has just been given something to do.
fn busy(name: &str, rows: u32) -> Result<Cluster> {
    let cluster = bench::cluster(Options::new(name))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, rows)?;
    bench::sync_with_peer(&mut client, "account", SEVEN_COLUMNS, Kind::OneWay)?;
    client.batch_execute("UPDATE account SET counter = counter + 1")?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    drop(client);
    let mut observer = cluster.connect("postgres")?;
    poll(Duration::from_secs(10), || {
        observer
            .query("SELECT FROM pg_stat_activity WHERE pid = $1", &[&pid])
            .is_ok_and(|rows| rows.is_empty())
    });
    Ok(cluster)
}

pub(super) fn recovery(_: &Run) -> Result<Vec<Figure>> {
    const GIVE_UP: Duration = Duration::from_secs(60);
    let cluster = busy("recovery", 1000)?;
    bench::wait(&mut cluster.connect(DATABASE)?, "account")?;
    let worker = bench::worker(&cluster)?;
    let mut thrown_out = cluster.connect(DATABASE)?;
    let started = Instant::now();
    processes::kill(worker)?;
    // The server restarts all its processes; the first commit that it takes after that is the one to be delivered.
    if !poll(GIVE_UP, || thrown_out.batch_execute("").is_err()) {
        bail!("the server did not notice that its worker was killed");
    }
    let written = poll(GIVE_UP, || {
        cluster.connect(DATABASE).is_ok_and(|mut client| {
            client.batch_execute("UPDATE account SET name = 'after the kill' WHERE id = 1").is_ok()
        })
    });
    if !written {
        bail!("the server did not come back; its log:\n{}", cluster.log_tail(20));
    }
    let writable = started.elapsed();
    let mut reader = cluster.connect(DATABASE).context("after the kill")?;
    let look = reader.prepare("SELECT name FROM peer.account WHERE id = 1")?;
    let arrived = poll(GIVE_UP, || {
        reader.query_one(&look, &[]).is_ok_and(|row| row.get::<_, &str>(0) == "after the kill")
    });
    if !arrived {
        bail!("nothing was delivered after the kill; the server's log:\n{}", cluster.log_tail(20));
    }
    Ok(vec![
        Figure::new("recovery", started.elapsed().as_secs_f64(), "s", Budget::AtMost(3.0)),
        Figure::new("recovery_of_the_server", writable.as_secs_f64(), "s", Budget::None),
    ])
}
