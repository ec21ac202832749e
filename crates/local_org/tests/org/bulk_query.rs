//! Bulk jobs that read.

use crate::client::{Client, Reply};
use local_org::{BulkManners, Fault, FaultRule};
use serde_json::{Value, json};

fn job(client: &Client, soql: &str) -> Reply {
    client.post("/jobs/query", &json!({"operation": "query", "query": soql}))
}

fn made(client: &Client, soql: &str) -> String {
    let reply = job(client, soql);
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["id"].as_str().expect("an id").to_owned()
}

fn state(client: &Client, id: &str) -> Value {
    client.get(&format!("/jobs/query/{id}")).json()
}

/// The job after its last look.
fn complete(client: &Client, soql: &str) -> String {
    let id = made(client, soql);
    client.org.finish_jobs();
    id
}

fn seed(client: &Client, count: usize) {
    let records: Vec<Value> = (0..count).map(|n| json!({"Name": format!("n{n}")})).collect();
    assert_eq!(client.control("POST", "/records/Account", &json!(records)).status, 200);
}

#[test]
fn a_job_goes_on_when_it_is_looked_at() {
    let client = Client::start();
    seed(&client, 3);
    client.org.set_bulk(BulkManners { polls: 2, ..BulkManners::default() });
    let reply = job(&client, "SELECT Id FROM Account");
    let told = reply.json();
    assert_eq!((reply.status, &told["state"]), (200, &json!("UploadComplete")), "{told}");
    assert_eq!((&told["object"], &told["apiVersion"]), (&json!("Account"), &json!(66.0)));
    let id = told["id"].as_str().expect("an id");
    let early = client.get(&format!("/jobs/query/{id}/results"));
    assert_eq!((early.status, early.code().as_str()), (400, "INVALIDJOBSTATE"));
    let states: Vec<Value> = (0..4).map(|_| state(&client, id)["state"].clone()).collect();
    assert_eq!(states, ["InProgress", "InProgress", "JobComplete", "JobComplete"]);
    let end = state(&client, id);
    assert_eq!((&end["jobType"], &end["numberRecordsProcessed"]), (&json!("V2Query"), &json!(3)));
    assert_eq!(end["isPkChunkingSupported"], true);
}

#[test]
fn values_come_in_the_form_of_csv() {
    let client = Client::start();
    let parent = client.org.insert("Account", json!({"Name": "a, \"b\"\r\nc"})).expect("an id");
    let body = json!({"LastName": "L", "AccountId": parent, "Birthdate": "2026-05-24"});
    client.org.insert("Contact", body).expect("an id");
    client.org.insert("Contact", json!({"LastName": "M"})).expect("an id");
    let id = complete(
        &client,
        "SELECT LastName, Birthdate, Account.Name, IsDeleted, CreatedDate FROM Contact ORDER BY LastName",
    );
    let reply = client.get(&format!("/jobs/query/{id}/results"));
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(reply.headers["content-type"].starts_with("text/csv"));
    assert_eq!(reply.headers["sforce-locator"], "null");
    assert_eq!(reply.headers["sforce-numberofrecords"], "2");
    let now = client.org.now();
    let day = &now[..10];
    let start = format!(
        "\"LastName\",\"Birthdate\",\"Account.Name\",\"IsDeleted\",\"CreatedDate\"\n\
         \"L\",\"2026-05-24\",\"a, \"\"b\"\"\r\nc\",\"false\",\"{day}T"
    );
    assert!(reply.text.starts_with(&start), "{}", reply.text);
    assert!(reply.text.contains(".000Z\"\n\"M\",\"\",\"\",\"false\",\""), "{}", reply.text);
}

