//! The environments in which foreign clients run, and how a script of theirs is run against an org.

use local_org::{LocalOrg, Options};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest that a script takes, in seconds, before it counts as hanging.
const PATIENCE: &str = "300";

/// How one language keeps its packages.
pub(crate) struct Language {
    /// The folder of its scripts, beside this file.
    folder: &'static str,
    /// Programs without which nothing can be installed.
    needs: &'static [&'static str],
    /// The files that pin versions; another text makes another environment.
    pins: &'static [&'static str],
    install: fn(&Path) -> Vec<Command>,
    /// What runs scripts, below the environment or on the PATH.
    program: &'static str,
    /// Scripts find their packages only beside themselves.
    copied: bool,
}

pub(crate) const PYTHON: Language = Language {
    folder: "python",
    needs: &["/usr/bin/python3"],
    pins: &["requirements.txt"],
    install: |environment| {
        // Debian's own, which the package python3-venv belongs to.
        let mut venv = Command::new("/usr/bin/python3");
        venv.args(["-m", "venv", "--clear", "venv"]);
        let mut pip = Command::new(environment.join("venv/bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--requirement", "requirements.txt"]);
        vec![venv, pip]
    },
    program: "venv/bin/python",
    copied: false,
};

pub(crate) const NODE: Language = Language {
    folder: "node",
    needs: &["node", "npm"],
    pins: &["package.json", "package-lock.json", ".npmrc"],
    install: |_| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        vec![npm]
    },
    program: "node",
    copied: true,
};

/// Runs a script against an org of its own; panics with all that it printed where it fails.
pub(crate) fn run(language: &Language, script: &str) {
    run_with(language, script, Options::default(), &[]);
}

/// The same against an org that was started in a certain way, and with more in the script's environment.
pub(crate) fn run_with(
    language: &Language,
    script: &str,
    options: Options,
    more: &[(&str, String)],
) {
    let Some(environment) = environment(language) else { return };
    let (password, token) = (options.password.clone(), options.security_token.clone());
    let org = LocalOrg::start(options).expect("the org starts");
    let sources = sources(language);
    let scripts = if language.copied { &environment } else { &sources };
    let below = environment.join(language.program);
    let program = if below.exists() { below } else { PathBuf::from(language.program) };
    let output = Command::new("timeout")
        .arg(PATIENCE)
        .arg(program)
        .arg(scripts.join(script))
        .current_dir(&environment)
        .env("ORG_URL", org.url())
        .env("ORG_CLIENT_ID", org.client_id())
        .env("ORG_CLIENT_SECRET", org.client_secret())
        .env("ORG_PASSWORD", password)
        .env("ORG_SECURITY_TOKEN", token)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(more.iter().map(|(name, value)| (*name, value.as_str())))
        .output()
        .expect("the script is started");
    let printed = String::from_utf8_lossy(&output.stdout);
    let closing = printed.lines().last().unwrap_or_default();
    assert!(
        output.status.success() && closing.starts_with(&format!("{script} passed")),
        "{script} ended with {}\n{printed}{}\nnot served: {:?}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        org.unserved(),
    );
    // What a client asks for and does not get would be a gap that its script does not notice.
    assert!(org.unserved().is_empty(), "{script} asked for more: {:?}", org.unserved());
}

fn sources(language: &Language) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(language.folder)
}

/// The folder in which the language's packages are installed; nothing where they can't be.
fn environment(language: &Language) -> Option<PathBuf> {
    let missing = |program: &&&str| Command::new(program).arg("--version").output().is_err();
    if let Some(program) = language.needs.iter().find(missing) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test");
        // The suite counts and lists what begins so.
        let _ = writeln!(std::io::stdout(), "left out: {name}: there is no {program}");
        return None;
    }
    let sources = sources(language);
    let read = |name: &str| fs::read_to_string(sources.join(name)).expect("a readable pin");
    let mut hasher = DefaultHasher::new();
    language.pins.iter().map(|pin| read(pin)).collect::<Vec<_>>().hash(&mut hasher);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let home = target.join("sync_ext/foreign");
    let folder = home.join(format!("{}-{:016x}", language.folder, hasher.finish()));
    fs::create_dir_all(&home).expect("a folder for foreign clients");
    // Tests of other processes wait for the first that installs.
    let lock = File::create(home.join(format!("{}.lock", language.folder))).expect("a lock");
    lock.lock().expect("the lock is had");
    let ready = folder.join("ready");
    if !ready.exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder for the packages");
        for pin in language.pins {
            fs::copy(sources.join(pin), folder.join(pin)).expect("a pin is copied");
        }
        for mut command in (language.install)(&folder) {
            let output = command.current_dir(&folder).output().expect("the installer is started");
            assert!(
                output.status.success(),
                "{command:?} failed with {}\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        File::create(&ready).expect("the environment is marked as ready");
    }
    if language.copied {
        for entry in fs::read_dir(&sources).expect("the scripts").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "mjs") {
                fs::copy(entry.path(), folder.join(entry.file_name())).expect("a script is copied");
            }
        }
    }
    Some(folder)
}
