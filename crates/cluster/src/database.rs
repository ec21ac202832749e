use postgres::Client;

use crate::cluster::Cluster;

/// A database, dropped at the end.
#[derive(Debug)]
pub struct Db<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) name: String,
}

impl Db<'_> {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cluster(&self) -> &Cluster {
        self.cluster
    }

    /// A connection as the superuser.
    #[track_caller]
    pub fn connect(&self) -> Client {
        self.connect_as("postgres")
    }

    #[track_caller]
    pub fn connect_as(&self, role: &str) -> Client {
        match self.cluster.connect_as(&self.name, role) {
            Ok(client) => client,
            Err(error) => {
                panic!("{error:#}\nthe end of the server's log:\n{}", self.cluster.log_tail(20))
            }
        }
    }

    /// Waits for a condition instead of sleeping; panics with `what` and the end of the server's log.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        self.cluster.wait_until(what, condition);
    }
}

impl Drop for Db<'_> {
    fn drop(&mut self) {
        // The test may have dropped it, or stopped the server.
        if let Ok(mut client) = self.cluster.connect("postgres") {
            let _ = client.batch_execute(&format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                quoted(&self.name)
            ));
        }
    }
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
