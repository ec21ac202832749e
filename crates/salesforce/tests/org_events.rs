//! Changes as events, from a local org.

use std::time::{Duration, Instant};

use connector::{
    Change, Column, Connector, Deed, Event, Events, Fault, FaultKind, Kind, Place, Secret, Since,
    Write, WriteBatch,
};
use egress::{Policy, Rules};
use local_org::{EventFault, EventFaultRule, EventSettings, LocalOrg, Options};
use salesforce::{Credentials, Salesforce, Settings};
use serde_json::json;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(10);

fn org() -> LocalOrg {
    let objects = ["Account", "Contact", "Specimen__c"].map(str::to_owned).to_vec();
    let options = Options {
        change_events: objects,
        objects: vec![local_org::specimen()],
        ..Options::default()
    };
    LocalOrg::start(options).expect("an org")
}

fn client(org: &LocalOrg) -> Salesforce {
    let hosts = format!("{},{}", org.url().trim_start_matches("http://"), org.events_address());
    client_of(org, &hosts)
}

fn client_of(org: &LocalOrg, allowed_hosts: &str) -> Salesforce {
    let policy = Policy::parse(&Rules { allowed_hosts, ..Rules::default() }).expect("a policy");
    let credentials = Credentials::ClientCredentials {
        client_id: org.client_id().to_owned(),
        client_secret: Secret::new(org.client_secret().to_owned()),
    };
    let pubsub_url = Some(format!("http://{}", org.events_address()));
    let settings = Settings { pubsub_url, ..Settings::new(org.url()) };
    Salesforce::new(&settings, credentials, &policy).expect("a client")
}

fn column(name: &str, kind: Kind) -> Column {
    Column { name: name.into(), kind, ..Column::default() }
}

fn columns() -> Vec<Column> {
    vec![
        column("Name", Kind::Text),
        column("Industry", Kind::Choice),
        column("AnnualRevenue", Kind::Number),
    ]
}

/// Begins with what is committed from now on.
async fn begin(client: &Salesforce, object: &str) -> Since {
    match client.events(object, &[], &Since::Now, LONG).await.expect("an answer") {
        Events::Next { events, place: Some(place) } if events.is_empty() => Since::Place(place),
        other => panic!("no beginning: {other:?}"),
    }
}

/// What comes next, and moves on.
async fn pull(
    client: &Salesforce,
    object: &str,
    columns: &[Column],
    since: &mut Since,
    wait: Duration,
) -> Vec<Event> {
    match client.events(object, columns, since, wait).await.expect("events") {
        Events::Next { events, place } => {
            if let Some(place) = place {
                *since = Since::Place(place);
            }
            events
        }
        Events::Lost { why } => panic!("lost: {why}"),
    }
}

async fn accounts(client: &Salesforce, since: &mut Since) -> Vec<Event> {
    pull(client, "Account", &columns(), since, LONG).await
}

fn changed(event: &Event) -> &Change {
    match event {
        Event::Changed(change) => change,
        other => panic!("no change: {other:?}"),
    }
}

fn insert(org: &LocalOrg, name: &str) -> String {
    org.insert("Account", json!({"Name": name})).expect("an account")
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn what_is_committed_comes_at_once_in_canonical_values() {
    let org = org();
    let client = client(&org);
    assert!(client.serves_events());
    let mut since = begin(&client, "Account").await;
    let values = json!({"Name": " Acme ", "AnnualRevenue": 1.50});
    let id = org.insert("Account", values).expect("an account");
    let events = accounts(&client, &mut since).await;
    let created = changed(&events[0]);
    assert_eq!((created.deed, &created.ids), (Deed::Created, &vec![id.clone()]));
    let mut values = created.values.clone();
    values.sort();
    assert_eq!(values, [(0, some("Acme")), (1, None), (2, some("1.5"))]);
    assert!(created.untold.is_empty());
    org.edit(&id, json!({"Industry": "Energy"})).expect("edited");
    org.delete(&id).expect("deleted");
    let mut events = accounts(&client, &mut since).await;
    while events.len() < 2 {
        events.extend(accounts(&client, &mut since).await);
    }
    assert_eq!(changed(&events[0]).values, [(1, some("Energy"))]);
    assert_eq!((changed(&events[1]).deed, changed(&events[1]).values.len()), (Deed::Deleted, 0));
    assert_eq!(changed(&events[0]).user, org.users().1);

    // From the commit to the caller that waits for it.
    let waiting = async {
        let events = accounts(&client, &mut since).await;
        (Instant::now(), events.len())
    };
    let committing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        insert(&org, "soon");
        Instant::now()
    };
    let ((received, count), committed) = tokio::join!(waiting, committing);
    let latency = received.saturating_duration_since(committed);
    assert_eq!(count, 1);
    assert!(latency < Duration::from_secs(1), "{latency:?}");
    println!("{} µs from the commit to its event", latency.as_micros());
}

