//! What answers look like, and what is made of them.

mod scripted;

use connector::{Before, Column, Connector, Done, Identity, Kind, Mark, Write, WriteBatch};
use scripted::{Reply, Server, USER};
use serde_json::{Value, json};

fn column(name: &str, kind: Kind) -> Column {
    Column { name: name.into(), kind, ..Column::default() }
}

fn field(name: &str, native: &str, more: Value) -> Value {
    let mut field = json!({"name": name, "label": name, "type": native, "length": 0, "precision": 0, "scale": 0,
        "digits": 0, "nillable": true, "createable": true, "updateable": true, "defaultedOnCreate": false,
        "externalId": false, "unique": false, "filterable": true, "referenceTo": [], "compoundFieldName": null,
        "picklistValues": []});
    let extra = more.as_object().cloned().unwrap_or_default();
    field.as_object_mut().expect("an object").extend(extra);
    field
}

#[tokio::test]
async fn types_are_mapped_to_kinds() {
    let kinds = [
        ("id", Kind::Id),
        ("reference", Kind::Id),
        ("string", Kind::Text),
        ("textarea", Kind::Text),
        ("phone", Kind::Text),
        ("url", Kind::Text),
        ("email", Kind::Text),
        ("encryptedstring", Kind::Text),
        ("picklist", Kind::Choice),
        ("combobox", Kind::Choice),
        ("multipicklist", Kind::Choices),
        ("boolean", Kind::Boolean),
        ("int", Kind::Integer),
        ("long", Kind::Integer),
        ("double", Kind::Number),
        ("currency", Kind::Number),
        ("percent", Kind::Number),
        ("date", Kind::Date),
        ("datetime", Kind::DateTime),
        ("time", Kind::Time),
        ("address", Kind::Structure),
        ("location", Kind::Structure),
        ("base64", Kind::Structure),
        ("anyType", Kind::Structure),
        ("of_the_future", Kind::Structure),
    ];
    let fields: Vec<Value> =
        kinds.iter().map(|(native, _)| field(native, native, Value::Null)).collect();
    let body = json!({"name": "A", "label": "A", "queryable": true, "fields": fields});
    let server = Server::with_login(move |_, _| Reply::Json(200, body.to_string())).await;
    let object = server.client().describe("A", &[]).await.expect("an object");
    for (native, kind) in kinds {
        let field = object.field(native).expect("a field");
        assert_eq!(field.kind, kind, "{native}");
        assert_eq!(field.read_only(), kind == Kind::Structure, "{native}");
    }
    assert_eq!(object.version_field, "", "without SystemModstamp there is no clock");
}

#[tokio::test]
async fn a_field_keeps_what_was_told_of_it() {
    let body = json!({"name": "Account", "label": "Account", "createable": true, "updateable": true,
    "deletable": true, "undeletable": true, "queryable": true, "fields": [
        field("Id", "id", json!({"createable": false, "updateable": false, "length": 18})),
        field("SystemModstamp", "datetime", json!({"createable": false, "updateable": false})),
        field("OwnerId", "reference", json!({"referenceTo": ["Group", "User"], "nillable": false, "defaultedOnCreate": true})),
        field("Ext__c", "string", json!({"externalId": true, "unique": true, "length": 20})),
        field("BillingCity", "string", json!({"compoundFieldName": "BillingAddress"})),
        field("Employees", "int", json!({"digits": 8})),
        field("Revenue", "currency", json!({"precision": 18, "scale": 2})),
        field("Rating", "picklist", json!({"picklistValues": [
            {"active": true, "value": "Hot"}, {"active": false, "value": "Old"}, {"active": true, "value": "Cold"}]})),
        field("Hidden", "string", json!({"deprecatedAndHidden": true})),
    ]});
    let server = Server::with_login(move |_, _| Reply::Json(200, body.to_string())).await;
    let object = server.client().describe("Account", &[]).await.expect("an object");
    let field = |name: &str| object.field(name).expect("a field").clone();
    assert_eq!((object.id_field.as_str(), object.version_field.as_str()), ("Id", "SystemModstamp"));
    assert!(object.createable && object.updateable && object.deletable && object.undeletable);
    assert_eq!(field("OwnerId").reference_to, ["Group", "User"]);
    assert!(field("OwnerId").defaulted && !field("OwnerId").nillable);
    assert!(field("ext__C").external_id && field("Ext__c").unique);
    assert_eq!(field("Ext__c").length, 20);
    assert_eq!(field("BillingCity").compound.as_deref(), Some("BillingAddress"));
    assert_eq!(field("Employees").precision, 8);
    assert_eq!((field("Revenue").precision, field("Revenue").scale), (18, 2));
    assert_eq!(field("Rating").choices, ["Hot", "Cold"]);
    assert!(object.field("Hidden").is_none());
}

