use crate::client::{Client, DATA};
use flate2::Compression;
use flate2::read::GzEncoder;
use local_org::{Field, FieldType, Options};
use serde_json::{Value, json};
use std::io::Read;

fn field(client: &Client, object: &str, name: &str) -> Value {
    let describe = client.get(&format!("/sobjects/{object}/describe/")).json();
    let fields = describe["fields"].as_array().cloned().unwrap_or_default();
    fields.into_iter().find(|f| f["name"] == name).unwrap_or_default()
}

#[test]
fn fields_are_described_as_a_real_org_does() {
    let client = Client::start();
    for (object, name, wanted) in [
        (
            "Account",
            "Id",
            json!({"type": "id", "length": 18, "byteLength": 18, "nillable": false, "createable": false, "idLookup": true, "soapType": "tns:ID"}),
        ),
        (
            "Account",
            "Name",
            json!({"type": "string", "length": 255, "byteLength": 765, "nillable": false, "nameField": true, "label": "Account Name"}),
        ),
        (
            "Account",
            "AnnualRevenue",
            json!({"type": "currency", "length": 0, "precision": 18, "scale": 0, "soapType": "xsd:double"}),
        ),
        ("Account", "NumberOfEmployees", json!({"type": "int", "digits": 8, "precision": 0})),
        (
            "Account",
            "External_Id__c",
            json!({"externalId": true, "unique": true, "custom": true, "idLookup": true, "caseSensitive": false}),
        ),
        (
            "Account",
            "BillingAddress",
            json!({"type": "address", "createable": false, "updateable": false, "filterable": false}),
        ),
        ("Account", "BillingCity", json!({"compoundFieldName": "BillingAddress"})),
        (
            "Account",
            "OwnerId",
            json!({"referenceTo": ["Group", "User"], "relationshipName": "Owner", "nillable": false, "defaultedOnCreate": true}),
        ),
        (
            "Account",
            "Description",
            json!({"type": "textarea", "length": 32000, "filterable": false}),
        ),
        ("Contact", "Name", json!({"createable": false, "updateable": false})),
        ("Contact", "LastName", json!({"nillable": false, "compoundFieldName": "Name"})),
        (
            "Contact",
            "DoNotCall",
            json!({"type": "boolean", "nillable": false, "defaultedOnCreate": true, "defaultValue": false}),
        ),
        ("Specimen__c", "Colour__c", json!({"restrictedPicklist": true, "type": "picklist"})),
        ("Specimen__c", "Title__c", json!({"calculated": true, "createable": false})),
        ("Specimen__c", "Serial__c", json!({"autoNumber": true, "updateable": false})),
        (
            "Specimen__c",
            "Account__c",
            json!({"relationshipName": "Account__r", "referenceTo": ["Account"]}),
        ),
        ("Specimen__c", "Moment__c", json!({"type": "datetime", "soapType": "xsd:dateTime"})),
    ] {
        let told = field(&client, object, name);
        assert_eq!(told.as_object().map_or(0, serde_json::Map::len), 57, "{name}");
        for (key, value) in wanted.as_object().expect("keys") {
            assert_eq!(&told[key], value, "{object}.{name} {key}");
        }
    }
    let colours = field(&client, "Specimen__c", "Colour__c")["picklistValues"].clone();
    assert_eq!(
        colours[0],
        json!({"active": true, "defaultValue": false, "label": "Red", "validFor": null, "value": "Red"})
    );
}

#[test]
fn objects_are_listed() {
    let client = Client::start();
    let list = client.get("/sobjects").json();
    let names: Vec<&str> = list["sobjects"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|o| o["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Account",
            "Contact",
            "Lead",
            "Opportunity",
            "User",
            "Case",
            "Task",
            "Campaign",
            "Product2",
            "Pricebook2",
            "PricebookEntry",
            "Event",
            "Organization",
            "Profile",
            "PermissionSet",
            "PermissionSetAssignment",
            "Specimen__c"
        ]
    );
    assert_eq!(
        (&list["encoding"], &list["sobjects"][0]["keyPrefix"]),
        (&json!("UTF-8"), &json!("001"))
    );
    assert_eq!(client.get("/sobjects/account").json()["objectDescribe"]["name"], "Account");
    let children = client.get("/sobjects/Account/describe").json()["childRelationships"].clone();
    let contacts =
        children.as_array().expect("a list").iter().find(|c| c["childSObject"] == "Contact");
    assert_eq!(
        contacts.map(|c| (&c["relationshipName"], &c["cascadeDelete"])),
        Some((&json!("Contacts"), &json!(true)))
    );
}

#[test]
fn a_field_that_the_user_may_not_see_does_not_exist_for_it() {
    let client = Client::start();
    let id = client
        .org
        .insert("Account", json!({"Name": "A", "Phone": "1", "Fax": "2"}))
        .expect("an account");
    client.org.set_access("Account", "Phone", false, false).expect("an access");
    client.control(
        "POST",
        "/objects/Account/fields/Fax/access",
        &json!({"visible": true, "editable": false}),
    );
    assert_eq!(field(&client, "Account", "Phone"), Value::Null);
    let fax = field(&client, "Account", "Fax");
    assert_eq!((&fax["createable"], &fax["updateable"]), (&json!(false), &json!(false)));
    let path = format!("/sobjects/Account/{id}");
    let record = client.get(&path).json();
    assert_eq!((record.get("Phone"), &record["Fax"]), (None, &json!("2")));
    assert_eq!(client.query("SELECT Phone FROM Account").code(), "INVALID_FIELD");
    assert_eq!(client.query("SELECT Id FROM Account WHERE Phone = '1'").code(), "INVALID_FIELD");
    assert_eq!(client.query("SELECT Id FROM Account ORDER BY Phone").code(), "INVALID_FIELD");
    assert_eq!(client.patch(&path, &json!({"Phone": "3"})).code(), "INVALID_FIELD");
    assert_eq!(client.patch(&path, &json!({"Fax": "3"})).code(), "INVALID_FIELD_FOR_INSERT_UPDATE");
    assert_eq!(client.get(&format!("{path}?fields=Phone")).code(), "INVALID_FIELD");
}

