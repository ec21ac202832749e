use crate::client::Client;
use local_org::{Campaign, Fault, FaultRule};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn error(code: &str) -> Fault {
    Fault::Error { status: 503, code: code.into(), message: "told to fail".into() }
}

#[test]
fn latency_delays_the_request() {
    let client = Client::start();
    client.org.fault(FaultRule::once(Fault::Latency { ms: 80 }));
    let start = Instant::now();
    assert_eq!(client.get("/limits").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(80));
    let call = client.org.calls().pop().expect("a call");
    assert!(call.answered.expect("an answer") - call.arrived >= Duration::from_millis(80));
    assert_eq!(call.fault.as_deref(), Some("latency"));
}

#[test]
fn an_error_comes_instead_of_the_answer_and_does_nothing() {
    let client = Client::start();
    let number =
        client.org.fault(FaultRule::always(error("SERVER_UNAVAILABLE")).times(2).method("POST"));
    assert_eq!(client.get("/limits").status, 200);
    for _ in 0..2 {
        let reply = client.post("/sobjects/Account", &json!({"Name": "A"}));
        assert_eq!((reply.status, reply.code().as_str()), (503, "SERVER_UNAVAILABLE"));
    }
    assert_eq!((client.org.count("Account"), client.org.struck(number)), (0, 2));
    client.account("A");
}

#[test]
fn a_page_in_html_can_be_the_answer() {
    let client = Client::start();
    client.org.fault(FaultRule::once(Fault::Html503));
    let reply = client.get("/limits");
    assert_eq!(
        (reply.status, reply.headers["content-type"].as_str()),
        (503, "text/html;charset=UTF-8")
    );
    assert!(reply.text.starts_with("<!DOCTYPE html>"));
}

#[test]
fn a_connection_is_cut_before_or_after_the_commit() {
    let client = Client::start();
    client.org.fault(FaultRule::once(Fault::CutBefore).path("/sobjects"));
    assert!(client.call("POST", "/sobjects/Account", &json!({"Name": "A"})).is_err());
    assert_eq!(client.org.count("Account"), 0);
    client.org.fault(FaultRule::once(Fault::CutAfter).object("Account"));
    assert!(client.call("POST", "/sobjects/Account", &json!({"Name": "A"})).is_err());
    assert_eq!(client.org.count("Account"), 1);
    let call = client.org.calls().pop().expect("a call");
    assert_eq!((call.status, call.fault.as_deref()), (None, Some("cut_after")));
    client.org.fault(FaultRule::once(Fault::CutDuring));
    assert!(client.call("POST", "/sobjects/Account", &json!({"Name": "A"})).is_err());
    assert_eq!(client.org.count("Account"), 2);
    assert_eq!(client.get("/limits").status, 200);
}

#[test]
fn nothing_of_an_answer_is_sent_where_the_connection_is_cut() {
    let client = Client::start();
    client.org.fault(FaultRule::once(Fault::CutAfter));
    let host = client.org.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).expect("a connection");
    stream.write_all(b"GET /services/data HTTP/1.1\r\nHost: a\r\n\r\n").expect("a write");
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    assert_eq!(told, b"");
}

#[test]
fn a_session_expires_in_the_middle() {
    let mut client = Client::start();
    client.org.fault(FaultRule::once(Fault::ExpireSession));
    assert_eq!(
        client.post("/sobjects/Account", &json!({"Name": "A"})).code(),
        "INVALID_SESSION_ID"
    );
    assert_eq!(client.get("/limits").code(), "INVALID_SESSION_ID");
    client.log_in();
    assert_eq!(client.get("/limits").status, 200);
}

#[test]
fn the_quota_can_be_said_to_be_used_up() {
    let client = Client::start();
    client.org.fault(FaultRule::once(Fault::Quota));
    let reply = client.get("/limits");
    assert_eq!((reply.status, reply.code().as_str()), (403, "REQUEST_LIMIT_EXCEEDED"));
    assert_eq!(client.get("/limits").status, 200);
}

#[test]
fn an_answer_can_come_slowly() {
    let client = Client::start();
    client.org.fault(FaultRule::once(Fault::SlowBody { ms: 80 }));
    let start = Instant::now();
    let reply = client.get("/limits");
    assert!(reply.json()["DailyApiRequests"].is_object());
    assert!(start.elapsed() >= Duration::from_millis(79));
}

#[test]
fn single_records_of_a_request_fail() {
    let client = Client::start();
    let lock = Fault::Record { code: "UNABLE_TO_LOCK_ROW".into(), message: "locked".into() };
    let mut rule = FaultRule::always(lock).times(2).object("Account").path("/composite/sobjects");
    rule.skip = 1;
    client.org.fault(rule);
    let record = json!({"attributes": {"type": "Account"}, "Name": "A"});
    let results = client.post("/composite/sobjects", &json!({"records": vec![record; 4]})).json();
    let good: Vec<bool> = (0..4).map(|n| results[n]["success"] == true).collect();
    assert_eq!(good, [true, false, false, true]);
    assert_eq!(results[1]["errors"][0]["statusCode"], "UNABLE_TO_LOCK_ROW");
}

#[test]
fn logins_fail_only_where_they_are_meant() {
    let mut client = Client::start();
    client.org.fault(FaultRule::always(Fault::Html503).path("/oauth2/token").times(1));
    assert_eq!(client.get("/limits").status, 200);
    assert_eq!(client.token("grant_type=client_credentials").status, 503);
    client.log_in();
}

#[test]
fn a_campaign_is_the_same_for_the_same_seed() {
    let run = |seed: u64| -> Vec<String> {
        let client = Client::start();
        client.org.campaign(Campaign {
            seed,
            error: 0.1,
            html503: 0.1,
            cut_before: 0.1,
            cut_after: 0.1,
            record: 0.2,
            ..Campaign::default()
        });
        let replies = (0..60)
            .map(|n| client.call("POST", "/sobjects/Account", &json!({"Name": n.to_string()})));
        let told = replies
            .map(|reply| {
                reply.map_or("cut".into(), |reply| format!("{} {}", reply.status, reply.code()))
            })
            .collect();
        client.org.clear_faults();
        assert_eq!(client.get("/limits").status, 200);
        told
    };
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
    for wanted in ["cut", "201 ", "503 ", "400 UNABLE_TO_LOCK_ROW"] {
        assert!(first.iter().any(|told| told == wanted), "{wanted}: {first:?}");
    }
}
