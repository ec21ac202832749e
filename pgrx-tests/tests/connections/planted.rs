//! A planted secret is looked for wherever somebody could look.

use super::{create_crm, with_org};
use cluster::postgres::{Client, NoTls};
use cluster::{Cluster, postgres};
use local_org::keys;
use pgrx_tests::{query_one, rows, run};

const PLANTED: &str = "hunter2-4711";

const LOUD: [&str; 8] = [
    "log_statement = 'all'",
    "log_min_duration_statement = 0",
    "log_min_error_statement = 'debug5'",
    "log_min_messages = 'debug1'",
    "log_parameter_max_length = -1",
    "log_parameter_max_length_on_error = -1",
    "log_error_verbosity = 'verbose'",
    "log_duration = on",
];

fn try_it(client: &mut Client, statement: &str) {
    let _ = client.batch_execute(statement);
}

/// All ways of handing a secret over, those that fail too.
fn plant(client: &mut Client, cluster: &Cluster) {
    for statement in [
        format!(
            "SELECT sync.set_secret('crm', client_id => 'id-{PLANTED}', client_secret => '{PLANTED}')"
        ),
        format!("SELECT sync.set_secret('wrong', client_secret => '{PLANTED}')"),
        format!("SELECT sync.set_secret('crm', client_secret => '{PLANTED}', nothing => 'x')"),
        format!("SELECT sync.set_secret('crm', client_secret => {})", "hunter2_4711"),
        format!("SELECT sync.set_secret('crm', client_secret => '{PLANTED}') FRMO x"),
        format!("SELECT sync.set_secret('crm' '{PLANTED}')"),
        format!("SELECT sync.set_secret('crm', client_secret => '{PLANTED}'), 1/0"),
        format!("SELECT sync.set_secret('crm', client_secret => E'{PLANTED}\\n')"),
        format!(
            "SELECT sync.set_secret('crm', client_secret => '{PLANTED}'); SELECT '{PLANTED}'::int"
        ),
        format!("DO $$ BEGIN PERFORM sync.set_secret('crm', client_secret => '{PLANTED}'); END $$"),
        format!(
            "DO $$ BEGIN PERFORM sync.set_secret('crm', client_secret => '{PLANTED}'); RAISE EXCEPTION 'x'; END $$"
        ),
        format!(
            "PREPARE p AS SELECT sync.set_secret('crm', client_secret => $1); EXECUTE p('{PLANTED}'); DEALLOCATE p"
        ),
        "PREPARE q AS SELECT sync.set_secret('crm', client_secret => $1 || repeat('x', 1/$2))"
            .to_owned(),
        format!("EXECUTE q('{PLANTED}', 1)"),
        format!("EXECUTE q('{PLANTED}', 0)"),
        format!(
            "CREATE USER MAPPING FOR CURRENT_USER SERVER crm OPTIONS (client_id 'a', client_secret '{PLANTED}')"
        ),
        format!(
            "ALTER USER MAPPING FOR sync_ext_secrets SERVER crm OPTIONS (SET client_secret '{PLANTED}', ADD nothing '{PLANTED}')"
        ),
        format!(
            r#"SELECT sync.create_connection('x', '{{"type": "salesforce", "credentials": {{"client_secret": "{PLANTED}"}}}}')"#
        ),
        format!(
            "CREATE SERVER x FOREIGN DATA WRAPPER sync_ext OPTIONS (client_secret '{PLANTED}')"
        ),
    ] {
        try_it(client, &statement);
    }
    plant_others(client);
    let call = "SELECT sync.set_secret($1, client_secret => $2)";
    let _ = client.query(call, &[&"crm", &PLANTED]);
    let _ = client.query(call, &[&"wrong", &PLANTED]);
    let _ = client
        .query("SELECT sync.set_secret('crm', client_secret => $1), 1/$2::int", &[&PLANTED, &0]);
    // Somebody without any right.
    let mut other = cluster.connect_as("postgres", "other").unwrap();
    try_it(&mut other, &format!("SELECT sync.set_secret('crm', client_secret => '{PLANTED}')"));
    let _ = other.query(call, &[&"crm", &PLANTED]);
}

