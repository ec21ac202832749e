use crate::client::Client;
use serde_json::{Value, json};

fn accounts(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"attributes": {"type": "Account"}, "Name": name})).collect()
}

fn codes(results: &Value) -> Vec<String> {
    let list = results.as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|result| result["errors"][0]["statusCode"].as_str().unwrap_or("ok").to_owned())
        .collect()
}

#[test]
fn each_record_of_a_create_has_a_result_of_its_own() {
    let client = Client::start();
    let reply = client.post("/composite/sobjects/", &json!({"records": accounts(&["A", "", "B"])}));
    assert_eq!(
        (reply.status, codes(&reply.json())),
        (200, vec!["ok".into(), "REQUIRED_FIELD_MISSING".into(), "ok".into()])
    );
    assert_eq!(reply.json()[1].get("id"), None);
    assert_eq!(reply.json()[1]["errors"][0]["fields"], json!(["Name"]));
    assert_eq!(reply.json()[0].get("created"), None);
    assert_eq!(client.org.count("Account"), 2);
}

#[test]
fn all_or_none_takes_the_good_records_back() {
    let client = Client::start();
    let reply = client
        .post("/composite/sobjects", &json!({"allOrNone": true, "records": accounts(&["A", ""])}));
    let wanted =
        vec!["ALL_OR_NONE_OPERATION_ROLLED_BACK".to_owned(), "REQUIRED_FIELD_MISSING".into()];
    assert_eq!(codes(&reply.json()), wanted);
    assert_eq!(client.org.count("Account"), 0);
    let id = client.account("A");
    let records = json!([
        {"attributes": {"type": "Account"}, "id": id, "Name": "B"},
        {"attributes": {"type": "Account"}, "id": id, "Name": null},
    ]);
    client.patch("/composite/sobjects", &json!({"allOrNone": true, "records": records}));
    assert_eq!(client.org.get(&id).map(|r| r["Name"].clone()), Some(json!("A")));
}

#[test]
fn what_is_wrong_with_the_call_refuses_all_of_it() {
    let client = Client::start();
    let mixed: Vec<Value> = (0..12)
        .map(|n| json!({"attributes": {"type": if n % 2 == 0 { "Account" } else { "Contact" }}, "Name": "A"}))
        .collect();
    for (body, code) in [
        (json!({}), "REQUIRED_FIELD_MISSING"),
        (json!({"records": []}), "REQUIRED_FIELD_MISSING"),
        (json!({"records": accounts(&["A"; 201])}), "EXCEEDED_ID_LIMIT"),
        (json!({"records": mixed}), "LIMIT_EXCEEDED"),
        (json!({"records": [{"attributes": {"type": "Account"}, "Name": 5}]}), "JSON_PARSER_ERROR"),
        (json!({"records": [1]}), "JSON_PARSER_ERROR"),
        (json!([]), "JSON_PARSER_ERROR"),
    ] {
        let reply = client.post("/composite/sobjects", &body);
        assert_eq!((reply.status, reply.code().as_str()), (400, code));
    }
    assert_eq!(client.org.count("Account"), 0);
    let reply = client.post(
        "/composite/sobjects",
        &json!({"records": [{"Name": "A"}, {"attributes": {"type": "X"}}]}),
    );
    assert_eq!(codes(&reply.json()), ["JSON_PARSER_ERROR", "INVALID_TYPE"]);
}

#[test]
fn updates_name_their_records() {
    let client = Client::start();
    let id = client.account("A");
    let gone = client.account("B");
    client.org.delete(&gone).expect("a delete");
    let record = |id: Value| json!({"attributes": {"type": "Account"}, "Id": id, "Name": "C"});
    let records = json!([
        record(json!(&id[..15])),
        {"attributes": {"type": "Account"}, "Name": "C"},
        record(json!("001Lo0zzzzzzzzz")),
        record(json!("abc")),
        record(json!(gone)),
        record(json!(client.org.users().0)),
    ]);
    let reply = client.patch("/composite/sobjects", &json!({"records": records}));
    assert_eq!(
        codes(&reply.json()),
        [
            "ok",
            "MISSING_ARGUMENT",
            "INVALID_CROSS_REFERENCE_KEY",
            "MALFORMED_ID",
            "ENTITY_IS_DELETED",
            "MALFORMED_ID"
        ]
    );
    assert_eq!(reply.json()[0]["id"], json!(id));
    assert_eq!(client.org.get(&id).map(|r| r["Name"].clone()), Some(json!("C")));
}

