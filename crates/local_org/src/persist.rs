//! An org that outlives its program: everything that clients rely on, in one file.
//!
//! The file is replaced as a whole, so it is never half of one state and half of another. It has a line that tells
//! what it is, with the SHA-256 of the rest, and behind it the state in JSON. Sessions, bulk jobs, query cursors,
//! faults and what waits to be committed end with the program.

use crate::duplicates::DuplicateRule;
use crate::events::Kept;
use crate::moment::Millis;
use crate::org::{Org, Purged};
use crate::rules::Rule;
use crate::schema::Object;
use crate::serve::Shared;
use crate::session::{App, Grant};
use crate::table::{Row, Table};
use anyhow::{Context, bail, ensure};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the first line of a file begins with.
const MARK: &str = "local-org state 1 ";

/// How long changes wait for being saved.
const PAUSE: Duration = Duration::from_secs(2);

/// Numbers that are left out behind those that were saved, where more may have been given out until the end came.
const SKIPPED: u64 = 1 << 20;

/// All that is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State<'a> {
    /// Saved by an org that had stopped: nothing came after it.
    complete: bool,
    clock: Millis,
    skew: Millis,
    schema_changed: Millis,
    objects: Cow<'a, [Object]>,
    tables: BTreeMap<Cow<'a, str>, Records<'a>>,
    purged: Cow<'a, [Purged]>,
    used: u64,
    day_began: Millis,
    apps: Cow<'a, BTreeMap<String, App>>,
    grants: Cow<'a, BTreeMap<String, Grant>>,
    rotating: bool,
    tokens: u64,
    cursors: u64,
    jobs: u64,
    rules: Cow<'a, [Rule]>,
    duplicate_rules: Cow<'a, [DuplicateRule]>,
    events: Kept,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Records<'a> {
    last_number: u64,
    last_serial: u64,
    rows: Vec<Cow<'a, Row>>,
}

impl Org {
    /// Moves with everything that is kept, so that what did not change need not be saved.
    fn version(&self) -> (u64, u64) {
        (self.changes, self.sessions.issued)
    }

    fn save(&self, complete: bool) -> anyhow::Result<Vec<u8>> {
        fn records(table: &Table) -> Records<'_> {
            let rows = table.rows().map(Cow::Borrowed).collect();
            Records { last_number: table.last_number, last_serial: table.last_serial, rows }
        }
        let tables = self.tables.iter();
        let state = State {
            complete,
            clock: self.clock.last(),
            skew: self.clock.skew(),
            schema_changed: self.schema_changed,
            objects: Cow::Borrowed(&self.objects),
            tables: tables.map(|(name, t)| (Cow::Borrowed(name.as_str()), records(t))).collect(),
            purged: Cow::Borrowed(&self.purged),
            used: self.used,
            day_began: self.day_began,
            apps: Cow::Borrowed(&self.sessions.apps),
            grants: Cow::Borrowed(&self.sessions.grants),
            rotating: self.sessions.rotating,
            tokens: self.sessions.issued,
            cursors: self.cursors.last,
            jobs: self.jobs.last,
            rules: Cow::Borrowed(&self.rules),
            duplicate_rules: Cow::Borrowed(&self.duplicate_rules),
            events: self.events.keep(),
        };
        Ok(serde_json::to_vec(&state)?)
    }

    /// Becomes what was saved. What shapes a new org alone, its objects for one, is no longer asked for; the client
    /// that it was started with can log in whatever the saved ones are.
    fn load(&mut self, state: State<'static>) {
        // Ids that somebody may have seen are not given to others.
        let skipped = if state.complete { 0 } else { SKIPPED };
        self.clock.go_on_from(state.clock, state.skew);
        self.schema_changed = state.schema_changed;
        self.objects = state.objects.into_owned();
        for object in &mut self.objects {
            object.complete();
        }
        self.rules = state.rules.into_owned();
        self.duplicate_rules = state.duplicate_rules.into_owned();
        self.tables.clear();
        for (name, records) in state.tables {
            let mut table = Table::default();
            table.last_number = records.last_number + skipped;
            table.last_serial = records.last_serial;
            for row in records.rows {
                let row = row.into_owned();
                table.replace(&row.id.clone(), Some(row));
            }
            self.tables.insert(name.into_owned(), table);
        }
        let names: Vec<String> = self.objects.iter().map(|o| o.name.clone()).collect();
        for name in names {
            self.index(&name);
        }
        self.stale.watch(&self.objects);
        self.purged = state.purged.into_owned();
        (self.used, self.day_began) = (state.used, state.day_began);
        let apps = state.apps.into_owned().into_iter();
        let new = apps.filter(|(client, _)| !self.sessions.apps.contains_key(client));
        let new: Vec<(String, App)> = new.collect();
        self.sessions.apps.extend(new);
        self.sessions.grants = state.grants.into_owned();
        self.sessions.rotating = state.rotating;
        self.sessions.issued = state.tokens + SKIPPED;
        self.cursors.last = state.cursors + SKIPPED;
        self.jobs.last = state.jobs + skipped;
        self.events.go_on(state.events, state.complete);
    }
}

