//! Streams: where they begin and how they end.

mod against;

use std::time::Duration;

use against::{ACCOUNTS, change, client, identity, next, org, subscribe, try_subscribe};
use connector::{FaultKind, Secret};
use egress::{Policy, Rules};
use local_org::{EventFault, EventFaultRule, EventSettings, LocalOrg};
use pubsub::{Client, Identity, Kind, Start, Trouble};
use serde_json::json;

fn insert(org: &LocalOrg, name: &str) -> String {
    org.insert("Account", json!({"Name": name})).expect("an account")
}

fn set(org: &LocalOrg, settings: EventSettings) {
    org.set_events(settings).expect("set");
}

/// The kind and the code of what a stream ended with.
fn fault(trouble: &Trouble) -> (FaultKind, &str) {
    (trouble.fault().kind, trouble.fault().code.as_str())
}

#[tokio::test]
async fn a_stream_goes_on_behind_the_last_event_that_was_taken() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    let ids: Vec<String> = (0..5).map(|n| insert(&org, &format!("n{n}"))).collect();
    let mut last = Vec::new();
    for id in &ids[..3] {
        let event = next(&mut stream).await.expect("an event");
        let Kind::Changed(change) = event.kind else { panic!("no change") };
        assert_eq!(change.ids, std::slice::from_ref(id));
        assert!(event.replay_id > last);
        last = event.replay_id;
    }
    drop(stream);
    let mut stream = subscribe(&org, Start::After(last)).await;
    assert_eq!(change(&mut stream).await.ids, [ids[3].clone()]);
    assert_eq!(change(&mut stream).await.ids, [ids[4].clone()]);
    let mut stream = subscribe(&org, Start::Earliest).await;
    assert_eq!(change(&mut stream).await.ids, [ids[0].clone()]);
}

