//! A stream of which one thing is not as it should be: it ends in time, with events that were told or with a reason,
//! and no event is told that was not.
//!
//! `SYNC_EXT_SEED` (drawn by lot) tells a run again and is printed where it fails; `SYNC_EXT_FUZZ` is how many streams
//! are spoiled.

mod event;
#[path = "../../../salesforce/tests/fuzz/random.rs"]
mod random;
mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use connector::Secret;
use egress::{Policy, Rules};
use eventbus::v1::{ConsumerEvent, FetchResponse, ProducerEvent, SchemaInfo};
use prost::Message;
use pubsub::{Client, Event, Identity, Kind, Start, Trouble, Value};
use random::Random;
use server::{End, Said, Script, serve};

/// Unless the environment says.
const CASES: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(10);
const EVENTS: usize = 3;
const MOST_MEMORY_KB: u64 = 500_000;

/// What still holds of the events of a stream in which something is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holds {
    /// Those that are told are the first ones, as they were sent.
    Prefix,
    /// All are told in their order, and as they were sent but for this one.
    AllBut(usize),
    /// All are told in their order, whatever is made of them.
    Places,
    /// It ends.
    End,
}

fn consumer(number: usize, payload: Vec<u8>) -> ConsumerEvent {
    let producer = ProducerEvent {
        id: format!("e{number}"),
        schema_id: "s".into(),
        payload,
        headers: Vec::new(),
    };
    ConsumerEvent { event: Some(producer), replay_id: vec![number as u8; 8] }
}

fn sent() -> Vec<ConsumerEvent> {
    (0..EVENTS).map(|n| consumer(n, event::payload(n, [&[], &[], &["0x02"]]))).collect()
}

fn script(events: &[ConsumerEvent]) -> Script {
    let info = SchemaInfo {
        schema_json: event::schema().to_string(),
        schema_id: "s".into(),
        rpc_id: "r".into(),
    };
    // The second answer has two events.
    let answers = [&events[..1], &events[1..]].map(|events| {
        FetchResponse { events: events.to_vec(), ..FetchResponse::default() }.encode_to_vec()
    });
    Script { schema: Said::of([info.encode_to_vec()]), stream: Said::of(answers) }
}

fn spoiled(random: &mut Random) -> (Script, Holds) {
    let mut events = sent();
    let at = random.below(EVENTS);
    match random.below(8) {
        0 | 1 => {
            let payload = &mut events[at].event.as_mut().expect("an event").payload;
            noise(random, payload);
            (script(&events), Holds::AllBut(at))
        }
        2 => {
            let odd =
                ["0x", "0xffff", "0x02-", "2-0x03", "2-0xff", "99999-0x1", "é", "-0x1", "1-0x1"];
            let many = format!("0x{}", "f".repeat(5000));
            let mut set =
                || if random.below(9) == 0 { many.clone() } else { (*random.one(&odd)).into() };
            let sets = [set(), set(), set()];
            let payload = event::payload(at, [&[&sets[0]], &[&sets[1]], &[&sets[2]]]);
            events[at] = consumer(at, payload);
            (script(&events), Holds::AllBut(at))
        }
        3 => {
            let lengths = [0, 1, 7, 9, 10_000];
            events[at].replay_id = vec![7; *random.one(&lengths)];
            if random.below(2) == 0 {
                events[at].event = None;
            }
            (script(&events), Holds::AllBut(at))
        }
        4 => {
            let mut script = script(&events);
            let mut json = event::schema().to_string().into_bytes();
            noise(random, &mut json);
            let info = SchemaInfo {
                schema_json: String::from_utf8_lossy(&json).into_owned(),
                ..SchemaInfo::default()
            };
            script.schema = Said::of([info.encode_to_vec()]);
            (script, Holds::Places)
        }
        5 => {
            let mut script = script(&events);
            let empty = |id: Vec<u8>| {
                FetchResponse { latest_replay_id: id, ..FetchResponse::default() }.encode_to_vec()
            };
            let id = if random.below(2) == 0 { Vec::new() } else { vec![9; 8] };
            let alive = vec![empty(id); random.below(3000)];
            script.stream.pieces.splice(0..0, Said::of(alive).pieces);
            (script, Holds::Prefix)
        }
        6 => {
            let mut script = script(&events);
            let (said, holds) = match random.below(3) {
                0 => (&mut script.schema, Holds::End),
                _ => (&mut script.stream, Holds::Prefix),
            };
            frames(random, said);
            (script, holds)
        }
        _ => {
            let mut script = script(&events);
            let said = if random.below(2) == 0 { &mut script.schema } else { &mut script.stream };
            let piece = random.below(said.pieces.len());
            let mut message = said.pieces[piece].split_off(5);
            noise(random, &mut message);
            said.pieces[piece] = Said::of([message]).pieces.remove(0);
            (script, Holds::End)
        }
    }
}

fn noise(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    match random.below(7) {
        0..3 => bytes[at] ^= 1 << random.below(8),
        3 => bytes.truncate(at),
        4 => bytes[at] = 0xff,
        5 => bytes.extend_from_within(at..),
        _ => bytes.splice(at..at, [0xff; 9]).for_each(drop),
    }
}

