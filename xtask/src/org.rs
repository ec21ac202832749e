use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use cluster::{Cluster, Workspace};

use crate::steps::visibly;

/// What the local org lets in, as it stands in its own defaults.
pub(crate) const CLIENT_ID: &str = "local-org-client";
pub(crate) const CLIENT_SECRET: &str = "local-org-secret";

/// The stand-in for a Salesforce org, a process beside a cluster. It ends when the value is dropped.
pub(crate) struct Org {
    process: Child,
    url: String,
    events: String,
}

impl Org {
    pub(crate) fn build(workspace: &Workspace) -> Result<()> {
        visibly(
            Command::new(std::env::var("CARGO").as_deref().unwrap_or("cargo"))
                .args(["build", "--package", "local_org", "--bin", "local-org"])
                .current_dir(&workspace.root),
        )
    }

    /// Starts it on a free port. If it is to be kept it belongs to the cluster, and ends with it; else it ends when
    /// we do, however we end.
    pub(crate) fn start(cluster: &Cluster, keep: bool) -> Result<Org> {
        let program = cluster.server().workspace.target.join("debug/local-org");
        let log = cluster.directory().join("local-org.log");
        // A session of its own, as the server has: a Ctrl-C at the terminal is for us.
        let mut command = Command::new("setsid");
        command
            .arg(&program)
            .current_dir("/")
            .args(["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET])
            .args(["--change-events", "Account"])
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        if keep {
            command.stdin(Stdio::null());
        } else {
            command.arg("--until-stdin-closes").stdin(Stdio::piped());
        }
        let process = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let mut org = Org { process, url: String::new(), events: String::new() };
        if keep {
            cluster.adopt(org.process.id())?;
        }
        let output = org.process.stdout.take().context("the local org has no output")?;
        let mut output = BufReader::new(output);
        for line in [&mut org.url, &mut org.events] {
            output.read_line(line)?;
            line.truncate(line.trim_end().len());
        }
        if org.events.is_empty() {
            bail!("the local org did not start: {}", std::fs::read_to_string(&log)?);
        }
        Ok(org)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where it tells of changes.
    pub(crate) fn events(&self) -> &str {
        &self.events
    }

    /// Hosts and ports, as `sync_ext.allowed_hosts` wants them.
    pub(crate) fn places(&self) -> String {
        [&self.url, &self.events].map(|url| url.trim_start_matches("http://")).join(", ")
    }

    /// Leaves it to the cluster that adopted it.
    pub(crate) fn leave_running(self) {
        std::mem::forget(self);
    }
}

impl Drop for Org {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
