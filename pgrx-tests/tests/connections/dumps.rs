//! What a dump carries of connections.

use super::{MY_DOMAIN, create_crm};
use crate::security::role;
use pgrx_tests::{Shared, db, query_one, run};
use std::process::Command;

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whoever may read all data and is no superuser dumps connections without their secrets.
#[test]
fn the_dump_of_somebody_else_has_no_secrets_and_is_restored_without() {
    let db = db();
    let mut client = db.connect();
    let reader = role(&db, &mut client, "reader");
    run(&mut client, &format!("GRANT pg_read_all_data, pg_monitor TO {reader}"));
    create_crm(&mut client, MY_DOMAIN);
    run(
        &mut client,
        "SELECT sync.set_secret('crm', client_id => 'the-id-4711', client_secret => 'hunter2-4711')",
    );
    run(
        &mut client,
        "INSERT INTO sync._connection (server, state) SELECT oid, 'ok' FROM pg_foreign_server",
    );
    let dump =
        succeed(db.cluster().client_program("pg_dump", db.name()).args(["--username", &reader]));
    assert!(dump.contains("CREATE SERVER crm") && !dump.contains("4711"), "{dump}");
    assert!(!dump.contains("COPY sync._connection"));
    let copy = Shared::database();
    let file = db.cluster().directory().join(format!("{}.sql", db.name()));
    std::fs::write(&file, dump).unwrap();
    succeed(
        db.cluster()
            .client_program("psql", copy.name())
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file"])
            .arg(&file),
    );
    std::fs::remove_file(file).unwrap();
    let mut restored = copy.connect();
    assert_eq!(
        query_one(&mut restored, "SELECT name, state FROM sync.connections"),
        "crm|needs credentials"
    );
    run(&mut restored, "SELECT sync.set_secret('crm', client_id => 'a', client_secret => 'b')");
    assert_eq!(query_one(&mut restored, "SELECT state FROM sync.connections"), "waiting");
}