#[test]
fn the_format_is_the_one_that_was_asked_for() {
    let client = Client::start();
    client.org.insert("Account", json!({"Name": "a|b"})).expect("an id");
    let body = json!({
        "operation": "query", "query": "SELECT Name, NumberOfEmployees FROM Account",
        "columnDelimiter": "PIPE", "lineEnding": "CRLF",
    });
    let id = client.post("/jobs/query", &body).json()["id"].as_str().expect("an id").to_owned();
    client.org.finish_jobs();
    let text = client.get(&format!("/jobs/query/{id}/results")).text;
    assert_eq!(text, "\"Name\"|\"NumberOfEmployees\"\r\n\"a|b\"|\"\"\r\n");
    let wrong =
        json!({"operation": "query", "query": "SELECT Id FROM Account", "columnDelimiter": "DOT"});
    assert_eq!(client.post("/jobs/query", &wrong).code(), "INVALIDJOB");
}

#[test]
fn results_come_in_pages_that_can_be_asked_again() {
    let client = Client::start();
    seed(&client, 25);
    let id = complete(&client, "SELECT Name FROM Account");
    let page = |locator: &str| {
        let locator =
            if locator.is_empty() { String::new() } else { format!("&locator={locator}") };
        client.get(&format!("/jobs/query/{id}/results?maxRecords=10{locator}"))
    };
    let (mut locator, mut names) = (String::new(), Vec::new());
    loop {
        let reply = page(&locator);
        assert_eq!(reply.text, page(&locator).text);
        names.extend(reply.text.lines().skip(1).map(str::to_owned));
        locator = reply.headers["sforce-locator"].clone();
        if locator == "null" {
            break;
        }
    }
    let expected: Vec<String> = (0..25).map(|n| format!("\"n{n}\"")).collect();
    assert_eq!(names, expected);
    // 10 and 25 in base64; the last is behind the end.
    assert_eq!(page("MTA").headers["sforce-numberofrecords"], "10");
    for wrong in ["MjU", "nonsense", "MTA-"] {
        assert_eq!(page(wrong).code(), "INVALID_QUERY_LOCATOR", "{wrong}");
    }
}

#[test]
fn pages_are_listed_for_several_at_once() {
    let client = Client::start();
    seed(&client, 13);
    client.org.set_bulk(BulkManners { page: 2, ..BulkManners::default() });
    let id = complete(&client, "SELECT Name FROM Account");
    let first = client.get(&format!("/jobs/query/{id}/resultPages")).json();
    assert_eq!(
        (first["resultPages"].as_array().map(Vec::len), &first["done"]),
        (Some(5), &json!(false))
    );
    let prefix = "/services/data/v66.0";
    let next = first["nextRecordsUrl"].as_str().expect("a next").trim_start_matches(prefix);
    let second = client.get(next).json();
    assert_eq!(
        (second["resultPages"].as_array().map(Vec::len), &second["done"]),
        (Some(2), &json!(true))
    );
    let mut names = 0;
    for page in [&first, &second].iter().flat_map(|p| p["resultPages"].as_array().expect("pages")) {
        let url = page["resultUrl"].as_str().expect("a url").trim_start_matches(prefix);
        names += client.get(url).text.lines().count() - 1;
    }
    assert_eq!(names, 13);
}

