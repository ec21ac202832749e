//! Making, changing and ending connections.

use super::{MY_DOMAIN, create_crm};
use crate::security::role;
use pgrx_tests::{db, query_one, refusal, rows, run};

const ONE: &str = "SELECT name, type, state, host FROM sync.connections";

#[test]
fn a_connection_is_made_changed_and_ended() {
    let db = db();
    let mut client = db.connect();
    create_crm(&mut client, MY_DOMAIN);
    assert_eq!(
        query_one(&mut client, ONE),
        "crm|salesforce|needs credentials|acme.my.salesforce.com"
    );
    let options = "SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'crm'";
    run(
        &mut client,
        r#"SELECT sync.alter_connection('crm', '{"credentials": {"auth_type": null, "api_version": "61.0", "instance_url": "https://other.my.salesforce.com"}}')"#,
    );
    assert_eq!(
        query_one(&mut client, options),
        "{instance_url=https://other.my.salesforce.com,api_version=61.0}"
    );
    run(&mut client, "SELECT sync.alter_connection('crm', '{}')");
    run(&mut client, "SELECT sync.set_secret('crm', client_id => 'a', client_secret => 'b')");
    assert_eq!(
        query_one(&mut client, "SELECT state, detail FROM sync.connections"),
        "waiting|not used yet"
    );
    run(&mut client, "SELECT sync.drop_connection('crm')");
    assert!(rows(&mut client, ONE).is_empty());
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM pg_user_mapping"), "0");
}

