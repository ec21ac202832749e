use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::{Client, NoTls};
use rustix::process::Signal;

use crate::database::{Db, quoted};
use crate::options::{Options, Stop};
use crate::processes;
use crate::server::{Server, remove_dir};
use crate::workspace::run;
use crate::{PATIENCE, poll};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// What sockaddr_un holds, less the terminating zero.
const LONGEST_SOCKET_PATH: usize = 107;
const SOCKET_FILE: &str = ".s.PGSQL.5432";
/// Names processes that end with a kept cluster.
const ADOPTED: &str = "adopted";

/// A throwaway PostgreSQL cluster. Dropping it ends its processes and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    server: &'static Server,
    options: Options,
    directory: PathBuf,
    sockets: PathBuf,
    postmaster: Option<Child>,
    watchdog: Option<Child>,
}

impl Cluster {
    /// A new cluster, not started.
    pub fn create(server: &'static Server, options: Options) -> Result<Cluster> {
        let cluster = Cluster::reserve(server, options)?;
        let template = server.template()?;
        cluster.copy_data(&template)?;
        cluster.write_conf()?;
        Ok(cluster)
    }

    /// A new cluster, started.
    pub fn start_new(server: &'static Server, options: Options) -> Result<Cluster> {
        let mut cluster = Cluster::create(server, options)?;
        cluster.start()?;
        Ok(cluster)
    }