#[tokio::test]
async fn our_own_writes_bear_our_name() {
    let org = org();
    let client = client(&org);
    let mut since = begin(&client, "Account").await;
    let columns = columns();
    let batch = WriteBatch {
        object: "Account".into(),
        columns: columns.clone(),
        read_before: false,
        writes: vec![Write::Create { identity: None, fields: vec![(0, some("ours"))] }],
    };
    client.write(&batch).await.expect("written");
    insert(&org, "theirs");
    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(accounts(&client, &mut since).await);
    }
    let clients =
        |at: usize| (changed(&events[at]).client.clone(), changed(&events[at]).user.clone());
    assert_eq!(clients(0), (some("sync_ext"), org.users().0));
    assert_eq!(clients(1), (some("SfdcInternalAPI/"), org.users().1));
}

#[tokio::test]
async fn values_of_events_are_those_that_a_read_brings() {
    let org = org();
    let client = client(&org);
    let object = client.describe("Specimen__c", &[]).await.expect("described");
    let columns: Vec<Column> = object.fields.iter().map(connector::Field::column).collect();
    let mut since = begin(&client, "Specimen__c").await;
    let values = json!({
        "Name": "s", "Code__c": "c", "Number__c": 0.1, "Flag__c": false, "Day__c": "1700-02-28",
        "Moment__c": "1969-12-31T23:59:59.000Z", "Time__c": "23:59:59.999Z", "Colour__c": "Red", "Tags__c": "Two;One",
        "Notes__c": " a\r\nb\r\n\r\n",
    });
    let id = org.insert("Specimen__c", values).expect("a specimen");
    let events = pull(&client, "Specimen__c", &columns, &mut since, LONG).await;
    let change = changed(&events[0]);
    let ids = [id.clone()];
    let read = client.fetch("Specimen__c", &columns, &ids).await.expect("read");
    let read = read[0].as_ref().expect("a record");
    let name = |at: usize| columns[at].name.as_str();
    for (at, value) in &change.values {
        assert_eq!(value, &read.values[*at], "{}", name(*at));
    }
    let untold: Vec<&str> = change.untold.iter().map(|&at| name(at)).collect();
    assert_eq!(untold, ["IsDeleted", "SystemModstamp", "Title__c"]);
    assert_eq!(
        change.values.len() + untold.len() + 1,
        columns.len(),
        "all but the id are told or not told"
    );
}

#[tokio::test]
async fn a_compound_field_as_a_whole_has_to_be_read() {
    let org = org();
    let client = client(&org);
    let columns = [
        column("Name", Kind::Text),
        column("LastName", Kind::Text),
        column("MailingAddress", Kind::Structure),
        column("MailingCity", Kind::Text),
    ];
    let mut since = begin(&client, "Contact").await;
    let id = org.insert("Contact", json!({"LastName": "King"})).expect("a contact");
    pull(&client, "Contact", &columns, &mut since, LONG).await;
    org.edit(&id, json!({"MailingCity": "London"})).expect("edited");
    let events = pull(&client, "Contact", &columns, &mut since, LONG).await;
    assert_eq!(
        (&changed(&events[0]).values, &changed(&events[0]).untold),
        (&vec![(3, some("London"))], &vec![2])
    );
    org.edit(&id, json!({"LastName": "Lovelace"})).expect("edited");
    let events = pull(&client, "Contact", &columns, &mut since, LONG).await;
    assert_eq!(
        (&changed(&events[0]).values, &changed(&events[0]).untold),
        (&vec![(1, some("Lovelace"))], &vec![0])
    );
}

