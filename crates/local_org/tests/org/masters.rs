use crate::client::Client;
use local_org::{Field, FieldType, Object, Operation, Options, Summary};
use serde_json::{Value, json};

/// Invoices with lines, of which each has notes; a payment can do without its invoice.
fn client() -> Client {
    let text = |name: &str| Field::new(name, FieldType::String);
    let number = |name: &str| Field::new(name, FieldType::Double).digits(16, 2);
    let reference = |name: &str, to: &str| Field::new(name, FieldType::Reference).references(&[to]);
    let summary = |name: &str, operation, field| {
        number(name).summary(Summary::new("Line__c", "Invoice__c", operation, field))
    };
    let invoice = Object::new("Invoice__c", "a10")
        .with(text("Ext__c").external_id().unique())
        .with(reference("Account__c", "Account"));
    let line = Object::new("Line__c", "a11")
        .with(text("Ext__c").external_id().unique())
        .with(number("Amount__c"))
        .with(Field::new("Due__c", FieldType::Date))
        .with(reference("Invoice__c", "Invoice__c").master_detail());
    let note = Object::new("Note__c", "a12")
        .with(reference("Line__c", "Line__c").master_detail().reparentable());
    let payment = Object::new("Payment__c", "a13").with(reference("Invoice__c", "Invoice__c"));
    let due = Summary::new("Line__c", "Invoice__c", Operation::Min, "Due__c");
    let fields = [
        summary("Lines__c", Operation::Count, ""),
        summary("Total__c", Operation::Sum, "Amount__c"),
        summary("Least__c", Operation::Min, "Amount__c"),
        summary("Most__c", Operation::Max, "Amount__c"),
        Field::new("Due__c", FieldType::Date).summary(due),
    ];
    Client::with(Options {
        objects: vec![invoice, line, note, payment],
        fields: fields.into_iter().map(|field| ("Invoice__c".to_owned(), field)).collect(),
        ..Options::default()
    })
}

fn made(client: &Client, object: &str, body: Value) -> String {
    let reply = client.post(&format!("/sobjects/{object}"), &body);
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json()["id"].as_str().expect("an id").to_owned()
}

fn read(client: &Client, object: &str, id: &str) -> Value {
    client.get(&format!("/sobjects/{object}/{id}")).json()
}

fn described(client: &Client, object: &str, name: &str) -> Value {
    let fields = client.get(&format!("/sobjects/{object}/describe")).json()["fields"].clone();
    let mut fields = fields.as_array().cloned().unwrap_or_default().into_iter();
    fields.find(|f| f["name"] == name).unwrap_or_default()
}

#[test]
fn a_detail_needs_its_master_and_stays_with_it() {
    let client = client();
    let field = described(&client, "Line__c", "Invoice__c");
    assert_eq!(
        json!([
            field["cascadeDelete"],
            field["nillable"],
            field["updateable"],
            field["relationshipOrder"]
        ]),
        json!([true, false, false, 0])
    );
    assert_eq!(described(&client, "Note__c", "Line__c")["updateable"], true);
    assert_eq!(described(&client, "Line__c", "OwnerId"), Value::Null);
    let reply = client.post("/sobjects/Line__c", &json!({"Amount__c": 1}));
    assert_eq!(
        (reply.code().as_str(), &reply.json()[0]["fields"]),
        ("REQUIRED_FIELD_MISSING", &json!(["Invoice__c"]))
    );
    let one = made(&client, "Invoice__c", json!({"Ext__c": "one"}));
    let two = made(&client, "Invoice__c", json!({"Ext__c": "two"}));
    let line = made(&client, "Line__c", json!({"Invoice__r": {"Ext__c": "one"}, "Ext__c": "l"}));
    let path = format!("/sobjects/Line__c/{line}");
    for (path, body) in [
        (path.as_str(), json!({"Invoice__c": two})),
        (path.as_str(), json!({"Invoice__r": {"Ext__c": "two"}})),
        ("/sobjects/Line__c/Ext__c/l", json!({"Invoice__r": {"Ext__c": "two"}})),
    ] {
        assert_eq!(client.patch(path, &body).code(), "INVALID_FIELD_FOR_INSERT_UPDATE", "{body}");
    }
    let reply = client.control("PATCH", &format!("/records/{line}"), &json!({"Invoice__c": two}));
    assert_eq!(reply.code(), "INVALID_FIELD_FOR_INSERT_UPDATE");
    assert_eq!(read(&client, "Line__c", &line)["Invoice__c"], json!(one));
    // A master that lets its details go does so.
    let other = made(&client, "Line__c", json!({"Invoice__c": two}));
    let note = made(&client, "Note__c", json!({"Line__c": line}));
    let path = format!("/sobjects/Note__c/{note}");
    assert_eq!(client.patch(&path, &json!({"Line__c": other})).status, 204);
    assert_eq!(client.patch(&path, &json!({"Line__c": null})).code(), "REQUIRED_FIELD_MISSING");
}