/// The secrets of the other ways to log in.
fn plant_others(client: &mut Client) {
    for (name, auth_type) in [("jwt", "jwt"), ("token", "refresh_token"), ("pw", "password")] {
        try_it(
            client,
            &format!(
                r#"SELECT sync.create_connection('{name}', '{{"type": "salesforce", "credentials": {{"auth_type": "{auth_type}", "username": "u"}}}}')"#
            ),
        );
    }
    for statement in [
        format!("SELECT sync.set_secret('token', client_id => 'a', refresh_token => '{PLANTED}')"),
        format!("SELECT sync.set_secret('token', refresh_token => '{PLANTED}'), 1/0"),
        format!(
            "SELECT sync.set_secret('pw', client_id => 'a', client_secret => 'b', password => '{PLANTED}', security_token => '{PLANTED}')"
        ),
        format!("SELECT sync.set_secret('pw', password => '{PLANTED}', nothing => 'x')"),
        format!("SELECT sync.set_secret('jwt', private_key => '{PLANTED}')"),
        format!(
            "SELECT sync.set_secret('jwt', client_id => 'a', private_key => E'{}{PLANTED}')",
            keys::PRIVATE_KEY
        ),
        format!("SELECT sync.set_secret('jwt', private_key => '{PLANTED}', password => 'x')"),
        format!(
            "SELECT sync.set_secret('jwt', private_key_file => '{PLANTED}-no-file', password => '{PLANTED}')"
        ),
        format!(
            "ALTER USER MAPPING FOR sync_ext_secrets SERVER pw OPTIONS (SET password '{PLANTED}')"
        ),
        format!(
            "ALTER USER MAPPING FOR sync_ext_secrets SERVER token OPTIONS (SET refresh_token '{PLANTED}', ADD x '')"
        ),
        format!("CREATE SERVER x FOREIGN DATA WRAPPER sync_ext OPTIONS (private_key '{PLANTED}')"),
        format!(
            "CREATE SERVER x FOREIGN DATA WRAPPER sync_ext OPTIONS (security_token '{PLANTED}')"
        ),
        format!(
            r#"SELECT sync.create_connection('x', '{{"type": "salesforce", "credentials": {{"password": "{PLANTED}"}}}}')"#
        ),
        format!(
            r#"SELECT sync.alter_connection('pw', '{{"credentials": {{"refresh_token": "{PLANTED}"}}}}')"#
        ),
    ] {
        try_it(client, &statement);
    }
    let call = "SELECT sync.set_secret($1, password => $2)";
    let _ = client.query(call, &[&"pw", &PLANTED]);
    let _ = client.query(call, &[&"pw", &format!("{PLANTED}\n")]);
}

