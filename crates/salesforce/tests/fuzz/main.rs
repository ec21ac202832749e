//! Every kind of call against an org of which one answer is not as it should be: the call comes back in time, with
//! what the org has or with a fault that says what is wrong, and never with a success that was none.
//!
//! `SYNC_EXT_SEED` (drawn by lot) tells a run again and is printed where it fails; `SYNC_EXT_FUZZ` is how many answers
//! are spoiled.

mod judge;
mod org;
mod random;
#[path = "../scripted/mod.rs"]
mod scripted;
mod spoil;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use connector::{
    BulkJob, ChangesOf, Column, Connector, Fault, Identity, Kind, Mark, Write, WriteBatch,
};
use judge::Verdict;
use random::Random;
use salesforce::Salesforce;
use scripted::{Reply, Server};
use spoil::{Spoiled, spoil};

/// Unless the environment says.
const CASES: u64 = 1500;
/// Longer than any timeout of the client.
const PATIENCE: Duration = Duration::from_secs(8);
/// Most memory that the whole of it takes, with answers of 10 MB among them.
const MOST_MEMORY_KB: u64 = 500_000;

/// What the server is about to do.
struct Script {
    random: Random,
    /// So many answers are whole before the one that is spoiled.
    whole: usize,
    /// Is it the answer to a login that is spoiled?
    login: bool,
    spoiled: Option<Spoiled>,
    upload: String,
}

#[tokio::test]
async fn a_wrong_answer_is_told_as_such() {
    let (seed, cases, random) = Random::of_environment(CASES);
    let script = Script { random, whole: 0, login: false, spoiled: None, upload: String::new() };
    let script = Arc::new(Mutex::new(script));
    let own = Arc::clone(&script);
    let server = Server::start(move |_, asked, port| {
        let mut script = own.lock().expect("no panic before");
        if asked.method == "PUT" {
            script.upload.clone_from(&asked.body);
        }
        let answer = org::answer(asked, port, &script.upload);
        if script.spoiled.is_some() || asked.is_login() != script.login {
            return Reply::Raw(answer.whole());
        }
        if script.whole > 0 {
            script.whole -= 1;
            return Reply::Raw(answer.whole());
        }
        let spoiled = spoil(&mut script.random, &answer);
        script.spoiled = Some(spoiled.clone());
        Reply::Raw(spoiled.wire)
    })
    .await;
    let mut spoiled_cases = 0;
    for case in 0..cases {
        let call = {
            let mut script = script.lock().expect("no panic before");
            script.spoiled = None;
            script.whole = script.random.below(3).saturating_sub(1);
            let call = script.random.below(CALLS);
            script.login = call == CALLS - 1;
            call
        };
        let client = server.client();
        let made = tokio::spawn(async move { made(&client, call).await });
        let made = tokio::time::timeout(PATIENCE, made).await;
        let spoiled = script.lock().expect("no panic before").spoiled.clone();
        spoiled_cases += u64::from(spoiled.is_some());
        let wrong = match made {
            Ok(Ok(verdict)) => verdict.wrong(spoiled.as_ref()),
            Ok(Err(panic)) => Some(format!("it panicked: {panic}")),
            Err(_) => Some("it never ends".to_owned()),
        };
        if let Some(wrong) = wrong {
            let wire = spoiled.map(|spoiled| spoiled.wire).unwrap_or_default();
            let wire = String::from_utf8_lossy(&wire[..wire.len().min(3000)]).into_owned();
            panic!("SYNC_EXT_SEED={seed} case {case} call {call}: {wrong}\nthe answer was: {wire}");
        }
    }
    assert!(spoiled_cases * 2 > cases, "SYNC_EXT_SEED={seed}: {spoiled_cases} of {cases} spoiled");
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok());
    assert!(peak.is_none_or(|peak| peak < MOST_MEMORY_KB), "SYNC_EXT_SEED={seed}: {peak:?} kB");
}

fn columns(of_parents: bool) -> Vec<Column> {
    let column = |name: &str, kind| Column { name: name.into(), kind, ..Column::default() };
    let mut columns = vec![column("Name", Kind::Text), column("AnnualRevenue", Kind::Number)];
    if of_parents {
        let lookup = Some("ParentId".to_owned());
        columns.push(Column { lookup, ..column("Parent.Key__c", Kind::Text) });
    }
    columns
}