    fn reserve(server: &'static Server, options: Options) -> Result<Cluster> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let directory = if options.keep {
            let directory = server.clusters()?.join(&options.name);
            discard(&directory)?;
            directory
        } else {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            server.clusters()?.join(format!("{}-{}-{number}", options.name, std::process::id()))
        };
        server.account.create_dir(&directory, 0o755)?;
        let own = directory.join("s");
        let sockets = if own.join(SOCKET_FILE).as_os_str().len() <= LONGEST_SOCKET_PATH {
            own
        } else {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            PathBuf::from(format!("/tmp/sync_ext-{:.60}-{}", name, std::process::id()))
        };
        server.account.create_dir(&sockets, 0o755)?;
        let pid = std::process::id() as i32;
        let owner = if options.keep { "kept".to_owned() } else { owner_line(pid) };
        fs::write(directory.join("owner"), owner)?;
        fs::write(directory.join("sockets"), sockets.as_os_str().as_encoded_bytes())?;
        let mut cluster =
            Cluster { server, options, directory, sockets, postmaster: None, watchdog: None };
        if !cluster.options.keep {
            cluster.watchdog = Some(cluster.start_watchdog()?);
        }
        Ok(cluster)
    }

    fn copy_data(&self, from: &Path) -> Result<()> {
        run(Command::new("cp").arg("-a").arg(from).arg(self.data())).map(drop)
    }

    fn write_conf(&self) -> Result<()> {
        let main = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&main)?;
        if !text.contains("include 'cluster.conf'") {
            fs::write(&main, text + "\ninclude 'cluster.conf'\n")?;
        }
        let mut lines = vec![
            "listen_addresses = ''".to_owned(),
            format!("unix_socket_directories = '{}'", self.sockets.display()),
            format!("fsync = {}", if self.options.fsync { "on" } else { "off" }),
            format!(
                "shared_preload_libraries = '{}'",
                if self.options.preload { "sync_ext" } else { "" }
            ),
            "log_line_prefix = '%m [%p] %b %d '".to_owned(),
            "logging_collector = off".to_owned(),
            // A server that is killed leaves nothing in /dev/shm.
            "dynamic_shared_memory_type = mmap".to_owned(),
        ];
        lines.extend(self.options.conf.iter().cloned());
        let own = self.data().join("cluster.conf");
        fs::write(&own, lines.join("\n") + "\n")?;
        // Whatever our umask: the server's account has to read it.
        fs::set_permissions(&own, fs::Permissions::from_mode(0o644))?;
        Ok(())
    }

    /// Adds a line of configuration; effective from the next start or `reload`.
    pub fn set(&mut self, line: &str) -> Result<()> {
        self.options.conf.push(line.to_owned());
        self.write_conf()
    }

    /// SIGHUP.
    pub fn reload(&self) -> Result<()> {
        processes::signal(self.pid().context("not running")?, Signal::HUP)
    }

    pub fn server(&self) -> &'static Server {
        self.server
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The server's log from the beginning.
    pub fn log_text(&self) -> String {
        fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        let text = self.log_text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The postmaster's process id, while we have one running.
    pub fn pid(&self) -> Option<i32> {
        self.postmaster.as_ref().map(|child| child.id() as i32)
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        if self.postmaster.is_some() {
            bail!("already running");
        }
        let log = File::options().create(true).append(true).open(self.log_file())?;
        // A session of its own: a Ctrl-C at the terminal ends us, and we (or the watchdog) end the server.
        let child = self
            .server
            .command_under("setsid")
            .arg(self.server.program("postgres"))
            .arg("-D")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting postgres")?;
        let pid = child.id();
        self.postmaster = Some(child);
        let mut ended = None;
        let ready = poll(START_TIMEOUT, || {
            ended = self.postmaster.as_mut().and_then(|child| child.try_wait().ok().flatten());
            ended.is_some() || says_ready(&self.data(), pid)
        });
        if let Some(status) = ended {
            self.postmaster = None;
            bail!(
                "the server ended while starting ({status}); the end of its log:\n{}",
                self.log_tail(30)
            );
        }
        if !ready {
            self.crash()?;
            bail!(
                "the server was not ready within {START_TIMEOUT:?}; the end of its log:\n{}",
                self.log_tail(30)
            );
        }
        Ok(())
    }

    /// Stops the server; returns how long it took until the last of its processes was gone.
    pub fn stop(&mut self, how: Stop) -> Result<Duration> {
        let pid = self.pid().context("not running")?;
        let started = Instant::now();
        processes::signal(pid, if how == Stop::Fast { Signal::INT } else { Signal::QUIT })?;
        if !self.wait_for_end(STOP_TIMEOUT) {
            let left = processes::in_directory(&self.data());
            let tail = self.log_tail(30);
            self.crash()?;
            bail!(
                "the server did not stop within {STOP_TIMEOUT:?} (processes {left:?} were left); the end of its log:\n{tail}"
            );
        }
        Ok(started.elapsed())
    }

    pub fn restart(&mut self, how: Stop) -> Result<()> {
        self.stop(how)?;
        self.start()
    }

    /// `kill -9` of the postmaster alone. Its orphans notice and end by themselves; returns how long the last of them
    /// took, since only then is the shared memory free for a new start. Orphans that stay longer are an error, and killed.
    pub fn kill_postmaster(&mut self) -> Result<Duration> {
        let pid = self.pid().context("not running")?;
        let started = Instant::now();
        processes::kill(pid)?;
        if self.wait_for_end(Duration::from_secs(30)) {
            return Ok(started.elapsed());
        }
        let left = processes::in_directory(&self.data());
        self.crash()?;
        bail!("30 s after their postmaster was killed, these processes were still there: {left:?}")
    }

    /// `kill -9` of all processes of the cluster.
    pub fn crash(&mut self) -> Result<()> {
        // The postmaster first, or it would start what we have just killed anew.
        if let Some(child) = &mut self.postmaster {
            child.kill()?;
        }
        let data = self.data();
        for pid in processes::in_directory(&data) {
            processes::kill(pid)?;
        }
        if !self.wait_for_end(Duration::from_secs(10)) {
            bail!("killed processes are still there: {:?}", processes::in_directory(&data));
        }
        Ok(())
    }

    fn wait_for_end(&mut self, timeout: Duration) -> bool {
        let data = self.data();
        let ended = poll(timeout, || {
            let gone = self
                .postmaster
                .as_mut()
                .is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            gone && processes::in_directory(&data).is_empty()
        });
        if ended {
            self.postmaster = None;
        }
        ended
    }

    /// Ends a standby's recovery and waits until it takes writes.
    pub fn promote(&self) -> Result<()> {
        let promoted: bool = self
            .connect("postgres")?
            .query_one("SELECT pg_catalog.pg_promote(true, 60)", &[])?
            .get(0);
        if !promoted {
            bail!("not promoted; the end of the server's log:\n{}", self.log_tail(30));
        }
        Ok(())
    }

    /// A second cluster from a base backup of this running one, not started; with `standby` it will follow this one.
    pub fn base_backup(&self, options: Options, standby: bool) -> Result<Cluster> {
        let copy = Cluster::reserve(self.server, options)?;
        let mut command = self.server.command("pg_basebackup");
        command
            .args(["--username=postgres", "--checkpoint=fast", "--wal-method=stream", "--no-sync"])
            .arg("--host")
            .arg(&self.sockets)
            .arg("--pgdata")
            .arg(copy.data());
        if standby {
            command.arg("--write-recovery-conf");
        }
        run(&mut command)?;
        copy.write_conf()?;
        Ok(copy)
    }

    /// A second cluster from the files of this stopped one, not started.
    pub fn copy_stopped(&self, options: Options) -> Result<Cluster> {
        if self.postmaster.is_some() {
            bail!("the cluster is running; its files can be copied when it has stopped");
        }
        let copy = Cluster::reserve(self.server, options)?;
        copy.copy_data(&self.data())?;
        copy.write_conf()?;
        Ok(copy)
    }

    /// A connection as the superuser.
    pub fn connect(&self, database: &str) -> Result<Client> {
        self.connect_as(database, "postgres")
    }

    pub fn connect_as(&self, database: &str, role: &str) -> Result<Client> {
        postgres::Config::new()
            .host_path(&self.sockets)
            .user(role)
            .dbname(database)
            .connect(NoTls)
            .with_context(|| format!("connecting to database {database} as {role}"))
    }

    /// One of the client programs (psql, pgbench, pg_dump, …), told where this cluster is.
    pub fn client_program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.server.program(name));
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(variable);
            }
        }
        command
            .env("PGHOST", &self.sockets)
            .env("PGUSER", "postgres")
            .env("PGDATABASE", database)
            .env("PSQL_HISTORY", "/dev/null")
            .stdin(Stdio::null());
        command
    }

    /// What psql prints for `sql`, unaligned and without headers.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        run(self.client_program("psql", database).args([
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--set=ON_ERROR_STOP=1",
            "--command",
            sql,
        ]))
    }

    /// A new database, dropped again when the value is.
    pub fn database(&self, name: &str) -> Result<Db<'_>> {
        self.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {}", quoted(name)))?;
        Ok(Db { cluster: self, name: name.to_owned() })
    }

    /// Process ids by the backend_type of pg_stat_activity.
    pub fn pids_of(&self, backend_type: &str) -> Result<Vec<i32>> {
        let sql = "SELECT pid FROM pg_catalog.pg_stat_activity WHERE backend_type = $1 ORDER BY backend_start, pid";
        Ok(self
            .connect("postgres")?
            .query(sql, &[&backend_type])?
            .iter()
            .map(|row| row.get(0))
            .collect())
    }

    /// Waits for a condition instead of sleeping; panics with `what` and the end of the server's log.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        if !poll(PATIENCE, condition) {
            panic!(
                "not within {PATIENCE:?}: {what}\nthe end of the server's log:\n{}",
                self.log_tail(40)
            );
        }
    }

    /// Notes that a process of ours goes with this cluster, made with `keep`: it is ended where the cluster is.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        let file = self.directory.join(ADOPTED);
        let mut file = File::options().create(true).append(true).open(file)?;
        writeln!(file, "{}", owner_line(pid as i32))?;
        Ok(())
    }

    /// Leaves a cluster made with `keep` to itself, running.
    pub fn leave_running(mut self) {
        assert!(self.options.keep, "only a cluster made to be kept can be left running");
        self.postmaster = None;
        std::mem::forget(self);
    }

    /// Ends and removes the cluster of this name that `leave_running` left, if there is one.
    pub fn discard_kept(server: &Server, name: &str) -> Result<()> {
        discard(&server.clusters()?.join(name))
    }

    /// Ends the server when we end without having done so, however we end: it waits on a pipe that we hold open.
    fn start_watchdog(&self) -> Result<Child> {
        let script = r#"
            trap '' HUP INT TERM
            if read -r word; then exit 0; fi
            pid=$(head -n 1 "$DIRECTORY/data/postmaster.pid" 2>/dev/null)
            if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$DIRECTORY/data" ]; then
                kill -QUIT "$pid"
                tries=0
                while [ -e "/proc/$pid" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
                if [ "$(readlink "/proc/$pid/cwd")" = "$DIRECTORY/data" ]; then kill -KILL "$pid"; fi
            fi
            rm -rf "$DIRECTORY" "$SOCKETS"
        "#;
        Command::new("sh")
            .args(["-c", script])
            .env("DIRECTORY", &self.directory)
            .env("SOCKETS", &self.sockets)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the watchdog")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nothing can be reported from here, and the watchdog does what fails.
        if let Some(pid) = self.pid() {
            let _ = processes::signal(pid, Signal::QUIT);
            if !self.wait_for_end(Duration::from_secs(10)) {
                let _ = self.crash();
            }
        }
        if remove_dir(&self.directory).is_ok()
            && remove_dir(&self.sockets).is_ok()
            && let Some(mut watchdog) = self.watchdog.take()
        {
            if let Some(mut pipe) = watchdog.stdin.take() {
                let _ = pipe.write_all(b"done\n");
            }
            let _ = watchdog.wait();
        }
    }
}