/// Taken for null, it would empty the field of the row.
#[tokio::test]
async fn a_field_that_is_missing_from_an_answer_is_no_null() {
    let server = Server::with_login(|_, _| {
        let row = json!({"Id": "001D000000IqhSL", "SystemModstamp": "2026-05-01T07:25:37.000+0000", "T": "x"});
        Reply::Json(200, json!({"done": true, "records": [row]}).to_string())
    })
    .await;
    let columns = [column("T", Kind::Text), column("Site", Kind::Text)];
    let fault = server.client().list("A", &columns, None).await.expect_err("a fault");
    assert_eq!(fault.kind, connector::FaultKind::Defect);
    assert!(fault.message.contains("the field Site of a record"), "{fault}");
}

#[tokio::test]
async fn objects_that_cannot_be_read_are_left_out() {
    let object = |name: &str, queryable: bool| json!({"name": name, "label": name, "queryable": queryable, "createable": true, "replicateable": true});
    let body = json!({"sobjects": [object("Account", true), object("AccountChangeEvent", false)]});
    let server = Server::with_login(move |_, _| Reply::Json(200, body.to_string())).await;
    let objects = server.client().objects().await.expect("objects");
    assert_eq!(objects.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["Account"]);
    assert!(objects[0].createable && !objects[0].deletable && objects[0].replicateable);
}