fn batch(read_before: bool, of_parents: bool, write: impl Fn(String) -> Write) -> WriteBatch {
    WriteBatch {
        object: "Account".into(),
        columns: columns(of_parents),
        read_before,
        writes: org::ids().into_iter().map(write).collect(),
    }
}

fn fields() -> Vec<(usize, Option<String>)> {
    vec![(0, Some("b".into()))]
}

fn update(id: String) -> Write {
    Write::Update { id, fields: fields() }
}

fn create(_: String) -> Write {
    Write::Create { identity: None, fields: fields() }
}

fn upsert(id: String) -> Write {
    let identity = Some(Identity { field: "Key__c".into(), value: id });
    Write::Create { identity, fields: fields() }
}

fn delete(id: String) -> Write {
    Write::Delete { id }
}

/// How many kinds of calls there are; the last is the login.
const CALLS: usize = 27;

/// One call, and what has to hold of what came of it.
async fn made(client: &Salesforce, call: usize) -> Verdict {
    let (plain, ids) = (columns(false), org::ids());
    let since = "2026-05-01T07:25:37.000Z";
    let mark = Mark { at: since.into(), id: String::new() };
    let query_job = BulkJob(format!("62.0/query/{}", org::JOB));
    let ingest_job = BulkJob(format!("62.0/ingest/{}", org::JOB));
    let bulk = client.bulk().expect("bulk jobs");
    let written = async |batch: WriteBatch| {
        let outcomes = client.write(&batch).await;
        Verdict::Written { batch, outcomes }
    };
    match call {
        0 | 26 => Verdict::of(client.check().await),
        1 => Verdict::of(client.survey().await),
        2 => Verdict::named(client.objects().await, |object| &object.name),
        3 => {
            let described = client.describe("Account", &["Parent.Key__c".into()]).await;
            Verdict::named(described.map(|object| object.fields), |field| &field.name)
        }
        4 => Verdict::of(client.count("Account").await),
        5 => Verdict::all(client.list("Account", &plain, None).await.map(|page| page.records)),
        6 => Verdict::all(client.changes("Account", &plain, &mark).await.map(|page| page.records)),
        7 => {
            let of = ChangesOf { object: "Account".into(), columns: plain, since: mark };
            let answers = client.changes_of(&[of.clone(), of]).await;
            let both = answers.and_then(|answers| {
                assert_eq!(answers.len(), 2);
                answers.into_iter().collect::<Result<Vec<_>, Fault>>()
            });
            let first = both.map(|pages| {
                assert_eq!(pages[0].records.len(), pages[1].records.len());
                pages[0].records.clone()
            });
            Verdict::all(first)
        }
        8 => Verdict::Fetched(client.fetch("Account", &plain, &ids).await),
        9 => Verdict::Fetched(client.fetch("Account", &columns(true), &ids).await),
        10 => Verdict::all(client.find("Account", &plain, "Key__c", &ids).await),
        11 => Verdict::all(client.created_since("Account", &plain, since).await),
        12 => written(batch(false, false, update)).await,
        13 => written(batch(true, false, update)).await,
        14 => written(batch(true, true, update)).await,
        15 => written(batch(false, false, create)).await,
        16 => written(batch(false, false, upsert)).await,
        17 => written(batch(false, false, delete)).await,
        18 => written(batch(true, false, delete)).await,
        19 => Verdict::of(bulk.start_read("Account", &plain).await),
        20 => Verdict::of(bulk.state(&query_job).await),
        21 => Verdict::of(bulk.pages(&query_job, None).await),
        22 => {
            let page = bulk.page(&query_job, &plain, None, None).await;
            Verdict::all(page.map(|page| page.records))
        }
        23 => Verdict::of(bulk.start_write(&batch(false, false, update)).await),
        24 => Verdict::of(bulk.commit_write(&ingest_job).await),
        _ => {
            let batch = batch(false, false, update);
            if let Err(fault) = bulk.start_write(&batch).await {
                return Verdict::of::<()>(Err(fault));
            }
            let outcomes = bulk.outcomes(&ingest_job, &batch).await;
            Verdict::OfJob { batch, outcomes }
        }
    }
}
