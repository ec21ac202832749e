use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::{Account, Workspace, run};

/// A copy of an installed PostgreSQL below our own folder. A server finds its files relative to its own program, so a
/// copy with the same layout is complete, and we can install into it without touching /usr.
#[derive(Debug)]
pub struct Server {
    pub major: u16,
    pub workspace: Workspace,
    pub account: Account,
    bin: PathBuf,
    library_dir: PathBuf,
    share_dir: PathBuf,
}

impl Server {
    /// Copies the tree where there is none yet, or an outdated one. Without the extension.
    pub fn prepare(major: u16) -> Result<Server> {
        let workspace = Workspace::locate()?;
        let account = Account::for_server()?;
        let tree = workspace.home.join(format!("server-{major}"));
        let server = Server {
            major,
            account,
            bin: tree.join(format!("lib/postgresql/{major}/bin")),
            library_dir: tree.join(format!("lib/postgresql/{major}/lib")),
            share_dir: tree.join(format!("share/postgresql/{major}")),
            workspace,
        };
        let _lock = server.workspace.lock()?;
        let stamp = server.stamp()?;
        let stamp_file = tree.join("copied-from");
        if fs::read_to_string(&stamp_file).ok().as_deref() != Some(&stamp) {
            server.copy_tree(&tree)?;
            fs::write(&stamp_file, &stamp)?;
        }
        server.check_relocation()?;
        crate::cluster::remove_stale(&server)?;
        Ok(server)
    }

    /// Changes whenever the installed server does.
    fn stamp(&self) -> Result<String> {
        let major = self.major;
        let sources = [
            format!("/usr/lib/postgresql/{major}/bin/postgres"),
            format!("/usr/lib/postgresql/{major}/lib"),
            format!("/usr/share/postgresql/{major}/extension"),
        ];
        let mut stamp = String::new();
        for source in &sources {
            let metadata = fs::metadata(source).with_context(|| {
                format!(
                    "{source}: PostgreSQL {major} is not installed (package postgresql-{major})"
                )
            })?;
            stamp += &format!("{source} {}.{}\n", metadata.mtime(), metadata.mtime_nsec());
        }
        Ok(stamp)
    }

    fn copy_tree(&self, tree: &Path) -> Result<()> {
        let major = self.major;
        let fresh = tree.with_extension("new");
        remove_dir(&fresh)?;
        for part in ["lib", "share"] {
            let into = fresh.join(part).join("postgresql");
            fs::create_dir_all(&into)?;
            run(Command::new("cp")
                .arg("-a")
                .arg(format!("/usr/{part}/postgresql/{major}"))
                .arg(&into))?;
        }
        open_to_all(&fresh)?;
        let old = tree.with_extension("old");
        remove_dir(&old)?;
        if tree.exists() {
            fs::rename(tree, &old)?;
        }
        fs::rename(&fresh, tree)?;
        remove_dir(&old)
    }

    fn check_relocation(&self) -> Result<()> {
        let found =
            run(Command::new(self.program("pg_config")).args(["--pkglibdir", "--sharedir"]))?;
        let expected = format!("{}\n{}\n", self.library_dir.display(), self.share_dir.display());
        if found != expected {
            bail!(
                "the copied server looks for its files in the wrong place:\n{found}instead of\n{expected}"
            );
        }
        Ok(())
    }

    /// Puts library, control file and scripts into the tree. A running server keeps the library that it has mapped:
    /// files are replaced, never written into.
    pub fn install_extension(&self, library: &Path) -> Result<()> {
        let _lock = self.workspace.lock()?;
        let root = &self.workspace.root;
        replace(library, &self.library_dir.join("sync_ext.so"))?;
        let extensions = self.share_dir.join("extension");
        for entry in fs::read_dir(&extensions)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("sync_ext--") && !root.join("sql").join(&name).exists() {
                fs::remove_file(entry.path())?;
            }
        }
        replace(&root.join("sync_ext.control"), &extensions.join("sync_ext.control"))?;
        for entry in fs::read_dir(root.join("sql"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("sync_ext--") && name.ends_with(".sql") {
                replace(&entry.path(), &extensions.join(name))?;
            }
        }
        Ok(())
    }

    /// The path of one of the server's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// One of the server's programs under the server's account, with an environment of its own.
    pub fn command(&self, name: &str) -> Command {
        self.command_under(self.program(name))
    }

    /// Any program under the server's account. The environment is bare: what a developer has exported, above all
    /// RUST_BACKTRACE, costs time and memory and would change what is measured.
    pub fn command_under(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.account.command(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command
    }

    pub(crate) fn clusters(&self) -> Result<PathBuf> {
        let clusters = self.workspace.home.join("clusters");
        if !clusters.exists() {
            fs::create_dir_all(&clusters)?;
            fs::set_permissions(&clusters, fs::Permissions::from_mode(0o755))?;
        }
        Ok(clusters)
    }

    /// A data directory fresh from initdb, made once and then copied: initdb takes seconds, a copy a fraction.
    pub(crate) fn template(&self) -> Result<PathBuf> {
        let template = self.workspace.home.join(format!("template-{}", self.major));
        let stamp_file = self.workspace.home.join(format!("template-{}.made-by", self.major));
        let _lock = self.workspace.lock()?;
        let stamp = self.stamp()?;
        if template.exists() && fs::read_to_string(&stamp_file).ok().as_deref() == Some(&stamp) {
            return Ok(template);
        }
        remove_dir(&template)?;
        self.account.create_dir(&template, 0o700)?;
        run(self
            .command("initdb")
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--username=postgres",
            ])
            .arg("--pgdata")
            .arg(&template))?;
        fs::write(&stamp_file, &stamp)?;
        Ok(template)
    }
}

pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Our own folders, which a strict umask may have closed to the server's account.
fn open_to_all(tree: &Path) -> Result<()> {
    for path in ["", "lib", "share", "lib/postgresql", "share/postgresql"] {
        fs::set_permissions(tree.join(path), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh).with_context(|| format!("copying {}", from.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644))?;
    fs::rename(&fresh, to).with_context(|| format!("replacing {}", to.display()))
}
