use crate::client::Client;
use local_org::{Deed, Field, FieldType, Options};
use serde_json::json;

#[test]
fn a_row_is_created_read_changed_and_deleted() {
    let client = Client::start();
    let reply = client.post(
        "/sobjects/Account/",
        &json!({"Name": "  Acme  ", "AnnualRevenue": 350_000_000, "Industry": ""}),
    );
    assert_eq!(reply.status, 201, "{}", reply.text);
    let id = reply.json()["id"].as_str().unwrap_or_default().to_owned();
    assert!(id.starts_with("001") && id.len() == 18);
    assert!(reply.headers["location"].ends_with(&id));
    let reply = client.get(&format!("/sobjects/Account/{}", &id[..15]));
    let record = reply.json();
    assert_eq!((&record["Name"], &record["Industry"]), (&json!("Acme"), &json!(null)));
    assert!(reply.text.contains("\"AnnualRevenue\":3.5E8"), "{}", reply.text);
    let stamp = record["SystemModstamp"].as_str().unwrap_or_default();
    assert!(stamp.ends_with(".000+0000"), "{stamp}");
    let (integration, other) = client.org.users();
    assert_eq!(record["LastModifiedById"], json!(integration));
    assert_eq!(record["OwnerId"], json!(integration));

    let path = format!("/sobjects/Account/{id}");
    assert_eq!(client.patch(&path, &json!({"Industry": "Energy"})).status, 204);
    client.org.edit(&id, json!({"Phone": "1"})).expect("an edit");
    let record = client.get(&path).json();
    assert_eq!(
        (&record["Industry"], &record["LastModifiedById"]),
        (&json!("Energy"), &json!(other))
    );

    assert_eq!(client.delete(&path).status, 204);
    assert_eq!(client.get(&path).code(), "NOT_FOUND");
    assert_eq!(client.delete(&path).code(), "ENTITY_IS_DELETED");
    assert_eq!(client.patch(&path, &json!({"Name": "x"})).code(), "ENTITY_IS_DELETED");
    assert_eq!(client.org.count("Account"), 0);
    client.org.undelete(&id).expect("an undelete");
    assert_eq!(client.get(&path).status, 200);
    client.org.purge(&id).expect("a purge");
    assert_eq!(client.org.get(&id), None);
}

#[test]
fn wrong_rows_are_refused_with_the_texts_of_a_real_org() {
    let client = Client::start();
    let account = client.account("Acme");
    let contact = client.org.insert("Contact", json!({"LastName": "Doe"})).expect("a contact");
    let gone = client.account("Gone");
    client.org.purge(&gone).expect("a purge");
    for (object, body, code, message) in [
        (
            "Contact",
            json!({"FirstName": "A"}),
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [LastName]",
        ),
        (
            "Account",
            json!({"Name": null}),
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [Name]",
        ),
        (
            "Contact",
            json!({"LastName": "A", "Email": "x"}),
            "INVALID_EMAIL_ADDRESS",
            "Email: invalid email address: x",
        ),
        (
            "Account",
            json!({"Name": "A", "foo": 1}),
            "INVALID_FIELD",
            "No such column 'foo' on sobject of type Account",
        ),
        (
            "Account",
            json!({"Name": "A", "CreatedDate": "2026-01-01T00:00:00.000Z"}),
            "INVALID_FIELD_FOR_INSERT_UPDATE",
            "Unable to create/update fields: CreatedDate. Please check",
        ),
        (
            "Account",
            json!({"Name": "A", "ParentId": contact}),
            "MALFORMED_ID",
            "Parent Account ID: id value of incorrect type: 003",
        ),
        (
            "Account",
            json!({"Name": "A", "ParentId": gone}),
            "INVALID_CROSS_REFERENCE_KEY",
            "invalid cross reference id",
        ),
        (
            "Account",
            json!({"Name": "A", "Id": account}),
            "INVALID_FIELD_FOR_INSERT_UPDATE",
            "cannot specify Id",
        ),
        (
            "Account",
            json!({"Name": 5}),
            "JSON_PARSER_ERROR",
            "Cannot deserialize instance of string from VALUE_NUMBER_INT value 5",
        ),
        (
            "Account",
            json!({"Name": "A", "NumberOfEmployees": 1_431_655_766}),
            "NUMBER_OUTSIDE_VALID_RANGE",
            "Employees: value outside of valid range on numeric field: 1431655766",
        ),
        (
            "Specimen__c",
            json!({"Colour__c": "X"}),
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            "Colour: bad value for restricted picklist field: X",
        ),
        ("Account", json!([1]), "JSON_PARSER_ERROR", ""),
        ("User", json!({}), "INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access"),
    ] {
        let reply = client.post(&format!("/sobjects/{object}"), &body);
        assert_eq!(reply.code(), code, "{body} {}", reply.text);
        let told = reply.json()[0]["message"].as_str().unwrap_or_default().to_owned();
        assert!(told.starts_with(message), "{told}");
    }
    assert_eq!(client.org.count("Account"), 1);
    let path = format!("/sobjects/Account/{account}");
    assert_eq!(client.patch(&path, &json!({"Id": account})).code(), "INVALID_FIELD");
    assert_eq!(client.patch(&path, &json!({"Name": ""})).code(), "REQUIRED_FIELD_MISSING");
    let reply = client.call_with(
        "POST",
        "/sobjects/Account",
        &[("Content-Type", "text/plain")],
        &json!(null),
    );
    assert_eq!(reply.expect("an answer").code(), "JSON_PARSER_ERROR");
    assert_eq!(client.get("/sobjects/Account/abc").code(), "NOT_FOUND");
    assert_eq!(client.get("/sobjects/Nothing").code(), "NOT_FOUND");
    assert_eq!(client.call("PUT", &path, &json!({})).expect("an answer").status, 405);
}

