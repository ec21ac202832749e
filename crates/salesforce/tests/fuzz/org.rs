//! Answers of an org with three records, each as it should be.

use serde_json::{Value, json};

use crate::scripted::{Asked, ORG, TOKEN, USER};
use crate::spoil::Answer;

pub(crate) const JOB: &str = "7500000000000001AA";

/// The ids of its records.
pub(crate) fn ids() -> Vec<String> {
    (1..=3).map(|n| format!("001{n:012}AAA")).collect()
}

fn row(id: &str) -> Value {
    json!({
        "attributes": {"type": "Account", "url": format!("/services/data/v62.0/sobjects/Account/{id}")},
        "Id": id, "SystemModstamp": "2026-05-01T07:25:37.000+0000", "IsDeleted": false,
        "Name": "a", "AnnualRevenue": 1.5, "Parent": {"attributes": {}, "Key__c": "k"},
    })
}

fn rows(ids: &[String]) -> Value {
    json!({"totalSize": ids.len(), "done": true, "records": ids.iter().map(|id| row(id)).collect::<Vec<_>>()})
}

/// `upload` is what was handed over for a job.
pub(crate) fn answer(asked: &Asked, port: u16, upload: &str) -> Answer {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let rest = path.strip_prefix("/services/data/v62.0").unwrap_or(path);
    if rest.ends_with("/results") {
        let text = "\"Id\",\"SystemModstamp\",\"Name\",\"AnnualRevenue\"\n".to_owned()
            + &ids()
                .iter()
                .map(|id| {
                    format!("\"{id}\",\"2026-05-01T07:25:37.000Z\",\"a, \"\"b\"\"\",\"1.5\"\n")
                })
                .collect::<String>();
        let headers = [("sforce-locator", "null"), ("sforce-numberofrecords", "3")];
        return Answer::csv(&text, &headers);
    }
    if rest.ends_with("edResults/") || rest.ends_with("/unprocessedrecords/") {
        let own = if rest.contains("failed") { "sf__Error" } else { "sf__Created" };
        let mut lines = upload.split_inclusive('\n');
        let mut text = format!("\"sf__Id\",\"{own}\",{}", lines.next().unwrap_or("\n"));
        if rest.contains("successful") {
            let done = ids().into_iter().zip(lines);
            text.extend(done.map(|(id, line)| format!("\"{id}\",\"false\",{line}")));
        }
        return Answer::csv(&text, &[]);
    }
    let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
    match json_of(&asked.method, rest, query, &body, port) {
        Some(body) => Answer::json(&body),
        // An address that the client was given by an answer that was spoiled.
        None => {
            let unknown = json!([{"errorCode": "NOT_FOUND", "message": "not there"}]);
            Answer { status: 404, ..Answer::json(&unknown) }
        }
    }
}

fn json_of(method: &str, path: &str, query: &str, body: &Value, port: u16) -> Option<Value> {
    let usage = json!({"Max": 15000, "Remaining": 14998});
    Some(match (method, path) {
        (_, "/services/oauth2/token") => json!({
            "access_token": TOKEN, "instance_url": format!("http://127.0.0.1:{port}"), "token_type": "Bearer",
            "id": format!("https://login.salesforce.com/id/{ORG}/{USER}"), "issued_at": "1682703577744",
        }),
        (_, "/services/oauth2/userinfo") => {
            json!({"organization_id": ORG, "user_id": USER, "preferred_username": "u@x.y", "name": "U"})
        }
        (_, "/services/data") => json!([{"version": "61.0"}, {"version": "62.0"}]),
        (_, "/limits") => {
            json!({"DailyApiRequests": usage, "DailyDeliveredPlatformEvents": usage})
        }
        (_, "/limits/recordCount") => json!({"sObjects": [{"name": "Account", "count": 3}]}),
        (_, "/sobjects") => {
            json!({"sobjects": [{"name": "Account", "label": "A", "queryable": true, "createable": true},
                {"name": "Lead", "label": "L", "queryable": true}]})
        }
        (_, "/sobjects/Account/describe") => described(),
        (_, "/query" | "/queryAll") if query.contains("Organization") => {
            json!({"totalSize": 1, "done": true, "records": [{"Id": ORG, "Name": "O", "IsSandbox": true}]})
        }
        // Those that are deleted among them: none is.
        (_, "/query" | "/queryAll") if query.contains("Id+IN") || method == "SUB" => rows(&ids()),
        (_, "/query" | "/queryAll") => json!({
            "totalSize": 3, "done": false, "nextRecordsUrl": "/services/data/v62.0/query/01g-2",
            "records": [row(&ids()[0]), row(&ids()[1])],
        }),
        (_, "/query/01g-2") => json!({"totalSize": 3, "done": true, "records": [row(&ids()[2])]}),
        (_, "/composite") => {
            let parts = body["compositeRequest"].as_array().expect("requests").iter().map(|part| {
                let url = part["url"].as_str().expect("a path");
                let (path, query) = url.split_once('?').unwrap_or((url, ""));
                let path = path.strip_prefix("/services/data/v62.0").expect("of the API");
                let method = part["method"].as_str().expect("a method");
                let method = if path.starts_with("/query") { "SUB" } else { method };
                json!({
                    "body": json_of(method, path, query, &part["body"], port).expect("a known one"),
                    "httpHeaders": {}, "httpStatusCode": 200, "referenceId": part["referenceId"],
                })
            });
            json!({"compositeResponse": parts.collect::<Vec<_>>()})
        }
        ("POST", "/composite/sobjects/Account") => {
            let ids = body["ids"].as_array().expect("ids").iter();
            ids.map(|id| row(id.as_str().expect("an id"))).collect()
        }
        ("DELETE", "/composite/sobjects") => {
            ids().iter().map(|id| json!({"id": id, "success": true, "errors": []})).collect()
        }
        (_, path) if path.starts_with("/composite/sobjects") => ids()
            .iter()
            .map(|id| json!({"id": id, "success": true, "errors": [], "created": method == "POST"}))
            .collect(),
        (_, path) if path.ends_with("/resultPages") => json!({
            "resultPages": [{"resultUrl": format!("/services/data/v62.0/jobs/query/{JOB}/results?locator=MQ")}],
            "nextRecordsUrl": format!("/services/data/v62.0/jobs/query/{JOB}/resultPages?locator=Mg"),
        }),
        ("PUT", _) => Value::Null,
        (_, path) if path.starts_with("/jobs/") => {
            json!({"id": JOB, "state": "JobComplete", "numberRecordsProcessed": 3, "apiVersion": 62.0})
        }
        _ => return None,
    })
}

fn described() -> Value {
    let field = |name: &str, kind: &str| {
        json!({
            "name": name, "label": name, "type": kind, "length": 18, "precision": 0, "scale": 0, "nillable": true,
            "createable": true, "updateable": true, "permissionable": true, "filterable": true,
            "externalId": name == "Key__c", "relationshipName": "Parent", "referenceTo": ["Account"],
            "picklistValues": [{"active": true, "value": "x"}],
        })
    };
    json!({
        "name": "Account", "label": "Account", "queryable": true, "createable": true, "updateable": true,
        "deletable": true, "fields": [
            field("Id", "id"), field("SystemModstamp", "datetime"), field("Name", "string"),
            field("ParentId", "reference"), field("Key__c", "string"),
        ],
    })
}