/// Errors name the key, and what to do.
#[test]
fn what_cannot_be_a_connection_is_refused() {
    let db = db();
    let mut client = db.connect();
    create_crm(&mut client, MY_DOMAIN);
    let salesforce =
        |settings: &str| format!(r#"{{"type": "salesforce", "credentials": {settings}}}"#);
    let cases = [
        ("new", "[]".to_owned(), "22023 the settings of a connection are a JSON object"),
        ("new", "{}".into(), "22023 the settings do not say the type"),
        ("new", r#"{"type": 1}"#.into(), "22023 \"type\" must be a string"),
        ("new", r#"{"type": "x y"}"#.into(), "22023 \"type\" does not name"),
        (
            "new",
            r#"{"type": "salesforce", "credential": {}}"#.into(),
            "Perhaps you meant \"credentials\"",
        ),
        (
            "new",
            salesforce(r#"{"instance_uri": "https://a.my.salesforce.com"}"#),
            "Perhaps you meant \"instance_url\"",
        ),
        ("new", salesforce(r#"{"host": "a"}"#), "HV00D unknown option \"host\""),
        (
            "new",
            salesforce(r#"{"instance_url": "http://a.my.salesforce.com"}"#),
            "is not an https URL",
        ),
        ("new", salesforce(r#"{"instance_url": "https://a.my.salesforce.com/x"}"#), "has a path"),
        (
            "new",
            salesforce(r#"{"instance_url": "https://169.254.169.254"}"#),
            "42501 host \"169.254.169.254\" is not among the allowed hosts",
        ),
        (
            "new",
            salesforce(r#"{"instance_url": "https://evil.example.com"}"#),
            "sync_ext.allowed_hosts",
        ),
        (
            "new",
            salesforce(r#"{"instance_url": "http://127.0.0.1:1"}"#),
            "not among the allowed hosts",
        ),
        ("new", salesforce(r#"{"api_version": "latest"}"#), "api_version"),
        ("new", salesforce(r#"{"client_secret": "hunter2"}"#), "sync.set_secret"),
        (
            "new",
            salesforce(r#"{"instance_url": "https://u:hunter2@a.my.salesforce.com"}"#),
            "sync.set_secret",
        ),
        ("new", r#"{"type": "salesforce", "password": "hunter2"}"#.into(), "sync.set_secret"),
        ("crm", salesforce("{}"), "42710 connection \"crm\" already exists"),
        ("local", salesforce("{}"), "42939"),
        (" ", salesforce("{}"), "22023 a connection needs a name"),
        (&"x".repeat(64), salesforce("{}"), "42622"),
    ];
    for (name, settings, expected) in cases {
        let statement = format!("SELECT sync.create_connection('{name}', '{settings}')");
        let text = refusal(&mut client, &statement);
        assert!(text.contains(expected), "{statement}\n{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    for (patch, expected) in [
        (r#"{"type": "netsuite"}"#, "0A000"),
        (r#"{"credentials": {"nothing": null}}"#, "HV00D"),
        (r#"{"credentials": {"token": "hunter2"}}"#, "sync.set_secret"),
    ] {
        let text = refusal(&mut client, &format!("SELECT sync.alter_connection('crm', '{patch}')"));
        assert!(text.contains(expected) && !text.contains("hunter2"), "{patch}\n{text}");
    }
    let text = refusal(&mut client, "SELECT sync.alter_connection('crn', '{}')");
    assert!(text.starts_with("42704") && text.contains("Perhaps you meant \"crm\""), "{text}");
    assert_eq!(rows(&mut client, ONE).len(), 1);
}

/// What SQL/MED offers is the same as what the functions do.
#[test]
fn plain_servers_and_mappings_are_checked_too() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE SERVER plain TYPE 'salesforce' FOREIGN DATA WRAPPER sync_ext OPTIONS (instance_url 'https://acme.my.salesforce.com');
         CREATE USER MAPPING FOR sync_ext_secrets SERVER plain OPTIONS (client_id 'a', client_secret 'b')",
    );
    assert_eq!(query_one(&mut client, ONE), "plain|salesforce|waiting|acme.my.salesforce.com");
    // A dump may be restored before the list is set: a warning, and nothing is sent there.
    run(
        &mut client,
        "CREATE SERVER elsewhere TYPE 'salesforce' FOREIGN DATA WRAPPER sync_ext OPTIONS (instance_url 'https://evil.example.com')",
    );
    for (statement, expected) in [
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER sync_ext OPTIONS (client_secret 'hunter2')",
            "sync.set_secret",
        ),
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER sync_ext OPTIONS (\"access token\" 'hunter2')",
            "sync.set_secret",
        ),
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER sync_ext OPTIONS (prot '1')",
            "Perhaps you meant \"port\"",
        ),
        ("CREATE SERVER s FOREIGN DATA WRAPPER sync_ext OPTIONS (port 'hunter2')", "HV024"),
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER sync_ext OPTIONS (instance_url 'ftp://hunter2')",
            "HV024",
        ),
        (
            "ALTER USER MAPPING FOR sync_ext_secrets SERVER plain OPTIONS (ADD clientsecret 'hunter2')",
            "Perhaps you meant \"client_secret\"",
        ),
        (
            "ALTER USER MAPPING FOR sync_ext_secrets SERVER plain OPTIONS (SET client_secret '')",
            "HV024",
        ),
        ("ALTER FOREIGN DATA WRAPPER sync_ext OPTIONS (ADD x 'hunter2')", "HV00D"),
    ] {
        let text = refusal(&mut client, statement);
        assert!(text.contains(expected) && !text.contains("hunter2"), "{statement}\n{text}");
    }
}

#[test]
fn names_are_taken_as_they_are() {
    let db = db();
    let mut client = db.connect();
    let longest = "ä".repeat(31) + "x";
    let names = [
        "it's",
        "two\nlines",
        "\"quoted\"",
        "a; DROP SERVER b; --",
        "%s%n",
        "Crm",
        longest.as_str(),
    ];
    for name in names {
        let literal = format!("'{}'", name.replace('\'', "''"));
        run(
            &mut client,
            &format!(
                r#"SELECT sync.create_connection({literal}, '{{"type": "salesforce", "credentials": {{"instance_url": "{MY_DOMAIN}"}}}}')"#
            ),
        );
        run(
            &mut client,
            &format!("SELECT sync.set_secret({literal}, client_id => 'a', client_secret => 'b')"),
        );
        run(
            &mut client,
            &format!(
                r#"SELECT sync.alter_connection({literal}, '{{"credentials": {{"api_version": "60.0"}}}}')"#
            ),
        );
        assert_eq!(
            query_one(
                &mut client,
                &format!(
                    "SELECT count(*) FROM sync.connections WHERE name = {literal} AND state = 'waiting'"
                )
            ),
            "1",
            "{name}"
        );
    }
    assert_eq!(rows(&mut client, ONE.replace("name, ", "").as_str()).len(), names.len());
    for name in names {
        run(&mut client, &format!("SELECT sync.drop_connection('{}')", name.replace('\'', "''")));
    }
    assert!(rows(&mut client, ONE).is_empty());
}

/// The wrapper is for administrators of syncs; a connection for its owner.
#[test]
fn rights_decide_who_makes_and_changes_connections() {
    let db = db();
    let mut client = db.connect();
    let (first, second) = (role(&db, &mut client, "first"), role(&db, &mut client, "second"));
    run(
        &mut client,
        &format!(
            "GRANT USAGE ON SCHEMA sync TO {second}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sync TO {second}; SELECT sync.\"grant\"('{first}')"
        ),
    );
    let (mut own, mut other) = (db.connect_as(&first), db.connect_as(&second));
    create_crm(&mut own, MY_DOMAIN);
    run(&mut own, "SELECT sync.set_secret('crm', client_id => 'a', client_secret => 'b')");
    assert_eq!(
        query_one(&mut own, "SELECT owner = current_user, state FROM sync.connections"),
        "t|waiting"
    );
    for forbidden in [
        r#"SELECT sync.create_connection('x', '{"type": "salesforce"}')"#,
        "SELECT sync.alter_connection('crm', '{}')",
        "SELECT sync.drop_connection('crm')",
        "SELECT sync.set_secret('crm', client_secret => 'x')",
        "SELECT sync.test_connection('crm')",
        "SELECT sync.objects('crm')",
        "SELECT sync.fields('crm', 'Account')",
        "CREATE SERVER x FOREIGN DATA WRAPPER sync_ext",
        "SELECT umoptions FROM pg_user_mapping",
        "SELECT * FROM sync._connection",
    ] {
        let text = refusal(&mut other, forbidden);
        assert!(text.starts_with("42501"), "{forbidden}: {text}");
    }
    run(&mut client, &format!("GRANT {first} TO {second}"));
    run(&mut other, "SELECT sync.drop_connection('crm')");
    run(&mut client, &format!("DROP OWNED BY {first}, {second} CASCADE"));
}

#[test]
fn dropping_the_extension_takes_connections_only_with_cascade() {
    let db = db();
    let mut client = db.connect();
    create_crm(&mut client, MY_DOMAIN);
    run(&mut client, "SELECT sync.set_secret('crm', client_id => 'a', client_secret => 'b')");
    let text = refusal(&mut client, "DROP EXTENSION sync_ext");
    assert!(text.starts_with("2BP01") && text.contains("server crm"), "{text}");
    run(&mut client, "DROP EXTENSION sync_ext CASCADE");
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM pg_foreign_server"), "0");
    run(&mut client, "CREATE EXTENSION sync_ext");
}