#[tokio::test]
async fn more_events_than_may_be_asked_for_at_once_all_come() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    let ids: Vec<String> = (0..350).map(|n| insert(&org, &format!("n{n}"))).collect();
    for id in ids {
        assert_eq!(change(&mut stream).await.ids, [id]);
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_sent_no_more_than_it_asked_for() {
    let org = org();
    let stream = subscribe(&org, Start::Latest).await;
    for n in 0..150 {
        insert(&org, &format!("n{n}"));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let state = ureq::get(format!("{}/control/events", org.url())).call().expect("an answer");
    let state = state.into_body().read_to_string().expect("a text");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    assert_eq!((&state["delivered"], &state["streams"]), (&json!(100), &json!(1)));
    drop(stream);
}

#[tokio::test]
async fn a_quiet_stream_is_told_a_newer_place() {
    let org = org();
    set(&org, EventSettings { keepalive_ms: Some(100), ..EventSettings::default() });
    let mut stream = subscribe(&org, Start::Latest).await;
    let first = next(&mut stream).await.expect("an answer");
    assert_eq!(first.kind, Kind::Keepalive);
    // An event of another object moves the place too.
    org.insert("Contact", json!({"LastName": "King"})).expect("a contact");
    let later = loop {
        let event = next(&mut stream).await.expect("an answer");
        if event.replay_id != first.replay_id {
            break event;
        }
    };
    assert_eq!(later.kind, Kind::Keepalive);
    let id = insert(&org, "a");
    drop(stream);
    let mut stream = subscribe(&org, Start::After(later.replay_id)).await;
    assert_eq!(change(&mut stream).await.ids, [id]);
}

#[tokio::test]
async fn a_place_that_is_too_old_or_of_another_instance_is_lost() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    insert(&org, "a");
    let old = next(&mut stream).await.expect("an event").replay_id;
    insert(&org, "b");
    let lost = |result: Result<pubsub::Subscription, Trouble>| {
        let trouble = result.err().expect("lost");
        assert!(matches!(trouble, Trouble::Lost(_)), "{trouble:?}");
        assert_eq!(trouble.fault().code, "subscription.fetch.replayid.corrupted");
        assert!(trouble.fault().about.request_id.is_some());
    };
    org.set_clock_skew_ms(71 * 3_600_000);
    assert!(try_subscribe(&org, ACCOUNTS, Start::After(old.clone())).await.is_ok());
    org.set_clock_skew_ms(73 * 3_600_000);
    lost(try_subscribe(&org, ACCOUNTS, Start::After(old)).await);
    lost(try_subscribe(&org, ACCOUNTS, Start::After(b"nonsense".to_vec())).await);
    insert(&org, "c");
    let mut stream = subscribe(&org, Start::Earliest).await;
    let new = next(&mut stream).await.expect("an event").replay_id;
    org.move_instance();
    lost(try_subscribe(&org, ACCOUNTS, Start::After(new)).await);
}

#[tokio::test]
async fn errors_are_sorted_by_what_they_ask_for() {
    let org = org();
    let trouble =
        try_subscribe(&org, "/data/LeadChangeEvent", Start::Latest).await.err().expect("none");
    assert_eq!(fault(&trouble), (FaultKind::Schema, "topic.not.found"));
    let trouble =
        try_subscribe(&org, "/data/accountchangeevent", Start::Latest).await.err().expect("none");
    assert_eq!(fault(&trouble), (FaultKind::Schema, "topic.not.found"));
    for (status, code, kind) in [
        ("UNAVAILABLE", "service.unavailable", FaultKind::Transient),
        ("RESOURCE_EXHAUSTED", "concurrent.client.limit.exceeded", FaultKind::Quota),
        ("PERMISSION_DENIED", "topic.meta.permission", FaultKind::Schema),
        ("INVALID_ARGUMENT", "subscription.fetch.request.invalid", FaultKind::Defect),
        ("14", "never.heard.of", FaultKind::Transient),
    ] {
        let mut stream = subscribe(&org, Start::Latest).await;
        let (status, own) = (status.to_owned(), code.to_owned());
        org.event_fault(EventFaultRule::once(EventFault::Error { status, code: own }));
        let trouble = next(&mut stream).await.expect_err("an error");
        assert_eq!(fault(&trouble), (kind, code));
    }
}

#[tokio::test]
async fn a_session_that_has_ended_is_told_apart() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    let who = identity(&org);
    // A stream outlives the session that it began with.
    org.expire_sessions();
    let id = insert(&org, "a");
    let trouble = next(&mut stream).await.expect_err("the schema is not given out");
    assert!(matches!(trouble, Trouble::Session(_)), "{trouble:?}");
    let trouble =
        client(&org).subscribe(&who, ACCOUNTS, &Start::Latest).await.err().expect("refused");
    assert!(matches!(trouble, Trouble::Session(_)), "{trouble:?}");
    drop(stream);
    let mut stream = subscribe(&org, Start::Earliest).await;
    assert_eq!(change(&mut stream).await.ids, [id]);
    org.expire_sessions();
    let id = insert(&org, "b");
    assert_eq!(change(&mut stream).await.ids, [id]);
    org.event_fault(EventFaultRule::once(EventFault::ExpireToken));
    let trouble = next(&mut stream).await.expect_err("the session ends");
    assert!(matches!(trouble, Trouble::Session(_)), "{trouble:?}");
}

#[tokio::test]
async fn metadata_that_name_nobody_are_a_matter_of_configuration() {
    let org = org();
    let good = identity(&org);
    for bad in [
        Identity { org_id: "00D000000000000AAA".into(), ..good.clone() },
        Identity { instance_url: "https://elsewhere.example.com".into(), ..good.clone() },
        Identity { token: Secret::new(String::new()), ..good.clone() },
    ] {
        let trouble =
            client(&org).subscribe(&bad, ACCOUNTS, &Start::Latest).await.err().expect("refused");
        assert_eq!(fault(&trouble), (FaultKind::Configuration, "service.auth.headers.invalid"));
    }
    let short = Identity { org_id: good.org_id[..15].to_owned(), ..good };
    assert!(client(&org).subscribe(&short, ACCOUNTS, &Start::Latest).await.is_ok());
}

#[tokio::test]
async fn the_allowance_of_delivered_events_is_heeded() {
    let org = org();
    set(&org, EventSettings { allowance: Some(2), ..EventSettings::default() });
    let mut stream = subscribe(&org, Start::Latest).await;
    for name in ["a", "b"] {
        insert(&org, name);
        change(&mut stream).await;
    }
    insert(&org, "c");
    let trouble = next(&mut stream).await.expect_err("the limit");
    assert_eq!(fault(&trouble), (FaultKind::Quota, "subscription.limit.exceeded"));
    assert!(trouble.fault().retry_after.is_some());
    let trouble = try_subscribe(&org, ACCOUNTS, Start::Earliest).await.err().expect("the limit");
    assert_eq!(fault(&trouble), (FaultKind::Quota, "subscription.limit.exceeded"));
    org.set_clock_skew_ms(25 * 3_600_000);
    let mut stream = subscribe(&org, Start::Earliest).await;
    change(&mut stream).await;
}

