//! The pages that a reader follows by hand: every block of SQL runs as it stands there, in psql, and prints what the page
//! says it prints.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use cluster::{Cluster, Shared, Workspace};
use local_org::{Field, FieldType};
use pgrx_tests::{query_one, run};
use serde_json::json;

use crate::connections::with_org;

/// A block of SQL or shell, below the last heading of the second degree.
#[derive(Debug)]
struct Block {
    heading: String,
    shell: bool,
    code: String,
    /// The block of text that follows it.
    printed: Option<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let path = Workspace::locate().unwrap().root.join(page);
    let text = fs::read_to_string(&path).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut heading = String::new();
    let mut lines = text.lines();
    // Whether a block of text here would be what the last block prints.
    let mut after = false;
    while let Some(line) = lines.next() {
        if let Some(named) = line.strip_prefix("## ") {
            named.clone_into(&mut heading);
        }
        let indent = line.len() - line.trim_start().len();
        let Some(language) = line.trim_start().strip_prefix("```") else {
            after &= line.trim().is_empty();
            continue;
        };
        let mut code = String::new();
        for line in lines.by_ref().take_while(|line| line.trim() != "```") {
            code += line.get(indent..).unwrap_or_default();
            code.push('\n');
        }
        match language {
            "sql" | "sh" => blocks.push(Block {
                heading: heading.clone(),
                shell: language == "sh",
                code,
                printed: None,
            }),
            "text" if after => blocks.last_mut().unwrap().printed = Some(code),
            "json" => continue,
            _ => panic!("{page}: a block of {language:?} below {heading:?}"),
        }
        after = language != "text";
    }
    blocks
}

const END: &str = "end of part";

/// What psql prints for each part, one session for all of them.
fn psql(cluster: &Cluster, database: &str, folder: &Path, parts: &[String]) -> Vec<String> {
    let psql = cluster.client_program("psql", database);
    // One pipe for results, notices and errors, so that they stay in their order.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(psql.get_program());
    for (variable, value) in psql.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    let mut psql = command
        .args(["--no-psqlrc", "--quiet"])
        .env("PGOPTIONS", "-c statement_timeout=60s")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = psql.stdin.take().unwrap();
    let script: String = parts.iter().map(|part| format!("{part}\n\\echo '{END}'\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = String::from_utf8(psql.wait_with_output().unwrap().stdout).unwrap();
    writer.join().unwrap().unwrap();
    let mut printed: Vec<String> = output.split(&format!("{END}\n")).map(str::to_owned).collect();
    assert_eq!(printed.pop().as_deref(), Some(""), "{output}");
    assert_eq!(printed.len(), parts.len(), "{output}");
    printed
}

/// Without what an editor would not keep either.
fn lines(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_end);
    lines.filter(|line| !line.is_empty()).collect()
}

/// Nothing fails, and what the page shows is what comes.
fn compare(block: &Block, printed: &str) {
    let expected = block.printed.as_deref().unwrap_or_default();
    let fails = |text: &str| text.lines().any(|line| line.starts_with("ERROR:"));
    assert_eq!(
        fails(expected),
        fails(printed),
        "below {:?}:\n{}{printed}",
        block.heading,
        block.code
    );
    if block.printed.is_some() {
        assert_eq!(
            lines(printed),
            lines(expected),
            "below {:?}:\n{}printed:\n{printed}",
            block.heading,
            block.code
        );
    }
}

#[test]
fn the_tutorial_runs_as_it_stands_and_prints_what_it_says() {
    let blocks: Vec<Block> =
        blocks("docs/tutorial.md").into_iter().filter(|block| !block.shell).collect();
    let parts: Vec<String> = blocks.iter().map(|block| block.code.clone()).collect();
    let cluster = Shared::cluster();
    let printed = psql(cluster, "postgres", Path::new("/"), &parts);
    run(&mut cluster.connect("postgres").unwrap(), "DROP DATABASE tutorial WITH (FORCE)");
    assert!(blocks.iter().filter(|block| block.printed.is_some()).count() > 5);
    for (block, printed) in blocks.iter().zip(&printed) {
        compare(block, printed);
    }
}

/// A connection to the org, and a table.
const ACCOUNTS: &str = r#"
    SELECT FROM sync.create_connection('crm', '{"type": "salesforce", "credentials": {"instance_url": "ORG"}}');
    SELECT FROM sync.set_secret('crm', client_id => :'id', client_secret => :'secret');
    CREATE TABLE accounts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, name varchar(255), email text, phone text,
      industry_type text, region text, country text, sync_paused boolean NOT NULL DEFAULT false, deleted_at timestamptz);
    CREATE SCHEMA salesforce;"#;
