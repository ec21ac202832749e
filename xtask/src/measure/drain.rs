use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cluster::postgres::Client;
use cluster::{Cluster, Options, poll, processes};

use super::bench::{self, DATABASE, Kind, SEVEN_COLUMNS, SEVEN_VALUES};
use super::{Budget, Figure, Run, median};

const ROWS: u32 = 200_000;
const CHANGES: u32 = 200_000;
const CLIENTS: u32 = 8;
const PUBLISHER: &str = "native_publisher";
const SUBSCRIBER: &str = "native_subscriber";

/// The same backlog of single-row transactions, keys drawn uniformly, drained by us and by native logical replication
/// on the same server, in turns.
pub(super) fn against_native(run: &Run) -> Result<Vec<Figure>> {
    let rounds = if run.full { 7 } else { 3 };
    let options =
        Options::new("drain").conf("wal_level = logical").conf("max_worker_processes = 32");
    let cluster = bench::cluster(options)?;
    let mut client = cluster.connect(DATABASE)?;
    for (table, kind) in [("one_way", Kind::OneWay), ("two_way", Kind::TwoWay)] {
        bench::table(&mut client, table, SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
        bench::sync_with_peer(&mut client, table, SEVEN_COLUMNS, kind)?;
    }
    prepare_native(&cluster)?;

    let (mut native, mut one_way, mut two_way) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        native.push(native_rate(&cluster)?);
        one_way.push(our_rate(&cluster, &mut client, "one_way", CHANGES)?);
        two_way.push(our_rate(&cluster, &mut client, "two_way", CHANGES)?);
    }
    let ratios = |ours: &[f64]| -> f64 {
        median(
            &mut ours.iter().zip(&native).map(|(ours, native)| ours / native).collect::<Vec<_>>(),
        )
    };
    let (one_way_ratio, two_way_ratio) = (ratios(&one_way), ratios(&two_way));
    Ok(vec![
        Figure::new("drain_one_way", one_way_ratio, "ratio", Budget::AtLeast(2.0)),
        Figure::new("drain_two_way", two_way_ratio, "ratio", Budget::AtLeast(1.5)),
        Figure::new("drain_one_way_rate", median(&mut one_way), "changes/s", Budget::None),
        Figure::new("drain_two_way_rate", median(&mut two_way), "changes/s", Budget::None),
        Figure::new("drain_native_rate", median(&mut native), "changes/s", Budget::None),
    ])
}

/// Commits the backlog.
fn write(cluster: &Cluster, database: &str, table: &str, changes: u32) -> Result<()> {
    let script = format!(
        "\\set id random(1, {ROWS})\nUPDATE {table} SET counter = counter + 1 WHERE id = :id;\n"
    );
    let clients = format!("--client={CLIENTS}");
    let transactions = format!("--transactions={}", changes / CLIENTS);
    let arguments = [&clients, &transactions, "--jobs=2", "--protocol=prepared"];
    bench::pgbench(cluster, database, &script, "off", &arguments.map(|argument| argument as &str))?;
    Ok(())
}

fn our_rate(cluster: &Cluster, client: &mut Client, sync: &str, changes: u32) -> Result<f64> {
    bench::pause(client, sync)?;
    write(cluster, DATABASE, sync, changes)?;
    settle(client, &[sync, &format!("peer.{sync}")])?;
    // The last transaction tells when all before it have arrived; polled for as the native one is, with no snapshot
    // held in between.
    let last: i32 = client
        .query_one(
            &format!("UPDATE {sync} SET counter = counter + 1 WHERE id = 1 RETURNING counter"),
            &[],
        )?
        .get(0);
    let look = client.prepare(&format!("SELECT counter FROM peer.{sync} WHERE id = 1"))?;
    let started = Instant::now();
    bench::resume(client, sync)?;
    let arrived = poll(Duration::from_secs(600), || {
        client.query_one(&look, &[]).is_ok_and(|row| row.get::<_, i32>(0) == last)
    });
    if !arrived {
        bail!("the drain did not finish; the server's log:\n{}", cluster.log_tail(20));
    }
    let rate = f64::from(changes) / started.elapsed().as_secs_f64();
    bench::wait(client, sync)?;
    bench::check_equal(client, sync)?;
    Ok(rate)
}

