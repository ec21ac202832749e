//! Writes that go wrong: what was carried out, what was not, and what nobody knows.

mod scripted;

use connector::{Before, Column, Connector, Done, FaultKind, Kind, Outcome, Write, WriteBatch};
use scripted::{Reply, Server, client};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

const ONE: &str = "001000000000001AAA";

fn name() -> Vec<Column> {
    vec![Column { name: "Name".into(), kind: Kind::Text, length: 255, ..Column::default() }]
}

fn dead_session() -> Reply {
    Reply::Json(
        401,
        r#"[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]"#.into(),
    )
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::Json(status, json!([{"errorCode": code, "message": message}]).to_string())
}

fn row(id: &str) -> Value {
    json!({"attributes": {"type": "Account"}, "Id": id, "SystemModstamp": "2026-05-01T07:25:37.000+0000", "Name": "a"})
}

fn updates(count: usize, read_before: bool) -> WriteBatch {
    let id = |n| format!("001{n:012}AAA");
    let update = |n| Write::Update { id: id(n), fields: vec![(0, Some("b".into()))] };
    WriteBatch {
        object: "Account".into(),
        columns: name(),
        read_before,
        writes: (0..count).map(update).collect(),
    }
}

fn creates(count: usize) -> WriteBatch {
    let create = |_| Write::Create { identity: None, fields: vec![(0, Some("b".into()))] };
    WriteBatch {
        object: "Account".into(),
        columns: name(),
        read_before: false,
        writes: (0..count).map(create).collect(),
    }
}

fn kinds(outcomes: &[Outcome]) -> Vec<Option<FaultKind>> {
    outcomes.iter().map(|outcome| outcome.result.as_ref().err().map(|fault| fault.kind)).collect()
}

/// Successes for as many records as a collections request holds.
fn carried_out(body: &str) -> Value {
    static CREATED: AtomicUsize = AtomicUsize::new(1);
    let body: Value = serde_json::from_str(body).expect("JSON");
    let records = body["records"].as_array().expect("records").iter();
    records
        .map(|record| {
            let new = || format!("001{:012}AAA", CREATED.fetch_add(1, Ordering::Relaxed));
            let id = record["id"].as_str().map_or_else(new, str::to_owned);
            json!({"id": id, "success": true, "errors": []})
        })
        .collect()
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_ambiguous_and_the_rest_was_not_sent() {
    for cut in [
        || Reply::Cut,
        || Reply::Silence,
        || Reply::Html(503, "<html>".into()),
        || Reply::Html(200, "<html>".into()),
        || error(500, "UNKNOWN_EXCEPTION", ""),
    ] {
        let server = Server::with_login(move |number, asked| match number {
            0 => {
                let asked: Value = serde_json::from_str(&asked.body).expect("JSON");
                let answers = asked["compositeRequest"].as_array().expect("requests").iter();
                let answers: Vec<Value> = answers
                    .map(|r| json!({"httpStatusCode": 200, "body": carried_out(&r["body"].to_string())}))
                    .collect();
                Reply::Json(200, json!({"compositeResponse": answers}).to_string())
            }
            _ => cut(),
        })
        .await;
        // 1,000 in the first call, 1,000 in the one that is lost, 100 that never leave.
        let outcomes = server.client().write(&updates(2100, false)).await.expect("outcomes");
        let kinds = kinds(&outcomes);
        assert!(kinds[..1000].iter().all(Option::is_none));
        assert!(
            kinds[1000..2000].iter().all(|kind| *kind == Some(FaultKind::Ambiguous)),
            "{:?}",
            outcomes[1000]
        );
        assert!(kinds[2000..].iter().all(|kind| *kind == Some(FaultKind::Transient)));
        assert_eq!(server.asked().len(), 3);
    }
}

#[tokio::test]
async fn what_was_never_sent_is_an_error_of_the_whole() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    drop(listener);
    let fault = client(port).write(&creates(2)).await.expect_err("a fault");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Transient, "NOT_CONNECTED"));
    let cases = [
        (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", FaultKind::Quota),
        (503, "SERVER_UNAVAILABLE", "", FaultKind::Transient),
        (403, "API_DISABLED_FOR_ORG", "", FaultKind::Configuration),
    ];
    for (status, code, message, kind) in cases {
        let server = Server::with_login(move |_, _| error(status, code, message)).await;
        let fault = server.client().write(&updates(2, true)).await.expect_err("a fault");
        assert_eq!((fault.kind, fault.code.as_str()), (kind, code));
    }
}

#[tokio::test]
async fn a_write_after_a_dead_session_is_sent_once_more_and_no_oftener() {
    let server = Server::with_login(|number, asked| match number {
        0 => dead_session(),
        _ => Reply::Json(200, carried_out(&asked.body).to_string()),
    })
    .await;
    let outcomes = server.client().write(&creates(1)).await.expect("outcomes");
    assert!(matches!(outcomes[0].result, Ok(Done::Created { .. })), "{outcomes:?}");
    assert_eq!((server.logins(), server.asked().len()), (2, 4));
}

#[tokio::test]
async fn one_value_that_spoils_a_request_spoils_only_its_own_record() {
    let server = Server::with_login(|_, asked| {
        if asked.body.contains("poison") {
            return error(400, "JSON_PARSER_ERROR", "Cannot deserialize instance of date");
        }
        Reply::Json(200, carried_out(&asked.body).to_string())
    })
    .await;
    let mut batch = creates(100);
    batch.writes[37] = Write::Create { identity: None, fields: vec![(0, Some("poison".into()))] };
    let client = server.client();
    let kinds = kinds(&client.write(&batch).await.expect("outcomes"));
    let refused: Vec<usize> = (0..100).filter(|n| kinds[*n].is_some()).collect();
    assert_eq!((refused, kinds[37]), (vec![37], Some(FaultKind::Refused)));
    assert!(client.calls() <= 15, "{}", client.calls());
}