/// A sync of both.
const SYNCED: &str = r#"
    SELECT FROM sync.create_sync('accounts', '{"source": {"connection": "crm", "object": "Account"}, "target": "accounts",
      "sync_type": "bidirectional", "field_mappings": [{"source": "Id", "target": "sf_id"},
        {"source": "Name", "target": "name"}, {"source": "Phone", "target": "phone"}]}');
    INSERT INTO accounts (id, name) VALUES (42, 'Acme');
    SELECT FROM sync.wait('accounts');"#;
const CUSTOMERS: &str = "
    CREATE SCHEMA shop;
    CREATE TABLE customers (id serial PRIMARY KEY, email text, phone text);
    CREATE TABLE shop.buyers (no serial PRIMARY KEY, mail text, email text, phone text);";

/// What a section of the how-to takes for granted, and what is true when its statements have run.
fn given(heading: &str) -> (Vec<&'static str>, &'static str) {
    let quiet = "SELECT count(*) = 0 FROM sync.status WHERE state IN ('failing', 'needs decision', 'no worker')";
    let accounts = || vec![ACCOUNTS, SYNCED];
    match heading {
        "From a new Salesforce org to the first synced table" => (
            vec![
                "CREATE ROLE joe; CREATE SCHEMA salesforce AUTHORIZATION joe; DROP EXTENSION sync_ext;",
            ],
            "SELECT count(sf_id) = 1 AND min(name) = 'Globex' FROM salesforce.account",
        ),
        "Log in to Salesforce in another way" => {
            (vec![], "SELECT count(*) = 1 FROM sync.connections WHERE name = 'crm'")
        }
        "Sync an object into a table, existing or not" => (
            vec![ACCOUNTS],
            "SELECT count(*) > 10 FROM information_schema.columns WHERE table_schema = 'salesforce'",
        ),
        "Forty objects" => (vec![ACCOUNTS], "SELECT count(*) = 4 FROM sync.status"),
        "Bring values into one form, refuse those that have none" => (
            vec![
                ACCOUNTS,
                SYNCED,
                "UPDATE accounts SET email = ' Info@Acme.com ', phone = '044 668 18 00' WHERE id = 42;",
            ],
            "SELECT (sync.wait('accounts')).parked = 0 AND sync.show('accounts') #>> '{validation_rules,1,on_error}' = 'warn'",
        ),
        "Sync some of the rows" => {
            (accounts(), "SELECT sync.show('accounts') ->> 'where' ~ 'sync_paused'")
        }
        "Keep what the other side deletes" => {
            (accounts(), "SELECT sync.show('accounts') ->> 'on_source_delete' = 'keep'")
        }
        "See in the row how it is with it" => (
            accounts(),
            "WITH edit AS (UPDATE accounts SET phone = '+41446681800' WHERE sync_state IS NULL)
             SELECT count(*) = count(last_sync) AND min(sync_state) = 'synced' FROM accounts WHERE id = 42",
        ),
        "Connect several systems to one table" => (
            vec![ACCOUNTS, CUSTOMERS],
            "SELECT array_agg(sync ORDER BY sync) = '{customers/crm/Account,customers/erp/Customer,customers/local/shop.buyers}' FROM sync.status",
        ),
        "Make several rows of one, or one of several" => (
            vec![
                "CREATE TABLE orders (id int PRIMARY KEY, items text[], state text);
                 CREATE TABLE order_lines (order_id int, pos bigint, item text, PRIMARY KEY (order_id, pos));
                 INSERT INTO orders VALUES (1, '{a,b}', 'new'), (2, '{c}', 'cancelled');",
            ],
            "SELECT (sync.wait('lines')).settled AND (SELECT count(*) = 2 FROM order_lines)",
        ),
        "Take changes in an application" => (
            vec!["CREATE TABLE invoices (id int PRIMARY KEY, customer text);"],
            "SELECT count(*) = 17 AND count(message) = 1 FROM sync.deliveries",
        ),
        "Sync a view, or a foreign table" => (
            vec![
                "CREATE TABLE purchases (customer_id int, amount int); INSERT INTO purchases VALUES (1, 10), (1, 5), (2, 7);
                 CREATE VIEW customer_totals AS SELECT customer_id, sum(amount) AS total FROM purchases GROUP BY customer_id;
                 CREATE SCHEMA crm; CREATE TABLE crm.customers (customer_id int PRIMARY KEY, total bigint);",
            ],
            "SELECT (sync.wait('customers')).settled AND (SELECT array_agg(total ORDER BY customer_id) = '{15,7}' FROM crm.customers)",
        ),
        "Pair rows that are on both sides already" => (
            vec![
                CUSTOMERS,
                "INSERT INTO customers (email, phone) VALUES ('Ada@example.com ', '1');
                 INSERT INTO shop.buyers (mail, phone) VALUES ('ada@example.com', '2');",
            ],
            "SELECT (sync.wait('buyers')).settled AND (SELECT count(*) FROM shop.buyers) = 1
                AND (SELECT string_agg(field, ' ' ORDER BY field) FROM sync.conflicts WHERE winner IS NULL) = 'mail phone'",
        ),
        "Test a sync" => (
            vec![
                CUSTOMERS,
                r#"SELECT FROM sync.create_sync('buyers', '{"source": "customers", "target": "shop.buyers", "field_mappings": [
                     {"source": "email", "target": "mail"}, {"source": "phone", "target": "phone"}],
                     "match_on": [{"source": "email", "target": "mail"}]}');"#,
            ],
            "SELECT count(*) = 1 FROM shop.buyers",
        ),
        "Give somebody the right to make syncs, or to look" => (
            vec!["CREATE ROLE app_owner; CREATE ROLE dashboard;"],
            "SELECT has_function_privilege('app_owner', 'sync.pause(text)', 'EXECUTE')
                AND NOT has_function_privilege('dashboard', 'sync.pause(text)', 'EXECUTE')",
        ),
        "Roll a sync out in steps" => (
            vec![ACCOUNTS],
            "SELECT sync.show('accounts') ->> 'sync_type' = 'bidirectional' AND NOT sync.show('accounts') ? 'two_way_where'",
        ),
        "Change many syncs at once" => (
            vec![
                ACCOUNTS,
                r#"SELECT FROM sync.create_sync('hc_accounts', '{"source": {"connection": "crm", "object": "Account"},
                     "target": "accounts", "field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "Name", "target": "name"}]}');"#,
            ],
            "SELECT sync.show('hc_accounts') ->> 'sync_type' = 'one_way'",
        ),
        "Keep the configuration in git" => (
            accounts(),
            "SELECT string_agg(DISTINCT action, ' ') = 'unchanged' FROM sync.import(sync.export(), dry_run => true)",
        ),
        _ => (accounts(), quiet),
    }
}