#[tokio::test]
async fn a_stream_stays_open_between_calls_and_misses_nothing_when_one_is_given_up() {
    let org = org();
    let client = client(&org);
    let mut since = begin(&client, "Account").await;
    let a = insert(&org, "a");
    assert_eq!(changed(&accounts(&client, &mut since).await[0]).ids, [a]);
    for _ in 0..3 {
        assert!(pull(&client, "Account", &columns(), &mut since, SHORT).await.is_empty());
        assert_eq!(org.event_streams(), 1);
    }
    // A call that is dropped while it waits, and an answer that nobody took.
    let given_up = client.events("Account", &[], &since, LONG);
    assert!(tokio::time::timeout(SHORT, given_up).await.is_err());
    let b = insert(&org, "b");
    let columns = columns();
    let untaken = client.events("Account", &columns, &since, LONG).await.expect("events");
    assert!(matches!(untaken, Events::Next { ref events, .. } if events.len() == 1));
    assert_eq!(changed(&accounts(&client, &mut since).await[0]).ids, [b]);
}

#[tokio::test]
async fn another_process_goes_on_where_the_last_one_ended() {
    let org = org();
    let mut since = begin_and_end(&org).await;
    let ids = [insert(&org, "b"), insert(&org, "c")];
    let client = client(&org);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(
            accounts(&client, &mut since).await.iter().flat_map(|e| changed(e).ids.clone()),
        );
    }
    assert_eq!(seen, ids);
}

/// A process that has taken one event.
async fn begin_and_end(org: &LocalOrg) -> Since {
    let client = client(org);
    let mut since = begin(&client, "Account").await;
    insert(org, "a");
    accounts(&client, &mut since).await;
    since
}

#[tokio::test]
async fn a_place_that_cannot_be_gone_on_from_is_lost_and_not_skipped() {
    let org = org();
    let old = begin_and_end(&org).await;
    let lost = async |client: &Salesforce, since: &Since| {
        let answer = client.events("Account", &[], since, SHORT).await.expect("an answer");
        assert!(matches!(answer, Events::Lost { .. }), "{answer:?}");
    };
    let client = client(&org);
    // Nothing was told from there: another process, or a stream that is gone, cannot know what came.
    let unused = begin(&client, "Account").await;
    lost(&self::client(&org), &unused).await;
    org.event_fault(EventFaultRule::once(EventFault::Reset));
    tokio::time::sleep(SHORT).await;
    let broken = client.events("Account", &[], &unused, LONG).await;
    assert_eq!(broken.expect_err("cut").kind, FaultKind::Transient);
    lost(&client, &unused).await;
    insert(&org, "b");
    org.set_clock_skew_ms(73 * 3_600_000);
    insert(&org, "c");
    lost(&client, &old).await;
    let mut since = begin(&client, "Account").await;
    insert(&org, "d");
    accounts(&client, &mut since).await;
    org.move_instance();
    lost(&self::client(&org), &since).await;
    lost(&client, &Since::Place(Place(Vec::new()))).await;
}

#[tokio::test]
async fn gaps_and_overflows_say_what_has_to_be_read() {
    let org = org();
    let client = client(&org);
    let mut since = begin(&client, "Account").await;
    org.event_fault(EventFaultRule::once(EventFault::Gap));
    let id = insert(&org, "a");
    assert_eq!(accounts(&client, &mut since).await, [Event::Unknown { ids: vec![id] }]);
    for (kind, id) in [("GAP_UPDATE", "001*"), ("GAP_OVERFLOW", "000000000000000AAA")] {
        org.publish_gap("Account", kind, &[id]).expect("published");
        let events = accounts(&client, &mut since).await;
        assert!(matches!(events[..], [Event::Everything { .. }]), "{events:?}");
    }
    // The same event twice.
    org.event_fault(EventFaultRule::once(EventFault::Duplicate));
    insert(&org, "b");
    let mut events = accounts(&client, &mut since).await;
    while events.len() < 2 {
        events.extend(accounts(&client, &mut since).await);
    }
    assert_eq!(events[0], events[1]);
}

