use std::process::ExitCode;

use anyhow::Result;
use cluster::{Cluster, Options, Server, Stop, Workspace, packages};

use crate::Arguments;
use crate::demo;
use crate::steps::Steps;

const CLUSTER: &str = "quickstart";
const DATABASE: &str = "demo";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let major = cluster::major_from_environment()?;
    if arguments.has("--stop") {
        let server = Server::prepare(major)?;
        Cluster::discard_kept(&server, CLUSTER)?;
        eprintln!("the cluster is stopped and removed");
        return Ok(ExitCode::SUCCESS);
    }
    let keep = arguments.has("--keep");
    let mut steps = Steps::new(5);

    steps.run("Debian packages", || {
        packages::ensure(&packages::to_build_and_run(major), !arguments.has("--no-install"))
    })?;
    let library = steps.run(building()?, || cluster::build_extension(major, true))?;
    let server: &'static Server =
        steps.run("copying the server and installing sync_ext into the copy", || {
            let server = Server::prepare(major)?;
            server.install_extension(&library)?;
            if let Some(note) = &server.workspace.note {
                eprintln!("      {note}");
            }
            Ok(&*Box::leak(Box::new(server)))
        })?;
    let mut cluster = steps.run("starting a throwaway cluster", || {
        Cluster::start_new(server, Options::new(CLUSTER).keep(keep).fsync(true))
    })?;
    let played = steps.run("the demonstration", || {
        cluster.psql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        demo::play(&cluster, DATABASE, &server.workspace.root.join("xtask/demo"))
    });
    if !keep || played.is_err() {
        eprintln!("{}", if played.is_ok() { "" } else { "\nthe end of the server's log:" });
        if played.is_err() {
            eprintln!("{}", cluster.log_tail(20));
        }
        cluster.stop(Stop::Fast)?;
        played?;
        println!(
            "The cluster is gone. `cargo quickstart --keep` leaves it running for you to look around."
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nThe cluster is running. To connect:");
    println!(
        "  {} -h {} -U postgres {DATABASE}",
        server.program("psql").display(),
        cluster.sockets().display()
    );
    println!("Its log:\n  {}", cluster.log_file().display());
    println!("To stop and remove it:\n  cargo quickstart --stop");
    cluster.leave_running();
    Ok(ExitCode::SUCCESS)
}

/// What to announce before the build, whose first run takes its time.
pub(crate) fn building() -> Result<&'static str> {
    let built = Workspace::locate()?.target.join("release/libsync_ext.so").exists();
    Ok(if built {
        "building sync_ext"
    } else {
        "building sync_ext (this first time about 3 minutes)"
    })
}