/// The postmaster writes its state into the eighth line of its pid file.
fn says_ready(data: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
}

fn owner_line(pid: i32) -> String {
    format!("{pid} {}", processes::start_time(pid).unwrap_or_default())
}

/// The process that such a line was written of, while it is there.
fn process_of(line: &str) -> Option<i32> {
    let pid = line.split(' ').next()?.parse().ok()?;
    (line == owner_line(pid)).then_some(pid)
}

/// Removes what processes left behind that ended together with their watchdogs, as in a power failure.
pub(crate) fn remove_stale(server: &Server) -> Result<()> {
    for entry in fs::read_dir(server.clusters()?)? {
        let directory = entry?.path();
        let Ok(owner) = fs::read_to_string(directory.join("owner")) else { continue };
        if owner != "kept" && process_of(&owner).is_none() {
            discard(&directory)?;
        }
    }
    Ok(())
}

/// Ends what still runs in a cluster directory of an earlier process and removes it.
fn discard(directory: &Path) -> Result<()> {
    let data = directory.join("data");
    let adopted = fs::read_to_string(directory.join(ADOPTED)).unwrap_or_default();
    for pid in adopted.lines().filter_map(process_of) {
        processes::kill(pid)?;
    }
    let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let running = processes::in_directory(&data);
    if let Some(pid) = pid_file.lines().next().and_then(|line| line.parse().ok())
        && running.contains(&pid)
    {
        processes::signal(pid, Signal::QUIT)?;
    }
    if !poll(Duration::from_secs(10), || processes::in_directory(&data).is_empty()) {
        for pid in processes::in_directory(&data) {
            processes::kill(pid)?;
        }
    }
    if let Ok(sockets) = fs::read_to_string(directory.join("sockets")) {
        remove_dir(Path::new(&sockets))?;
    }
    remove_dir(directory)
}
