//! `local-org`: a stand-in for a Salesforce org, until it is told to end.

use anyhow::{Context, bail};
use local_org::{LocalOrg, Options};
use std::io::Write;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: local-org [--port N] [--client-id ID] [--client-secret SECRET] [--events-port N] [--change-events OBJECT,…] [--until-stdin-closes]";

fn main() -> anyhow::Result<()> {
    let mut options = Options::default();
    let mut until_stdin_closes = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--port" => options.port = value()?.parse().context("--port needs a number")?,
            "--client-id" => options.client_id = value()?,
            "--client-secret" => options.client_secret = value()?,
            "--events-port" => {
                options.events_port = value()?.parse().context("--events-port needs a number")?;
            }
            "--change-events" => {
                options.change_events = value()?.split(',').map(str::to_owned).collect();
            }
            "--until-stdin-closes" => until_stdin_closes = true,
            "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            other => bail!("unknown argument {other}\n{USAGE}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the line that says it is ready, so that a signal that follows it is heeded.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let org = LocalOrg::start(options)?;
        println!("{}", org.url());
        println!("http://{}", org.events_address());
        std::io::stdout().flush()?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stdin_closes(), if until_stdin_closes => {}
        }
        drop(org);
        // A read of standard input that is under way would hold the end up.
        std::process::exit(0)
    })
}

async fn stdin_closes() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 256];
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
