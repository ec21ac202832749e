use crate::client::Reply;
use crate::client::{Client, encode};
use serde_json::{Value, json};

/// A call of the partner API in a session.
fn soap(client: &Client, token: &str, body: &str) -> Reply {
    let envelope = format!(
        r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Header xmlns="urn:partner.soap.sforce.com"><SessionHeader><sessionId>{token}</sessionId></SessionHeader></soapenv:Header><soapenv:Body xmlns="urn:partner.soap.sforce.com">{body}</soapenv:Body></soapenv:Envelope>"#
    );
    let headers = [("Content-Type", "text/xml"), ("SOAPAction", "\"\"")];
    client.send("POST", "/services/Soap/u/64.0", &headers, envelope.as_bytes()).expect("an answer")
}

fn merge(client: &Client, master: &str, fields: &str, losers: &[&str]) -> Reply {
    let losers: String =
        losers.iter().map(|id| format!("<recordToMergeIds>{id}</recordToMergeIds>")).collect();
    let body = format!(
        "<merge><mergeRequests><masterRecord><type>Account</type><Id>{master}</Id>{fields}</masterRecord>{losers}</mergeRequests></merge>"
    );
    soap(client, &client.token, &body)
}

fn all(client: &Client, soql: &str) -> Value {
    client.get(&format!("/queryAll?q={}", encode(soql))).json()["records"].clone()
}

fn deleted_ids(client: &Client) -> Vec<String> {
    let [start, end] = [-3_600_000, 3_600_000].map(|skew| {
        client.org.set_clock_skew_ms(skew);
        encode(&client.org.now())
    });
    client.org.set_clock_skew_ms(0);
    let path = format!("/sobjects/Account/deleted?start={start}&end={end}");
    let records = client.get(&path).json()["deletedRecords"].clone();
    records
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|r| r["id"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn the_master_takes_what_the_losers_had() {
    let client = Client::start();
    let [master, loser, third] = ["Acme", "ACME Inc.", "Akme"].map(|name| client.account(name));
    let contact = client.org.insert("Contact", json!({"LastName": "King", "AccountId": loser}));
    let contact = contact.expect("a contact");
    let below = client.org.insert("Account", json!({"Name": "Below", "ParentId": third}));
    let below = below.expect("an account");
    let fields = "<Phone>123</Phone><NumberOfEmployees>7</NumberOfEmployees><fieldsToNull>Fax</fieldsToNull>";
    let reply = merge(&client, &master, fields, &[&loser[..15], &third]);
    assert_eq!(reply.status, 200, "{}", reply.text);
    for part in [
        format!("<id>{master}</id>"),
        format!(
            "<mergedRecordIds>{loser}</mergedRecordIds><mergedRecordIds>{third}</mergedRecordIds>"
        ),
        "<success>true</success>".to_owned(),
        format!("<updatedRelatedIds>{contact}</updatedRelatedIds>"),
    ] {
        assert!(reply.text.contains(&part), "{part}: {}", reply.text);
    }
    let record = client.org.get(&master).expect("the master");
    assert_eq!((&record["Phone"], &record["NumberOfEmployees"]), (&json!("123"), &json!(7)));
    let parent = |id: &str, field: &str| client.org.get(id).expect("a record")[field].clone();
    assert_eq!(
        (parent(&contact, "AccountId"), parent(&below, "ParentId")),
        (json!(master), json!(master))
    );
    assert_eq!(client.get(&format!("/sobjects/Account/{loser}")).status, 404);
    let gone =
        all(&client, "SELECT Id, IsDeleted, MasterRecordId FROM Account WHERE IsDeleted = true");
    let gone: Vec<Value> = gone
        .as_array()
        .expect("records")
        .iter()
        .map(|r| json!([r["Id"], r["MasterRecordId"]]))
        .collect();
    assert_eq!(gone, [json!([loser, master]), json!([third, master])]);
    let mut ids = deleted_ids(&client);
    ids.sort();
    assert_eq!(ids, [loser.clone(), third]);
    // Back from the bin it is a record of its own.
    let undelete = format!("<undelete><ids>{loser}</ids><ids>{master}</ids></undelete>");
    let reply = soap(&client, &client.token, &undelete);
    assert!(
        reply.text.contains(&format!("<result><id>{loser}</id><success>true</success></result>")),
        "{}",
        reply.text
    );
    assert!(reply.text.contains("<statusCode>UNDELETE_FAILED</statusCode>"), "{}", reply.text);
    assert_eq!(client.org.get(&loser).expect("a record")["MasterRecordId"], Value::Null);
    assert_eq!(parent(&contact, "AccountId"), json!(master));
}

#[test]
fn a_merge_is_done_as_a_whole_or_not_at_all() {
    let client = Client::start();
    let [master, loser] = ["A", "B"].map(|name| client.account(name));
    let contact = client.org.insert("Contact", json!({"LastName": "King"})).expect("a contact");
    for (fields, losers, code) in [
        ("<Phone>1</Phone><Nothing__c>1</Nothing__c>", vec![loser.as_str()], "INVALID_FIELD"),
        ("", vec![loser.as_str(), master.as_str()], "INVALID_OPERATION"),
        ("", vec![contact.as_str()], "INVALID_OPERATION"),
        ("", vec![], "INVALID_OPERATION"),
        ("", vec!["001000000000000AAA"], "INVALID_CROSS_REFERENCE_KEY"),
        ("", vec!["x"], "MALFORMED_ID"),
    ] {
        let reply = merge(&client, &master, fields, &losers);
        assert!(reply.text.contains(&format!("<statusCode>{code}</statusCode>")), "{}", reply.text);
        assert!(reply.text.contains("<success>false</success>"), "{}", reply.text);
    }
    assert_eq!(client.org.count("Account"), 2);
    let user = client.org.users().0;
    let reply =
        client.control("POST", &format!("/records/{user}/merge"), &json!({"losers": [user]}));
    assert_eq!(reply.code(), "INVALID_OPERATION");
    let body = json!({"losers": [&loser[..15]], "values": {"Name": "AB"}});
    let reply = client.control("POST", &format!("/records/{master}/merge"), &body);
    assert_eq!((reply.status, reply.json()), (200, json!({"updated": []})));
    assert_eq!(client.org.get(&master).expect("the master")["Name"], "AB");
}

#[test]
fn calls_by_soap_need_a_session_and_are_counted() {
    let client = Client::start();
    let id = client.account("A");
    client.delete(&format!("/sobjects/Account/{id}"));
    let empty = format!("<emptyRecycleBin><ids>{id}</ids></emptyRecycleBin>");
    let reply = soap(&client, "dead", &empty);
    assert!(reply.text.contains("<faultcode>sf:INVALID_SESSION_ID</faultcode>"), "{}", reply.text);
    let used = client.org.usage().0;
    client.org.set_usage(used, used);
    let reply = soap(&client, &client.token, &empty);
    assert_eq!((reply.status, reply.text.contains("REQUEST_LIMIT_EXCEEDED")), (500, true));
    client.org.set_usage(used, 100);
    let reply = soap(&client, &client.token, &empty);
    assert!(reply.text.contains("<success>true</success>"), "{}", reply.text);
    assert_eq!((client.org.usage().0, client.org.get(&id)), (used + 1, None));
    assert_eq!(deleted_ids(&client), [id]);
}
