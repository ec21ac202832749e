//! Storing secrets, and putting new ones in the place of old ones.

use super::{MY_DOMAIN, connect_crm, create_crm, with_org};
use crate::security::role;
use pgrx_tests::{db, query_one, refusal, rows, run};

const OPTIONS: &str = "SELECT umoptions FROM pg_user_mapping";

#[test]
fn the_first_secret_goes_straight_in_and_later_ones_wait() {
    let db = db();
    let mut client = db.connect();
    create_crm(&mut client, MY_DOMAIN);
    assert_eq!(
        query_one(&mut client, "SELECT sync.set_secret('crm', client_id => 'id1')"),
        "stored; client_secret is needed too"
    );
    assert_eq!(query_one(&mut client, "SELECT state FROM sync.connections"), "needs credentials");
    assert_eq!(
        query_one(&mut client, "SELECT sync.set_secret('crm', client_secret => 's1')"),
        "stored"
    );
    assert_eq!(query_one(&mut client, OPTIONS), "{client_id=id1,client_secret=s1}");
    assert_eq!(
        query_one(&mut client, "SELECT sync.set_secret('crm', client_secret => 's2')"),
        "stored; the secret in use stays until the new one has worked"
    );
    assert_eq!(
        query_one(&mut client, OPTIONS),
        "{client_id=id1,client_secret=s1,new_client_secret=s2}"
    );
    let view = "SELECT state, detail FROM sync.connections";
    assert_eq!(
        query_one(&mut client, view),
        "waiting|not used yet; a new secret waits to be tried"
    );
    // What waited is forgotten when another comes.
    run(&mut client, "SELECT sync.set_secret('crm', client_id => 'id3', client_secret => 's=3')");
    assert_eq!(
        query_one(&mut client, OPTIONS),
        "{client_id=id1,client_secret=s1,new_client_secret=s=3,new_client_id=id3}"
    );
    run(&mut client, "SELECT sync._settle_secret('crm', 'invalid_client')");
    assert_eq!(query_one(&mut client, OPTIONS), "{client_id=id1,client_secret=s1}");
    assert!(
        query_one(&mut client, view)
            .contains("the new secret was refused and forgotten: invalid_client")
    );
    run(&mut client, "SELECT sync.set_secret('crm', client_id => 'id4', client_secret => 's4')");
    run(&mut client, "SELECT sync._settle_secret('crm')");
    assert_eq!(query_one(&mut client, OPTIONS), "{client_id=id4,client_secret=s4}");
    assert!(!query_one(&mut client, view).contains("refused"));
}

#[test]
fn what_cannot_be_a_secret_is_refused_and_not_repeated() {
    let db = db();
    let mut client = db.connect();
    create_crm(&mut client, MY_DOMAIN);
    for (arguments, expected) in [
        ("'crm'", "22023 no secret was given"),
        ("'crm', client_id => ''", "22023 \"client_id\" is empty"),
        (
            "'crm', client_secret => E'hunter2\\n'",
            "22023 \"client_secret\" holds a control character",
        ),
        (
            "'crm', client_secret => 'hunter2', client_secret_file => 'hunter2'",
            "exclude each other",
        ),
        ("'crn', client_secret => 'hunter2'", "42704 connection \"crn\" does not exist"),
        ("NULL, client_secret => 'hunter2'", "22004"),
        ("'crm', client_secret_file => 'hunter'", "58P01"),
    ] {
        let text = refusal(&mut client, &format!("SELECT sync.set_secret({arguments})"));
        assert!(text.contains(expected) && !text.contains("hunter2"), "{arguments}\n{text}");
    }
    assert!(rows(&mut client, OPTIONS).is_empty());
}

/// Whoever is the role that secrets belong to reads them.
#[test]
fn secrets_are_not_given_to_a_role_that_somebody_can_be() {
    let (org, cluster) =
        with_org(local_org::Options::default(), &["sync_ext.secret_role = 'keeper'"]);
    let mut client = cluster.connect("postgres").unwrap();
    assert_eq!(
        query_one(&mut client, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'keeper'"),
        "f"
    );
    create_crm(&mut client, org.url());
    let set = "SELECT sync.set_secret('crm', client_id => 'a', client_secret => 'b')";
    for (open, close) in [
        ("ALTER ROLE keeper LOGIN", "ALTER ROLE keeper NOLOGIN"),
        ("CREATE ROLE friend; GRANT keeper TO friend", "REVOKE keeper FROM friend"),
    ] {
        run(&mut client, open);
        assert!(refusal(&mut client, set).starts_with("42501 role \"keeper\" cannot hold secrets"));
        assert_eq!(
            query_one(&mut client, "SELECT ok FROM sync.doctor() WHERE what = 'secret role'"),
            "f"
        );
        run(&mut client, close);
    }
    run(&mut client, set);
    assert_eq!(
        query_one(&mut client, "SELECT ok FROM sync.doctor() WHERE what = 'secret role'"),
        "t"
    );
    // CREATE EXTENSION adopts no role that can log in.
    run(&mut client, "DROP EXTENSION sync_ext CASCADE; ALTER ROLE keeper LOGIN");
    assert!(refusal(&mut client, "CREATE EXTENSION sync_ext").contains("cannot hold secrets"));
}

/// The owner of a connection stores its secrets and does not read them.
#[test]
fn not_even_the_owner_reads_the_secrets_back() {
    let db = db();
    let mut client = db.connect();
    let admin = role(&db, &mut client, "admin");
    run(&mut client, &format!("SELECT sync.\"grant\"('{admin}')"));
    let mut own = db.connect_as(&admin);
    create_crm(&mut own, MY_DOMAIN);
    run(&mut own, "SELECT sync.set_secret('crm', client_id => 'a', client_secret => 'b')");
    assert_eq!(
        query_one(&mut own, "SELECT usename, umoptions IS NULL FROM pg_user_mappings"),
        "sync_ext_secrets|t"
    );
    assert_eq!(
        query_one(
            &mut own,
            "SELECT count(*) FROM information_schema.user_mapping_options WHERE option_value IS NOT NULL"
        ),
        "0"
    );
    assert!(refusal(&mut own, "SET ROLE sync_ext_secrets").starts_with("42501"));
    run(&mut client, &format!("DROP OWNED BY {admin} CASCADE"));
}

#[test]
fn a_new_secret_is_looked_at_by_a_test_and_the_old_one_stays() {
    let (org, cluster) = with_org(local_org::Options::default(), &[]);
    let mut client = cluster.connect("postgres").unwrap();
    connect_crm(&mut client, &org);
    run(&mut client, "SELECT sync.set_secret('crm', client_secret => 'wrong-4711')");
    let test = rows(&mut client, "SELECT what, ok, detail FROM sync.test_connection('crm')");
    assert!(test.iter().any(|row| row.starts_with("login|t|")), "{test:#?}");
    assert!(test.iter().any(|row| row.starts_with("new secret|f|")), "{test:#?}");
    assert!(!test.concat().contains("4711"), "{test:#?}");
    run(
        &mut client,
        &format!("SELECT sync.set_secret('crm', client_secret => '{}')", org.client_secret()),
    );
    let test = rows(&mut client, "SELECT what, ok, detail FROM sync.test_connection('crm')");
    assert!(test.iter().any(|row| row.starts_with("new secret|t|")), "{test:#?}");
}
