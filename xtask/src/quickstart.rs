use std::process::ExitCode;

use anyhow::Result;
use cluster::{Cluster, Options, Server, Stop, Workspace, packages};

use crate::Arguments;
use crate::demo;
use crate::org::{CLIENT_ID, CLIENT_SECRET, Org};
use crate::steps::Steps;

const CLUSTER: &str = "quickstart";
const DATABASE: &str = "demo";
/// The one that the document of the second part names.
const SALESFORCE_DATABASE: &str = "customer_data";
/// And the host. Nothing is sent there: the demonstration leads the connection to the local org.
const NAMED_HOST: &str = "yourinstance.salesforce.com";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let major = cluster::major_from_environment()?;
    if arguments.has("--stop") {
        let server = Server::prepare(major)?;
        Cluster::discard_kept(&server, CLUSTER)?;
        eprintln!("the cluster and its org are stopped and removed");
        return Ok(ExitCode::SUCCESS);
    }
    let keep = arguments.has("--keep");
    let mut steps = Steps::new(6);

    steps.run("Debian packages", || {
        let mut needed = packages::to_build_and_run(major);
        needed.push(packages::to_demonstrate());
        packages::ensure(&needed, !arguments.has("--no-install"))
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
    steps.run("building the local org, a stand-in for Salesforce", || {
        Org::build(&server.workspace)
    })?;
    let (mut cluster, org) = steps.run("starting a throwaway cluster and the org", || {
        let mut cluster = Cluster::create(server, Options::new(CLUSTER).keep(keep).fsync(true))?;
        let org = Org::start(&cluster, keep)?;
        cluster.set(&format!("sync_ext.allowed_hosts = '{}, {NAMED_HOST}'", org.places()))?;
        cluster.start()?;
        Ok((cluster, org))
    })?;
    let played = steps.run("the demonstration", || {
        cluster.psql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        let known = [
            ("ORG", org.url()),
            ("EVENTS", org.events()),
            ("CLIENT_ID", CLIENT_ID),
            ("CLIENT_SECRET", CLIENT_SECRET),
        ];
        demo::play(&cluster, DATABASE, &known, &server.workspace.root.join("xtask/demo"))
    });
    if !keep || played.is_err() {
        if played.is_err() {
            eprintln!("\nthe end of the server's log:\n{}", cluster.log_tail(20));
        }
        cluster.stop(Stop::Fast)?;
        played?;
        println!(
            "\nThe cluster and the org are gone. `cargo quickstart --keep` leaves them running for you to look around."
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nThe cluster and the org are running. To connect:");
    for database in [DATABASE, SALESFORCE_DATABASE] {
        println!(
            "  {} -h {} -U postgres {database}",
            server.program("psql").display(),
            cluster.sockets().display()
        );
    }
    println!("To see the org's accounts, and to add one:");
    println!("  curl -s {}/control/records/Account", org.url());
    println!("  curl -s {}/control/records/Account -d '{{\"Name\": \"Mine\"}}'", org.url());
    println!("The server's log:\n  {}", cluster.log_file().display());
    println!("To stop and remove both:\n  cargo quickstart --stop");
    cluster.leave_running();
    org.leave_running();
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