#[test]
fn what_bulk_queries_cannot_is_refused() {
    let client = Client::start();
    for (soql, code) in [
        ("SELECT Id, BillingAddress FROM Account", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT count() FROM Account", "API_ERROR"),
        ("SELECT Id FROM Account OFFSET 5", "API_ERROR"),
        ("SELECT Nothing__c FROM Account", "INVALID_FIELD"),
        ("SELECT Id FROM Nothing", "INVALID_TYPE"),
        ("SELECT Id", "MALFORMED_QUERY"),
    ] {
        let reply = job(&client, soql);
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{soql}: {}", reply.text);
    }
    let body = json!({"operation": "insert", "query": "SELECT Id FROM Account"});
    assert_eq!(client.post("/jobs/query", &body).code(), "INVALIDJOB");
}

#[test]
fn jobs_are_aborted_deleted_and_listed() {
    let client = Client::start();
    let id = made(&client, "SELECT Id FROM Account");
    let path = format!("/jobs/query/{id}");
    let reply = client.delete(&path);
    assert_eq!((reply.status, reply.code().as_str()), (400, "API_ERROR"));
    assert_eq!(client.patch(&path, &json!({"state": "Aborted"})).json()["state"], "Aborted");
    assert_eq!(client.patch(&path, &json!({"state": "Aborted"})).code(), "INVALIDJOBSTATE");
    assert_eq!(client.get(&format!("{path}/results")).code(), "INVALIDJOBSTATE");
    let second = made(&client, "SELECT Id FROM Contact");
    let list = client.get("/jobs/query").json();
    assert_eq!(list["done"], true);
    assert_eq!(
        (&list["records"][0]["id"], &list["records"][1]["id"]),
        (&json!(second), &json!(id))
    );
    assert_eq!(client.delete(&path).status, 204);
    assert_eq!(client.get(&path).code(), "NOT_FOUND");
    // A job of one kind is not one of the other.
    assert_eq!(client.get(&format!("/jobs/ingest/{second}")).code(), "NOT_FOUND");
}

#[test]
fn a_job_that_is_failed_or_gone_says_so() {
    let client = Client::start();
    seed(&client, 1);
    let id = made(&client, "SELECT Id FROM Account");
    client.org.fault(FaultRule::once(Fault::FailJob { message: "InvalidBatch : why".into() }));
    let told = state(&client, &id);
    assert_eq!(
        (&told["state"], &told["errorMessage"]),
        (&json!("Failed"), &json!("InvalidBatch : why"))
    );
    let id = complete(&client, "SELECT Id FROM Account");
    let results = format!("/jobs/query/{id}/results");
    client.org.fault(FaultRule::once(Fault::CutDuring).path("/results"));
    assert!(client.call("GET", &results, &Value::Null).is_err());
    assert_eq!(client.get(&results).status, 200);
    client.org.fault(FaultRule::once(Fault::ExpireJob).path("/results"));
    assert_eq!(client.get(&results).code(), "NOT_FOUND");
    assert_eq!(client.get(&results).code(), "NOT_FOUND");
}

#[test]
fn a_fault_of_an_object_strikes_the_jobs_about_it() {
    let client = Client::start();
    client.org.fault(FaultRule::once(Fault::Html503).object("Contact"));
    assert_eq!(job(&client, "SELECT Id FROM Account").status, 200);
    assert_eq!(job(&client, "SELECT Id FROM Contact").status, 503);
    client.org.fault(FaultRule::once(Fault::Html503).object("Contact"));
    let ingest = |object: &str| {
        client.post("/jobs/ingest", &json!({"object": object, "operation": "insert"})).status
    };
    assert_eq!((ingest("Account"), ingest("Contact")), (200, 503));
}

#[test]
fn results_are_of_the_version_that_the_job_was_made_in() {
    let client = Client::start();
    let id = complete(&client, "SELECT Id FROM Account");
    let bearer = format!("Bearer {}", client.token);
    let target = format!("/services/data/v57.0/jobs/query/{id}/results");
    let reply = client.send("GET", &target, &[("Authorization", &bearer)], b"").expect("an answer");
    assert_eq!(reply.status, 409);
}

#[test]
fn the_day_has_its_number_of_jobs() {
    let client = Client::start();
    client.control("POST", "/bulk", &json!({"query_jobs": 1}));
    made(&client, "SELECT Id FROM Account");
    assert_eq!(job(&client, "SELECT Id FROM Account").code(), "EXCEEDEDQUOTA");
    let limits = client.get("/limits").json();
    assert_eq!(limits["DailyBulkV2QueryJobs"], json!({"Max": 1, "Remaining": 0}));
    assert_eq!(client.control("POST", "/bulk", &json!({"pols": 1})).status, 400);
}
