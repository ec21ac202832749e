//! Every way to log in, up to SQL: what it needs, and a secret that the other side replaces.

use super::with_org;
use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{Fault, FaultRule, LocalOrg, Options, keys};
use pgrx_tests::{query_one, refusal, rows, run};

const USER: &str = "integration@example.com";
const TOKEN: &str = "SELECT pg_catalog.split_part(o, '=', 2) FROM pg_user_mapping, unnest(umoptions) o WHERE o LIKE 'refresh_token=%'";

fn start() -> (LocalOrg, Cluster, Client) {
    let certificate = Some(keys::CERTIFICATE.to_owned());
    let (org, cluster) = with_org(Options { certificate, ..Options::default() }, &[]);
    let client = cluster.connect("postgres").unwrap();
    (org, cluster, client)
}

fn create(client: &mut Client, name: &str, url: &str, more: &str) {
    run(
        client,
        &format!(
            r#"SELECT sync.create_connection('{name}', '{{"type": "salesforce", "credentials": {{"instance_url": "{url}"{more}}}}}')"#
        ),
    );
}

/// A connection `crm` that logs in with this refresh token.
fn with_token(client: &mut Client, org: &LocalOrg, token: &str) {
    create(client, "crm", org.url(), r#", "auth_type": "refresh_token""#);
    run(
        client,
        &format!(
            "SELECT sync.set_secret('crm', client_id => '{}', refresh_token => '{token}')",
            org.client_id()
        ),
    );
}

fn findings(client: &mut Client, name: &str) -> Vec<String> {
    rows(client, &format!("SELECT what, ok, detail, remedy FROM sync.test_connection('{name}')"))
}

#[track_caller]
fn finds(client: &mut Client, name: &str, start: &str, parts: &[&str]) {
    let found = findings(client, name);
    let row = found.iter().find(|row| row.starts_with(start));
    let fits = row.is_some_and(|row| parts.iter().all(|part| row.contains(part)));
    assert!(fits, "{start} {parts:?}\n{found:#?}");
}

#[test]
fn every_way_to_log_in_works() {
    let (org, _cluster, mut c) = start();
    let (id, secret) = (org.client_id(), org.client_secret());
    let of_user =
        |auth_type: &str| format!(r#", "auth_type": "{auth_type}", "username": "{USER}""#);
    let options = Options::default();
    let password = format!("client_secret => '{secret}', password => '{}'", options.password);
    for (name, more, secrets) in [
        ("a", of_user("jwt"), format!("private_key => '{}'", keys::PRIVATE_KEY)),
        (
            "b",
            format!(r#"{}, "jwt_audience": "{}""#, of_user("jwt_bearer"), org.url()),
            format!("private_key => '{}'", keys::PRIVATE_KEY.replace('\n', "\r\n")),
        ),
        (
            "c",
            r#", "auth_type": "refresh_token""#.into(),
            format!("refresh_token => '{}'", org.grant(id)),
        ),
        ("d", of_user("password"), password.clone()),
        (
            "e",
            of_user("password"),
            format!("{password}, security_token => '{}'", options.security_token),
        ),
    ] {
        create(&mut c, name, org.url(), &more);
        run(&mut c, &format!("SELECT sync.set_secret('{name}', client_id => '{id}', {secrets})"));
        let state = format!("SELECT state FROM sync.connections WHERE name = '{name}'");
        assert_eq!(query_one(&mut c, &state), "waiting");
        finds(&mut c, name, "login|t|", &[&org.org_id(), USER]);
    }
    // A file will do for a key, with its line breaks.
    let text = refusal(&mut c, "SELECT sync.set_secret('a', private_key_file => 'nowhere')");
    assert!(text.starts_with("58P01"), "{text}");
}

#[test]
fn what_is_missing_or_of_no_use_is_named() {
    let (org, _cluster, mut c) = start();
    create(&mut c, "crm", org.url(), r#", "auth_type": "jwt""#);
    finds(
        &mut c,
        "crm",
        "secret|f|",
        &[
            "auth_type jwt needs client_id and private_key; client_id and private_key have not been stored",
            "sync.set_secret('crm', client_id => '…', private_key => '…')",
        ],
    );
    assert_eq!(
        query_one(&mut c, "SELECT sync.set_secret('crm', client_id => 'x')"),
        "stored; private_key is needed too"
    );
    assert_eq!(
        query_one(&mut c, "SELECT state, detail FROM sync.connections"),
        "needs credentials|store them: SELECT sync.set_secret('crm', private_key => ...);"
    );
    for (arguments, expected) in [
        ("private_key => 'hunter2'", "22023 the private key can't be used: it is no private key"),
        ("private_key => ''", "22023 \"private_key\" is empty"),
        ("private_key => 'a', private_key_file => 'b'", "exclude each other"),
        ("client_secret => 'hunter2'", "22023 connection \"crm\" has no use for client_secret"),
        ("password => 'hunter2'", "auth_type jwt uses client_id, private_key"),
        ("client_id => E'hunter2\\n'", "control character"),
    ] {
        let text = refusal(&mut c, &format!("SELECT sync.set_secret('crm', {arguments})"));
        assert!(text.contains(expected) && !text.contains("hunter2"), "{arguments}\n{text}");
    }
    run(&mut c, &format!("SELECT sync.set_secret('crm', private_key => '{}')", keys::PRIVATE_KEY));
    finds(&mut c, "crm", "settings|f|", &["has no username", "sync.alter_connection('crm'"]);
    run(
        &mut c,
        r#"SELECT sync.alter_connection('crm', '{"credentials": {"username": "nobody@example.com"}}')"#,
    );
    // Who is refused by the org is told what to do there.
    finds(&mut c, "crm", "login|f|", &["client identifier invalid", "consumer key"]);
    run(&mut c, &format!("SELECT sync.set_secret('crm', client_id => '{}')", org.client_id()));
    finds(&mut c, "crm", "new secret|f|", &["hasn't approved this consumer", "pre-authorized"]);
    run(
        &mut c,
        r#"SELECT sync.alter_connection('crm', '{"credentials": {"auth_type": "refresh_token"}}')"#,
    );
    finds(&mut c, "crm", "secret|f|", &["refresh_token has not been stored"]);
    run(&mut c, r#"SELECT sync.alter_connection('crm', '{"credentials": {"auth_type": "saml"}}')"#);
    finds(
        &mut c,
        "crm",
        "settings|f|auth_type \"saml\"",
        &["oauth2, jwt, refresh_token, password"],
    );
    let text = refusal(
        &mut c,
        "CREATE SERVER s TYPE 'salesforce' FOREIGN DATA WRAPPER sync_ext OPTIONS (jwt_audience 'https://login.salesforce.com', privat_key 'hunter2')",
    );
    assert!(text.contains("privat_key") && !text.contains("hunter2"), "{text}");
}

/// The one in use stays until the new one has worked, in each way to log in.
#[test]
fn a_new_secret_of_any_kind_waits_beside_the_old_one() {
    let (org, _cluster, mut c) = start();
    let options = Options::default();
    create(
        &mut c,
        "crm",
        org.url(),
        &format!(r#", "auth_type": "password", "username": "{USER}""#),
    );
    run(
        &mut c,
        &format!(
            "SELECT sync.set_secret('crm', client_id => '{}', client_secret => '{}', password => '{}')",
            org.client_id(),
            org.client_secret(),
            options.password
        ),
    );
    let set = "SELECT sync.set_secret('crm', password => 'wrong-4711')";
    assert!(query_one(&mut c, set).contains("stays until the new one has worked"));
    finds(&mut c, "crm", "login|t|", &[]);
    finds(&mut c, "crm", "new secret|f|", &["security_token"]);
    assert!(!findings(&mut c, "crm").concat().contains("4711"));
    run(&mut c, "SELECT sync._settle_secret('crm', 'refused')");
    run(&mut c, &format!("SELECT sync.set_secret('crm', password => '{}')", options.password));
    finds(&mut c, "crm", "new secret|t|", &[]);
    run(&mut c, "SELECT sync._settle_secret('crm')");
    let names = "SELECT string_agg(split_part(o, '=', 1), ',' ORDER BY o) FROM pg_user_mapping, unnest(umoptions) o";
    assert_eq!(query_one(&mut c, names), "client_id,client_secret,password");
}

/// The person's transaction may end as it likes: the token that was handed out in it is not lost.
#[test]
fn a_token_that_was_replaced_survives_a_rollback() {
    let (org, _cluster, mut c) = start();
    org.rotate_refresh_tokens(true);
    let first = org.grant(org.client_id());
    with_token(&mut c, &org, &first);
    run(&mut c, "BEGIN");
    finds(&mut c, "crm", "login|t|", &[]);
    run(&mut c, "ROLLBACK");
    let second = query_one(&mut c, TOKEN);
    assert_ne!(second, first);
    finds(&mut c, "crm", "login|t|", &[]);
    let third = query_one(&mut c, TOKEN);
    assert!(third != second && !org.revoke(&second), "{third}");
    // In the transaction that makes the connection nobody else could store it.
    run(&mut c, "SELECT sync.drop_connection('crm')");
    run(&mut c, "BEGIN");
    with_token(&mut c, &org, &third);
    finds(&mut c, "crm", "login|t|", &[]);
    finds(&mut c, "crm", "login|t|", &[]);
    run(&mut c, "COMMIT");
    finds(&mut c, "crm", "login|t|", &[]);
    // An error in the same statement, and somebody who waits for his turn.
    assert!(refusal(&mut c, "SELECT count(*) / 0 FROM sync.objects('crm')").starts_with("22012"));
    let now = query_one(&mut c, TOKEN);
    finds(&mut c, "crm", "login|t|", &[]);
    assert!(!org.revoke(&now));
    assert!(org.revoke(&query_one(&mut c, TOKEN)));
    finds(&mut c, "crm", "login|f|", &["Authorize the app again"]);
}

#[test]
fn backends_log_in_one_after_the_other_where_each_login_uses_up_the_token() {
    let (org, cluster, mut c) = start();
    org.rotate_refresh_tokens(true);
    with_token(&mut c, &org, &org.grant(org.client_id()));
    let looked: Vec<_> = (0..4)
        .map(|_| {
            let mut own = cluster.connect("postgres").unwrap();
            std::thread::spawn(move || {
                query_one(&mut own, "SELECT count(*) > 3 FROM sync.objects('crm')")
            })
        })
        .collect();
    for looked in looked {
        assert_eq!(looked.join().unwrap(), "t");
    }
}

/// P8: what the worker was handed is on disk before it is needed.
#[test]
fn the_worker_stores_the_tokens_that_it_is_handed() {
    let (org, mut cluster, mut c) = start();
    org.rotate_refresh_tokens(true);
    let first = org.grant(org.client_id());
    with_token(&mut c, &org, &first);
    run(
        &mut c,
        "CREATE TABLE accounts (id serial PRIMARY KEY, sf_id text, account_name varchar(255), industry_type text,
           annual_revenue numeric, last_modified timestamp)",
    );
    crate::remote::create_sync(&mut c, "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    crate::remote::settle(&mut c);
    let stored = |c: &mut Client, before: &str| {
        let mut now = String::new();
        let found = cluster::poll(std::time::Duration::from_secs(30), || {
            now = query_one(c, TOKEN);
            now != before
        });
        assert!(found, "{before} is still there");
        now
    };
    let second = stored(&mut c, &first);
    // The session ends in the middle of work.
    org.expire_sessions();
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    crate::remote::settle(&mut c);
    let third = stored(&mut c, &second);
    cluster.crash().unwrap();
    cluster.start().unwrap();
    let mut c = cluster.connect("postgres").unwrap();
    // Whether the worker has logged in again by now or not.
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('three')");
    crate::remote::settle(&mut c);
    let fourth = stored(&mut c, &third);

    // One that a person stores takes its place once it has worked, and is replaced like any other.
    let given = org.grant(org.client_id());
    run(&mut c, &format!("SELECT sync.set_secret('crm', refresh_token => '{given}')"));
    let pending = "SELECT count(*) FROM pg_user_mapping, unnest(umoptions) o WHERE o LIKE 'new_%'";
    crate::remote::until(&mut c, pending, "0");
    let fifth = stored(&mut c, &fourth);
    assert_ne!(fifth, given);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('four')");
    crate::remote::settle(&mut c);

    // The answer to a login is lost, and the new token with it: a person is told what to do.
    org.fault(FaultRule::once(Fault::CutAfter).method("POST").path("/services/oauth2/token"));
    org.expire_sessions();
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('five')");
    crate::remote::until(&mut c, "SELECT state FROM sync.connections", "refused");
    let said = query_one(&mut c, "SELECT detail FROM sync.connections");
    assert!(said.contains("The answer to an earlier login was lost"), "{said}");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue WHERE attempts > 0"), "0");
    let given = org.grant(org.client_id());
    run(&mut c, &format!("SELECT sync.set_secret('crm', refresh_token => '{given}')"));
    crate::remote::settle(&mut c);
    assert_eq!(crate::remote::names(&org), ["five", "four", "one", "three", "two"]);
    let log = cluster.log_text();
    for token in [first, second, third, fourth, fifth, given] {
        assert!(!log.contains(&token));
    }
}

#[test]
fn a_refresh_token_is_not_used_on_a_standby() {
    let (org, cluster, mut c) = start();
    with_token(&mut c, &org, &org.grant(org.client_id()));
    let mut standby = cluster.base_backup(cluster::Options::new("standby"), true).unwrap();
    standby.start().unwrap();
    let mut there = standby.connect("postgres").unwrap();
    let text = refusal(&mut there, "SELECT * FROM sync.objects('crm')");
    assert!(text.starts_with("25006") && text.contains("Ask the primary"), "{text}");
    assert_eq!(org.calls().len(), 0);
}
