use crate::client::Client;
use local_org::Options;
use serde_json::{Value, json};

fn persons() -> Client {
    Client::with(Options { person_accounts: true, ..Options::default() })
}

fn read(client: &Client, object: &str, id: &str) -> Value {
    client.get(&format!("/sobjects/{object}/{id}")).json()
}

fn id_of(reply: &crate::client::Reply) -> String {
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json()["id"].as_str().expect("an id").to_owned()
}

#[test]
fn an_account_with_a_last_name_is_a_person_with_a_contact() {
    let client = persons();
    let body = json!({"FirstName": "Ada", "LastName": "King", "PersonEmail": "ada@example.com", "PersonMailingCity": "London"});
    let id = id_of(&client.post("/sobjects/Account", &body));
    let account = read(&client, "Account", &id);
    assert_eq!((&account["Name"], &account["IsPersonAccount"]), (&json!("Ada King"), &json!(true)));
    assert_eq!(account["PersonMailingAddress"]["city"], "London");
    let contact = account["PersonContactId"].as_str().expect("a contact").to_owned();
    let half = read(&client, "Contact", &contact);
    assert_eq!(
        json!([
            half["AccountId"],
            half["Email"],
            half["MailingCity"],
            half["Name"],
            half["IsPersonAccount"]
        ]),
        json!([id, "ada@example.com", "London", "Ada King", true])
    );
    let path = format!("/sobjects/Account/{id}");
    assert_eq!(client.patch(&path, &json!({"LastName": "Lovelace", "Phone": "1"})).status, 204);
    assert_eq!(read(&client, "Account", &id)["Name"], "Ada Lovelace");
    let half = read(&client, "Contact", &contact);
    assert_eq!((&half["LastName"], &half["Phone"]), (&json!("Lovelace"), &json!("1")));
    // The name is made of its parts, and the contact is changed by way of the account.
    let refused = client.patch(&path, &json!({"Name": "Acme"}));
    assert_eq!(
        (refused.code().as_str(), &refused.json()[0]["fields"]),
        ("INVALID_FIELD_FOR_INSERT_UPDATE", &json!(["Name"]))
    );
    assert_eq!(client.patch(&path, &json!({"LastName": null})).code(), "REQUIRED_FIELD_MISSING");
    let half = format!("/sobjects/Contact/{contact}");
    assert_eq!(
        client.patch(&half, &json!({"Title": "x"})).code(),
        "INSUFFICIENT_ACCESS_OR_READONLY"
    );
    assert_eq!(client.delete(&half).code(), "INSUFFICIENT_ACCESS_OR_READONLY");
    assert_eq!(client.delete(&path).status, 204);
    assert_eq!((client.org.count("Account"), client.org.count("Contact")), (0, 0));
    client.control("POST", &format!("/records/{id}/undelete"), &Value::Null);
    assert_eq!(read(&client, "Account", &id)["PersonContactId"], json!(contact));
    assert_eq!(client.org.count("Contact"), 1);
}

#[test]
fn a_business_has_nothing_of_a_person() {
    let client = persons();
    let id = client.account("Acme");
    let account = read(&client, "Account", &id);
    assert_eq!(
        (&account["IsPersonAccount"], &account["PersonContactId"]),
        (&json!(false), &Value::Null)
    );
    let path = format!("/sobjects/Account/{id}");
    for body in [json!({"PersonEmail": "a@example.com"}), json!({"LastName": "King"})] {
        assert_eq!(client.patch(&path, &body).code(), "INVALID_FIELD_FOR_INSERT_UPDATE", "{body}");
    }
    let both = json!({"Name": "Acme", "LastName": "King"});
    assert_eq!(client.post("/sobjects/Account", &both).code(), "INVALID_FIELD_FOR_INSERT_UPDATE");
    assert_eq!(client.post("/sobjects/Account", &json!({})).code(), "REQUIRED_FIELD_MISSING");
    assert_eq!((client.org.count("Account"), client.org.count("Contact")), (1, 0));
    // A person whose contact can't be saved is not saved either.
    let rule = json!({"object": "Contact", "action": "reject", "field": "LastName", "value": "Never", "message": "no"});
    client.control("POST", "/rules", &rule);
    let record = |name: &str| json!({"attributes": {"type": "Account"}, "LastName": name});
    let body = json!({"records": [record("Never"), record("Ever")]});
    let results = client.post("/composite/sobjects", &body).json();
    assert_eq!((&results[0]["success"], &results[1]["success"]), (&json!(false), &json!(true)));
    assert_eq!((client.org.count("Account"), client.org.count("Contact")), (2, 1));
    // Without the option there are no persons.
    let plain = Client::start();
    assert_eq!(plain.query("SELECT IsPersonAccount FROM Account").code(), "INVALID_FIELD");
}

#[test]
fn the_org_says_what_it_is() {
    let client = Client::start();
    let soql = "SELECT Id, Name, IsSandbox, OrganizationType, InstanceName FROM Organization";
    let reply = client.query(soql).json();
    let record = &reply["records"][0];
    assert_eq!(
        json!([reply["totalSize"], record["Id"], record["IsSandbox"], record["OrganizationType"]]),
        json!([1, client.org.org_id(), false, "Developer Edition"])
    );
    let path = format!("/sobjects/Organization/{}", client.org.org_id());
    assert_eq!(
        client.patch(&path, &json!({"Name": "x"})).code(),
        "INSUFFICIENT_ACCESS_OR_READONLY"
    );
}

