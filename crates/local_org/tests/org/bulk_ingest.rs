//! Bulk jobs that write.

use crate::client::{Client, DATA, Reply};
use local_org::{BulkManners, Fault, FaultRule};
use serde_json::{Value, json};

fn create(client: &Client, operation: &str, more: Value) -> Reply {
    let mut body = json!({"object": "Account", "operation": operation});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    client.post("/jobs/ingest", &body)
}

fn opened(client: &Client, operation: &str, more: Value) -> String {
    let reply = create(client, operation, more);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let told = reply.json();
    let id = told["id"].as_str().expect("an id").to_owned();
    assert_eq!(told["contentUrl"], format!("services/data/v66.0/jobs/ingest/{id}/batches"));
    assert_eq!((&told["state"], &told["contentType"]), (&json!("Open"), &json!("CSV")));
    id
}

fn put(client: &Client, id: &str, csv: &str) -> Reply {
    let bearer = format!("Bearer {}", client.token);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/csv")];
    let target = format!("{DATA}/jobs/ingest/{id}/batches");
    client.send("PUT", &target, &headers, csv.as_bytes()).expect("an answer")
}

fn close(client: &Client, id: &str) -> Reply {
    client.patch(&format!("/jobs/ingest/{id}"), &json!({"state": "UploadComplete"}))
}

/// A job with its data, carried to its end.
fn run(client: &Client, operation: &str, more: Value, csv: &str) -> String {
    let id = opened(client, operation, more);
    assert_eq!(put(client, &id, csv).status, 201);
    assert_eq!(close(client, &id).json()["state"], "UploadComplete");
    client.org.finish_jobs();
    id
}

fn results(client: &Client, id: &str, what: &str) -> String {
    let reply = client.get(&format!("/jobs/ingest/{id}/{what}/"));
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.text
}

fn told(client: &Client, id: &str) -> Value {
    client.get(&format!("/jobs/ingest/{id}")).json()
}

