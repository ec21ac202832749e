use crate::client::Client;
use serde_json::{Value, json};

/// Five accounts, A to E, with a revenue of one to four million and none.
fn some() -> Client {
    let client = Client::start();
    for (n, name) in ["A", "B", "C", "D", "E"].iter().enumerate() {
        let revenue = if n < 4 { json!((n + 1) * 1_000_000) } else { json!(null) };
        let industry = if n % 2 == 0 { json!("Energy") } else { json!("Banking") };
        let values = json!({"Name": name, "AnnualRevenue": revenue, "Industry": industry, "External_Id__c": format!("X{n}")});
        client.org.insert("Account", values).expect("an account");
    }
    client
}

#[test]
fn conditions_are_heeded() {
    let client = some();
    for (condition, wanted) in [
        ("Name = 'a'", "A"),
        ("name != 'A'", "BCDE"),
        ("AnnualRevenue > 1000000 AND AnnualRevenue <= 3e6", "BC"),
        ("AnnualRevenue = null", "E"),
        ("AnnualRevenue != 1000000.0", "BCDE"),
        ("AnnualRevenue < 2000000", "A"),
        ("NOT AnnualRevenue < 2000000", "BCDE"),
        ("NOT (Name = 'A' OR Name = 'B')", "CDE"),
        ("Name IN ('A', 'c', 'x')", "AC"),
        ("Name NOT IN ('A', 'c')", "BDE"),
        ("AnnualRevenue IN (1000000, 2000000)", "AB"),
        ("Name LIKE '_' AND Industry LIKE 'en%'", "ACE"),
        ("External_Id__c IN ('x1', 'X3')", "BD"),
        ("External_Id__c = 'x1' AND Name = 'C'", ""),
        ("IsDeleted = false AND Name >= 'D'", "DE"),
        ("(Name = 'A' AND Industry = 'Energy') OR Name = 'E'", "AE"),
        ("CreatedDate > 2020-01-01T00:00:00Z AND CreatedDate < 2100-01-01T00:00:00+02:00", "ABCDE"),
        ("SystemModstamp >= 2100-01-01T00:00:00Z", ""),
        ("Owner.Name = 'Somebody Else'", "ABCDE"),
        ("ParentId = null AND Parent.Name = null", "ABCDE"),
    ] {
        let names =
            client.found(&format!("SELECT Name FROM Account WHERE {condition} ORDER BY Name"));
        let names: String = names.iter().filter_map(Value::as_str).collect();
        assert_eq!(names, wanted, "{condition}");
    }
}

#[test]
fn order_limit_and_offset_are_heeded() {
    let client = some();
    for (rest, wanted) in [
        ("ORDER BY AnnualRevenue DESC", "EDCBA"),
        ("ORDER BY AnnualRevenue DESC NULLS LAST", "DCBAE"),
        ("ORDER BY Industry, Name DESC", "DBECA"),
        ("ORDER BY Id LIMIT 2", "AB"),
        ("ORDER BY SystemModstamp, Id LIMIT 2 OFFSET 2", "CD"),
        ("ORDER BY Name LIMIT 10 OFFSET 4", "E"),
        ("LIMIT 0", ""),
    ] {
        let names = client.found(&format!("SELECT Name FROM Account {rest}"));
        let names: String = names.iter().filter_map(Value::as_str).collect();
        assert_eq!(names, wanted, "{rest}");
    }
    let reply = client.query("SELECT count() FROM Account WHERE Name < 'C'").json();
    assert_eq!(reply, json!({"totalSize": 2, "done": true, "records": []}));
}