#[tokio::test]
async fn an_ended_session_and_a_cut_connection_heal() {
    let org = org();
    let client = client(&org);
    let mut since = begin(&client, "Account").await;
    insert(&org, "a");
    accounts(&client, &mut since).await;
    let logins = |org: &LocalOrg| org.calls().iter().filter(|c| c.path.ends_with("/token")).count();
    let before = logins(&org);
    org.event_fault(EventFaultRule::once(EventFault::ExpireToken));
    let b = insert(&org, "b");
    assert_eq!(changed(&accounts(&client, &mut since).await[0]).ids, [b]);
    assert_eq!(logins(&org), before + 1);
    // The session ends, and the schema has changed: a call beside the stream is turned away.
    org.expire_sessions();
    let field = local_org::Field::new("Extra__c", local_org::FieldType::String);
    org.define_field("Account", field).expect("a field");
    let c = insert(&org, "c");
    assert_eq!(changed(&accounts(&client, &mut since).await[0]).ids, [c]);

    org.event_fault(EventFaultRule::once(EventFault::Reset));
    tokio::time::sleep(SHORT).await;
    let fault = client.events("Account", &[], &since, LONG).await.expect_err("the cut");
    assert_eq!(fault.kind, FaultKind::Transient, "{fault:?}");
    let d = insert(&org, "d");
    assert_eq!(changed(&accounts(&client, &mut since).await[0]).ids, [d]);
}

#[tokio::test]
async fn faults_are_sorted_and_hold_no_secret() {
    let org = org();
    let client = client(&org);
    let ask = async |object: &str| -> Fault {
        client.events(object, &[], &Since::Now, SHORT).await.expect_err("a fault")
    };
    let fault = ask("Lead").await;
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Schema, "topic.not.found"));
    assert!(fault.hint.contains("Change Data Capture"));
    org.event_fault(EventFaultRule::once(EventFault::Error {
        status: "14".into(),
        code: "service.unavailable".into(),
    }));
    let since = begin(&client, "Account").await;
    let fault = client.events("Account", &[], &since, LONG).await.expect_err("a fault");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Transient, "service.unavailable"));
    org.set_events(EventSettings { allowance: Some(0), ..EventSettings::default() }).expect("set");
    let fault = ask("Account").await;
    assert_eq!((fault.kind, fault.retry_after.is_some()), (FaultKind::Quota, true));

    let closed = client_of(&org, org.url().trim_start_matches("http://"));
    assert!(!closed.serves_events());
    let fault = closed.events("Account", &[], &Since::Now, SHORT).await.expect_err("a fault");
    assert_eq!(fault.code, "HOST_NOT_ALLOWED");
}

#[tokio::test]
async fn a_lost_answer_of_many_events_comes_again_in_order() {
    let org = org();
    let client = client(&org);
    let mut since = begin(&client, "Account").await;
    let first = insert(&org, "first");
    assert_eq!(changed(&accounts(&client, &mut since).await[0]).ids, [first]);
    let ids: Vec<String> = (0..450).map(|n| insert(&org, &format!("n{n}"))).collect();
    let mut seen: Vec<String> = Vec::new();
    let mut calls = 0;
    while seen.len() < ids.len() {
        calls += 1;
        let at = since.clone();
        let events = accounts(&client, &mut since).await;
        if calls % 2 == 1 {
            // As if the process had died before it kept them.
            since = at;
            continue;
        }
        seen.extend(events.iter().flat_map(|event| changed(event).ids.clone()));
    }
    assert_eq!(seen, ids);
}
