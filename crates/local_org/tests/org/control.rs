use crate::client::Client;
use serde_json::{Value, json};

#[test]
fn what_happened_is_told() {
    let client = Client::start();
    client.account("A");
    let state = client.control("GET", "", &Value::Null).json();
    assert_eq!((&state["records"]["Account"], &state["used"]), (&json!(1), &json!(1)));
    let calls = client.control("GET", "/calls?since=1", &Value::Null).json();
    assert_eq!(calls.as_array().map(Vec::len), Some(1));
    assert_eq!((&calls[0]["method"], &calls[0]["status"]), (&json!("POST"), &json!(201)));
    assert_eq!(calls[0]["body"]["Name"], "A");
    // Neither a token nor a secret is kept.
    let all = client.control("GET", "/calls", &Value::Null).text;
    assert!(!all.contains(&client.token) && !all.contains("local-org-secret"), "{all}");
    client.control("DELETE", "/calls", &Value::Null);
    assert!(client.org.calls().is_empty());
}

#[test]
fn faults_are_ordered_and_cleared() {
    let client = Client::start();
    let rule = json!({"match": {"method": "GET", "path": "/limits"}, "times": 5, "fault": {"kind": "html503"}});
    let number = client.control("POST", "/faults", &rule).json()["number"].clone();
    assert_eq!(client.get("/limits").status, 503);
    let list = client.control("GET", "/faults", &Value::Null).json();
    assert_eq!(
        (&list[0]["number"], &list[0]["struck"], &list[0]["rule"]["times"]),
        (&number, &json!(1), &json!(4))
    );
    client.control("DELETE", &format!("/faults/{number}"), &Value::Null);
    assert_eq!(client.get("/limits").status, 200);
    for fault in [
        json!({"kind": "latency", "ms": 1}),
        json!({"kind": "error", "status": 500, "code": "UNKNOWN_EXCEPTION", "message": "m"}),
        json!({"kind": "cut_before"}),
        json!({"kind": "cut_after"}),
        json!({"kind": "cut_during"}),
        json!({"kind": "expire_session"}),
        json!({"kind": "quota"}),
        json!({"kind": "slow_body", "ms": 1}),
        json!({"kind": "record", "code": "UNABLE_TO_LOCK_ROW", "message": "m"}),
    ] {
        let reply = client.control(
            "POST",
            "/faults",
            &json!({"fault": fault, "probability": 0.5, "skip": 1}),
        );
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    client.control("DELETE", "/faults", &Value::Null);
    let campaign = json!({"seed": 1, "html503": 1.0});
    assert_eq!(client.control("POST", "/campaign", &campaign).status, 200);
    assert_eq!(client.get("/limits").status, 503);
    client.control("DELETE", "/campaign", &Value::Null);
    assert_eq!(client.get("/limits").status, 200);
}

#[test]
fn records_are_written_by_somebody_else() {
    let client = Client::start();
    let reply = client.control("POST", "/records/Account", &json!([{"Name": "A"}, {"Name": "B"}]));
    let ids = reply.json()["ids"].clone();
    let id = ids[0].as_str().unwrap_or_default();
    let path = format!("/records/{}", &id[..15]);
    assert_eq!(client.control("PATCH", &path, &json!({"Name": "C"})).status, 200);
    let record = client.control("GET", &path, &Value::Null).json();
    assert_eq!(
        (&record["Name"], &record["LastModifiedById"]),
        (&json!("C"), &json!(client.org.users().1))
    );
    let (user, _) = client.org.users();
    client.control("PATCH", &format!("{path}?user={user}"), &json!({"Name": "D"}));
    assert_eq!(client.org.get(id).map(|r| r["LastModifiedById"].clone()), Some(json!(user)));
    assert_eq!(client.control("DELETE", &path, &Value::Null).status, 200);
    assert_eq!(client.org.count("Account"), 1);
    assert_eq!(client.control("POST", &format!("{path}/undelete"), &Value::Null).status, 200);
    assert_eq!(client.control("POST", &format!("{path}/purge"), &Value::Null).status, 200);
    let records = client.control("GET", "/records/Account", &Value::Null).json();
    assert_eq!(records.as_array().map(Vec::len), Some(1));
    // One wrong record, and none of them is there.
    let reply = client.control("POST", "/records/Account", &json!([{"Name": "A"}, {}]));
    assert_eq!((reply.code().as_str(), client.org.count("Account")), ("REQUIRED_FIELD_MISSING", 1));
}

#[test]
fn a_late_commit_brings_an_older_stamp_and_holds_the_lock() {
    let client = Client::start();
    let id = client.account("A");
    client.control(
        "PATCH",
        &format!("/records/{id}?commit_after_ms=600000"),
        &json!({"Name": "Late"}),
    );
    let made =
        client.control("POST", "/records/Account?commit_after_ms=600000", &json!({"Name": "New"}));
    let made = made.json()["ids"][0].as_str().unwrap_or_default().to_owned();
    let path = format!("/sobjects/Account/{id}");
    assert_eq!(client.get(&path).json()["Name"], "A");
    assert_eq!(client.get(&format!("/sobjects/Account/{made}")).status, 404);
    assert_eq!(client.patch(&path, &json!({"Name": "B"})).code(), "UNABLE_TO_LOCK_ROW");
    client.control("POST", "/settings", &json!({"clock_skew_ms": 5000}));
    let later = client.account("Later");
    client.control("POST", "/commit", &Value::Null);
    let record = client.get(&path).json();
    assert_eq!(record["Name"], "Late");
    let later = client.org.get(&later).expect("a record")["SystemModstamp"].clone();
    assert!(record["SystemModstamp"].as_str() < later.as_str());
    assert_eq!(client.get(&format!("/sobjects/Account/{made}")).status, 200);
    assert_eq!(client.patch(&path, &json!({"Name": "B"})).status, 204);
}

#[test]
fn rules_change_and_refuse_what_is_saved() {
    let client = Client::start();
    for rule in [
        json!({"object": "Account", "action": "upper_case", "field": "Name"}),
        json!({"object": "Account", "action": "set", "field": "Site", "to": "HQ"}),
        json!({"object": "Account", "action": "reject", "field": "Phone", "value": "1", "message": "No such phone"}),
        json!({"object": "Account", "action": "throw", "field": "Phone", "value": "2", "message": "System.NullPointerException"}),
    ] {
        assert_eq!(client.control("POST", "/rules", &rule).status, 200);
    }
    let id = client.account("acme");
    let record = client.org.get(&id).expect("a record");
    assert_eq!((&record["Name"], &record["Site"]), (&json!("ACME"), &json!("HQ")));
    let path = format!("/sobjects/Account/{id}");
    let reply = client.patch(&path, &json!({"Phone": "1"}));
    assert_eq!(
        reply.json()[0],
        json!({"message": "No such phone", "errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "fields": ["Phone"]})
    );
    assert_eq!(
        client.patch(&path, &json!({"Phone": "2"})).code(),
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
    );
    client.control("DELETE", "/rules", &Value::Null);
    assert_eq!(client.patch(&path, &json!({"Phone": "1"})).status, 204);
}

#[test]
fn settings_and_clients_change() {
    let client = Client::start();
    let state = client
        .control(
            "POST",
            "/settings",
            &json!({"daily_limit": 2, "used": 1, "clock_skew_ms": -3_600_000}),
        )
        .json();
    assert_eq!((&state["daily_limit"], &state["clock_skew_ms"]), (&json!(2), &json!(-3_600_000)));
    assert_eq!(client.get("/limits").status, 200);
    assert_eq!(client.get("/limits").status, 403);
    client.control("POST", "/clients", &json!({"client_id": "x", "client_secret": "y"}));
    let form = "grant_type=client_credentials&client_id=x&client_secret=y";
    assert_eq!(client.token(form).status, 200);
    client.control("DELETE", "/clients/x", &Value::Null);
    assert_eq!(client.token(form).status, 400);
    client.control("DELETE", "/sessions", &Value::Null);
    assert_eq!(client.get("/limits").status, 401);
}

#[test]
fn wrong_orders_are_refused() {
    let client = Client::start();
    for (method, path, body) in [
        ("POST", "/faults", json!({"fault": {"kind": "earthquake"}})),
        ("POST", "/faults", json!({})),
        ("POST", "/campaign", json!({"sead": 1})),
        ("POST", "/settings", json!({"limit": 1})),
        ("POST", "/rules", json!({"object": "Account", "action": "sing"})),
        ("POST", "/objects", json!({})),
        ("POST", "/objects/Account/fields", json!({"name": "X__c", "type": "colour"})),
        ("POST", "/records/Account", json!(7)),
        ("POST", "/records/Account?commit_after_ms=soon", json!({"Name": "A"})),
    ] {
        let reply = client.control(method, path, &body);
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "JSON_PARSER_ERROR"),
            "{path} {body}"
        );
    }
    for path in ["/nothing", "/records/001Lo0zzzzzzzzz", "/records/Nothing"] {
        assert_eq!(client.control("GET", path, &Value::Null).status, 404, "{path}");
    }
}

#[test]
fn every_error_that_has_a_name_can_be_met() {
    let client = Client::start();
    let list = client.control("GET", "/errors", &Value::Null).json();
    let list = list.as_array().expect("errors");
    assert!(list.len() > 80);
    for error in list {
        let code = error["code"].as_str().expect("a code");
        let reply = client.control("POST", &format!("/errors/{code}"), &Value::Null);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let body = json!({"records": [
            {"attributes": {"type": "Account"}, "Name": "a"},
            {"attributes": {"type": "Account"}, "Name": "b"},
        ]});
        let met = client.post("/composite/sobjects", &body);
        if error["of"] == "record" {
            assert_eq!(met.status, 200, "{code}: {}", met.text);
            let [first, second] = [0, 1].map(|n| met.json()[n].clone());
            let entry = &first["errors"][0];
            assert_eq!(
                (&entry["statusCode"], &entry["message"]),
                (&error["code"], &error["message"])
            );
            assert_eq!(second["success"], true, "{code} strikes once");
        } else {
            assert_eq!((json!(met.status), met.code().as_str()), (error["status"].clone(), code));
            assert_eq!(met.json()[0]["message"], error["message"]);
            assert_eq!(
                client.post("/composite/sobjects", &body).status,
                200,
                "{code} strikes once"
            );
        }
    }
    let reply = client.control("POST", "/errors/NO_SUCH_ERROR", &Value::Null);
    assert_eq!((reply.status, reply.text.contains("NO_SUCH_ERROR")), (400, true));
    // The same code with the other words that it is known with, and only where it is meant.
    let concurrent = "ConcurrentRequests (Concurrent API Requests) Limit exceeded.";
    let order = json!({"message": concurrent, "match": {"path": "/limits"}, "times": 2});
    client.control("POST", "/errors/REQUEST_LIMIT_EXCEEDED", &order);
    client.account("not this");
    for _ in 0..2 {
        assert_eq!(client.get("/limits").json()[0]["message"], concurrent);
    }
    assert_eq!(client.get("/limits").status, 200);
}

#[test]
fn time_passes_when_it_is_told_to() {
    let client = Client::start();
    let id = client.account("A");
    let kept = client.account("B");
    client.delete(&format!("/sobjects/Account/{id}"));
    // The calls of the day come to an end, and are free again a day later.
    client.control("POST", "/settings", &json!({"daily_limit": 10, "used": 10}));
    assert_eq!(client.get("/limits").code(), "REQUEST_LIMIT_EXCEEDED");
    client.control("POST", "/clock", &json!({"advance_ms": 23 * 3_600_000}));
    assert_eq!(client.get("/limits").code(), "REQUEST_LIMIT_EXCEEDED");
    client.control("POST", "/clock", &json!({"advance_ms": 2 * 3_600_000}));
    let limits = client.get("/limits");
    assert_eq!(limits.headers["sforce-limit-info"], "api-usage=1/10");
    // So does the patience of the recycle bin.
    client.control("POST", "/clock", &json!({"advance_ms": 13 * 86_400_000u64}));
    assert!(client.org.get(&id).is_some());
    client.control("POST", "/clock", &json!({"advance_ms": 2 * 86_400_000}));
    assert_eq!((client.org.get(&id), client.org.get(&kept).is_some()), (None, true));
    let told = client.control("POST", "/clock", &json!({"set": "2031-02-03T04:05:06Z"})).json();
    assert!(
        told["now"].as_str().is_some_and(|now| now.starts_with("2031-02-03T04:05:0")),
        "{told}"
    );
    let new = client.account("C");
    let made = client.org.get(&new).expect("a record")["CreatedDate"].clone();
    assert!(made.as_str().is_some_and(|at| at.starts_with("2031-02-03T04:")), "{made}");
    for wrong in [json!({"set": "tomorrow"}), json!({"stop": 1}), json!({})] {
        assert_eq!(client.control("POST", "/clock", &wrong).status, 400, "{wrong}");
    }
    // The numbers of a call that has to be counted are those of the new day.
    client.control("POST", "/clock", &json!({"set": "2020-01-01T00:00:00Z"}));
    assert_eq!(client.get("/limits").status, 200);
}