#[test]
fn what_the_how_to_says_can_be_done_as_it_stands() {
    let (org, cluster) = with_org(local_org::Options::default(), &[]);
    for field in [
        Field::new("Email__c", FieldType::Email),
        Field::new("Region__c", FieldType::String).length(40),
    ] {
        org.define_field("Account", field).unwrap();
    }
    org.insert("Account", json!({"Name": "Globex"})).unwrap();
    let folder = cluster.directory().join("how-to");
    fs::create_dir(&folder).unwrap();
    for (file, text) in [
        ("consumer_key", org.client_id()),
        ("consumer_secret", org.client_secret()),
        ("key.pem", local_org::keys::PRIVATE_KEY),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
    let all = blocks("docs/how-to.md");
    for (number, section) in all.chunk_by(|a, b| a.heading == b.heading).enumerate() {
        let heading = &section[0].heading;
        let (given, then) = given(heading);
        let database = cluster.database(&format!("how_to_{number}")).unwrap();
        let mut parts = vec![format!(
            "CREATE EXTENSION sync_ext;\n\\set id '{}'\n\\set secret '{}'\n{}",
            org.client_id(),
            org.client_secret(),
            given.concat()
        )];
        parts.extend(section.iter().map(|block| part(&cluster, &folder, block)));
        for part in &mut parts {
            *part = part.replace("https://acme.my.salesforce.com", "ORG").replace("ORG", org.url());
        }
        let printed = psql(&cluster, database.name(), &folder, &parts);
        assert!(!printed[0].contains("ERROR"), "given for {heading:?}: {}", printed[0]);
        for (block, printed) in section.iter().zip(&printed[1..]) {
            compare(block, printed);
        }
        let mut c = database.connect();
        let mut last = String::new();
        let holds = cluster::poll(std::time::Duration::from_secs(20), || {
            last = query_one(&mut c, then);
            last == "t"
        });
        assert!(holds, "after {heading:?}: {then}: {last}\n{printed:#?}");
    }
}

/// A block as psql takes it, and what the text says happens before the next.
fn part(cluster: &Cluster, folder: &Path, block: &Block) -> String {
    if block.shell {
        let file = folder.join("block.sh");
        fs::write(&file, &block.code).unwrap();
        let psql = cluster.server().program("psql");
        return format!(
            "\\! PATH={}:$PATH bash -eu -o pipefail {} || echo 'ERROR:  the shell'",
            psql.parent().unwrap().display(),
            file.display()
        );
    }
    let then = match () {
        () if block.code.contains("'joe'") => "SET ROLE joe;",
        () if block.code.contains(r#""type": "application""#) => {
            "INSERT INTO invoices SELECT n, 'customer' FROM generate_series(1, 19) n;
             DO $$ BEGIN WHILE (SELECT count(*) < 19 FROM sync.deliveries) LOOP COMMIT; PERFORM pg_sleep(0.01); END LOOP; END $$;"
        }
        () => "",
    };
    format!("{}{then}", block.code)
}