#[test]
fn a_planted_secret_is_in_no_log_view_or_statement() {
    let mut conf: Vec<&str> = LOUD.to_vec();
    conf.push("session_preload_libraries = 'auto_explain'");
    conf.extend(["auto_explain.log_min_duration = 0", "auto_explain.log_nested_statements = on"]);
    conf.extend([
        "logging_collector = on",
        "log_destination = 'stderr,csvlog,jsonlog'",
        "log_directory = 'logs'",
    ]);
    let (org, cluster) = with_org(local_org::Options::default(), &conf);
    let mut client = cluster.connect("postgres").unwrap();
    run(
        &mut client,
        "CREATE ROLE other LOGIN; CREATE ROLE admin LOGIN; SELECT sync.\"grant\"('admin'); GRANT pg_monitor TO other; GRANT USAGE ON SCHEMA sync TO other",
    );
    let mut own = cluster.connect_as("postgres", "admin").unwrap();
    create_crm(&mut own, org.url());
    plant(&mut own, &cluster);
    plant(&mut client, &cluster);
    assert!(
        query_one(&mut client, "SELECT string_agg(umoptions::text, '') FROM pg_user_mapping")
            .matches(PLANTED)
            .count()
            >= 6
    );

    // A slow statement follows in the same message; somebody who may see all statements looks.
    let slow =
        format!("SELECT sync.set_secret('crm', client_secret => '{PLANTED}'); SELECT pg_sleep(60)");
    let pid = query_one(&mut own, "SELECT pg_backend_pid()");
    let token = own.cancel_token();
    let thread = std::thread::spawn(move || {
        try_it(&mut own, &slow);
        own
    });
    let mut watcher = cluster.connect_as("postgres", "other").unwrap();
    let activity =
        format!("SELECT query FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
    cluster.wait_until("it sleeps", || !rows(&mut watcher, &activity).is_empty());
    assert_eq!(query_one(&mut watcher, &activity), "SELECT sync.set_secret(...)");
    assert!(!rows(&mut watcher, "SELECT query FROM pg_stat_activity").concat().contains("4711"));
    token.cancel_query(NoTls).unwrap();
    let mut own: postgres::Client = thread.join().unwrap();

    for view in rows(
        &mut client,
        "SELECT format('%s', c.oid::regclass) FROM pg_class c WHERE c.relnamespace = 'sync'::regnamespace AND c.relkind IN ('v', 'r')",
    ) {
        assert!(
            !rows(&mut client, &format!("SELECT * FROM {view}")).concat().contains("4711"),
            "{view}"
        );
    }
    assert!(!rows(&mut client, "SELECT * FROM pg_foreign_server").concat().contains("4711"));
    // The mapping made by hand for the administrator himself was refused or is his own.
    assert!(
        !rows(
            &mut own,
            "SELECT umoptions FROM pg_user_mappings WHERE usename = 'sync_ext_secrets'"
        )
        .concat()
        .contains("4711")
    );
    for name in ["crm", "jwt", "token", "pw"] {
        let test = format!("SELECT * FROM sync.test_connection('{name}')");
        assert!(!rows(&mut client, &test).concat().contains("4711"), "{name}");
    }
    assert!(!rows(&mut client, "SELECT * FROM sync.doctor()").concat().contains("4711"));

    let (mut seen, mut others) = (0, 0);
    let mut logs = vec![cluster.log_file()];
    logs.extend(
        std::fs::read_dir(cluster.data().join("logs")).unwrap().map(|entry| entry.unwrap().path()),
    );
    for path in logs {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        for line in text.lines() {
            assert!(!line.contains("4711"), "{}: {line}", path.display());
        }
        seen += text.matches("it is about a secret and not logged").count();
        others += text.matches("GRANT pg_monitor TO other").count();
    }
    assert!(seen > 20 && others >= 3, "{seen} {others}");
}

/// What is said to the session is whole, and other statements are logged as ever.
#[test]
fn the_session_itself_is_told_everything() {
    let (org, cluster) = with_org(local_org::Options::default(), &LOUD);
    let mut client = cluster.connect("postgres").unwrap();
    create_crm(&mut client, org.url());
    let error = client
        .batch_execute("SELECT sync.set_secret('crm', client_secret => 'x') FROM \"nowhere-0815\"")
        .unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("nowhere-0815"));
    let log = cluster.log_text();
    assert!(!log.contains("nowhere-0815"), "{log}");
    assert!(cluster.log_text().contains("SQLSTATE 42P01"));
    try_it(&mut client, "SELECT sync.set_secret('not-there', client_secret => 'x')");
    assert!(cluster.log_text().contains("connection \"not-there\" does not exist"));
    try_it(&mut client, "SELECT 'logged-as-ever' FROM nowhere");
    let log = cluster.log_text();
    assert!(log.contains("STATEMENT:  SELECT 'logged-as-ever'"), "{log}");
}
