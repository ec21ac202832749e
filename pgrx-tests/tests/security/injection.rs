//! Text that wants to be SQL: in every key of the configuration language that takes one, and in every argument of every
//! function. The keys are those of the published schema and the functions those of the catalog, so that a new one is
//! tried by itself.

use cluster::postgres::Client;
use cluster::{Cluster, Db, Options};
use pgrx_tests::{Shared, query_one, rows, run};
use serde_json::{Map, Value, json};

/// What is tried everywhere.
fn hostile() -> Vec<String> {
    [
        "'",
        "\"",
        "'; DROP TABLE canary; --",
        "\"; DROP TABLE canary; --",
        "$$; DROP TABLE canary; $$",
        "$x$",
        "name); DELETE FROM canary; --",
        "name) FROM a; CREATE ROLE intruder SUPERUSER; SELECT (1",
        "name) AS text) LIKE CAST((name",
        "x' OR '1'='1",
        "\\'; DROP TABLE canary; --",
        "E'\\047; DROP TABLE canary; --",
        "line\nbreak\r\t/*",
        "/* nested /* comment */",
        "%s%n%1$s%I{}{0}$1",
        "\u{202e}\u{feff}ünïcode\u{1f4a9}",
        "(SELECT secret FROM vault)",
        "made_by_intruder()",
        "*",
        " ",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain(["(".repeat(5_000), "n".repeat(100_000), format!("name{}", " || name".repeat(3_000))])
    .collect()
}

/// What a key needs beside it to be looked at at all, by the path of its object.
fn beside(path: &str, key: &str) -> Value {
    match path {
        "field_mappings[]" => json!({"source": "name", "target": "name"}),
        "validation_rules[]" => {
            let rule = match key {
                "pattern" => json!({"rule": "regex"}),
                "condition" => json!({"rule": "condition"}),
                "values" => json!({"rule": "allowed_values"}),
                "min" | "max" => json!({"rule": "range"}),
                _ => json!({"rule": "email_format"}),
            };
            merged(json!({"field": "name"}), rule)
        }
        "match_on[]" => json!({"source": "name", "target": "name"}),
        "conflict_resolution" if key == "function" => json!({"strategy": "function"}),
        "conflict_resolution" if key == "priority_system" => json!({"strategy": "system_priority"}),
        "conflict_resolution" if key == "field_rules" => {
            json!({"strategy": "field_level_priority"})
        }
        "conflict_resolution.field_rules[]" => json!({"field": "name"}),
        "conflict_resolution.column_groups[]" => json!({"name": "g", "fields": ["name", "email"]}),
        "on_source_delete" | "on_target_delete" => json!({"action": "mark"}),
        "source" | "target" => match key {
            "connection" => json!({"object": "Account"}),
            "type" => {
                json!({"object": "Account", "credentials": {"instance_url": "https://x.my.salesforce.com"}})
            }
            "credentials" => json!({"object": "Account", "type": "salesforce"}),
            "schema" => json!({"table": "a"}),
            _ => json!({}),
        },
        "connected_systems[]" => json!({"system": "local", "objects": ["a"], "tables": ["b"]}),
        _ => json!({}),
    }
}

fn merged(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

/// The places of a schema that take a text: each as its path and what makes the piece of a document with a text there.
type Make = Box<dyn Fn(&str) -> Value>;

fn places(path: &str, schema: &Value, found: &mut Vec<(String, Make)>) {
    for of in schema["anyOf"].as_array().into_iter().flatten() {
        places(path, of, found);
    }
    let takes_text = schema["type"] == "string"
        || schema.get("enum").is_some()
        || schema.as_object().is_some_and(|keys| keys.keys().all(|key| key == "examples"));
    if takes_text {
        found.push((path.to_owned(), Box::new(|text| json!(text))));
    }
    if let Some(items) = schema.get("items") {
        let of_mappings = path == "field_mappings";
        let least = schema["minItems"].as_u64().unwrap_or(1).max(1);
        let mut inner = Vec::new();
        places(&format!("{path}[]"), items, &mut inner);
        for (path, make) in inner {
            found.push((
                path,
                Box::new(move |text| {
                    let mut list = vec![make(text)];
                    list.extend((1..least).map(|_| json!("email")));
                    // Rows keep their keys.
                    if of_mappings {
                        list.push(json!({"source": "id", "target": "id"}));
                    }
                    json!(list)
                }),
            ));
        }
    }
    if schema["additionalProperties"].is_object() {
        found.push((format!("{path}.*"), Box::new(|text| json!({"instance_url": text}))));
        found.push((format!("{path}.key"), Box::new(|text| json!({text: "x"}))));
    }
    for (key, of) in schema["properties"].as_object().into_iter().flatten() {
        let mut siblings = Map::new();
        for needed in schema["required"].as_array().into_iter().flatten() {
            let needed = needed.as_str().unwrap();
            siblings.insert(needed.to_owned(), schema["properties"][needed]["examples"][0].clone());
        }
        let siblings = merged(Value::Object(siblings), beside(path, key));
        let mut inner = Vec::new();
        let inside = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        places(&inside, of, &mut inner);
        for (path, make) in inner {
            let (key, siblings) = (key.clone(), siblings.clone());
            found.push((
                path,
                Box::new(move |text| merged(siblings.clone(), json!({&key: make(text)}))),
            ));
        }
    }
}

fn quoted(text: &str) -> String {
    // What a client can send is text of the encoding; the rest is between quotes.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// What nobody may have changed: seen by a superuser.
fn untouched(admin: &mut Client) -> Vec<String> {
    rows(
        admin,
        "SELECT 'canary ' || count(*) || ' ' || coalesce(string_agg(v, ','), '') FROM canary
         UNION ALL SELECT 'vault ' || string_agg(secret, ',') FROM vault
         UNION ALL SELECT 'roles ' || string_agg(rolname || rolsuper::text, ',' ORDER BY rolname) FROM pg_roles
         UNION ALL SELECT 'relations ' || string_agg(relname, ',' ORDER BY oid) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'S', 'f') AND relnamespace <> 'pg_toast'::regnamespace
         UNION ALL SELECT 'functions ' || count(*) FROM pg_proc
         UNION ALL SELECT 'servers ' || count(*) FROM pg_foreign_server
         UNION ALL SELECT 'triggers ' || count(*) FROM pg_trigger
         UNION ALL SELECT 'syncs ' || string_agg(s::text, ';' ORDER BY id) FROM sync._sync s
         UNION ALL SELECT 'queue ' || count(*) FROM sync._queue
         UNION ALL SELECT 'settings ' || count(*) FROM pg_db_role_setting",
    )
}

fn prepare(db: &Db<'_>) -> (Client, Client) {
    let mut admin = db.connect();
    run(
        &mut admin,
        r#"CREATE EXTENSION sync_ext;
           CREATE TABLE canary (v text); INSERT INTO canary VALUES ('sings'); GRANT ALL ON canary TO PUBLIC;
           CREATE TABLE vault (secret text); INSERT INTO vault VALUES ('top');
           CREATE TABLE x (id int PRIMARY KEY, name text); CREATE TABLE y (LIKE x INCLUDING ALL);
           SELECT sync.create_sync('of somebody else', '{"source": "x", "target": "y"}');
           CREATE ROLE intruder_to_be LOGIN; SELECT sync.grant('intruder_to_be'); GRANT CREATE ON SCHEMA public TO intruder_to_be;"#,
    );
    let mut owner = db.connect_as("intruder_to_be");
    let columns = "id int PRIMARY KEY, name text, email text, account_name text, deleted bool, last_sync timestamptz";
    run(
        &mut owner,
        &format!(
            r#"CREATE TABLE a ({columns}); CREATE TABLE b ({columns}); CREATE TABLE c ({columns}); CREATE TABLE d ({columns});
               INSERT INTO a (id, name) VALUES (1, 'one');
               SELECT sync.create_sync('mine', '{{"source": "c", "target": "d", "sync_type": "bidirectional"}}');"#
        ),
    );
    (admin, owner)
}

/// Runs what may succeed or fail, and takes it back; returns the error, if any.
fn tried(client: &mut Client, sql: &str) -> Option<(String, String, bool)> {
    let done = client.batch_execute(&format!("BEGIN; {sql}"));
    client.batch_execute("ROLLBACK").unwrap();
    let error = done.err()?;
    let Some(error) = error.as_db_error() else { panic!("the server is gone: {error}") };
    let whole = [Some(error.message()), error.detail(), error.hint()];
    let told = error.detail().is_some() && error.hint().is_some();
    let text = whole.into_iter().flatten().collect::<Vec<_>>().join(" - ");
    Some((error.code().code().to_owned(), text, told))
}

/// What of a message is of use where a text of 100,000 characters was tried.
fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

#[test]
fn no_text_of_a_document_or_an_argument_becomes_sql() {
    let options = Options::new("injection").conf("statement_timeout = '20s'");
    let cluster = Cluster::start_new(Shared::cluster().server(), options).unwrap();
    let db = cluster.database("injection").unwrap();
    let (mut admin, mut owner) = prepare(&db);
    let before = untouched(&mut admin);
    let mut wrong: Vec<String> = Vec::new();
    let schema: Value =
        serde_json::from_str(&query_one(&mut owner, "SELECT sync.document_schema()")).unwrap();
    let mut all = Vec::new();
    places("", &schema, &mut all);
    assert!(all.len() > 90, "{}", all.len());
    let hostile = hostile();
    for (path, make) in &all {
        // Refused with the key itself, or with one that it stands in.
        let keys: Vec<&str> = path
            .split('.')
            .filter(|part| !["*", "key"].contains(part))
            .map(|key| key.trim_end_matches("[]"))
            .collect();
        let base = if path.starts_with("connected_systems") {
            json!({"sync_hub": "local"})
        } else {
            json!({"source": "a", "target": "b", "sync_type": "bidirectional"})
        };
        for text in &hostile {
            let piece = make(text);
            let new = merged(base.clone(), piece.clone());
            let (new, piece) = (quoted(&new.to_string()), quoted(&piece.to_string()));
            for call in [
                format!("SELECT sync.create_sync('new', {new})"),
                format!("SELECT * FROM sync.plan('new', {new})"),
                format!("SELECT sync.alter_sync('mine', {piece})"),
                format!(
                    "SELECT sync.import(jsonb_build_object('sync_ext', 1, 'syncs', jsonb_build_object('new', {new}::jsonb)))"
                ),
            ] {
                let Some((state, says, told)) = tried(&mut owner, &call) else { continue };
                // A sync cannot be moved elsewhere, and a connection is made before it is planned with.
                let elsewhere = says.contains("cannot be moved") || state == "55000";
                let named = told && keys.iter().any(|key| says.contains(key));
                let named = named || elsewhere || state.starts_with("HV");
                if state.starts_with("XX") || !(named || call.contains("import")) {
                    wrong.push(format!("{path}: {state} {}", short(&says.replace(text, "..."))));
                }
            }
        }
    }
    arguments(&mut owner, &hostile, &mut wrong);
    assert_eq!(untouched(&mut admin), before);
    let log = cluster.log_text();
    // Texts of the user's are told to be none, with the key that they stand at; none was met where it was not expected.
    let unquoted = log.lines().filter(|line| {
        let of_an_expression = line.contains("cannot be used: ");
        line.contains("ERROR:") && line.contains("syntax error") && !of_an_expression
    });
    wrong.extend(unquoted.map(short));
    let broken = ["PANIC:", "was terminated by signal", "server process (PID"];
    wrong.extend(log.lines().filter(|line| broken.iter().any(|b| line.contains(b))).map(short));
    wrong.sort_unstable();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every function of the extension, with such a text in each of its arguments.
fn arguments(owner: &mut Client, hostile: &[String], wrong: &mut Vec<String>) {
    let functions = rows(
        owner,
        "SELECT p.proname, p.prokind, p.proretset,
                (SELECT string_agg(coalesce(a.name, '') || ':' || format_type(a.type, NULL), ',' ORDER BY a.n)
                   FROM unnest(p.proargtypes::oid[], p.proargnames[1:p.pronargs]) WITH ORDINALITY AS a (type, name, n)), p.provariadic <> 0
           FROM pg_proc p WHERE p.pronamespace = 'sync'::regnamespace AND p.proname NOT LIKE '\\_%'
            AND has_function_privilege(p.oid, 'EXECUTE') AND p.prorettype <> 'trigger'::regtype",
    );
    assert!(functions.len() > 40, "{functions:?}");
    for function in &functions {
        let parts: Vec<&str> = function.split('|').collect();
        let [name, kind, _, list, variadic] = parts[..] else { panic!("{function}") };
        let types: Vec<&str> = list.split(',').filter_map(|a| Some(a.split_once(':')?.1)).collect();
        if !types.iter().any(|of| of.starts_with("text") || of.starts_with("jsonb")) {
            continue;
        }
        for text in hostile {
            for at in 0..types.len() {
                let values: Vec<String> = types
                    .iter()
                    .enumerate()
                    .map(|(n, of)| value(of, if n == at { Some(text.as_str()) } else { None }))
                    .enumerate()
                    .map(|(n, value)| {
                        let last = n + 1 == types.len() && variadic == "t";
                        if last { format!("VARIADIC {value}") } else { value }
                    })
                    .collect();
                let values = values.join(", ");
                let failed = match kind {
                    "p" => tried(owner, &format!("CALL sync.{name}({values})")),
                    _ => tried(owner, &format!("SELECT * FROM sync.\"{name}\"({values})")),
                };
                let Some((state, says, _)) = failed else { continue };
                if state.starts_with("XX") || state == "42601" || state == "57014" {
                    wrong.push(format!(
                        "sync.{name}, argument {}: {state} {}",
                        at + 1,
                        short(&says)
                    ));
                }
            }
        }
    }
}

/// A value of a type, with the text in it where there is one.
fn value(of: &str, text: Option<&str>) -> String {
    match of {
        "text" => quoted(text.unwrap_or("mine")),
        "text[]" => format!("ARRAY[{}]", quoted(text.unwrap_or("mine"))),
        "jsonb" => {
            format!("{}::jsonb", quoted(&json!({text.unwrap_or("where"): text}).to_string()))
        }
        "jsonb[]" => {
            format!("ARRAY[{}::jsonb]", quoted(&json!({text.unwrap_or("where"): text}).to_string()))
        }
        "interval" => "'0'::interval".to_owned(),
        "boolean" => "false".to_owned(),
        "bigint[]" => "ARRAY[1]::bigint[]".to_owned(),
        other => format!("1::{other}"),
    }
}
