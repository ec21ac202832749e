use crate::client::{Client, DATA};
use local_org::{DuplicateRule, Options};
use serde_json::{Value, json};

const HEADER: &str = "Sforce-Duplicate-Rule-Header";

fn client(rule: DuplicateRule) -> Client {
    Client::with(Options { duplicate_rules: vec![rule], ..Options::default() })
}

fn post(client: &Client, header: &str, body: &Value) -> crate::client::Reply {
    let path = "/sobjects/Contact";
    client.call_with("POST", path, &[(HEADER, header)], body).expect("an answer")
}

#[test]
fn a_duplicate_is_refused_with_what_it_duplicates() {
    let client = client(DuplicateRule::new("Contact", &["LastName", "Email"]));
    let ada = json!({"LastName": "King", "FirstName": "Ada", "Email": "ada@example.com"});
    let id = client.post("/sobjects/Contact", &ada).json()["id"].clone();
    let again = json!({"LastName": "KING", "Email": "Ada@Example.com"});
    let reply = client.post("/sobjects/Contact", &again);
    let url = format!("{DATA}/sobjects/Contact/{}", id.as_str().unwrap_or_default());
    let record = json!({"attributes": {"type": "Contact", "url": url}, "Id": id});
    let result = json!({
        "allowSave": true,
        "duplicateRule": "Local_Contact_Duplicate_Rule",
        "duplicateRuleEntityType": "Contact",
        "errorMessage": "Use one of these records?",
        "matchResults": [{
            "entityType": "Contact",
            "errors": [],
            "matchEngine": "ExactMatchEngine",
            "matchRecords": [{"additionalInformation": [], "fieldDiffs": [], "matchConfidence": 100.0, "record": record}],
            "rule": "Local_Contact_Match_Rule",
            "size": 1,
            "success": true,
        }],
    });
    let told = json!([{"duplicateResult": result, "message": "Use one of these records?", "errorCode": "DUPLICATES_DETECTED"}]);
    assert_eq!((reply.status, reply.json()), (400, told));
    // With its fields, if they are wanted.
    let reply = post(&client, "allowSave=false; includeRecordDetails=true", &again).json();
    let record = &reply[0]["duplicateResult"]["matchResults"][0]["matchRecords"][0]["record"];
    assert_eq!((&record["FirstName"], &record["Name"]), (&json!("Ada"), &json!("Ada King")));
    // All of the fields have to be the same, and none of them empty.
    for other in
        [json!({"LastName": "King", "Email": "b@example.com"}), json!({"LastName": "King"})]
    {
        assert_eq!(client.post("/sobjects/Contact", &other).status, 201, "{other}");
    }
    assert_eq!(client.post("/sobjects/Contact", &json!({"LastName": "King"})).status, 201);
    // A record in the recycle bin is no duplicate.
    client.delete(&format!("/sobjects/Contact/{}", id.as_str().unwrap_or_default()));
    assert_eq!(client.post("/sobjects/Contact", &again).status, 201);
}

#[test]
fn who_insists_is_let_through_unless_the_rule_blocks() {
    let client = client(DuplicateRule::new("Contact", &["LastName"]));
    let body = json!({"LastName": "King"});
    assert_eq!(client.post("/sobjects/Contact", &body).status, 201);
    assert_eq!(post(&client, "allowSave=false", &body).code(), "DUPLICATES_DETECTED");
    assert_eq!(post(&client, "allowSave=true; runAsCurrentUser=true", &body).status, 201);
    client.control("DELETE", "/duplicate_rules", &Value::Null);
    assert_eq!(client.post("/sobjects/Contact", &body).status, 201);
    let rule = json!({"object": "contact", "fields": ["lastname"], "name": "Mine", "block": true, "message": "There is one."});
    assert_eq!(client.control("POST", "/duplicate_rules", &rule).status, 200);
    let reply = post(&client, "allowSave=true", &body).json();
    let result = &reply[0]["duplicateResult"];
    assert_eq!(
        (&reply[0]["message"], &result["duplicateRule"], &result["allowSave"]),
        (&json!("There is one."), &json!("Mine"), &json!(false))
    );
    assert_eq!(result["matchResults"][0]["size"], 3);
    for wrong in [
        json!({"object": "Contact", "fields": ["Nothing"]}),
        json!({"object": "Contact", "fields": []}),
    ] {
        assert_eq!(client.control("POST", "/duplicate_rules", &wrong).status, 400);
    }
}