#[test]
fn details_go_with_their_master_and_come_back_with_it() {
    let client = client();
    let invoice = made(&client, "Invoice__c", json!({}));
    let line = made(&client, "Line__c", json!({"Invoice__c": invoice}));
    let before = made(&client, "Line__c", json!({"Invoice__c": invoice}));
    let note = made(&client, "Note__c", json!({"Line__c": line}));
    let payment = made(&client, "Payment__c", json!({"Invoice__c": invoice}));
    let moved = made(&client, "Payment__c", json!({"Invoice__c": invoice}));
    client.delete(&format!("/sobjects/Line__c/{before}"));
    assert_eq!(client.delete(&format!("/sobjects/Invoice__c/{invoice}")).status, 204);
    let deleted = |id: &str| client.org.get(id).expect("a record")["IsDeleted"].clone();
    assert_eq!([&line, &note, &payment].map(|id| deleted(id)), [true, true, false]);
    assert_eq!(read(&client, "Payment__c", &payment)["Invoice__c"], Value::Null);
    let other = made(&client, "Invoice__c", json!({}));
    client.patch(&format!("/sobjects/Payment__c/{moved}"), &json!({"Invoice__c": other}));
    // What went along can't come back alone.
    let alone = client.control("POST", &format!("/records/{line}/undelete"), &Value::Null);
    assert_eq!(alone.code(), "UNDELETE_FAILED");
    client.control("POST", &format!("/records/{invoice}/undelete"), &Value::Null);
    assert_eq!([&line, &note, &before].map(|id| deleted(id)), [false, false, true]);
    // So are the references that were emptied, but for what took their place since then.
    assert_eq!(read(&client, "Payment__c", &payment)["Invoice__c"], json!(invoice));
    assert_eq!(read(&client, "Payment__c", &moved)["Invoice__c"], json!(other));
    // Out of the bin for good they go together too.
    client.delete(&format!("/sobjects/Invoice__c/{invoice}"));
    client.control("POST", &format!("/records/{invoice}/purge"), &Value::Null);
    assert_eq!([&line, &note].map(|id| client.org.get(id)), [None, None]);
}

#[test]
fn summaries_follow_their_details() {
    let client = client();
    let told = |id: &str| {
        let record = read(&client, "Invoice__c", id);
        json!([
            record["Lines__c"],
            record["Total__c"],
            record["Least__c"],
            record["Most__c"],
            record["Due__c"]
        ])
    };
    let field = described(&client, "Invoice__c", "Total__c");
    assert_eq!(
        json!([
            field["calculated"],
            field["createable"],
            field["calculatedFormula"],
            field["type"]
        ]),
        json!([true, false, null, "double"])
    );
    let invoice = made(&client, "Invoice__c", json!({}));
    assert_eq!(told(&invoice), json!([0.0, 0.0, null, null, null]));
    let line = |amount: f64, due: &str| json!({"attributes": {"type": "Line__c"}, "Invoice__c": invoice, "Amount__c": amount, "Due__c": due});
    let body = json!({"records": [line(10.5, "2026-03-01"), line(-2.0, "2026-02-01"), line(4.0, "2026-04-01")]});
    let results = client.post("/composite/sobjects", &body).json();
    assert_eq!(told(&invoice), json!([3.0, 12.5, -2.0, 10.5, "2026-02-01"]));
    let id = |n: usize| results[n]["id"].as_str().unwrap_or_default().to_owned();
    client.patch(&format!("/sobjects/Line__c/{}", id(0)), &json!({"Amount__c": 1}));
    client.delete(&format!("/sobjects/Line__c/{}", id(1)));
    assert_eq!(told(&invoice), json!([2.0, 5.0, 1.0, 4.0, "2026-03-01"]));
    client.control("POST", &format!("/records/{}/undelete", id(1)), &Value::Null);
    assert_eq!(told(&invoice), json!([3.0, 3.0, -2.0, 4.0, "2026-02-01"]));
    // Back from the bin the master has what its details make.
    client.delete(&format!("/sobjects/Invoice__c/{invoice}"));
    client.control("POST", &format!("/records/{invoice}/undelete"), &Value::Null);
    assert_eq!(told(&invoice), json!([3.0, 3.0, -2.0, 4.0, "2026-02-01"]));
    let refused = client.patch(&format!("/sobjects/Invoice__c/{invoice}"), &json!({"Total__c": 1}));
    assert_eq!(refused.code(), "INVALID_FIELD_FOR_INSERT_UPDATE");
    assert_eq!(client.found("SELECT Id FROM Invoice__c WHERE Total__c = 3").len(), 1);
}

