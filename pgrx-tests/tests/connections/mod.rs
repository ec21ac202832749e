//! Connections to other systems: their settings, their secrets, and looking at the other side.

mod defining;
mod dumps;
mod files;
mod logins;
mod looking;
mod planted;
mod rights;
mod secrets;

use cluster::postgres::Client;
use cluster::{Cluster, Options, prepared_server};
use local_org::LocalOrg;
use pgrx_tests::run;

/// An org, and a cluster of its own that may reach it. Its database postgres has the extension.
pub(crate) fn with_org(options: local_org::Options, conf: &[&str]) -> (LocalOrg, Cluster) {
    let org = LocalOrg::start(options).unwrap();
    let place = org.url().trim_start_matches("http://").to_owned();
    let mut options = Options::new("org").conf(&format!(
        "sync_ext.allowed_hosts = '{place}, {}, *.my.salesforce.com'",
        org.events_address()
    ));
    for line in conf {
        options = options.conf(line);
    }
    let cluster = Cluster::start_new(prepared_server().unwrap(), options).unwrap();
    run(&mut cluster.connect("postgres").unwrap(), "CREATE EXTENSION sync_ext");
    (org, cluster)
}

/// A connection `crm` to the org, without its secrets.
pub(crate) fn create_crm(client: &mut Client, url: &str) {
    run(
        client,
        &format!(
            r#"SELECT sync.create_connection('crm', '{{"type": "salesforce", "credentials": {{"auth_type": "oauth2", "instance_url": "{url}"}}}}')"#
        ),
    );
}

/// The same with the secrets that the org accepts.
pub(crate) fn connect_crm(client: &mut Client, org: &LocalOrg) {
    create_crm(client, org.url());
    run(
        client,
        &format!(
            "SELECT sync.set_secret('crm', client_id => '{}', client_secret => '{}')",
            org.client_id(),
            org.client_secret()
        ),
    );
}

const MY_DOMAIN: &str = "https://acme.my.salesforce.com";
