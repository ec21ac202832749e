//! What a bare Debian with a Rust toolchain still lacks.

use std::io::IsTerminal;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub why: &'static str,
}

fn package(name: impl Into<String>, why: &'static str) -> Package {
    Package { name: name.into(), why }
}

/// To build the extension and to run clusters.
pub fn to_build_and_run(major: u16) -> Vec<Package> {
    vec![
        package("gcc", "links Rust programs"),
        package("libc6-dev", "links Rust programs"),
        package(
            format!("postgresql-{major}"),
            "the server that throwaway clusters are copied from",
        ),
        package(format!("postgresql-server-dev-{major}"), "the server's headers"),
        package("clang", "reads the server's headers"),
        package("libclang-dev", "reads the server's headers"),
    ]
}

/// To play the demonstration.
pub fn to_demonstrate() -> Package {
    package("curl", "shows the other side of the demonstration")
}

/// To check the install script.
pub fn to_scan() -> Package {
    package("python3-venv", "runs pgspot, which checks the install script")
}

/// To hold the local org against clients that others wrote.
pub fn to_run_foreign_clients() -> Vec<Package> {
    let mut needed = vec![package("python3-venv", "runs simple-salesforce against the local org")];
    // Node.js also comes from elsewhere than Debian, in packages that exclude Debian's npm.
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("node") || !there("npm") {
        needed.push(package("nodejs", "runs jsforce against the local org"));
        needed.push(package("npm", "installs jsforce"));
    }
    needed
}

/// To count instructions.
pub fn to_count_instructions() -> Package {
    package("valgrind", "counts instructions")
}

pub fn missing(needed: &[Package]) -> Result<Vec<Package>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(needed.iter().map(|package| &package.name))
        .output();
    let output = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!(
                "this machine has no dpkg-query, so it is not a Debian; install what these packages hold: {}",
                names(needed).join(" ")
            )
        }
        Err(error) => return Err(error).context("running dpkg-query"),
    };
    let installed: Vec<&str> =
        output.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(needed
        .iter()
        .filter(|package| !installed.contains(&package.name.as_str()))
        .cloned()
        .collect())
}

fn names(packages: &[Package]) -> Vec<&str> {
    packages.iter().map(|package| package.name.as_str()).collect()
}

/// What a person would type.
pub fn install_command(packages: &[Package]) -> String {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    format!(
        "{sudo}apt-get update && {sudo}apt-get install --yes --no-install-recommends {}",
        names(packages).join(" ")
    )
}

/// Installs what is missing, or fails with the command to type where `install` is false.
pub fn ensure(needed: &[Package], install: bool) -> Result<()> {
    let missing = missing(needed)?;
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        eprintln!("      missing: {} ({})", package.name, package.why);
    }
    if !install {
        bail!(
            "Debian packages are missing; to install them, type:\n  {}",
            install_command(&missing)
        );
    }
    if !rustix::process::geteuid().is_root() && !Path::new("/usr/bin/sudo").exists() {
        bail!(
            "Debian packages are missing, and installing them needs root, but there is no sudo; as root, type:\n  {}",
            install_command(&missing).replace("sudo ", "")
        );
    }
    apt_get(&["update", "--quiet=2"])?;
    let mut arguments = vec![
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        "-oDpkg::Options::=--force-confold",
    ];
    arguments.extend(names(&missing));
    apt_get(&arguments)?;
    let still = self::missing(&missing)?;
    if !still.is_empty() {
        bail!(
            "apt-get succeeded, but these packages are still missing: {}",
            names(&still).join(" ")
        );
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        // Where nobody could type a password, fail instead of waiting for one.
        if !std::io::stdin().is_terminal() {
            sudo.arg("--non-interactive");
        }
        sudo.arg("env");
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    let status =
        command.stdin(std::process::Stdio::inherit()).status().context("running apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed with {status}", arguments.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_does_not_exist_is_missing_and_named_in_the_command() {
        let needed =
            [package("dpkg", "always there"), package("sync-ext-no-such-package", "never there")];
        let missing = missing(&needed).unwrap();
        assert_eq!(names(&missing), ["sync-ext-no-such-package"]);
        assert!(
            install_command(&missing)
                .ends_with("install --yes --no-install-recommends sync-ext-no-such-package")
        );
        let refusal = ensure(&needed, false).unwrap_err().to_string();
        assert!(refusal.contains("apt-get install"), "{refusal}");
    }
}