#[test]
fn a_summary_saves_its_master_and_a_failed_call_leaves_it_alone() {
    let client = client();
    let invoice = made(&client, "Invoice__c", json!({}));
    let stamps = |id: &str| {
        let record = client.org.get(id).expect("a record");
        [record["SystemModstamp"].clone(), record["LastModifiedDate"].clone()]
    };
    let first = stamps(&invoice);
    client.control("POST", "/settings", &json!({"clock_skew_ms": 5000}));
    let line = |amount: f64| json!({"attributes": {"type": "Line__c"}, "Invoice__c": invoice, "Amount__c": amount});
    let wrong =
        json!({"allOrNone": true, "records": [line(1.0), {"attributes": {"type": "Line__c"}}]});
    assert_eq!(client.post("/composite/sobjects", &wrong).json()[1]["success"], false);
    assert_eq!(
        (stamps(&invoice), read(&client, "Invoice__c", &invoice)["Lines__c"].clone()),
        (first.clone(), json!(0.0))
    );
    // A part of a composite sees what the one before it did.
    let parts = json!({"compositeRequest": [
        {"method": "POST", "url": "/services/data/v66.0/sobjects/Line__c", "referenceId": "l", "body": {"Invoice__c": invoice, "Amount__c": 2}},
        {"method": "GET", "url": format!("/services/data/v66.0/sobjects/Invoice__c/{invoice}"), "referenceId": "i"},
    ]});
    let reply = client.post("/composite", &parts).json();
    assert_eq!(reply["compositeResponse"][1]["body"]["Total__c"], 2.0);
    assert!(stamps(&invoice).iter().zip(&first).all(|(new, old)| new.as_str() > old.as_str()));
    // One that commits late counts when it does.
    let late = json!({"Invoice__c": invoice, "Amount__c": 3});
    client.control("POST", "/records/Line__c?commit_after_ms=600000", &late);
    assert_eq!(read(&client, "Invoice__c", &invoice)["Total__c"], 2.0);
    client.control("POST", "/commit", &Value::Null);
    assert_eq!(read(&client, "Invoice__c", &invoice)["Total__c"], 5.0);
}

#[test]
fn a_new_summary_is_computed_without_an_edit() {
    let client = client();
    let invoice = made(&client, "Invoice__c", json!({}));
    made(&client, "Line__c", json!({"Invoice__c": invoice, "Amount__c": 7}));
    let edited = client.org.get(&invoice).expect("a record")["LastModifiedDate"].clone();
    client.control("POST", "/settings", &json!({"clock_skew_ms": 5000}));
    let field = json!({"name": "Sum__c", "type": "currency", "summary": {"object": "Line__c", "by": "Invoice__c", "operation": "sum", "field": "Amount__c"}});
    assert_eq!(client.control("POST", "/objects/Invoice__c/fields", &field).status, 200);
    let record = read(&client, "Invoice__c", &invoice);
    assert_eq!((&record["Sum__c"], &record["LastModifiedDate"]), (&json!(7.0), &edited));
    assert!(record["SystemModstamp"].as_str() > edited.as_str());
    for wrong in [
        json!({"object": "Nothing__c", "by": "Invoice__c", "operation": "count"}),
        json!({"object": "Payment__c", "by": "Invoice__c", "operation": "count"}),
        json!({"object": "Line__c", "by": "Invoice__c", "operation": "sum", "field": "Due__c"}),
        json!({"object": "Line__c", "by": "Invoice__c", "operation": "max", "field": "Nothing__c"}),
    ] {
        let field = json!({"name": "Wrong__c", "type": "double", "summary": wrong});
        let reply = client.control("POST", "/objects/Invoice__c/fields", &field);
        assert_eq!(reply.code(), "FIELD_INTEGRITY_EXCEPTION", "{wrong}");
    }
    assert_eq!(described(&client, "Invoice__c", "Wrong__c"), Value::Null);
}

