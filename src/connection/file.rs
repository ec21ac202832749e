//! Secrets in files. They are read with the rights of the database server, so they lie below one
//! directory that only its configuration names, and belong to nobody else.

use crate::settings;
use crate::worker::transaction::{Failure, refuse};
use connector::Secret;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// No secret is larger; a private key of a few thousand bits takes 4 kB.
const LARGEST: u64 = 64 * 1024;

/// Reads the secret in the file of this name below the secret directory.
///
/// # Errors
/// Why it is not read; never with anything of its content.
pub(super) fn read(name: &str) -> Result<Secret, Failure> {
    let path = place(name)?;
    let bad = |why: &str, hint: &str| Err(unreadable(name, why, hint));
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .and_then(|file| Ok((file.metadata()?, file)));
    let (about, file) = match opened {
        Ok(both) => both,
        Err(error) => return bad(&format!("{}.", reason(&error)), ""),
    };
    if !about.is_file() {
        return bad("It is no ordinary file.", "");
    }
    // SAFETY: the user of this process.
    if about.uid() != unsafe { libc::geteuid() } {
        return bad(
            "It does not belong to the operating system's user of the database server.",
            "Change its owner with chown.",
        );
    }
    if about.mode() & 0o077 != 0 {
        return bad("Its group or others may read or write it.", "Run chmod 600 on it.");
    }
    if about.len() > LARGEST {
        return bad("It is too large for a secret.", "");
    }
    let mut text = String::new();
    if let Err(error) = file.take(LARGEST).read_to_string(&mut text) {
        return bad(&format!("{}.", reason(&error)), "");
    }
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.trim().is_empty() {
        return bad("It is empty.", "");
    }
    let secret = Secret::new(secret.to_owned());
    drop(Secret::new(text));
    Ok(secret)
}

/// Changes when the file does; constant where there is none.
pub(super) fn fingerprint(name: &str) -> (u64, i64, i64, u64) {
    place(name)
        .ok()
        .and_then(|path| fs::metadata(path).ok())
        .map_or((0, 0, 0, 0), |m| (m.ino(), m.mtime(), m.mtime_nsec(), m.len()))
}

/// Where the file lies, every link on the way followed and still below the directory.
fn place(name: &str) -> Result<PathBuf, Failure> {
    let setting = settings::SECRET_DIRECTORY.get().unwrap_or_default();
    let directory = Path::new(std::ffi::OsStr::from_bytes(setting.to_bytes()));
    if directory.as_os_str().is_empty() {
        return Err(unreadable(
            name,
            "sync_ext.secret_directory is not set, so secrets are read from no file.",
            "Set it in postgresql.conf to an absolute path and restart the server.",
        ));
    }
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain || name.contains('\0') {
        return Err(unreadable(
            name,
            "A file of secrets is named by its path below sync_ext.secret_directory.",
            "Leave out the directory and all \"..\".",
        ));
    }
    let real = |path: &Path| {
        path.canonicalize().map_err(|error| unreadable(name, &format!("{}.", reason(&error)), ""))
    };
    if !directory.is_absolute() {
        return Err(unreadable(name, "sync_ext.secret_directory is no absolute path.", ""));
    }
    let directory = real(directory)?;
    let path = real(&directory.join(name))?;
    if !path.starts_with(&directory) {
        return Err(unreadable(name, "A link leads out of sync_ext.secret_directory.", ""));
    }
    Ok(path)
}

fn unreadable(name: &str, why: &str, hint: &str) -> Failure {
    refuse("58P01", format!("the file \"{name}\" of secrets cannot be read"), why, hint)
}

fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "There is no such file".to_owned(),
        ErrorKind::PermissionDenied => {
            "The operating system's user of the database server may not read it".to_owned()
        }
        ErrorKind::InvalidData => "It is not text in UTF-8".to_owned(),
        kind => format!("The operating system says: {kind}"),
    }
}