#[test]
fn users_have_a_profile_and_with_it_permissions() {
    let client = Client::start();
    let (user, _) = client.org.users();
    let soql =
        format!("SELECT Profile.Name, Profile.PermissionsApiEnabled FROM User WHERE Id = '{user}'");
    let profile = client.query(&soql).json()["records"][0]["Profile"].clone();
    assert_eq!(
        (&profile["Name"], &profile["PermissionsApiEnabled"]),
        (&json!("System Administrator"), &json!(true))
    );
    let soql = format!(
        "SELECT PermissionSet.PermissionsApiEnabled, PermissionSet.Profile.Name FROM PermissionSetAssignment WHERE AssigneeId = '{user}'"
    );
    let found = client.query(&soql).json();
    let set = &found["records"][0]["PermissionSet"];
    assert_eq!(
        json!([found["totalSize"], set["PermissionsApiEnabled"], set["Profile"]["Name"]]),
        json!([1, true, "System Administrator"])
    );
    let soql = "SELECT PermissionsViewAllData FROM PermissionSet WHERE PermissionsApiEnabled = true AND PermissionsViewAllData = false";
    assert_eq!(client.found(soql), [json!(false)]);
    for unserved in ["UserPermissionAccess", "ObjectPermissions", "FieldPermissions"] {
        let soql = format!("SELECT PermissionsApiEnabled FROM {unserved}");
        assert_eq!(client.query(&soql).code(), "INVALID_TYPE");
    }
}

#[test]
fn products_have_prices_and_days_have_events() {
    let client = Client::start();
    let made =
        |object: &str, body: Value| id_of(&client.post(&format!("/sobjects/{object}"), &body));
    let standard = client.found("SELECT Id FROM Pricebook2 WHERE IsStandard = true");
    let product =
        made("Product2", json!({"Name": "Genset", "ProductCode": "G-1", "IsActive": true}));
    let entry = json!({"Pricebook2Id": standard[0], "Product2Id": product, "UnitPrice": 15_000, "IsActive": true});
    let entry = made("PricebookEntry", entry);
    let record = read(&client, "PricebookEntry", &entry);
    assert_eq!(
        json!([record["Name"], record["ProductCode"], record["UnitPrice"]]),
        json!(["Genset", "G-1", 15_000.0])
    );
    let path = format!("/sobjects/PricebookEntry/{entry}");
    let moved = client.patch(&path, &json!({"Product2Id": product}));
    assert_eq!(moved.code(), "INVALID_FIELD_FOR_INSERT_UPDATE");
    let found = client.found("SELECT Name FROM PricebookEntry WHERE Product2.ProductCode = 'G-1'");
    assert_eq!(found, [json!("Genset")]);
    let account = client.account("A");
    let event = json!({
        "Subject": "Call", "WhatId": account, "DurationInMinutes": 30, "ActivityDateTime": "2026-05-01T07:00:00.000Z",
    });
    let event = made("Event", event);
    assert_eq!(read(&client, "Event", &event)["ShowAs"], "Busy");
    for object in ["Product2", "Pricebook2", "PricebookEntry", "Organization", "Profile"] {
        let reply = client.query(&format!("SELECT OwnerId FROM {object}"));
        assert_eq!(reply.code(), "INVALID_FIELD", "{object}");
    }
}

#[test]
fn the_sample_data_of_a_developer_edition_is_there_on_wish() {
    let client =
        Client::with(Options { seed_data: true, person_accounts: true, ..Options::default() });
    let count = |object: &str| client.org.count(object);
    assert_eq!(
        ["Account", "Contact", "Opportunity", "Case", "Lead"].map(count),
        [12, 20, 27, 18, 20]
    );
    for name in
        ["Edge Communications", "Burlington Textiles Corp of America", "Pyramid Construction Inc."]
    {
        assert_eq!(
            client.found(&format!("SELECT Name FROM Account WHERE Name = '{name}'")).len(),
            1
        );
    }
    let soql = "SELECT AnnualRevenue FROM Account WHERE Name = 'United Oil & Gas Corp.'";
    assert_eq!(client.found(soql), [json!(5_600_000_000.0)]);
    let soql = "SELECT Id FROM Contact WHERE Account.Parent.Name = 'United Oil & Gas Corp.'";
    assert_eq!(client.found(soql).len(), 3);
    let soql = "SELECT CaseNumber FROM Case WHERE Contact.Email = 'rose@edge.com' AND Account.Phone = '(512) 757-6000'";
    assert_eq!(client.found(soql), [json!("00000001")]);
    // What is planted is data like any other: every value fits its list.
    for (object, field) in [
        ("Account", "Industry"),
        ("Opportunity", "StageName"),
        ("Case", "Reason"),
        ("Lead", "Industry"),
    ] {
        let fields = client.get(&format!("/sobjects/{object}/describe")).json()["fields"].clone();
        let list = fields.as_array().into_iter().flatten().find(|f| f["name"] == field).cloned();
        let list = list.expect("a field")["picklistValues"].clone();
        let values: Vec<&Value> =
            list.as_array().into_iter().flatten().map(|value| &value["value"]).collect();
        for record in client.org.records(object) {
            assert!(record[field].is_null() || values.contains(&&record[field]), "{record}");
        }
    }
    assert_eq!(client.org.count("Account"), 12);
    let plain = Client::start();
    assert_eq!(plain.org.count("Account"), 0);
}
