use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The account that server processes run under: PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Whoever runs us.
    Own,
    /// We are root; the server runs as the user `postgres`.
    Postgres { uid: u32, gid: u32 },
}

impl Account {
    pub fn for_server() -> Result<Account> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        for line in passwd.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let ["postgres", _, uid, gid, ..] = fields[..] {
                return Ok(Account::Postgres { uid: uid.parse()?, gid: gid.parse()? });
            }
        }
        bail!(
            "running as root, but there is no user postgres to run the server as (it comes with the package postgresql-common)"
        )
    }

    /// A command that runs under this account, away from folders that it might not reach.
    pub fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/");
        if let Account::Postgres { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Creates a directory that belongs to this account.
    pub fn create_dir(self, path: &Path, mode: u32) -> Result<()> {
        DirBuilder::new()
            .mode(mode)
            .create(path)
            .with_context(|| format!("creating {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        if let Account::Postgres { uid, gid } = self {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    fn reaches(self, path: &Path) -> bool {
        self.command("test")
            .arg("-x")
            .arg(path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Where the sources are, where cargo builds, and the folder below which everything of ours lives.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
    pub home: PathBuf,
    /// Set when `home` could not be below `target`; says why.
    pub note: Option<String>,
}

impl Workspace {
    pub fn locate() -> Result<Workspace> {
        let root = root()?;
        let metadata = cargo()
            .args(["metadata", "--format-version=1", "--no-deps"])
            .current_dir(&root)
            .stderr(Stdio::inherit())
            .output()
            .context("running cargo metadata")?;
        if !metadata.status.success() {
            bail!("cargo metadata failed in {}", root.display());
        }
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)?;
        let target = metadata["target_directory"]
            .as_str()
            .context("cargo metadata names no target_directory")?;
        let target = PathBuf::from(target);

        let account = Account::for_server()?;
        fs::create_dir_all(&target)?;
        let (home, note) = if account.reaches(&target) {
            (target.join("sync_ext"), None)
        } else {
            let mut hasher = DefaultHasher::new();
            root.hash(&mut hasher);
            let home = PathBuf::from(format!("/var/tmp/sync_ext-{:016x}", hasher.finish()));
            let note = format!(
                "user postgres, which runs the server, can't reach {}; using {} instead",
                target.display(),
                home.display()
            );
            (home, Some(note))
        };
        if !home.exists() {
            fs::create_dir_all(&home)?;
            fs::set_permissions(&home, fs::Permissions::from_mode(0o755))?;
        }
        check_owner(&home)?;
        Ok(Workspace { root, target, home, note })
    }

    /// Held while something below `home` that several processes share is being made.
    pub(crate) fn lock(&self) -> Result<File> {
        let lock = File::create(self.home.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }
}

/// The folder with the control file, at or above the package that cargo runs, or else the one we were built from: a
/// build directory may have come here as a copy.
fn root() -> Result<PathBuf> {
    let package = std::env::var("CARGO_MANIFEST_DIR");
    let package = package.as_deref().unwrap_or(env!("CARGO_MANIFEST_DIR"));
    Path::new(package)
        .ancestors()
        .find(|folder| folder.join("sync_ext.control").exists())
        .map(Path::to_path_buf)
        .with_context(|| format!("no sync_ext.control in or above {package}"))
}

/// /var/tmp is open to everybody: a folder there that somebody else prepared is not to be trusted.
fn check_owner(home: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(home)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        bail!("{} exists and belongs to somebody else", home.display());
    }
    Ok(())
}

/// Cargo, without what it tells programs that it runs about their own package: build scripts look at
/// that, and would run again for whoever starts the next build.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    let of_package = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end; its output becomes part of the error where it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("running {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} failed with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