#[test]
fn unique_values_are_unique_whatever_their_case() {
    let client = Client::start();
    let first =
        client.post("/sobjects/Account", &json!({"Name": "A", "External_Id__c": "Key"})).json();
    let reply = client.post("/sobjects/Account", &json!({"Name": "B", "External_Id__c": "kEY"}));
    let id = first["id"].as_str().unwrap_or_default();
    let message = format!(
        "duplicate value found: External_Id__c duplicates value on record with id: {}",
        &id[..15]
    );
    assert_eq!(
        (reply.code().as_str(), &reply.json()[0]["message"]),
        ("DUPLICATE_VALUE", &json!(message))
    );
    client.org.delete(id).expect("a delete");
    let reply = client.post("/sobjects/Account", &json!({"Name": "B", "External_Id__c": "KEY"}));
    assert_eq!(reply.status, 201);
    assert_eq!(client.org.undelete(id).map_err(|e| e.code), Err("DUPLICATE_VALUE".into()));
}

#[test]
fn an_upsert_finds_its_record_by_its_key() {
    let client = Client::start();
    let path = "/sobjects/Account/External_Id__c/a%2Fb%20c";
    let created = client.patch(path, &json!({"Name": "A"}));
    assert_eq!((created.status, &created.json()["created"]), (201, &json!(true)));
    let updated = client.patch(path, &json!({"Name": "B"}));
    assert_eq!((updated.status, &updated.json()["created"]), (200, &json!(false)));
    assert_eq!(created.json()["id"], updated.json()["id"]);
    let read = client.get(&format!("{path}?fields=Name,External_Id__c")).json();
    assert_eq!((&read["Name"], &read["External_Id__c"]), (&json!("B"), &json!("a/b c")));
    assert_eq!(client.patch(path, &json!({"External_Id__c": "x"})).code(), "INVALID_FIELD");
    assert_eq!(client.patch("/sobjects/Account/Phone/1", &json!({})).code(), "NOT_FOUND");
    let absent = "/sobjects/Account/External_Id__c/none";
    assert_eq!(
        client.patch(&format!("{absent}?updateOnly=true"), &json!({"Name": "x"})).status,
        404
    );
    assert_eq!(client.get(absent).status, 404);

    for _ in 0..2 {
        client.org.insert("Specimen__c", json!({"Group__c": "g"})).expect("a specimen");
    }
    let several = client.patch("/sobjects/Specimen__c/Group__c/g", &json!({}));
    assert_eq!((several.status, several.json().as_array().map(Vec::len)), (300, Some(2)));
    assert_eq!(client.get("/sobjects/Specimen__c/Group__c/g").status, 300);
}

#[test]
fn children_follow_their_parent_or_let_it_go() {
    let client = Client::start();
    let account = client.account("Acme");
    let contact =
        client.post("/sobjects/Contact", &json!({"LastName": "Doe", "AccountId": account})).json();
    let contact = contact["id"].as_str().unwrap_or_default();
    let child =
        client.org.insert("Specimen__c", json!({"Account__c": account})).expect("a specimen");
    assert_eq!(client.delete(&format!("/sobjects/Account/{account}")).status, 204);
    assert_eq!(client.org.get(contact).map(|r| r["IsDeleted"].clone()), Some(json!(true)));
    assert_eq!(client.org.get(&child).map(|r| r["Account__c"].clone()), Some(json!(null)));
    client.org.undelete(&account).expect("an undelete");
    assert_eq!(client.org.get(contact).map(|r| r["IsDeleted"].clone()), Some(json!(false)));
}