#[tokio::test]
async fn gaps_duplicates_losses_and_delays() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    org.event_fault(EventFaultRule::once(EventFault::Gap));
    let id = insert(&org, "a");
    let gap =
        Kind::Gap { entity: "Account".into(), ids: vec![id.clone()], change: "GAP_CREATE".into() };
    assert_eq!(next(&mut stream).await.expect("an event").kind, gap);
    org.event_fault(EventFaultRule::once(EventFault::Duplicate));
    let id = insert(&org, "b");
    let one = next(&mut stream).await.expect("an event");
    let two = next(&mut stream).await.expect("an event");
    assert_eq!(one, two);
    org.event_fault(EventFaultRule::once(EventFault::Drop));
    insert(&org, "lost");
    org.event_fault(EventFaultRule::once(EventFault::Delay { ms: 300 }));
    let begun = std::time::Instant::now();
    org.edit(&id, json!({"Site": "s"})).expect("edited");
    let behind = insert(&org, "c");
    assert_eq!(change(&mut stream).await.ids, [id]);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(change(&mut stream).await.ids, [behind]);
    org.publish_gap("Account", "GAP_UPDATE", &["001*"]).expect("published");
    org.publish_gap("Account", "GAP_OVERFLOW", &["000000000000000AAA"]).expect("published");
    let all = Kind::Gap {
        entity: "Account".into(),
        ids: vec!["001*".into()],
        change: "GAP_UPDATE".into(),
    };
    assert_eq!(next(&mut stream).await.expect("an event").kind, all);
    let kind = next(&mut stream).await.expect("an event").kind;
    assert_eq!(kind, Kind::Overflow { entity: "Account".into() });
}

#[tokio::test]
async fn a_stream_that_is_cut_can_be_begun_anew() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    insert(&org, "a");
    let last = next(&mut stream).await.expect("an event").replay_id;
    org.event_fault(EventFaultRule::once(EventFault::Reset));
    let trouble = next(&mut stream).await.expect_err("the cut");
    assert_eq!(trouble.fault().kind, FaultKind::Transient, "{trouble:?}");
    assert!(matches!(trouble, Trouble::Fault(_)));
    let id = insert(&org, "b");
    let mut stream = subscribe(&org, Start::After(last)).await;
    assert_eq!(change(&mut stream).await.ids, [id]);
}

#[tokio::test]
async fn a_reader_that_asks_for_nothing_loses_its_stream() {
    let org = org();
    set(&org, EventSettings { patience_ms: Some(100), ..EventSettings::default() });
    let mut stream = subscribe(&org, Start::Latest).await;
    for n in 0..120 {
        insert(&org, &format!("n{n}"));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut taken = 0;
    let trouble = loop {
        match next(&mut stream).await {
            Ok(_) => taken += 1,
            Err(trouble) => break trouble,
        }
    };
    assert_eq!((taken, fault(&trouble)), (100, (FaultKind::Transient, "STREAM_CLOSED")));
}

#[tokio::test]
async fn events_come_by_tls_from_whom_a_ca_file_trusts() {
    let org = org();
    let allowed_hosts = org.events_address();
    let url = format!("https://{allowed_hosts}");
    let ask = async |ca_pem: &[u8]| {
        let rules = Rules { allowed_hosts, ca_pem, ..Rules::default() };
        let client =
            Client::new(&url, &Policy::parse(&rules).expect("a policy")).expect("a client");
        client.subscribe(&identity(&org), ACCOUNTS, &Start::Latest).await
    };
    let trouble = ask(b"").await.err().expect("nobody is trusted");
    assert_eq!(fault(&trouble), (FaultKind::Configuration, "CERTIFICATE_REFUSED"));
    let mut stream = ask(org.ca_pem().as_bytes()).await.expect("a stream");
    let id = insert(&org, "a");
    assert_eq!(change(&mut stream).await.ids, [id]);
}

#[tokio::test]
async fn a_place_that_is_not_allowed_is_not_asked() {
    let policy = Policy::parse(&Rules { allowed_hosts: "a.example.com", ..Rules::default() });
    let refused = Client::new(pubsub::PUBLIC_ENDPOINT, &policy.expect("a policy")).err();
    assert_eq!(refused.expect("refused").code, "HOST_NOT_ALLOWED");
}
