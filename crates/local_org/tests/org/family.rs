//! Graphs, trees and batches: the other requests that hold several.

use crate::client::{Client, DATA};
use serde_json::{Value, json};

fn part(reference: &str, method: &str, path: &str, body: Value) -> Value {
    json!({"referenceId": reference, "method": method, "url": format!("{DATA}{path}"), "body": body})
}

fn graph(id: &str, parts: &[Value]) -> Value {
    json!({"graphId": id, "compositeRequest": parts})
}

#[test]
fn each_graph_is_all_or_nothing_and_all_are_one_call() {
    let client = Client::start();
    let reply = client.post(
        "/composite/graph",
        &json!({"graphs": [
            graph("good", &[
                part("a", "POST", "/sobjects/Account", json!({"Name": "Parent"})),
                part("c", "POST", "/sobjects/Contact", json!({"LastName": "Child", "AccountId": "@{a.id}"})),
            ]),
            graph("bad", &[
                part("a", "POST", "/sobjects/Account", json!({"Name": "Never"})),
                part("c", "POST", "/sobjects/Contact", json!({"AccountId": "@{a.id}"})),
            ]),
        ]}),
    );
    assert_eq!((reply.status, client.org.usage().0), (200, 1), "{}", reply.text);
    let graphs = reply.json()["graphs"].clone();
    assert_eq!((&graphs[0]["graphId"], &graphs[0]["isSuccessful"]), (&json!("good"), &json!(true)));
    assert_eq!(graphs[1]["isSuccessful"], false);
    let bad = graphs[1]["graphResponse"]["compositeResponse"].clone();
    assert_eq!(bad[0]["body"][0]["errorCode"], "PROCESSING_HALTED");
    assert_eq!(bad[1]["body"][0]["errorCode"], "REQUIRED_FIELD_MISSING");
    let accounts = client.org.records("Account");
    assert_eq!(accounts.len(), 1);
    assert_eq!(client.org.records("Contact")[0]["AccountId"], accounts[0]["Id"]);
}

#[test]
fn graphs_have_their_limits() {
    let client = Client::start();
    let new = |n: usize| part(&format!("r{n}"), "POST", "/sobjects/Account", json!({"Name": "x"}));
    let chained = |n: usize| {
        let name = if n == 0 { "x".to_owned() } else { format!("@{{r{}.id}}", n - 1) };
        part(&format!("r{n}"), "POST", "/sobjects/Account", json!({"Name": name}))
    };
    let different =
        |n: usize| part(&format!("r{n}"), "GET", &format!("/sobjects/Kind{n}"), Value::Null);
    let many = |count: usize| (0..count).map(new).collect::<Vec<_>>();
    let wide: Vec<Value> = (0..76).map(|n| graph(&format!("g{n}"), &many(1))).collect();
    for graphs in [
        json!([]),
        json!(wide),
        json!([graph("a", &many(251)), graph("b", &many(250))]),
        json!([graph("a", &(0..16).map(chained).collect::<Vec<_>>())]),
        json!([graph("a", &(0..16).map(different).collect::<Vec<_>>())]),
    ] {
        let reply = client.post("/composite/graph", &json!({"graphs": graphs}));
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "LIMIT_EXCEEDED"),
            "{}",
            reply.text
        );
    }
    let twice = json!([graph("a", &many(1)), graph("a", &many(1))]);
    assert_eq!(
        client.post("/composite/graph", &json!({"graphs": twice})).code(),
        "INVALID_REQUEST"
    );
    assert_eq!(client.org.count("Account"), 0);
    let deep =
        json!([graph("a", &(0..15).map(chained).collect::<Vec<_>>()), graph("b", &many(485))]);
    let reply = client.post("/composite/graph", &json!({"graphs": deep}));
    assert_eq!((reply.status, client.org.count("Account")), (200, 500));
}

#[test]
fn after_fourteen_failed_graphs_the_rest_is_not_tried() {
    let client = Client::start();
    let bad = part("r", "POST", "/sobjects/Account", json!({}));
    let good = part("r", "POST", "/sobjects/Account", json!({"Name": "x"}));
    let mut graphs: Vec<Value> =
        (0..14).map(|n| graph(&format!("g{n}"), std::slice::from_ref(&bad))).collect();
    graphs.push(graph("last", &[good]));
    let reply = client.post("/composite/graph", &json!({"graphs": graphs}));
    let last = &reply.json()["graphs"][14];
    assert_eq!(last["isSuccessful"], false);
    let response = &last["graphResponse"]["compositeResponse"][0];
    assert_eq!(response["body"][0]["errorCode"], "PROCESSING_HALTED");
    assert_eq!(client.org.count("Account"), 0);
}

fn node(kind: &str, reference: &str, more: Value) -> Value {
    let mut node = json!({"attributes": {"type": kind, "referenceId": reference}});
    for (name, value) in more.as_object().into_iter().flatten() {
        node[name] = value.clone();
    }
    node
}