#[test]
fn each_record_of_a_call_is_examined_and_so_is_a_change() {
    let client = client(DuplicateRule::new("Account", &["Name"]));
    let record = |name: &str| json!({"attributes": {"type": "Account"}, "Name": name});
    let body = json!({"records": [record("A"), record("a"), record("B")]});
    let results = client.post("/composite/sobjects", &body).json();
    let error = &results[1]["errors"][0];
    assert_eq!(
        (&error["statusCode"], &error["fields"], &results[2]["success"]),
        (&json!("DUPLICATES_DETECTED"), &json!([]), &json!(true))
    );
    let found = &error["duplicateResult"]["matchResults"][0]["matchRecords"][0]["record"]["Id"];
    assert_eq!(found, &results[0]["id"]);
    let path = format!("/sobjects/Account/{}", results[2]["id"].as_str().unwrap_or_default());
    assert_eq!(client.patch(&path, &json!({"Name": "A"})).code(), "DUPLICATES_DETECTED");
    assert_eq!(client.patch(&path, &json!({"Name": "C"})).status, 204);
    // Others are above the rule; a change of another field does not ask it.
    let id = client.org.insert("Account", json!({"Name": "A"})).expect("an account");
    let path = format!("/sobjects/Account/{id}");
    assert_eq!(client.patch(&path, &json!({"Name": "A", "Phone": "1"})).status, 204);
    let key = "/sobjects/Account/External_Id__c/k";
    assert_eq!(client.patch(key, &json!({"Name": "A"})).code(), "DUPLICATES_DETECTED");
    assert_eq!(client.org.count("Account"), 3);
}

#[test]
fn a_part_of_a_composite_insists_by_itself() {
    let client = client(DuplicateRule::new("Account", &["Name"]));
    client.account("A");
    let part = |reference: &str, headers: Value| json!({"method": "POST", "url": format!("{DATA}/sobjects/Account"), "referenceId": reference, "body": {"Name": "A"}, "httpHeaders": headers});
    let parts = json!({"compositeRequest": [part("a", json!({})), part("b", json!({HEADER: "allowSave=true"}))]});
    let reply = client.post("/composite", &parts).json();
    let answers = &reply["compositeResponse"];
    assert_eq!(answers[0]["body"][0]["errorCode"], "DUPLICATES_DETECTED");
    assert_eq!(answers[1]["httpStatusCode"], 201);
}

#[test]
fn wrong_data_fails_record_by_record() {
    let client = Client::start();
    let record = |more: Value| {
        let mut record = json!({"attributes": {"type": "Specimen__c"}});
        for (name, value) in more.as_object().expect("fields") {
            record[name] = value.clone();
        }
        record
    };
    let body = json!({"records": [
        record(json!({"Colour__c": "Mauve"})),
        record(json!({"Tags__c": "One;Nine"})),
        record(json!({"Number__c": 1_000_000})),
        record(json!({"Code__c": "x".repeat(41)})),
        record(json!({"Number__c": 999_999.99, "Colour__c": "Red", "Tags__c": "Two;One"})),
    ]});
    let results = client.post("/composite/sobjects", &body).json();
    let told: Vec<Value> = results
        .as_array()
        .expect("results")
        .iter()
        .map(|r| json!([r["success"], r["errors"][0]["statusCode"], r["errors"][0]["fields"]]))
        .collect();
    let refused = "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST";
    assert_eq!(
        json!(told),
        json!([
            [false, refused, ["Colour__c"]],
            [false, refused, ["Tags__c"]],
            [false, "NUMBER_OUTSIDE_VALID_RANGE", ["Number__c"]],
            [false, "STRING_TOO_LONG", ["Code__c"]],
            [true, null, null],
        ])
    );
    let message = results[0]["errors"][0]["message"].clone();
    assert_eq!(message, "Colour: bad value for restricted picklist field: Mauve");
}
