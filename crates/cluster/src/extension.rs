use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::server::Server;
use crate::workspace::{Workspace, cargo};

const DEFAULT_MAJOR: u16 = 15;

/// The PostgreSQL major to work with: `SYNC_EXT_PG_MAJOR`, or 15.
pub fn major_from_environment() -> Result<u16> {
    match std::env::var("SYNC_EXT_PG_MAJOR") {
        Ok(major) => major.parse().context("SYNC_EXT_PG_MAJOR is not a major version"),
        Err(_) => Ok(DEFAULT_MAJOR),
    }
}

/// The program that tells pgrx where the server's headers are.
pub fn pg_config(major: u16) -> PathBuf {
    PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/pg_config"))
}

/// Builds the extension for one PostgreSQL major with cargo's own output, and returns its library.
pub fn build_extension(major: u16, release: bool) -> Result<PathBuf> {
    let workspace = Workspace::locate()?;
    let mut command = cargo();
    command
        .args(["build", "--package", "sync_ext"])
        .current_dir(&workspace.root)
        .env("PGRX_PG_CONFIG_PATH", pg_config(major));
    // What cargo tells us of our own package is not for other packages: build scripts that look at it would run
    // again, and all that depends on them, whenever another of our programs builds.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    if release {
        command.arg("--release");
    }
    if major != DEFAULT_MAJOR {
        command.args(["--no-default-features", "--features", &format!("pg{major}")]);
    }
    let status = command.stdin(Stdio::null()).status().context("running cargo build")?;
    if !status.success() {
        bail!("building the extension failed");
    }
    let library =
        workspace.target.join(if release { "release" } else { "debug" }).join("libsync_ext.so");
    if !library.exists() {
        bail!("cargo build succeeded, but {} is not there", library.display());
    }
    Ok(library)
}

/// A server tree with the extension of this moment in it, made once a process.
pub fn prepared_server() -> Result<&'static Server> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    SERVER
        .get_or_init(|| {
            let prepare = || -> Result<Server> {
                let major = major_from_environment()?;
                let library = build_extension(major, true)?;
                let server = Server::prepare(major)?;
                server.install_extension(&library)?;
                Ok(server)
            };
            prepare().map_err(|error| format!("{error:#}"))
        })
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}
