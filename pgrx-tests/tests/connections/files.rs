//! Secrets in files.

use super::{create_crm, with_org};
use pgrx_tests::{query_one, refusal, rows, run};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// A file as the server's user would have it.
fn write(path: &Path, text: &str, mode: u32, like: &Path) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let owner = std::fs::metadata(like).unwrap();
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[test]
fn a_secret_is_read_from_a_file_below_the_directory_and_from_nowhere_else() {
    let directory = std::env::temp_dir().join(format!("sync_ext-secrets-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("files")).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let files = directory.join("files");
    let conf = format!("sync_ext.secret_directory = '{}'", files.display());
    let (org, cluster) = with_org(local_org::Options::default(), &[&conf]);
    let data = cluster.data();
    write(&files.join("crm"), &format!("{}\n", org.client_secret()), 0o600, &data);
    write(&files.join("open"), "hunter2", 0o640, &data);
    write(&files.join("empty"), "\n", 0o600, &data);
    write(&directory.join("outside"), "hunter2", 0o600, &data);
    symlink(directory.join("outside"), files.join("link")).unwrap();
    let mut client = cluster.connect("postgres").unwrap();
    create_crm(&mut client, org.url());
    for (file, why) in [
        ("open", "group or others"),
        ("empty", "It is empty"),
        ("link", "leads out of"),
        ("nothing", "There is no such file"),
        ("../outside", "named by its path below"),
        ("/etc/passwd", "named by its path below"),
        (".", "named by its path below"),
    ] {
        let text = refusal(
            &mut client,
            &format!("SELECT sync.set_secret('crm', client_secret_file => '{file}')"),
        );
        assert!(
            text.starts_with("58P01") && text.contains(why) && !text.contains("hunter2"),
            "{file}: {text}"
        );
    }
    let set = format!(
        "SELECT sync.set_secret('crm', client_id => '{}', client_secret_file => 'crm')",
        org.client_id()
    );
    run(&mut client, &set);
    let test = rows(&mut client, "SELECT what, ok, detail FROM sync.test_connection('crm')");
    assert!(test.iter().any(|row| row.starts_with("login|t|")), "{test:#?}");
    // Read at use: another content counts at once.
    write(&files.join("crm"), "wrong-4711", 0o600, &data);
    let test = rows(&mut client, "SELECT what, ok, detail FROM sync.test_connection('crm')");
    assert!(test.iter().any(|row| row.starts_with("login|f|")), "{test:#?}");
    write(&files.join("crm"), org.client_secret(), 0o644, &data);
    let test = rows(&mut client, "SELECT what, ok, detail FROM sync.test_connection('crm')");
    assert!(test.iter().any(|row| row.starts_with("secret|f|")), "{test:#?}");
    write(&files.join("crm"), org.client_secret(), 0o600, &data);

    // Whoever is no superuser has files read only where one said so.
    run(
        &mut client,
        "CREATE ROLE admin LOGIN; SELECT sync.\"grant\"('admin'); ALTER SERVER crm OWNER TO admin",
    );
    let mut own = cluster.connect_as("postgres", "admin").unwrap();
    assert!(refusal(&mut own, &set).starts_with("42501"));
    let by_hand = "ALTER USER MAPPING FOR sync_ext_secrets SERVER crm OPTIONS (ADD new_client_secret_file 'open')";
    assert!(refusal(&mut own, by_hand).starts_with("42501"));
    assert!(
        refusal(&mut own, "ALTER SERVER crm OPTIONS (ADD allow_secret_file 'true')")
            .starts_with("42501")
    );
    run(&mut client, "ALTER SERVER crm OPTIONS (ADD allow_secret_file 'true')");
    run(&mut own, &set);
    let by_hand = by_hand.replace("ADD", "SET");
    assert!(refusal(&mut own, &by_hand).starts_with("42501"));
    assert_eq!(
        query_one(
            &mut own,
            "SELECT count(*) FROM sync.test_connection('crm') WHERE what = 'new secret' AND ok"
        ),
        "1"
    );
    // Where the files lie is for superusers.
    assert!(refusal(&mut own, "SHOW sync_ext.secret_directory").starts_with("42501"));
    drop(cluster);
    std::fs::remove_dir_all(directory).unwrap();
}