#[test]
fn records_are_inserted_and_those_refused_are_told_with_their_reason() {
    let client = Client::start();
    let csv = "Name,NumberOfEmployees\n\" Acme \",5\n,7\n\"B, C\",many\n";
    let id = run(&client, "insert", Value::Null, csv);
    let end = told(&client, &id);
    assert_eq!(end["state"], "JobComplete");
    assert_eq!(
        (&end["numberRecordsProcessed"], &end["numberRecordsFailed"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(end["jobType"], "V2Ingest");
    let records = client.org.records("Account");
    let (record, number) = (records[0]["Id"].as_str().expect("an id"), records.len());
    assert_eq!((number, &records[0]["Name"]), (1, &json!("Acme")));
    assert_eq!(
        results(&client, &id, "successfulResults"),
        format!(
            "\"sf__Id\",\"sf__Created\",Name,NumberOfEmployees\n\"{record}\",\"true\",\" Acme \",\"5\"\n"
        )
    );
    assert_eq!(
        results(&client, &id, "failedresults"),
        "\"sf__Id\",\"sf__Error\",Name,NumberOfEmployees\n\
         \"\",\"INVALID_FIELD:Failed to deserialize field at col 2. Due to, 'many' is not a valid value for the type xsd:int:NumberOfEmployees --\",\"B, C\",\"many\"\n\
         \"\",\"REQUIRED_FIELD_MISSING:Required fields are missing: [Name]:Name --\",\"\",\"7\"\n"
    );
    assert_eq!(results(&client, &id, "unprocessedRecords"), "Name,NumberOfEmployees\n");
}

#[test]
fn an_empty_cell_leaves_a_field_and_na_empties_it() {
    let client = Client::start();
    let body = json!({"Name": "A", "Site": "here", "Industry": "Energy"});
    let record = client.org.insert("Account", body).expect("an id");
    let id = run(&client, "update", Value::Null, &format!("Id,Site,Industry\n{record},,#N/A\n"));
    let after = client.org.get(&record).expect("a record");
    assert_eq!((&after["Site"], &after["Industry"]), (&json!("here"), &Value::Null));
    assert!(
        results(&client, &id, "successfulResults").contains(&format!("\"{record}\",\"false\""))
    );
    // The id is told with a failure too, where it was named.
    let id = run(&client, "update", Value::Null, &format!("Id,Name\n{record},#N/A\n,B\n"));
    let failed = results(&client, &id, "failedResults");
    assert!(failed.contains(&format!("\"{record}\",\"REQUIRED_FIELD_MISSING:")), "{failed}");
    assert!(failed.contains("\"\",\"MISSING_ARGUMENT:Id not specified"), "{failed}");
}

#[test]
fn upserts_go_by_their_key() {
    let client = Client::start();
    client.org.insert("Account", json!({"Name": "A", "External_Id__c": "a"})).expect("an id");
    let key = json!({"externalIdFieldName": "External_Id__c"});
    let csv = "External_Id__c,Name\na,A2\nb,B\nc,C1\nc,C2\n,D\n";
    let id = run(&client, "upsert", key, csv);
    assert_eq!(told(&client, &id)["externalIdFieldName"], "External_Id__c");
    let done = results(&client, &id, "successfulResults");
    assert!(
        done.contains("\"false\",\"a\",\"A2\"") && done.contains("\"true\",\"b\",\"B\""),
        "{done}"
    );
    let failed = results(&client, &id, "failedResults");
    assert_eq!(failed.matches("DUPLICATE_VALUE:Duplicate external id specified: c").count(), 2);
    assert!(
        failed.contains("MISSING_ARGUMENT:External_Id__c not specified:External_Id__c --"),
        "{failed}"
    );
    assert_eq!(client.org.count("Account"), 2);
    assert_eq!(create(&client, "upsert", Value::Null).code(), "INVALIDJOB");
    assert_eq!(
        create(&client, "upsert", json!({"externalIdFieldName": "Name"})).code(),
        "INVALIDJOB"
    );
}

#[test]
fn parents_are_found_by_their_key() {
    let client = Client::start();
    let parent = client.org.insert("Account", json!({"Name": "A", "External_Id__c": "a"}));
    let parent = parent.expect("an id");
    let contacts = json!({"object": "Contact"});
    let csv = "LastName,Account.External_Id__c\nL,a\nM,b\nN,#N/A\n";
    let id = run(&client, "insert", contacts, csv);
    let failed = results(&client, &id, "failedResults");
    let message = "INVALID_FIELD:Foreign key external ID: b not found for field External_Id__c in entity Account:--";
    assert!(failed.contains(message), "{failed}");
    let names: Vec<(Value, Value)> = client
        .org
        .records("Contact")
        .iter()
        .map(|r| (r["LastName"].clone(), r["AccountId"].clone()))
        .collect();
    assert_eq!(names, [(json!("L"), json!(parent)), (json!("N"), Value::Null)]);
}

#[test]
fn records_are_deleted_into_the_bin_or_past_it() {
    let client = Client::start();
    let ids: Vec<String> = (0..2)
        .map(|n| client.org.insert("Account", json!({"Name": format!("n{n}")})).expect("an id"))
        .collect();
    run(&client, "delete", Value::Null, &format!("Id\n{}\n", ids[0]));
    assert_eq!(client.org.get(&ids[0]).expect("a record")["IsDeleted"], true);
    assert_eq!(create(&client, "hardDelete", Value::Null).code(), "FEATURENOTENABLED");
    client.org.set_bulk(BulkManners { hard_delete: true, ..BulkManners::default() });
    run(&client, "hardDelete", Value::Null, &format!("Id\n{}\n", ids[1]));
    assert!(client.org.get(&ids[1]).is_none());
    let id = run(&client, "delete", Value::Null, "Id,Name\n001,x\n");
    assert_eq!(told(&client, &id)["state"], "Failed");
}

#[test]
fn data_that_does_not_fit_fails_the_job_and_changes_nothing() {
    let client = Client::start();
    for (more, csv, message) in [
        (json!({}), "Nam\na\n", "InvalidBatch : Field name not found : Nam"),
        (json!({}), "Name;Site\na;b\n", "InvalidBatch : Field name not found : Name;Site"),
        (json!({}), "Name,name\na,b\n", "InvalidBatch : Duplicate field name found : name"),
        (
            json!({}),
            "Name\r\na\r\n",
            "LineEnding is invalid on user data. Current LineEnding setting is LF",
        ),
        (json!({"lineEnding": "CRLF"}), "Name\na\n", "Current LineEnding setting is CRLF"),
        (json!({}), "Name,Site\na,b\na\n", "Record 2 has 1 fields, and the header 2"),
        (json!({}), "Name\n\"a\n", "A quote is not closed"),
        (json!({}), "", "The header is missing"),
    ] {
        let id = run(&client, "insert", more, csv);
        let end = told(&client, &id);
        assert_eq!(
            (&end["state"], &end["numberRecordsProcessed"]),
            (&json!("Failed"), &json!(0)),
            "{csv}"
        );
        let error = end["errorMessage"].as_str().unwrap_or_default();
        assert!(error.contains(message), "{csv}: {error}");
        assert_eq!(results(&client, &id, "unprocessedrecords"), csv);
    }
    assert_eq!(client.org.count("Account"), 0);
    let semicolons = json!({"columnDelimiter": "SEMICOLON", "lineEnding": "CRLF"});
    run(&client, "insert", semicolons, "Name;Site\r\na;b\r\n");
    assert_eq!(client.org.count("Account"), 1);
}

#[test]
fn data_has_its_limits() {
    let client = Client::start();
    let long = |length: usize| format!("\"{}\"", "x".repeat(length));
    let wide = |count: usize| (0..count).map(|n| format!("F{n}")).collect::<Vec<_>>().join(",");
    for (csv, message) in [
        (format!("Name\n{}\n", long(131_073)), "Record 1 is too long"),
        (
            format!("Name,Site,Industry,Description\n{0},{0},{0},{0}\n", long(131_000)),
            "Record 1 is too long",
        ),
        (format!("{}\n", wide(5001)), "The header is too long"),
        (format!("{}\n", "N".repeat(32_001)), "The header is too long"),
    ] {
        let id = run(&client, "insert", Value::Null, &csv);
        let error = told(&client, &id)["errorMessage"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(message), "{error}");
    }
    // The longest cell is read; that it is too long for the field is told of the record.
    let id = run(&client, "insert", Value::Null, &format!("Name\n{}\n", long(131_072)));
    assert!(results(&client, &id, "failedResults").contains("STRING_TOO_LONG:"));
}

#[test]
fn an_abort_keeps_what_was_done_and_tells_the_rest() {
    let client = Client::start();
    let rows: String = (0..1000).map(|n| format!("n{n}\n")).collect();
    let id = opened(&client, "insert", Value::Null);
    put(&client, &id, &format!("Name\n{rows}"));
    close(&client, &id);
    let told = told(&client, &id);
    assert_eq!(
        (&told["state"], &told["numberRecordsProcessed"]),
        (&json!("InProgress"), &json!(400))
    );
    let early = client.get(&format!("/jobs/ingest/{id}/successfulResults"));
    assert_eq!(early.code(), "INVALIDJOBSTATE");
    let aborted = client.patch(&format!("/jobs/ingest/{id}"), &json!({"state": "Aborted"}));
    assert_eq!(aborted.json()["state"], "Aborted");
    assert_eq!(client.org.count("Account"), 400);
    assert_eq!(results(&client, &id, "successfulResults").lines().count(), 401);
    assert_eq!(results(&client, &id, "unprocessedrecords").lines().count(), 601);
}

#[test]
fn a_job_takes_data_once_and_nothing_happens_before_it_is_closed() {
    let client = Client::start();
    let id = opened(&client, "insert", Value::Null);
    assert_eq!(close(&client, &id).code(), "INVALIDJOBSTATE");
    assert_eq!(put(&client, &id, "Name\na\n").status, 201);
    assert_eq!(put(&client, &id, "Name\nb\n").code(), "INVALIDJOBSTATE");
    client.org.finish_jobs();
    assert_eq!(
        (told(&client, &id)["state"].clone(), client.org.count("Account")),
        (json!("Open"), 0)
    );
    assert_eq!(client.delete(&format!("/jobs/ingest/{id}")).code(), "API_ERROR");
    assert_eq!(close(&client, &id).status, 200);
    assert_eq!(close(&client, &id).code(), "INVALIDJOBSTATE");
    assert_eq!(client.get("/jobs/ingest").json()["records"][0]["id"], id);
    assert_eq!(client.delete(&format!("/jobs/ingest/{id}")).status, 204);
}

#[test]
fn a_small_job_goes_in_one_request() {
    let client = Client::start();
    let bearer = format!("Bearer {}", client.token);
    let headers =
        [("Authorization", bearer.as_str()), ("Content-Type", "multipart/form-data; boundary=XX")];
    let send = |content: &str| {
        let body = format!(
            "--XX\r\nContent-Type: application/json\r\nContent-Disposition: form-data; name=\"job\"\r\n\r\n\
             {{\"object\": \"Account\", \"operation\": \"insert\"}}\r\n\
             --XX\r\nContent-Type: text/csv\r\nContent-Disposition: form-data; name=\"content\"; filename=\"c\"\r\n\r\n\
             {content}\r\n--XX--\r\n"
        );
        let target = format!("{DATA}/jobs/ingest");
        client.send("POST", &target, &headers, body.as_bytes()).expect("an answer")
    };
    assert_eq!(send("Name\nsmall\n").json()["state"], "UploadComplete");
    client.org.finish_jobs();
    assert_eq!(client.org.records("Account")[0]["Name"], "small");
    assert_eq!(send(&format!("Name\n{}\n", "x".repeat(100_000))).code(), "INVALIDJOB");
}

#[test]
fn a_record_of_a_job_can_be_struck_and_the_day_has_its_batches() {
    let client = Client::start();
    let locked = Fault::Record { code: "UNABLE_TO_LOCK_ROW".into(), message: "locked".into() };
    client.org.fault(FaultRule::once(locked).path("/jobs/ingest"));
    client.control("POST", "/bulk", &json!({"batches": 1}));
    let id = run(&client, "insert", Value::Null, "Name\na\nb\n");
    let failed = results(&client, &id, "failedResults");
    assert!(failed.contains("\"\",\"UNABLE_TO_LOCK_ROW:locked:--\",\"a\""), "{failed}");
    assert_eq!(client.org.count("Account"), 1);
    let id = opened(&client, "insert", Value::Null);
    put(&client, &id, "Name\nc\n");
    assert_eq!(close(&client, &id).code(), "EXCEEDEDQUOTA");
    let unknown = client.post("/jobs/ingest", &json!({"object": "Nothing", "operation": "insert"}));
    assert_eq!(unknown.code(), "INVALIDENTITY");
}