#[test]
fn a_tree_is_saved_with_its_children_or_not_at_all() {
    let client = Client::start();
    let tree = |last: Value| {
        json!({"records": [
            node("Account", "a1", json!({
                "Name": "First",
                "Contacts": {"records": [node("Contact", "c1", json!({"LastName": "One"})), node("Contact", "c2", last)]},
                "ChildAccounts": {"records": [node("Account", "a2", json!({"Name": "Below"}))]},
            })),
            node("Account", "a3", json!({"Name": "Second"})),
        ]})
    };
    let reply = client.post("/composite/tree/Account", &tree(json!({"FirstName": "Nameless"})));
    assert_eq!(reply.status, 400, "{}", reply.text);
    let result = reply.json();
    assert_eq!(
        (&result["hasErrors"], result["results"].as_array().map(Vec::len)),
        (&json!(true), Some(1))
    );
    assert_eq!(result["results"][0]["referenceId"], "c2");
    assert_eq!(result["results"][0]["errors"][0]["statusCode"], "REQUIRED_FIELD_MISSING");
    assert_eq!((client.org.count("Account"), client.org.count("Contact")), (0, 0));
    let reply = client.post("/composite/tree/Account", &tree(json!({"LastName": "Two"})));
    assert_eq!(reply.status, 201, "{}", reply.text);
    let result = reply.json();
    let id = |reference: &str| {
        let list = result["results"].as_array().expect("results").iter();
        list.clone()
            .find(|r| r["referenceId"] == reference)
            .map(|r| r["id"].clone())
            .unwrap_or_default()
    };
    assert_eq!(
        client.org.records("Contact").iter().filter(|c| c["AccountId"] == id("a1")).count(),
        2
    );
    let below = client.org.get(id("a2").as_str().unwrap_or_default()).expect("the account");
    assert_eq!(below["ParentId"], id("a1"));
    assert_eq!(client.org.usage().0, 2);
}

#[test]
fn trees_are_checked_before_they_are_saved() {
    let client = Client::start();
    let account = |reference: &str| node("Account", reference, json!({"Name": "x"}));
    let twice = json!({"records": [account("a"), account("a")]});
    let reply = client.post("/composite/tree/Account", &twice).json();
    assert_eq!(reply["results"][0]["errors"][0]["statusCode"], "INVALID_INPUT");
    let stranger = json!({"records": [node("Account", "a", json!({"Name": "x", "Strangers": {"records": []}}))]});
    let reply = client.post("/composite/tree/Account", &stranger).json();
    assert_eq!(reply["results"][0]["errors"][0]["statusCode"], "INVALID_FIELD");
    let many: Vec<Value> = (0..201).map(|n| account(&format!("a{n}"))).collect();
    assert_eq!(
        client.post("/composite/tree/Account", &json!({"records": many})).code(),
        "LIMIT_EXCEEDED"
    );
    let mut deep = account("a0");
    for level in 1..6 {
        let mut above = account(&format!("a{level}"));
        above["ChildAccounts"] = json!({"records": [deep]});
        deep = above;
    }
    assert_eq!(
        client.post("/composite/tree/Account", &json!({"records": [deep]})).code(),
        "LIMIT_EXCEEDED"
    );
    assert_eq!(client.post("/composite/tree/Nothing__c", &twice).status, 404);
    assert_eq!(client.org.count("Account"), 0);
}

#[test]
fn the_parts_of_a_batch_are_independent_and_each_is_a_call() {
    let client = Client::start();
    let parts = json!([
        {"method": "POST", "url": "v66.0/sobjects/Account", "richInput": {"Name": "First"}},
        {"method": "POST", "url": "v66.0/sobjects/Account", "richInput": {}},
        {"method": "GET", "url": "/services/data/v66.0/query?q=SELECT+Name+FROM+Account"},
    ]);
    let reply = client.post("/composite/batch", &json!({"batchRequests": parts})).json();
    let status = |reply: &Value, n: usize| reply["results"][n]["statusCode"].as_u64();
    assert_eq!(
        (&reply["hasErrors"], status(&reply, 0), status(&reply, 1)),
        (&json!(true), Some(201), Some(400))
    );
    assert_eq!(reply["results"][2]["result"]["records"][0]["Name"], "First");
    assert_eq!(client.org.usage().0, 3);
    let reply = client
        .post("/composite/batch", &json!({"haltOnError": true, "batchRequests": parts}))
        .json();
    assert_eq!((status(&reply, 1), status(&reply, 2)), (Some(400), Some(412)));
    assert_eq!(reply["results"][2]["result"][0]["errorCode"], "BATCH_PROCESSING_HALTED");
    assert_eq!((client.org.count("Account"), client.org.usage().0), (2, 5));
    client.org.set_usage(0, 2);
    let reply = client.post("/composite/batch", &json!({"batchRequests": parts})).json();
    assert_eq!((status(&reply, 1), status(&reply, 2)), (Some(400), Some(403)));
    let inner = json!([{"method": "POST", "url": "v66.0/composite", "richInput": {"compositeRequest": []}}]);
    client.org.set_usage(0, 100);
    let reply = client.post("/composite/batch", &json!({"batchRequests": inner})).json();
    assert_eq!(status(&reply, 0), Some(400));
    let many: Vec<Value> = (0..26).map(|_| parts[2].clone()).collect();
    assert_eq!(
        client.post("/composite/batch", &json!({"batchRequests": many})).code(),
        "LIMIT_EXCEEDED"
    );
}