#[test]
fn the_thirteenth_update_of_a_record_in_one_call_fails() {
    let client = Client::start();
    let id = client.account("A");
    let records: Vec<Value> = (0..14)
        .map(|n| json!({"attributes": {"type": "Account"}, "id": id, "Name": n.to_string()}))
        .collect();
    let reply = client.patch("/composite/sobjects", &json!({"records": records}));
    let codes = codes(&reply.json());
    assert_eq!((codes[11].as_str(), codes[12].as_str()), ("ok", "DUPLICATE_VALUE"));
    assert_eq!(client.org.get(&id).map(|r| r["Name"].clone()), Some(json!("11")));
}

#[test]
fn an_upsert_tells_what_it_created() {
    let client = Client::start();
    let old = client
        .org
        .insert("Account", json!({"Name": "A", "External_Id__c": "old"}))
        .expect("an account");
    let record =
        |key: Value| json!({"attributes": {"type": "Account"}, "Name": "N", "External_Id__c": key});
    let records = json!([
        record(json!("OLD")),
        record(json!("new")),
        record(json!("twice")),
        record(json!("Twice")),
        record(json!(null)),
        {"attributes": {"type": "Contact"}, "LastName": "N"},
    ]);
    let path = "/composite/sobjects/Account/External_Id__c";
    let reply = client.patch(path, &json!({"records": records}));
    assert_eq!(
        codes(&reply.json()),
        ["ok", "ok", "DUPLICATE_VALUE", "DUPLICATE_VALUE", "MISSING_ARGUMENT", "INVALID_TYPE"]
    );
    let results = reply.json();
    assert_eq!((&results[0]["created"], &results[0]["id"]), (&json!(false), &json!(old)));
    assert_eq!(results[1]["created"], json!(true));
    assert_eq!(client.org.count("Account"), 2);
    assert_eq!(
        client.patch("/composite/sobjects/Account/Phone", &json!({"records": records})).code(),
        "NOT_FOUND"
    );
    // By the id: null creates.
    let records = json!([
        {"attributes": {"type": "Account"}, "Id": null, "Name": "X"},
        {"attributes": {"type": "Account"}, "Id": old, "Name": "Y"},
    ]);
    let results =
        client.patch("/composite/sobjects/Account/Id", &json!({"records": records})).json();
    assert_eq!((&results[0]["created"], &results[1]["created"]), (&json!(true), &json!(false)));
}

#[test]
fn deletes_are_told_by_ids() {
    let client = Client::start();
    let (a, b) = (client.account("A"), client.account("B"));
    let path = format!("/composite/sobjects?ids={a},001Lo0zzzzzzzzzAAA,{a}&allOrNone=false");
    let reply = client.delete(&path);
    assert_eq!(codes(&reply.json()), ["ok", "MALFORMED_ID", "ENTITY_IS_DELETED"]);
    let reply = client.delete(&format!("/composite/sobjects?ids={b},x&allOrNone=true"));
    assert_eq!(codes(&reply.json()), ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "MALFORMED_ID"]);
    assert_eq!(client.org.count("Account"), 1);
    assert_eq!(client.delete("/composite/sobjects?ids=").status, 400);
}

#[test]
fn reads_keep_the_order_and_tell_what_is_missing() {
    let client = Client::start();
    let (a, b) = (client.account("A"), client.account("B"));
    client.org.delete(&a).expect("a delete");
    let body = json!({"ids": [b, a, "001Lo0zzzzzzzzz", b], "fields": ["name", "Owner.Name"]});
    let records = client.post("/composite/sobjects/Account", &body).json();
    assert_eq!(records[0]["Name"], "B");
    assert_eq!(records[0]["Owner"]["Name"], "Integration");
    assert_eq!(
        (&records[1], &records[2], &records[3]["Name"]),
        (&json!(null), &json!(null), &json!("B"))
    );
    let get = client.get(&format!("/composite/sobjects/Account?ids={b},{a}&fields=Id")).json();
    assert_eq!((&get[0]["Id"], &get[1]), (&json!(b), &json!(null)));
    for (body, code) in [
        (json!({"ids": ["x"], "fields": ["Id"]}), "MALFORMED_ID"),
        (json!({"ids": [b], "fields": ["Nothing"]}), "INVALID_FIELD"),
        (json!({"ids": [b]}), "REQUIRED_FIELD_MISSING"),
        (json!({"ids": vec![b.as_str(); 2001], "fields": ["Id"]}), "EXCEEDED_ID_LIMIT"),
    ] {
        assert_eq!(client.post("/composite/sobjects/Account", &body).code(), code);
    }
}