#[test]
fn formulas_are_computed_when_they_are_read() {
    let client = client();
    let formula = |name: &str, kind: &str, text: &str| {
        let field = json!({"name": name, "type": kind, "formula": text});
        client.control("POST", "/objects/Invoice__c/fields", &field)
    };
    for (name, kind, text) in [
        (
            "Title__c",
            "string",
            r#"Name & " for " & Account__r.Name & IF(ISBLANK(Account__r.Phone), "", ", " & Account__r.Phone)"#,
        ),
        ("Twice__c", "double", "(Total__c + 1) * 2 - Lines__c / 4"),
        ("Mean__c", "double", "Total__c / Lines__c"),
        ("Large__c", "boolean", "AND(Total__c >= 10, NOT(ISBLANK(Account__c))) || Title__c = 'x'"),
        ("Words__c", "string", r#"BLANKVALUE(Ext__c, "none") + "/" + TEXT(Total__c)"#),
        ("Day__c", "date", "Due__c"),
    ] {
        assert_eq!(formula(name, kind, text).status, 200, "{text}");
    }
    let account = client.account("Acme");
    let invoice = made(&client, "Invoice__c", json!({"Name": "I-1", "Account__c": account}));
    assert_eq!(read(&client, "Invoice__c", &invoice)["Mean__c"], Value::Null);
    made(
        &client,
        "Line__c",
        json!({"Invoice__c": invoice, "Amount__c": 12, "Due__c": "2026-01-31"}),
    );
    let record = read(&client, "Invoice__c", &invoice);
    for (name, wanted) in [
        ("Title__c", json!("I-1 for Acme")),
        ("Twice__c", json!(25.75)),
        ("Mean__c", json!(12.0)),
        ("Large__c", json!(true)),
        ("Words__c", json!("none/12")),
        ("Day__c", json!("2026-01-31")),
    ] {
        assert_eq!(record[name], wanted, "{name}");
    }
    // The parent's change is seen, and moves nothing of the child.
    client.control("POST", "/settings", &json!({"clock_skew_ms": 5000}));
    client.patch(&format!("/sobjects/Account/{account}"), &json!({"Phone": "1"}));
    let again = read(&client, "Invoice__c", &invoice);
    assert_eq!(again["Title__c"], "I-1 for Acme, 1");
    assert_eq!(again["SystemModstamp"], record["SystemModstamp"]);
    let soql = "SELECT Id FROM Invoice__c WHERE Title__c LIKE '%, 1' AND Large__c = true ORDER BY Twice__c";
    assert_eq!(client.found(soql), [json!(invoice)]);
    let field = described(&client, "Invoice__c", "Title__c");
    assert_eq!(
        json!([field["calculated"], field["createable"], field["updateable"], field["filterable"]]),
        json!([true, false, false, true])
    );
    let refused =
        client.patch(&format!("/sobjects/Invoice__c/{invoice}"), &json!({"Title__c": "x"}));
    assert_eq!(refused.code(), "INVALID_FIELD_FOR_INSERT_UPDATE");
    for wrong in ["Nothing__c", "IF(1", ""] {
        let reply = formula("Wrong__c", "string", wrong);
        assert_eq!(reply.code(), "FIELD_INTEGRITY_EXCEPTION", "{wrong}");
    }
}

#[test]
fn a_formula_cannot_refer_to_itself() {
    let client = Client::start();
    for (name, formula, status) in [
        ("A__c", "Name", 200),
        ("B__c", "A__c & '!'", 200),
        ("A__c", "Name & b__c", 400),
        ("C__c", "C__c", 400),
    ] {
        let field = json!({"name": name, "type": "string", "formula": formula});
        let reply = client.control("POST", "/objects/Account/fields", &field);
        assert_eq!(reply.status, status, "{formula}");
    }
    let id = client.account("x");
    assert_eq!(client.get(&format!("/sobjects/Account/{id}")).json()["B__c"], "x!");
}