#[test]
fn objects_and_fields_come_and_go() {
    let client = Client::with(Options { external_id: false, ..Options::default() });
    assert_eq!(field(&client, "Account", "External_Id__c"), Value::Null);
    let id = client.account("A");
    let external = json!({"name": "Ext__c", "type": "string", "length": 20, "external_id": true, "unique": true});
    assert_eq!(client.control("POST", "/objects/Account/fields", &external).status, 200);
    assert_eq!(
        client.patch(&format!("/sobjects/Account/{id}"), &json!({"Ext__c": "k"})).status,
        204
    );
    assert_eq!(client.patch("/sobjects/Account/Ext__c/K", &json!({"Name": "B"})).status, 200);
    client
        .org
        .define_field("Account", Field::new("Score__c", FieldType::Double).digits(5, 1))
        .expect("a field");
    assert_eq!(
        client.patch(&format!("/sobjects/Account/{id}"), &json!({"Score__c": 1.25})).status,
        204
    );
    client.control("DELETE", "/objects/Account/fields/Ext__c", &Value::Null);
    assert_eq!(client.query("SELECT Ext__c FROM Account").code(), "INVALID_FIELD");
    let object = json!({"name": "Invoice__c", "fields": [{"name": "Total__c", "type": "currency", "precision": 10, "scale": 2}]});
    assert_eq!(client.control("POST", "/objects", &object).status, 200);
    let made = client.post("/sobjects/Invoice__c", &json!({"Total__c": 1.5})).json();
    assert!(made["id"].as_str().is_some_and(|id| id.starts_with("a01")), "{made}");
    client.control("DELETE", "/objects/Invoice__c", &Value::Null);
    assert_eq!(client.get("/sobjects/Invoice__c/describe").status, 404);
}

#[test]
fn a_describe_is_told_again_only_where_it_changed() {
    let client = Client::start();
    let path = "/sobjects/Account/describe";
    let first = client.get(path);
    let again = |name: &str, value: &str| {
        client.call_with("GET", path, &[(name, value)], &Value::Null).expect("an answer").status
    };
    let (tag, moment) = (first.headers["etag"].clone(), first.headers["last-modified"].clone());
    assert_eq!((again("If-None-Match", &tag), again("If-Modified-Since", &moment)), (304, 304));
    client.org.remove_field("Account", "Fax").expect("a field");
    assert_eq!((again("If-None-Match", &tag), again("If-Modified-Since", &moment)), (200, 200));
}

#[test]
fn an_address_is_made_of_its_parts() {
    let client = Client::start();
    let id = client.account("A");
    let path = format!("/sobjects/Account/{id}");
    assert_eq!(client.get(&path).json()["BillingAddress"], Value::Null);
    client.patch(&path, &json!({"BillingCity": "Bern", "BillingPostalCode": "3000"}));
    let address =
        client.query("SELECT BillingAddress FROM Account").json()["records"][0]["BillingAddress"]
            .clone();
    assert_eq!(
        (&address["city"], &address["postalCode"], &address["street"]),
        (&json!("Bern"), &json!("3000"), &json!(null))
    );
    assert_eq!(
        client.patch(&path, &json!({"BillingAddress": null})).code(),
        "INVALID_FIELD_FOR_INSERT_UPDATE"
    );
}

#[test]
fn bodies_are_packed_both_ways_and_pretty_on_wish() {
    let client = Client::start();
    let mut packed = Vec::new();
    let body = json!({"Name": "x".repeat(200)}).to_string();
    GzEncoder::new(body.as_bytes(), Compression::fast()).read_to_end(&mut packed).expect("packed");
    let bearer = format!("Bearer {}", client.token);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Content-Encoding", "gzip"),
    ];
    let target = format!("{DATA}/sobjects/Account");
    assert_eq!(client.send("POST", &target, &headers, &packed).expect("an answer").status, 201);
    let wrong = client.send("POST", &target, &headers, b"no gzip").expect("an answer");
    assert_eq!((wrong.status, client.org.count("Account")), (400, 1));
    let headers = [("Accept-Encoding", "gzip"), ("X-PrettyPrint", "1")];
    let reply = client.call_with("GET", "/sobjects", &headers, &Value::Null).expect("an answer");
    assert!(reply.text.contains("\"encoding\" : \"UTF-8\""), "{}", reply.text);
    assert_eq!(reply.headers["x-sfdc-request-id"].len(), 32);
}

#[test]
fn what_is_too_long_is_refused_at_the_door() {
    let client = Client::start();
    let long = "x".repeat(16_385);
    assert_eq!(client.get(&format!("/query?q={long}")).status, 414);
    let half = "x".repeat(9000);
    let reply =
        client.call_with("GET", &format!("/query?q={half}"), &[("X-Long", &half)], &Value::Null);
    assert_eq!(reply.expect("an answer").status, 431);
}