/// Messages as they are, and around them nothing as it should be.
fn frames(random: &mut Random, said: &mut Said) {
    let piece = random.below(said.pieces.len());
    let bytes = &mut said.pieces[piece];
    match random.below(10) {
        0 => bytes[1..5].copy_from_slice(&u32::MAX.to_be_bytes()),
        // More than there is.
        1 => bytes[3] = 0xff,
        2 => bytes[0] = *random.one(&[1, 2, 255]),
        3 => {
            let length = random.below(bytes.len());
            bytes.truncate(length);
            said.pieces.truncate(piece + 1);
        }
        4 => said.pieces.push(vec![0; 3]),
        5 => said.end = random.one(&[End::Bare, End::Reset]).clone(),
        6 => {
            (said.pieces, said.end) = (Vec::new(), End::Gone);
        }
        7 => {
            let codes = ["16", "3", "99", "-1", "x", "", "18446744073709551616"];
            let code = (*random.one(&codes)).to_owned();
            let own = ("error-code", "sfdc.platform.eventbus.grpc.\u{9}~".repeat(40));
            let message = ("grpc-message", "%FF%zz%".to_owned());
            said.end = End::Trailers(vec![("grpc-status", code), own, message]);
        }
        8 => said.status = *random.one(&[204, 302, 404, 500, 503]),
        _ => {
            let encoding = *random.one(&["gzip", "identity", "x"]);
            said.headers =
                vec![("content-type", "text/html".into()), ("grpc-encoding", encoding.into())];
        }
    }
}

/// All that a stream tells to its end.
async fn told(client: Client, limit: usize) -> (Vec<Event>, Option<Trouble>) {
    let identity = Identity {
        token: Secret::new("t".into()),
        instance_url: "http://127.0.0.1".into(),
        org_id: "00D000000000001EAA".into(),
    };
    let stream = client.subscribe(&identity, "/data/AccountChangeEvent", &Start::Latest).await;
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(trouble) => return (Vec::new(), Some(trouble)),
    };
    let mut events = Vec::new();
    while events.len() < limit {
        match stream.next().await {
            Ok(Event { kind: Kind::Keepalive, .. }) => {}
            Ok(event) => events.push(event),
            Err(trouble) => return (events, Some(trouble)),
        }
    }
    (events, None)
}

fn as_sent(number: usize, told: &Event) -> bool {
    let Kind::Changed(change) = &told.kind else { return false };
    let name = change.fields.iter().map(|(field, value)| (field.name.as_str(), value));
    told.replay_id == [number as u8; 8]
        && change.ids == [format!("001{number:012}AAA")]
        && name.eq([("Name", &Value::Text(format!("n{number}")))])
        && change.untold.is_empty()
}

fn wrong(holds: Holds, events: &[Event], trouble: Option<&Trouble>) -> Option<String> {
    let Some(trouble) = trouble else { return Some("it tells more than was sent".into()) };
    let fault = trouble.fault();
    if fault.code.is_empty() || fault.code.len() > 5000 || fault.message.chars().count() > 1100 {
        return Some(format!("a reason that says nothing, or too much: {fault:?}"));
    }
    let all_but = |but: Option<usize>| {
        events.iter().enumerate().all(|(n, told)| but == Some(n) || as_sent(n, told))
    };
    let good = match holds {
        Holds::Prefix => events.len() <= EVENTS && all_but(None),
        Holds::AllBut(at) => events.len() == EVENTS && all_but(Some(at)),
        Holds::Places => {
            events.len() == EVENTS
                && events.iter().enumerate().all(|(n, told)| told.replay_id == [n as u8; 8])
        }
        Holds::End => true,
    };
    (!good).then(|| format!("{holds:?}, and it told {events:?}, then {trouble:?}"))
}

#[tokio::test]
async fn a_wrong_stream_ends_and_tells_nothing_that_was_not_sent() {
    let (seed, cases, mut random) = Random::of_environment(CASES);
    let playing = Arc::new(Mutex::new(script(&sent())));
    let port = serve(Arc::clone(&playing)).await;
    let allowed_hosts = format!("127.0.0.1:{port}");
    let rules = Rules { allowed_hosts: &allowed_hosts, ..Rules::default() };
    let policy = Policy::parse(&rules).expect("a policy");
    let client = || Client::new(&format!("http://{allowed_hosts}"), &policy).expect("a client");
    // What is whole is told as a whole.
    let (events, trouble) = told(client(), 99).await;
    assert_eq!(events.len(), EVENTS, "{trouble:?}");
    assert_eq!(wrong(Holds::Prefix, &events, trouble.as_ref()), None);
    for case in 0..cases {
        let (spoiled, holds) = spoiled(&mut random);
        playing.lock().expect("no panic before").clone_from(&spoiled);
        let told = tokio::spawn(told(client(), 99));
        let wrong = match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok((events, trouble))) => wrong(holds, &events, trouble.as_ref()),
            Ok(Err(panic)) => Some(format!("it panicked: {panic}")),
            Err(_) => Some("it never ends".to_owned()),
        };
        if let Some(wrong) = wrong {
            let wrong: String = wrong.chars().take(3000).collect();
            panic!("SYNC_EXT_SEED={seed} case {case}: {wrong}");
        }
    }
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok());
    assert!(peak.is_none_or(|peak| peak < MOST_MEMORY_KB), "SYNC_EXT_SEED={seed}: {peak:?} kB");
}