#[tokio::test]
async fn values_are_read_in_the_form_of_their_kind_and_those_of_a_deleted_record_as_a_whole_or_not_at_all()
 {
    let server = Server::with_login(|_, _| {
        let alive = json!({"attributes": {"type": "A", "url": "/x"}, "Id": "001D000000IqhSL",
            "SystemModstamp": "2026-05-01T07:25:37.000+0000", "IsDeleted": false, "T": " a\r\nb ", "L": "b;a;b",
            "B": true, "N": 1.39E8, "I": 7, "D": "2026-05-24", "M": "2026-05-01T07:25:37.000+0000",
            "C": "10:20:30.000Z", "S": {"city": "Köln", "street": null}, "R": "001D000000IqhSLIAZ", "Nothing": null});
        let deleted = json!({"Id": "001D000000IqhSLIAZ", "SystemModstamp": "2026-05-01T07:25:38.000+0000",
            "IsDeleted": true, "T": "x"});
        Reply::Json(200, json!({"done": true, "records": [alive, deleted]}).to_string())
    })
    .await;
    let columns = [
        ("T", Kind::Text, Some("a\nb")),
        ("L", Kind::Choices, Some("{a,b}")),
        ("B", Kind::Boolean, Some("true")),
        ("N", Kind::Number, Some("139000000")),
        ("I", Kind::Integer, Some("7")),
        ("D", Kind::Date, Some("2026-05-24")),
        ("M", Kind::DateTime, Some("2026-05-01 07:25:37+00")),
        ("C", Kind::Time, Some("10:20:30")),
        ("S", Kind::Structure, Some(r#"{"city": "Köln", "street": null}"#)),
        ("R", Kind::Id, Some("001D000000IqhSLIAZ")),
        ("Nothing", Kind::Text, None),
    ];
    let asked: Vec<Column> = columns.iter().map(|(name, kind, _)| column(name, *kind)).collect();
    let mark = Mark { at: "2026-05-01T00:00:00.000Z".into(), id: String::new() };
    let client = server.client();
    let page = client.changes("A", &asked, &mark).await.expect("a page");
    let expected: Vec<Option<String>> =
        columns.iter().map(|(_, _, text)| text.map(str::to_owned)).collect();
    assert_eq!(page.records[0].values, expected);
    assert_eq!(page.records[0].id, "001D000000IqhSLIAZ");
    assert_eq!(page.records[0].version, "2026-05-01T07:25:37.000Z");
    assert!(page.records[1].deleted && page.records[1].values.is_empty());
    for (column, value) in asked.iter().zip(expected) {
        assert_eq!(client.canonical(column, value.as_deref()), value, "{}", column.name);
    }
}

#[tokio::test]
async fn own_records_are_those_of_the_user_who_logged_in() {
    let server = Server::with_login(|_, _| {
        Reply::Json(200, json!({"done": true, "records": []}).to_string())
    })
    .await;
    let since = "2026-05-01T07:25:37.000Z";
    server.client().created_since("Account", &[], since).await.expect("records");
    let path = server.asked()[1].path.clone();
    let expected = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", &format!("SELECT Id,SystemModstamp FROM Account WHERE CreatedDate >= {since} AND CreatedById = '{USER}' ORDER BY CreatedDate,Id"))
        .finish();
    assert_eq!(path, format!("/services/data/v62.0/query?{expected}"));
}

#[tokio::test]
async fn a_composite_reads_then_deletes_updates_and_creates() {
    let server = Server::with_login(|_, _| {
        let step = |body: Value| json!({"httpStatusCode": 200, "body": body});
        let done = |id: &str| json!({"id": id, "success": true, "errors": []});
        let state = json!({"Id": "001000000000001AAA", "SystemModstamp": "2026-05-01T07:25:37.000+0000", "Name": "old"});
        let taken = json!({"success": false, "errors": [{"statusCode": "DUPLICATE_VALUE", "fields": ["Ext__c"],
            "message": "duplicate value found: Ext__c duplicates value on record with id: 001000000000009"}]});
        let answers = [
            step(json!([null, state])),
            step(json!([done("001000000000002AAA")])),
            step(json!([done("001000000000001AAA")])),
            step(json!([taken])),
            step(json!([{"id": "001000000000003AAA", "success": true, "created": true, "errors": []},
                        {"id": "001000000000004AAA", "success": true, "created": false, "errors": []}])),
        ];
        Reply::Json(200, json!({"compositeResponse": answers}).to_string())
    })
    .await;
    let fields = |name: &str| vec![(0, Some(name.to_owned()))];
    let upsert = |value: &str| Write::Create {
        identity: Some(Identity { field: "Ext__c".into(), value: value.into() }),
        fields: fields(value),
    };
    let batch = WriteBatch {
        object: "Account".into(),
        columns: vec![column("Name", Kind::Text)],
        read_before: true,
        writes: vec![
            upsert("new"),
            Write::Create { identity: None, fields: fields("taken") },
            Write::Update { id: "001000000000001".into(), fields: fields("changed") },
            Write::Delete { id: "001000000000002AAA".into() },
            upsert("there"),
        ],
    };
    let client = server.client();
    let outcomes = client.write(&batch).await.expect("outcomes");
    assert_eq!(client.calls(), 1);
    assert_eq!(outcomes[0].result, Ok(Done::Created { id: "001000000000003AAA".into() }));
    let fault = outcomes[1].result.as_ref().expect_err("a fault");
    assert_eq!(fault.about.existing_id.as_deref(), Some("001000000000009AAA"));
    assert_eq!(outcomes[2].result, Ok(Done::Updated { id: "001000000000001AAA".into() }));
    assert!(
        matches!(&outcomes[2].before, Before::There(record) if record.values == [Some("old".to_owned())])
    );
    assert_eq!((&outcomes[3].result, &outcomes[3].before), (&Ok(Done::Deleted), &Before::Missing));
    assert_eq!(outcomes[4].result, Ok(Done::Updated { id: "001000000000004AAA".into() }));
    assert_eq!(outcomes[4].before, Before::NotRead);

    let sent: Value = serde_json::from_str(&server.asked()[1].body).expect("JSON");
    assert_eq!(sent["allOrNone"], json!(false));
    let requests = sent["compositeRequest"].as_array().expect("requests");
    let lines: Vec<String> = requests
        .iter()
        .map(|r| {
            format!("{} {}", r["method"].as_str().unwrap_or(""), r["url"].as_str().unwrap_or(""))
        })
        .collect();
    let base = "/services/data/v62.0/composite/sobjects";
    assert_eq!(
        lines,
        [
            format!("POST {base}/Account"),
            format!("DELETE {base}?ids=001000000000002AAA&allOrNone=false"),
            format!("PATCH {base}"),
            format!("POST {base}"),
            format!("PATCH {base}/Account/Ext__c"),
        ]
    );
    assert_eq!(
        requests[2]["body"]["records"][0],
        json!({"attributes": {"type": "Account"}, "id": "001000000000001AAA", "Name": "changed"})
    );
    assert_eq!(
        requests[4]["body"]["records"][0],
        json!({"attributes": {"type": "Account"}, "Ext__c": "new", "Name": "new"})
    );
}

#[tokio::test]
async fn two_hundred_of_one_kind_are_a_plain_request() {
    let server = Server::with_login(|_, asked| {
        assert_eq!(
            (asked.method.as_str(), asked.path.as_str()),
            ("POST", "/services/data/v62.0/composite/sobjects")
        );
        let result = |n| json!({"id": format!("001{n:012}AAA"), "success": true, "errors": []});
        Reply::Json(200, (0..200).map(result).collect::<Value>().to_string())
    })
    .await;
    let create = Write::Create { identity: None, fields: vec![(0, Some("x".into()))] };
    let batch = WriteBatch {
        object: "Account".into(),
        columns: vec![column("Name", Kind::Text)],
        read_before: true,
        writes: vec![create; 200],
    };
    let client = server.client();
    assert!(client.write(&batch).await.expect("outcomes").iter().all(|o| o.result.is_ok()));
    assert_eq!(client.calls(), 1);
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_refused_here_and_the_others_go_on() {
    let server = Server::with_login(|_, asked| {
        assert!(!asked.body.contains("far too long"));
        Reply::Json(
            200,
            json!([{"id": "001000000000001AAA", "success": true, "errors": []}]).to_string(),
        )
    })
    .await;
    let create =
        |name: &str| Write::Create { identity: None, fields: vec![(0, Some(name.to_owned()))] };
    let short = Column { name: "Name".into(), kind: Kind::Text, length: 5, ..Column::default() };
    let batch = WriteBatch {
        object: "Account".into(),
        columns: vec![short],
        read_before: false,
        writes: vec![create("far too long"), create("fits")],
    };
    let outcomes = server.client().write(&batch).await.expect("outcomes");
    let fault = outcomes[0].result.as_ref().expect_err("a fault");
    assert_eq!(
        (fault.code.as_str(), fault.about.fields.as_slice()),
        ("STRING_TOO_LONG", ["Name".to_owned()].as_slice())
    );
    assert!(!fault.message.contains("far too long"));
    assert!(outcomes[1].result.is_ok());
}