#[test]
fn polling_by_stamp_and_id_finds_everything_once() {
    let client = Client::start();
    for n in 0..40 {
        if n % 13 == 0 {
            client.org.set_clock_skew_ms(i64::from(n) * 1000);
        }
        client.account(&n.to_string());
    }
    let mut mark = ("2020-01-01T00:00:00.000Z".to_owned(), "000000000000000AAA".to_owned());
    let mut seen = Vec::new();
    loop {
        let (at, id) = &mark;
        let soql = format!(
            "SELECT Id, SystemModstamp FROM Account WHERE SystemModstamp > {at} OR (SystemModstamp = {at} AND Id > '{id}') ORDER BY SystemModstamp ASC, Id ASC LIMIT 7"
        );
        let page = client.query(&soql).json()["records"].as_array().cloned().unwrap_or_default();
        let Some(last) = page.last() else { break };
        let at = last["SystemModstamp"].as_str().unwrap_or_default().replace("+0000", "Z");
        mark = (at, last["Id"].as_str().unwrap_or_default().to_owned());
        seen.extend(page.iter().map(|r| r["Id"].clone()));
    }
    let all: Vec<Value> = client.org.records("Account").iter().map(|r| r["Id"].clone()).collect();
    assert_eq!(seen, all);
}

#[test]
fn parents_are_nested() {
    let client = Client::start();
    let account = client.account("Acme");
    client
        .org
        .insert("Contact", json!({"LastName": "A", "AccountId": account}))
        .expect("a contact");
    client.org.insert("Contact", json!({"LastName": "B"})).expect("a contact");
    let soql = "SELECT Id, Account.Name, Account.Owner.Name, Owner.Name, LastModifiedBy.Username FROM Contact ORDER BY LastName";
    let records = client.query(soql).json()["records"].clone();
    assert_eq!(records[0]["Account"]["Name"], "Acme");
    assert_eq!(records[0]["Account"]["Owner"]["Name"], "Integration");
    assert_eq!(records[0]["LastModifiedBy"]["Username"], "somebody@example.com");
    assert_eq!(records[1]["Account"], Value::Null);
    assert_eq!(records[0]["attributes"]["type"], "Contact");
}

#[test]
fn deleted_records_are_only_in_query_all() {
    let client = some();
    let id = client.org.records("Account")[0]["Id"].as_str().unwrap_or_default().to_owned();
    client.org.delete(&id).expect("a delete");
    assert_eq!(client.found("SELECT Id FROM Account").len(), 4);
    let all =
        client.get("/queryAll?q=SELECT+Id,IsDeleted+FROM+Account+WHERE+IsDeleted=true").json();
    assert_eq!((&all["totalSize"], &all["records"][0]["Id"]), (&json!(1), &json!(id)));
    assert_eq!(client.found("SELECT Id FROM Account WHERE IsDeleted = true").len(), 0);
}

#[test]
fn long_answers_come_in_pages() {
    let client = Client::start();
    for n in 0..450 {
        client.org.insert("Account", json!({"Name": n.to_string()})).expect("an account");
    }
    let headers = [("Sforce-Query-Options", "batchSize=1")];
    let path = "/query/?q=SELECT+Name+FROM+Account";
    let mut page = client.call_with("GET", path, &headers, &Value::Null).expect("an answer").json();
    let mut sizes = Vec::new();
    loop {
        sizes.push(page["records"].as_array().map_or(0, Vec::len));
        assert_eq!(page["totalSize"], 450);
        let Some(next) = page["nextRecordsUrl"].as_str() else { break };
        page = client.get(next.strip_prefix(crate::client::DATA).unwrap_or_default()).json();
    }
    assert_eq!((sizes, &page["done"]), (vec![200, 200, 50], &json!(true)));
    for wrong in ["0r8000000000000009-2000", "x", "0r8000000000000001-999"] {
        assert_eq!(client.get(&format!("/query/{wrong}")).code(), "INVALID_QUERY_LOCATOR");
    }
}