/// Saves an org as long as it lives.
pub(crate) struct Saver {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Saver {
    /// The last state, once nobody changes it any more.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        // It listens until it is told.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_else(|_| bail!("the thread that saves the org panicked"))
    }
}

/// The file of an org, which no other org has at the same time.
pub(crate) struct Store {
    path: PathBuf,
    _lock: File,
}

impl Store {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let beside = beside(path, ".lock");
        let lock =
            File::create(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
        lock.try_lock().with_context(|| format!("another org uses {}", path.display()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Has the org be what the file says, if there is one, and writes it anew: whatever happens from now on, the file
    /// is not that of an org that had stopped.
    pub(crate) fn load(&self, org: &mut Org) -> anyhow::Result<()> {
        let path = self.path.display();
        match fs::read(&self.path) {
            Ok(bytes) => {
                let state = decode(&bytes)
                    .with_context(|| format!("{path} can't be taken for the state of an org"))?;
                org.load(state);
                org.empty_old_bin();
                org.commit();
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        }
        self.write(&org.save(false)?)
    }

    /// All or nothing, also where the machine ends in the middle.
    fn write(&self, state: &[u8]) -> anyhow::Result<()> {
        let new = beside(&self.path, ".new");
        let replace = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            // Secrets of clients are in it.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&new)?;
            writeln!(file, "{MARK}{}", hash(state))?;
            file.write_all(state)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        replace().with_context(|| format!("cannot save the org to {}", self.path.display()))
    }

    /// Saves the org now and then, where it changed.
    pub(crate) fn follow(self, shared: Shared) -> anyhow::Result<Saver> {
        let (stop, stopped) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("local org saver".into()).spawn(move || {
                let mut saved = None;
                let mut pause = PAUSE;
                loop {
                    let last =
                        !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout));
                    let begun = Instant::now();
                    let (version, state) = {
                        let org = shared.lock();
                        let version = org.version();
                        if !last && saved == Some(version) {
                            continue;
                        }
                        (version, org.save(last)?)
                    };
                    match self.write(&state) {
                        Ok(()) => saved = Some(version),
                        Err(error) if last => return Err(error),
                        // It may be possible again the next time; the end tells if it is not.
                        Err(_) => {}
                    }
                    if last {
                        return Ok(());
                    }
                    // A large org is not saved most of the time.
                    pause = PAUSE.max(begun.elapsed() * 10);
                }
            })?;
        Ok(Saver { stop, thread })
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(bytes: &[u8]) -> anyhow::Result<State<'static>> {
    let rest = bytes.strip_prefix(MARK.as_bytes()).context("it does not begin like one")?;
    let end = rest.iter().position(|byte| *byte == b'\n').context("it ends in its first line")?;
    let (told, state) = (&rest[..end], &rest[end + 1..]);
    ensure!(told == hash(state).as_bytes(), "it is torn, or was changed");
    Ok(serde_json::from_slice(state)?)
}
