use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::Cluster;
use crate::database::Db;
use crate::extension::prepared_server;
use crate::options::Options;

/// The one cluster that all tests of a process share, with the extension of this moment. It is started by the first
/// test that asks and ends with the process.
pub struct Shared;

impl Shared {
    #[track_caller]
    pub fn cluster() -> &'static Cluster {
        static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| {
            let start = || {
                let options = Options::new("shared")
                    .conf("max_worker_processes = 64")
                    .conf("max_connections = 200")
                    .conf("max_prepared_transactions = 20");
                Cluster::start_new(prepared_server()?, options)
            };
            start().map_err(|error: anyhow::Error| format!("{error:#}"))
        });
        match cluster {
            Ok(cluster) => cluster,
            Err(error) => panic!("{error}"),
        }
    }

    /// A fresh, empty database, dropped at the end.
    #[track_caller]
    pub fn database() -> Db<'static> {
        static COUNTER: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        match Shared::cluster().database(&name) {
            Ok(database) => database,
            Err(error) => panic!("{error:#}"),
        }
    }
}