#[test]
fn wrong_queries_are_refused_with_the_texts_of_a_real_org() {
    let client = Client::start();
    for (soql, code, message) in [
        (
            "SELECT Foo__c FROM Account",
            "INVALID_FIELD",
            "No such column 'Foo__c' on entity 'Account'. If you are",
        ),
        ("SELECT Id FROM Accout", "INVALID_TYPE", "sObject type 'Accout' is not supported."),
        (
            "SELECT Id FROM Account WHERE X.Name = 'a'",
            "INVALID_FIELD",
            "Didn't understand relationship 'X' in field path.",
        ),
        ("SELECT FROM Account", "MALFORMED_QUERY", "unexpected token: 'FROM'"),
        (
            "SELECT Id FROM Account WHERE Id = 'abc'",
            "INVALID_QUERY_FILTER_OPERATOR",
            "invalid ID field: abc",
        ),
        (
            "SELECT Id FROM Account WHERE Name = 5",
            "INVALID_FIELD",
            "value of filter criterion for field 'Name' must be of type string and should be enclosed in quotes",
        ),
        (
            "SELECT Id FROM Account WHERE AnnualRevenue = '5'",
            "INVALID_FIELD",
            "value of filter criterion for field 'AnnualRevenue' must be of type double and should not be enclosed in quotes",
        ),
        (
            "SELECT Id FROM Account WHERE CreatedDate > '2026-01-01'",
            "INVALID_FIELD",
            "value of filter criterion for field 'CreatedDate' must be of type dateTime",
        ),
        (
            "SELECT Id FROM Account WHERE Description = 'a'",
            "INVALID_FIELD",
            "field 'Description' can not be filtered in a query call",
        ),
        ("SELECT Id, id FROM Account", "MALFORMED_QUERY", "duplicate field selected: id"),
        (
            "SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'",
            "MALFORMED_QUERY",
            "unexpected token: 'OR'",
        ),
        ("SELECT Id FROM Account WHERE Name = 'a", "MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        ("SELECT Id FROM Account OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset"),
        ("", "MALFORMED_QUERY", "A query string has to be specified"),
    ] {
        let reply = client.query(soql);
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{soql}: {}", reply.text);
        let told = reply.json()[0]["message"].as_str().unwrap_or_default().to_owned();
        assert!(told.contains(message), "{told}");
    }
    let told = client.query("SELECT Id, Foo__c FROM Account").json()[0]["message"].clone();
    assert!(
        told.as_str().is_some_and(|t| t.contains("\n            ^\nERROR at Row:1:Column:12\n")
            || t.contains("           ^\nERROR at Row:1:Column:12\n")),
        "{told}"
    );
    assert!(client.org.unserved().is_empty(), "{:?}", client.org.unserved());
}

#[test]
fn what_a_real_org_would_answer_is_counted() {
    let client = Client::start();
    for (soql, what) in [
        ("SELECT Industry FROM Account GROUP BY Industry", "soql GROUP"),
        ("SELECT Id, (SELECT Id FROM Contacts) FROM Account", "soql (SELECT"),
        ("SELECT MAX(Name) FROM Account", "soql MAX("),
        ("SELECT Id FROM Account WHERE CreatedDate = TODAY", "soql TODAY"),
        ("SELECT Id FROM Account WHERE Id IN (SELECT AccountId FROM Contact)", "soql IN (SELECT"),
        ("SELECT Id FROM Account FOR UPDATE", "soql FOR"),
    ] {
        assert_eq!(client.query(soql).code(), "MALFORMED_QUERY", "{soql}");
        assert_eq!(client.org.unserved().get(what), Some(&1), "{:?}", client.org.unserved());
    }
    for (path, code, what) in [
        ("/tooling/query", "FUNCTIONALITY_NOT_ENABLED", "GET tooling"),
        ("/search?q=x", "FUNCTIONALITY_NOT_ENABLED", "GET search"),
        ("/nothing/at/all", "NOT_FOUND", "GET nothing/at/all"),
    ] {
        assert_eq!(client.get(path).code(), code);
        assert_eq!(client.org.unserved().get(what), Some(&1), "{:?}", client.org.unserved());
    }
}