#[test]
fn a_parent_can_be_told_by_its_external_id() {
    let client = Client::start();
    let account = client
        .org
        .insert("Account", json!({"Name": "A", "External_Id__c": "k"}))
        .expect("an account");
    let body = json!({"LastName": "Doe", "Account": {"External_Id__c": "K"}});
    let reply = client.post("/sobjects/Contact", &body).json();
    let contact = client.org.get(reply["id"].as_str().unwrap_or_default()).expect("a contact");
    assert_eq!((&contact["AccountId"], &contact["Name"]), (&json!(account), &json!("Doe")));
    let reply = client.post(
        "/sobjects/Contact",
        &json!({"LastName": "Doe", "Account": {"External_Id__c": "no"}}),
    );
    let message =
        "Foreign key external ID: no not found for field External_Id__c in entity Account";
    assert_eq!(
        (reply.code().as_str(), &reply.json()[0]["message"]),
        ("INVALID_FIELD", &json!(message))
    );
}

#[test]
fn a_number_is_a_key_however_it_is_written() {
    let client = Client::start();
    let number = Field::new("Number__c", FieldType::Double).digits(8, 0).unique().external_id();
    client.org.define_field("Account", number).expect("a field");
    let parent = client.org.insert("Account", json!({"Name": "A", "Number__c": 7})).expect("an id");
    for key in [json!(7), json!(7.0), json!("7")] {
        let contact = json!({"LastName": "L", "Account": {"Number__c": key}});
        let reply = client.post("/sobjects/Contact", &contact);
        assert_eq!(reply.status, 201, "{key}: {}", reply.text);
    }
    assert!(client.org.records("Contact").iter().all(|contact| contact["AccountId"] == *parent));
}

#[test]
fn a_parent_of_one_of_several_kinds_is_told_with_its_type() {
    let client = Client::start();
    let (user, _) = client.org.users();
    let name = client.org.get(&user).expect("a user")["Username"].clone();
    let reply =
        client.post("/sobjects/Account", &json!({"Name": "A", "Owner": {"Username": name}}));
    assert_eq!((reply.status, reply.code().as_str()), (400, "JSON_PARSER_ERROR"));
    let owner = json!({"attributes": {"type": "User"}, "Username": name});
    let reply = client.post("/sobjects/Account", &json!({"Name": "A", "Owner": owner}));
    assert_eq!(reply.status, 201, "{}", reply.text);
}

#[test]
fn the_org_computes_what_is_its_to_compute() {
    let client = Client::start();
    let reply = client.post(
        "/sobjects/Specimen__c",
        &json!({"Code__c": "c", "Tags__c": "Two;One", "Number__c": "1.005"}),
    );
    let record = client.org.get(reply.json()["id"].as_str().unwrap_or_default()).expect("a record");
    assert_eq!(record["Serial__c"], json!("S-0001"));
    assert_eq!(record["Flag__c"], json!(true));
    assert_eq!(record["Tags__c"], json!("One;Two"));
    assert_eq!(record["Number__c"], json!(1.005));
    let name = record["Name"].as_str().unwrap_or_default();
    assert_eq!(record["Title__c"], json!(format!("{name}/c")));
}

/// Tests that account for every value read it.
#[test]
fn history_tells_who_did_what_to_every_value() {
    let client = Client::with(Options { history: true, ..Options::default() });
    let (ours, other) = client.org.users();
    let id = client.account("A");
    client.org.edit(&id, json!({"Name": "B", "Site": "x"})).unwrap();
    client.org.edit(&id, json!({"Name": "B"})).unwrap();
    client.org.delete(&id).unwrap();
    client.org.purge(&id).unwrap();
    // What is rolled back never was.
    client.org.insert("Account", json!({"Site": "no name"})).unwrap_err();
    let told: Vec<_> = client
        .org
        .history()
        .into_iter()
        .filter(|e| e.object == "Account" && ["Name", "Site", ""].contains(&e.field.as_str()))
        .map(|e| (e.deed, e.user, e.field, e.old, e.new))
        .collect();
    let null = || json!(null);
    assert_eq!(
        told,
        [
            (Deed::Created, ours, "Name".into(), null(), json!("A")),
            (Deed::Changed, other.clone(), "Name".into(), json!("A"), json!("B")),
            (Deed::Changed, other.clone(), "Site".into(), null(), json!("x")),
            (Deed::Changed, other.clone(), String::new(), null(), null()),
            (Deed::Deleted, other.clone(), "Name".into(), json!("B"), null()),
            (Deed::Deleted, other.clone(), "Site".into(), json!("x"), null()),
            (Deed::Purged, other, String::new(), null(), null()),
        ]
    );
}