#[tokio::test]
async fn each_step_of_a_composite_has_its_own_fate() {
    let server = Server::with_login(|_, _| {
        let step = |status: u16, body: Value| json!({"httpStatusCode": status, "body": body});
        let gone = json!({"success": false, "errors": [{"statusCode": "ENTITY_IS_DELETED", "message": "entity is deleted", "fields": []}]});
        let answers = [
            step(200, json!([null, row("001000000000001AAA")])),
            step(200, json!([gone])),
            step(200, json!([gone])),
            step(500, json!([{"errorCode": "UNKNOWN_EXCEPTION", "message": "x"}])),
        ];
        Reply::With(200, vec![("x-sfdc-request-id", "abc".into())], json!({"compositeResponse": answers}).to_string())
    })
    .await;
    let mut batch = updates(2, true);
    batch.writes[0] = Write::Delete { id: "001000000000000AAA".into() };
    batch.writes.push(Write::Create { identity: None, fields: vec![] });
    let outcomes = server.client().write(&batch).await.expect("outcomes");
    assert_eq!((&outcomes[0].result, &outcomes[0].before), (&Ok(Done::Gone), &Before::Missing));
    let fault = outcomes[1].result.as_ref().expect_err("it was there just before");
    assert_eq!(fault.kind, FaultKind::Conflict);
    assert!(
        matches!(&outcomes[1].before, Before::There(record) if record.values == [Some("a".to_owned())])
    );
    let fault = outcomes[2].result.as_ref().expect_err("a fault");
    assert_eq!(
        (fault.kind, fault.about.request_id.as_deref()),
        (FaultKind::Ambiguous, Some("abc"))
    );
}

#[tokio::test]
async fn a_missing_record_and_a_missing_parent_are_told_apart() {
    let gone = r#"[{"success": false, "errors": [{"statusCode": "INVALID_CROSS_REFERENCE_KEY", "message": "invalid cross reference id", "fields": []}]}]"#;
    let server = Server::with_login(move |_, _| Reply::Json(200, gone.into())).await;
    let mut batch = updates(1, false);
    let write = async |batch: &WriteBatch| {
        server.client().write(batch).await.expect("outcomes").remove(0).result
    };
    assert_eq!(write(&batch).await, Ok(Done::Gone));
    batch.columns.push(Column {
        name: "ParentId".into(),
        kind: Kind::Id,
        length: 18,
        ..Column::default()
    });
    let fields = vec![(1, Some("001000000000009AAA".into()))];
    batch.writes = vec![Write::Update { id: ONE.into(), fields: fields.clone() }];
    assert_eq!(write(&batch).await.expect_err("a fault").kind, FaultKind::Dependency);
    batch.writes = vec![Write::Create { identity: None, fields }];
    assert_eq!(write(&batch).await.expect_err("a fault").kind, FaultKind::Dependency);
    batch.writes = vec![Write::Delete { id: ONE.into() }];
    assert_eq!(write(&batch).await, Ok(Done::Gone));
}

/// The first page of a query for the records leaves open what the others were, or whether they were there at all.
#[tokio::test]
async fn what_a_query_has_not_told_of_a_record_is_not_known() {
    for done in [false, true] {
        let server = Server::with_login(move |_, asked| {
            let asked: Value = serde_json::from_str(&asked.body).expect("JSON");
            let [reading, writing] =
                asked["compositeRequest"].as_array().expect("requests").as_slice()
            else {
                panic!("{asked}")
            };
            let query = reading["url"].as_str().unwrap_or_default();
            assert!(reading["method"] == "GET" && query.contains("Parent.Key__c"), "{reading}");
            let one = json!({
                "attributes": {"type": "Account"}, "Id": "001000000000000AAA",
                "SystemModstamp": "2026-05-01T07:25:37.000+0000", "Name": "a", "Parent": {"Key__c": "k"},
            });
            let found = json!({"totalSize": if done { 1 } else { 2 }, "done": done, "records": [one]});
            let written = carried_out(&writing["body"].to_string());
            let part = |body: Value, id: &str| json!({"body": body, "httpStatusCode": 200, "referenceId": id});
            let parts = [part(found, "before"), part(written, "step0")];
            Reply::Json(200, json!({"compositeResponse": parts}).to_string())
        })
        .await;
        let mut batch = updates(2, true);
        let lookup = Some("ParentId".to_owned());
        batch.columns.push(Column { name: "Parent.Key__c".into(), lookup, ..Column::default() });
        let outcomes = server.client().write(&batch).await.expect("outcomes");
        let Before::There(record) = &outcomes[0].before else { panic!("{:?}", outcomes[0]) };
        assert_eq!(record.values, [Some("a".to_owned()), Some("k".to_owned())]);
        let unknown = if done { Before::Missing } else { Before::NotRead };
        assert_eq!(outcomes[1].before, unknown);
    }
}

/// The results of a request stand in the order of its records, and each says whose it is.
#[tokio::test]
async fn a_result_that_is_that_of_another_record_leaves_open_what_was_written() {
    let result = |id: &str| json!({"id": id, "success": true, "errors": []});
    let (one, two) = ("001000000000000AAA", "001000000000001AAA");
    for (batch, ids) in [(updates(2, false), [two, one]), (creates(2), [one, one])] {
        let body = json!([result(ids[0]), result(ids[1])]).to_string();
        let server = Server::with_login(move |_, _| Reply::Json(200, body.clone())).await;
        let outcomes = server.client().write(&batch).await.expect("outcomes");
        assert_eq!(kinds(&outcomes), [Some(FaultKind::Ambiguous); 2], "{outcomes:?}");
    }
}
