use crate::client::{Client, DATA, encode};
use serde_json::{Value, json};

fn part(reference: &str, method: &str, path: &str, body: Value) -> Value {
    json!({"referenceId": reference, "method": method, "url": format!("{DATA}{path}"), "body": body})
}

#[test]
fn parts_use_what_earlier_ones_answered() {
    let client = Client::start();
    let reply = client.post("/composite", &json!({"compositeRequest": [
        part("a", "POST", "/sobjects/Account", json!({"Name": "Acme"})),
        part("c", "POST", "/sobjects/Contact", json!({"LastName": "Doe", "AccountId": "@{a.id}"})),
        part("q", "GET", "/query?q=SELECT+Id+FROM+Contact+WHERE+AccountId='@{a.id}'", Value::Null),
        part("p", "PATCH", "/sobjects/Contact/@{q.records[0].Id}", json!({"Title": "of @{a.id}"})),
        part("x", "GET", "/sobjects/Account/@{nothing.id}", Value::Null),
    ]}));
    let parts = reply.json()["compositeResponse"].clone();
    let statuses: Vec<u64> = parts
        .as_array()
        .expect("parts")
        .iter()
        .map(|p| p["httpStatusCode"].as_u64().unwrap_or(0))
        .collect();
    assert_eq!(statuses, [201, 201, 200, 204, 400], "{}", reply.text);
    assert_eq!(parts[3]["body"], Value::Null);
    assert!(parts[0]["httpHeaders"]["Location"].is_string());
    assert_eq!(parts[4]["body"][0]["errorCode"], "PROCESSING_HALTED");
    let contact = client.org.records("Contact").remove(0);
    let account = contact["AccountId"].as_str().unwrap_or_default();
    assert_eq!(contact["Title"], json!(format!("of {account}")));
}

#[test]
fn all_or_none_really_goes_back() {
    let client = Client::start();
    let old = client.account("Old");
    let reply = client.post(
        "/composite",
        &json!({"allOrNone": true, "compositeRequest": [
            part("a", "POST", "/sobjects/Account", json!({"Name": "New"})),
            part("b", "PATCH", &format!("/sobjects/Account/{old}"), json!({"Name": "Changed"})),
            part("c", "POST", "/sobjects/Contact", json!({})),
            part("d", "DELETE", &format!("/sobjects/Account/{old}"), Value::Null),
        ]}),
    );
    assert_eq!(reply.status, 200);
    let parts = reply.json()["compositeResponse"].clone();
    let codes: Vec<&str> = parts
        .as_array()
        .expect("parts")
        .iter()
        .map(|p| p["body"][0]["errorCode"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(
        codes,
        ["PROCESSING_HALTED", "PROCESSING_HALTED", "REQUIRED_FIELD_MISSING", "PROCESSING_HALTED"]
    );
    assert_eq!(client.org.count("Account"), 1);
    assert_eq!(client.org.get(&old).map(|r| r["Name"].clone()), Some(json!("Old")));
}

#[test]
fn limits_and_references_are_checked_first() {
    let client = Client::start();
    let many = |count: usize, path: &str| -> Value {
        (0..count).map(|n| part(&format!("r{n}"), "GET", path, Value::Null)).collect()
    };
    let query = format!("/query?q={}", encode("SELECT Id FROM Account"));
    for (parts, code) in [
        (many(26, "/limits"), "LIMIT_EXCEEDED"),
        (many(6, &query), "LIMIT_EXCEEDED"),
        (many(6, "/composite/sobjects/Account?ids=&fields=Id"), "LIMIT_EXCEEDED"),
        (json!([]), "LIMIT_EXCEEDED"),
        (json!([part("1a", "GET", "/limits", Value::Null)]), "INVALID_REQUEST"),
        (
            json!([
                part("a", "GET", "/limits", Value::Null),
                part("a", "GET", "/limits", Value::Null)
            ]),
            "INVALID_REQUEST",
        ),
        (json!([7]), "JSON_PARSER_ERROR"),
        (json!(7), "JSON_PARSER_ERROR"),
    ] {
        let reply = client.post("/composite", &json!({"compositeRequest": parts}));
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{}", reply.text);
    }
    assert_eq!(
        client.post("/composite", &json!({"compositeRequest": many(5, &query)})).status,
        200
    );
}

#[test]
fn a_read_and_a_write_of_collections_go_in_one_call() {
    let client = Client::start();
    let id = client.account("Before");
    let record = json!({"attributes": {"type": "Account"}, "id": id, "Name": "After"});
    let reply = client.post("/composite", &json!({"compositeRequest": [
        part("read", "POST", "/composite/sobjects/Account", json!({"ids": [id], "fields": ["Id", "Name"]})),
        part("write", "PATCH", "/composite/sobjects", json!({"records": [record]})),
    ]}));
    let parts = reply.json()["compositeResponse"].clone();
    assert_eq!(parts[0]["body"][0]["Name"], "Before");
    assert_eq!(parts[1]["body"][0]["success"], true);
    assert_eq!(client.org.usage().0, 2);
}
