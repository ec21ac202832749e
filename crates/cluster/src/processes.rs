//! Processes of a cluster, found by the data directory that they run in, and what they cost.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Every server process works in its data directory, also when its postmaster is gone.
pub fn in_directory(directory: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory))
        .collect()
}

pub fn is_alive(pid: i32) -> bool {
    // A zombie has ended; only its parent has not looked yet.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !after_name(&stat).is_some_and(|rest| rest.starts_with('Z')))
}

/// The start time tells a process from a later one with the same id.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    after_name(&stat)?.split(' ').nth(19)?.parse().ok()
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("not a process id")?;
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("sending a signal"),
    }
}

/// `kill -9`.
pub fn kill(pid: i32) -> Result<()> {
    signal(pid, Signal::KILL)
}

/// Memory that is the process's own: neither files nor shared buffers. In bytes.
pub fn anonymous_memory(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("no RssAnon in /proc/PID/status")?
        .parse()?;
    Ok(kilobytes * 1024)
}

/// Processor time used so far, to the clock tick of 10 ms.
pub fn processor_time(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        after_name(&stat).context("unreadable /proc/PID/stat")?.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The name, in parentheses, may itself hold blanks and parentheses.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(')').map(|(_, rest)| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_alive_and_has_a_cost() {
        let pid = std::process::id() as i32;
        assert!(is_alive(pid));
        assert!(start_time(pid).is_some());
        assert!(anonymous_memory(pid).unwrap() > 0);
        assert!(processor_time(pid).unwrap() < Duration::from_secs(3600));
        assert!(in_directory(&std::env::current_dir().unwrap()).contains(&pid));
    }
}