/// No autovacuum and no checkpoint of the writes falls into the drain.
fn settle(client: &mut Client, tables: &[&str]) -> Result<()> {
    for table in tables {
        client.batch_execute(&format!("VACUUM ANALYZE {table}"))?;
    }
    client.batch_execute("CHECKPOINT").map_err(Into::into)
}

fn prepare_native(cluster: &Cluster) -> Result<()> {
    cluster.psql("postgres", &format!("CREATE DATABASE {PUBLISHER}"))?;
    let mut publisher = cluster.connect(PUBLISHER)?;
    bench::table(&mut publisher, "account", SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
    publisher.batch_execute(
        "INSERT INTO account VALUES (0, 0, 'the last one', null, null, null, null)",
    )?;
    drop(publisher);
    cluster.psql("postgres", &format!("CREATE DATABASE {SUBSCRIBER} TEMPLATE {PUBLISHER}"))?;
    let mut publisher = cluster.connect(PUBLISHER)?;
    publisher.batch_execute("CREATE PUBLICATION native FOR TABLE account")?;
    // Within one server the subscription cannot make its slot itself: it would wait for its own transaction.
    publisher.query("SELECT pg_create_logical_replication_slot('native', 'pgoutput')", &[])?;
    cluster.connect(SUBSCRIBER)?.batch_execute(&format!(
        "CREATE SUBSCRIPTION native CONNECTION 'host={} user=postgres dbname={PUBLISHER}' PUBLICATION native \
         WITH (create_slot = false, slot_name = 'native', copy_data = false, enabled = false)",
        cluster.sockets().display()
    ))?;
    Ok(())
}

fn native_rate(cluster: &Cluster) -> Result<f64> {
    let mut publisher = cluster.connect(PUBLISHER)?;
    let mut subscriber = cluster.connect(SUBSCRIBER)?;
    write(cluster, PUBLISHER, "account", CHANGES)?;
    settle(&mut publisher, &["account"])?;
    settle(&mut subscriber, &["account"])?;
    // The last transaction tells when all before it have arrived.
    let last: i32 = publisher
        .query_one("UPDATE account SET counter = counter + 1 WHERE id = 0 RETURNING counter", &[])?
        .get(0);
    let look = subscriber.prepare("SELECT counter FROM account WHERE id = 0")?;
    let started = Instant::now();
    subscriber.batch_execute("ALTER SUBSCRIPTION native ENABLE")?;
    let arrived = poll(Duration::from_secs(600), || {
        subscriber.query_one(&look, &[]).is_ok_and(|row| row.get::<_, i32>(0) == last)
    });
    if !arrived {
        bail!("native replication did not finish; the server's log:\n{}", cluster.log_tail(20));
    }
    let rate = f64::from(CHANGES) / started.elapsed().as_secs_f64();
    subscriber.batch_execute("ALTER SUBSCRIPTION native DISABLE")?;
    let stopped = poll(Duration::from_secs(60), || {
        let sql = "SELECT active FROM pg_replication_slots WHERE slot_name = 'native'";
        publisher.query_one(sql, &[]).is_ok_and(|row| !row.get::<_, bool>(0))
    });
    if !stopped {
        bail!("the subscription does not stop");
    }
    Ok(rate)
}

/// A batch several times as long is drained at the same rate: what is read of it is not read again for each of its
/// parts (DECISIONS A14).
pub(super) fn backlog(run: &Run) -> Result<Vec<Figure>> {
    let long = if run.full { 3_000_000 } else { 1_000_000 };
    let cluster = bench::cluster(Options::new("backlog"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
    bench::sync_with_peer(&mut client, "account", SEVEN_COLUMNS, Kind::OneWay)?;
    our_rate(&cluster, &mut client, "account", CHANGES)?;
    let short_rate = our_rate(&cluster, &mut client, "account", CHANGES)?;
    let long_rate = our_rate(&cluster, &mut client, "account", long)?;
    Ok(vec![
        Figure::new("backlog", long_rate / short_rate, "ratio", Budget::AtLeast(0.8)),
        Figure::new("backlog_rate", long_rate, "changes/s", Budget::None),
    ])
}

/// As many changes, once all of one side, once each of two to the same record, made on both sides in different fields: then
/// every record is merged, and as many rows are written.
pub(super) fn merging(run: &Run) -> Result<Vec<Figure>> {
    const ONE_SIDE: &[&str] = &["UPDATE account SET counter = counter + 1"];
    const BOTH_SIDES: &[&str] = &[
        "UPDATE account SET counter = counter + 1 WHERE id % 2 = 0",
        "UPDATE peer.account SET amount = amount + 1 WHERE id % 2 = 0",
    ];
    let rounds = if run.full { 7 } else { 3 };
    let cluster = bench::cluster(Options::new("merging"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
    bench::sync_with_peer(&mut client, "account", SEVEN_COLUMNS, Kind::TwoWay)?;
    let mut rate = |statements: &[&str]| -> Result<f64> {
        bench::pause(&mut client, "account")?;
        for statement in statements {
            client.batch_execute(statement)?;
        }
        settle(&mut client, &["account", "peer.account"])?;
        let started = Instant::now();
        bench::resume(&mut client, "account")?;
        bench::wait(&mut client, "account")?;
        let rate = f64::from(ROWS) / started.elapsed().as_secs_f64();
        bench::check_equal(&mut client, "account")?;
        Ok(rate)
    };
    rate(ONE_SIDE)?;
    let mut ratios = Vec::new();
    let mut merged = Vec::new();
    for _ in 0..rounds {
        let alone = rate(ONE_SIDE)?;
        let both = rate(BOTH_SIDES)?;
        merged.push(both);
        ratios.push(both / alone);
    }
    Ok(vec![
        Figure::new("drain_merge", median(&mut ratios), "ratio", Budget::AtLeast(0.7)),
        Figure::new("drain_merge_rate", median(&mut merged), "changes/s", Budget::None),
    ])
}

/// The worker's peak while it drains what five updates of a whole table have left.
pub(super) fn memory(_: &Run) -> Result<Vec<Figure>> {
    const ROUNDS: u32 = 5;
    let cluster = bench::cluster(Options::new("memory"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
    bench::sync_with_peer(&mut client, "account", SEVEN_COLUMNS, Kind::OneWay)?;
    bench::pause(&mut client, "account")?;
    for _ in 0..ROUNDS {
        client.batch_execute("UPDATE account SET counter = counter + 1")?;
    }
    let worker = bench::worker(&cluster)?;
    let before = processes::anonymous_memory(worker)?;
    let peak = bench::peak_while(worker, || {
        bench::resume(&mut client, "account")?;
        bench::wait(&mut client, "account")
    })?;
    bench::check_equal(&mut client, "account")?;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let queue = with_a_long_queue(&cluster, &mut client, worker)?;
    Ok(vec![
        Figure::new("memory", megabytes(peak), "MB", Budget::AtMost(150.0)),
        Figure::new("memory_before", megabytes(before), "MB", Budget::None),
        Figure::new("memory_queue", megabytes(queue), "MB", Budget::AtMost(150.0)),
    ])
}

/// The worker's peak with a million records waiting for a person, while it reads its configuration and
/// narrows pieces down that the peer refuses.
fn with_a_long_queue(cluster: &Cluster, client: &mut Client, drained: i32) -> Result<u64> {
    bench::pause(client, "account")?;
    client.batch_execute(
        "INSERT INTO sync._queue (sync, side, key, key_text, state, changed_at) \
         SELECT s.id, 0, int4send(n), n::text, 'review', now() FROM sync._sync s, generate_series(10000001, 11000000) n; \
         ALTER TABLE peer.account ADD CONSTRAINT refused CHECK (id % 100 <> 7 OR counter < 1000) NOT VALID; \
         UPDATE account SET counter = 2000 WHERE id <= 5000",
    )?;
    // One that has not drained anything yet.
    client.execute("SELECT pg_terminate_backend($1)", &[&drained])?;
    let mut worker = drained;
    cluster.wait_until("another worker", || {
        worker = bench::worker(cluster).unwrap_or(drained);
        worker != drained
    });
    bench::peak_while(worker, || {
        bench::resume(client, "account")?;
        client.query_one("SELECT settled FROM sync.wait('account', '600 s')", &[])?;
        let refused = "SELECT count(*) FROM sync.errors";
        let refused: i64 = client.query_one(refused, &[])?.get(0);
        anyhow::ensure!(refused > 0, "the peer refused nothing");
        Ok(())
    })
}
