//! Bulk jobs against a local org.

mod against;

use against::{accounts, client, org, seed, text};
use connector::{
    Bulk, BulkJob, BulkState, Column, Connector, Done, FaultKind, Identity, Kind, Outcome, Record,
    Write, WriteBatch,
};
use local_org::{BulkManners, Campaign, Fault, FaultRule, LocalOrg};
use salesforce::Salesforce;
use serde_json::json;

fn bulk(client: &Salesforce) -> &dyn Bulk {
    client.bulk().expect("bulk jobs")
}

/// Looks at a job until it has ended.
async fn ended(client: &Salesforce, job: &BulkJob) -> BulkState {
    for _ in 0..10 {
        let state = bulk(client).state(job).await.expect("a state");
        if state.has_ended() {
            return state;
        }
    }
    panic!("the job never ends");
}

/// All records of a job, page by page, from a locator on.
async fn rest(
    client: &Salesforce,
    job: &BulkJob,
    columns: &[Column],
    mut locator: Option<String>,
    most: usize,
) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let page = bulk(client).page(job, columns, locator.as_deref(), Some(most)).await;
        let page = page.expect("a page");
        all.extend(page.records);
        locator = page.next;
        if locator.is_none() {
            return all;
        }
    }
}

fn columns() -> Vec<Column> {
    let column = |name: &str, kind| Column { name: name.into(), kind, ..Column::default() };
    vec![
        column("Name", Kind::Text),
        column("Site", Kind::Text),
        column("AnnualRevenue", Kind::Number),
        column("NumberOfEmployees", Kind::Integer),
        column("IsDeleted", Kind::Boolean),
        column("CreatedDate", Kind::DateTime),
        column("OwnerId", Kind::Id),
    ]
}

#[tokio::test]
async fn a_bulk_read_yields_what_reading_page_by_page_does() {
    let org = org();
    for (name, site, revenue) in [
        ("plain", json!("here"), json!(1.39e8)),
        ("ä \"quoted\", b", json!("two\r\nlines"), json!(0.1)),
        ("'; #N/A", json!(null), json!(null)),
    ] {
        let body =
            json!({"Name": name, "Site": site, "AnnualRevenue": revenue, "NumberOfEmployees": 7});
        org.insert("Account", body).expect("an account");
    }
    let client = client(&org);
    let columns = columns();
    let job = bulk(&client).start_read("Account", &columns).await.expect("a job");
    assert_eq!(ended(&client, &job).await, BulkState::Complete { records: 3 });
    let read = rest(&client, &job, &columns, None, 2).await;
    let listed = client.list("Account", &columns, None).await.expect("a page").records;
    assert_eq!(read, listed);
    bulk(&client).end(&job).await.expect("ended");
    assert_eq!(bulk(&client).state(&job).await, Ok(BulkState::Gone));
    bulk(&client).end(&job).await.expect("twice is no fault");
}

#[tokio::test]
async fn reading_goes_on_after_a_crash_from_the_handle_and_a_locator() {
    let org = org();
    seed(&org, 25);
    let columns = [text("Name")];
    let first = client(&org);
    let job = bulk(&first).start_read("Account", &columns).await.expect("a job");
    ended(&first, &job).await;
    let page = bulk(&first).page(&job, &columns, None, Some(10)).await.expect("a page");
    drop(first);
    // What was stored, in another process.
    let (handle, locator) = (job.0.clone(), page.next.clone());
    let second = client(&org);
    let others = rest(&second, &BulkJob(handle), &columns, locator, 10).await;
    let mut ids: Vec<String> = page.records.into_iter().chain(others).map(|r| r.id).collect();
    ids.sort_unstable();
    let listed = second.list("Account", &columns, None).await.expect("a page").records;
    assert_eq!(ids, listed.into_iter().map(|r| r.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn pages_are_read_several_at_once() {
    let org = org();
    seed(&org, 33);
    org.set_bulk(BulkManners { page: 4, ..BulkManners::default() });
    org.fault(FaultRule::always(Fault::Latency { ms: 150 }).path("/results"));
    let client = client(&org);
    let columns = [text("Name")];
    let job = bulk(&client).start_read("Account", &columns).await.expect("a job");
    ended(&client, &job).await;
    let (mut ids, mut from) = (Vec::new(), None);
    loop {
        let pages = bulk(&client).pages(&job, from.as_deref()).await.expect("pages");
        let begun = std::time::Instant::now();
        let read = |at: usize| {
            let (locator, bulk, columns, job) =
                (pages.locators.get(at), bulk(&client), &columns, &job);
            async move {
                match locator {
                    Some(locator) => {
                        bulk.page(job, columns, Some(locator), None).await.expect("a page").records
                    }
                    None => Vec::new(),
                }
            }
        };
        let (a, b, c, d, e) = tokio::join!(read(0), read(1), read(2), read(3), read(4));
        // One after the other five pages take 750.
        assert!(begun.elapsed().as_millis() < 600, "{:?}", begun.elapsed());
        ids.extend([a, b, c, d, e].into_iter().flatten().map(|record| record.id));
        from = pages.next;
        if from.is_none() {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 33);
}

#[tokio::test]
async fn a_page_that_was_cut_is_read_again_and_one_that_is_gone_says_so() {
    let org = org();
    seed(&org, 5);
    let client = client(&org);
    let columns = [text("Name")];
    let job = bulk(&client).start_read("Account", &columns).await.expect("a job");
    let early = bulk(&client).page(&job, &columns, None, None).await.expect_err("too early");
    assert_eq!(early.kind, FaultKind::Conflict, "{early}");
    ended(&client, &job).await;
    org.fault(FaultRule::once(Fault::CutDuring).path("/results"));
    let cut = bulk(&client).page(&job, &columns, None, None).await.expect_err("cut");
    assert_eq!(cut.kind, FaultKind::Transient, "{cut}");
    assert_eq!(
        bulk(&client).page(&job, &columns, None, None).await.expect("whole").records.len(),
        5
    );
    let wrong =
        bulk(&client).page(&job, &columns, Some("OTk"), None).await.expect_err("no locator");
    assert_eq!((wrong.kind, wrong.code.as_str()), (FaultKind::Conflict, "INVALID_QUERY_LOCATOR"));
    for status in [404, 410] {
        let gone = Fault::Error { status, code: "NOT_FOUND".into(), message: "gone".into() };
        org.fault(FaultRule::once(gone).path("/results"));
        let gone = bulk(&client).page(&job, &columns, None, None).await.expect_err("gone");
        assert_eq!((gone.kind, gone.code.as_str()), (FaultKind::Conflict, "JOB_GONE"));
    }
}

#[tokio::test]
async fn what_a_bulk_read_cannot_is_said_before_or_by_its_state() {
    let org = org();
    let client = client(&org);
    let address =
        Column { name: "BillingAddress".into(), kind: Kind::Structure, ..Column::default() };
    let refused = bulk(&client).start_read("Account", &[address]).await.expect_err("an address");
    assert_eq!((refused.kind, refused.code.as_str()), (FaultKind::Configuration, "NOT_IN_BULK"));
    let unknown = bulk(&client).start_read("Account", &[text("Nothing__c")]).await;
    assert_eq!(unknown.expect_err("no such field").kind, FaultKind::Schema);
    org.set_bulk(BulkManners { query_jobs: 0, ..BulkManners::default() });
    let quota = bulk(&client).start_read("Account", &[text("Name")]).await.expect_err("a quota");
    assert_eq!((quota.kind, quota.retry_after.is_some()), (FaultKind::Quota, true));
    org.set_bulk(BulkManners::default());
    let job = bulk(&client).start_read("Account", &[text("Name")]).await.expect("a job");
    org.fault(FaultRule::once(Fault::FailJob { message: "InternalServerError : x".into() }));
    let BulkState::Failed(why) = ended(&client, &job).await else { panic!("it did not fail") };
    assert_eq!((why.kind, why.message.as_str()), (FaultKind::Transient, "InternalServerError : x"));
}

fn create(key: &str, name: Option<&str>) -> Write {
    let identity = Identity { field: "External_Id__c".into(), value: key.into() };
    Write::Create { identity: Some(identity), fields: vec![(0, name.map(str::to_owned))] }
}

fn batch(writes: Vec<Write>) -> WriteBatch {
    accounts(vec![text("Name"), text("Site")], false, writes)
}

async fn written(org: &LocalOrg, client: &Salesforce, batch: &WriteBatch) -> Vec<Outcome> {
    let job = bulk(client).start_write(batch).await.expect("a job");
    bulk(client).commit_write(&job).await.expect("committed");
    org.finish_jobs();
    bulk(client).outcomes(&job, batch).await.expect("outcomes")
}

fn short(outcomes: &[Outcome]) -> Vec<String> {
    let told = outcomes.iter().map(|outcome| match &outcome.result {
        Ok(Done::Created { .. }) => "created".to_owned(),
        Ok(Done::Updated { .. }) => "updated".to_owned(),
        Ok(Done::Deleted) => "deleted".to_owned(),
        Ok(Done::Gone) => "gone".to_owned(),
        Err(fault) => format!("{:?} {}", fault.kind, fault.code),
    });
    told.collect()
}

#[tokio::test]
async fn each_record_of_a_bulk_write_gets_its_own_outcome_in_order() {
    let org = org();
    let client = client(&org);
    org.insert("Account", json!({"Name": "old", "External_Id__c": "c"})).expect("an account");
    let upserts = batch(vec![
        create("a", Some("A, \"x\"\ny")),
        create("b", None),
        create("", Some("no key")),
        create("c", Some("C")),
        create("d", Some("#N/A")),
    ]);
    let outcomes = written(&org, &client, &upserts).await;
    assert_eq!(
        short(&outcomes),
        [
            "created",
            "Refused REQUIRED_FIELD_MISSING",
            "Refused MISSING_EXTERNAL_ID",
            "updated",
            "Refused NOT_IN_BULK",
        ]
    );
    let Ok(Done::Created { id: a }) = &outcomes[0].result else { panic!("no id") };
    assert_eq!(org.get(a).expect("a record")["Name"], "A, \"x\"\ny");
    let Ok(Done::Updated { id: c }) = &outcomes[3].result else { panic!("no id") };
    let update = |id: &str, at, value: Option<&str>| Write::Update {
        id: id.to_owned(),
        fields: vec![(at, value.map(str::to_owned))],
    };
    org.delete(c).expect("deleted");
    let updates =
        batch(vec![update(c, 0, Some("late")), update(a, 1, Some("site")), update(a, 0, None)]);
    let updates = WriteBatch { writes: updates.writes[..2].to_vec(), ..updates };
    assert_eq!(short(&written(&org, &client, &updates).await), ["gone", "updated"]);
    let record = org.get(a).expect("a record");
    // What was not named has stayed.
    assert_eq!((&record["Site"], &record["Name"]), (&json!("site"), &json!("A, \"x\"\ny")));
    let deletes = batch([c, a].map(|id| Write::Delete { id: id.clone() }).to_vec());
    assert_eq!(short(&written(&org, &client, &deletes).await), ["gone", "deleted"]);
}

#[tokio::test]
async fn many_plain_creates_find_their_outcomes_without_a_key() {
    let org = org();
    let client = client(&org);
    org.fault(
        FaultRule::once(Fault::Record {
            code: "UNABLE_TO_LOCK_ROW".into(),
            message: "locked".into(),
        })
        .times(3),
    );
    let plain = |n: usize| Write::Create {
        identity: None,
        // Three of each name.
        fields: vec![(0, Some(format!("n{}", n / 3))), (1, None)],
    };
    let outcomes = written(&org, &client, &batch((0..900).map(plain).collect())).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match &outcome.result {
            Ok(Done::Created { id }) => {
                assert_eq!(org.get(id).expect("a record")["Name"], format!("n{}", n / 3));
            }
            other => assert!(
                n < 3 && other.as_ref().is_err_and(|f| f.kind == FaultKind::Transient),
                "{n}: {other:?}"
            ),
        }
    }
    assert_eq!(org.count("Account"), 897);
}

#[tokio::test]
async fn nothing_is_written_before_the_commit_and_a_lost_commit_is_looked_up() {
    let org = org();
    let client = client(&org);
    let batch = batch(vec![create("a", Some("A"))]);
    let job = bulk(&client).start_write(&batch).await.expect("a job");
    org.finish_jobs();
    assert_eq!(bulk(&client).state(&job).await, Ok(BulkState::Open));
    assert_eq!(org.count("Account"), 0);
    assert_eq!(bulk(&client).outcomes(&job, &batch).await.expect_err("open").code, "JOB_RUNNING");
    org.fault(FaultRule::once(Fault::CutAfter).method("PATCH"));
    let lost = bulk(&client).commit_write(&job).await.expect_err("no answer");
    assert_eq!(lost.kind, FaultKind::Ambiguous);
    // Another process, with the handle alone.
    let other = against::client(&org);
    let job = BulkJob(job.0.clone());
    assert!(matches!(bulk(&other).state(&job).await, Ok(BulkState::Running { .. })));
    bulk(&other).commit_write(&job).await.expect("once more is no fault");
    org.finish_jobs();
    assert_eq!(short(&bulk(&other).outcomes(&job, &batch).await.expect("outcomes")), ["created"]);
    assert_eq!(short(&bulk(&other).outcomes(&job, &batch).await.expect("again")), ["created"]);
    assert_eq!(org.count("Account"), 1);
    org.fault(FaultRule::once(Fault::ExpireJob).path("/successfulResults"));
    let gone = bulk(&other).outcomes(&job, &batch).await.expect_err("gone");
    assert_eq!((gone.kind, gone.code.as_str()), (FaultKind::Ambiguous, "JOB_GONE"));
    bulk(&other).end(&job).await.expect("ended");
    // Whoever commits a job that is gone may have committed it before.
    let gone = bulk(&other).commit_write(&job).await.expect_err("gone");
    assert_eq!((gone.kind, gone.code.as_str()), (FaultKind::Ambiguous, "JOB_GONE"));
}

#[tokio::test]
async fn a_job_that_never_began_has_changed_nothing() {
    for fault in [Fault::CutAfter, Fault::CutBefore, Fault::Html503] {
        for method in ["POST", "PUT"] {
            let org = org();
            let client = client(&org);
            client.check().await.expect("a session");
            org.fault(FaultRule::once(fault.clone()).method(method).path("/jobs/ingest"));
            let batch = batch(vec![create("a", Some("A"))]);
            let failed = bulk(&client).start_write(&batch).await.expect_err("no job");
            // Never ambiguous: it can be started anew.
            assert_eq!(failed.kind, FaultKind::Transient, "{method} {fault:?}: {failed}");
            org.finish_jobs();
            assert_eq!(org.count("Account"), 0);
            assert_eq!(short(&written(&org, &client, &batch).await), ["created"]);
        }
    }
}

#[tokio::test]
async fn a_session_that_ends_in_the_middle_of_a_job_is_renewed() {
    let org = org();
    let client = client(&org);
    let batch = batch(vec![create("a", Some("A"))]);
    for (method, path) in [
        ("PUT", "/batches"),
        ("PATCH", "/jobs/ingest"),
        ("GET", "/successfulResults"),
        ("DELETE", "/jobs/ingest"),
    ] {
        org.fault(FaultRule::once(Fault::ExpireSession).method(method).path(path));
    }
    let job = bulk(&client).start_write(&batch).await.expect("a job");
    bulk(&client).commit_write(&job).await.expect("committed");
    ended(&client, &job).await;
    assert_eq!(short(&bulk(&client).outcomes(&job, &batch).await.expect("outcomes")), ["created"]);
    bulk(&client).end(&job).await.expect("ended");
    let logins = org.calls().iter().filter(|call| call.path.ends_with("/token")).count();
    assert_eq!((logins, org.count("Account")), (5, 1));
}

#[tokio::test]
async fn no_secret_comes_back_in_the_reason_of_a_failure() {
    let org = org();
    let client = client(&org);
    let job = bulk(&client).start_read("Account", &[text("Name")]).await.expect("a job");
    let message = format!("InternalServerError : {} is wrong", org.client_secret());
    org.fault(FaultRule::once(Fault::FailJob { message }));
    let BulkState::Failed(why) = ended(&client, &job).await else { panic!("it did not fail") };
    assert_eq!(why.message, "InternalServerError : *** is wrong");
}

#[tokio::test]
async fn a_job_that_was_aborted_tells_what_was_done_and_what_was_not() {
    let org = org();
    let client = client(&org);
    org.set_bulk(BulkManners { polls: 2, ..BulkManners::default() });
    let many = batch((0..600).map(|n| create(&format!("k{n}"), Some("x"))).collect());
    let job = bulk(&client).start_write(&many).await.expect("a job");
    bulk(&client).commit_write(&job).await.expect("committed");
    assert_eq!(bulk(&client).state(&job).await, Ok(BulkState::Running { records: 200 }));
    let running = bulk(&client).end(&job).await.expect_err("under way");
    assert_eq!(running.code, "JOB_RUNNING");
    org.fault(FaultRule::once(Fault::FailJob { message: "TooManyLockFailure : 200".into() }));
    let BulkState::Failed(why) = bulk(&client).state(&job).await.expect("a state") else {
        panic!("it did not fail")
    };
    assert_eq!(why.kind, FaultKind::Transient);
    let outcomes = short(&bulk(&client).outcomes(&job, &many).await.expect("outcomes"));
    let done = outcomes.iter().filter(|outcome| *outcome == "created").count();
    let open = outcomes.iter().filter(|outcome| *outcome == "Transient UNABLE_TO_LOCK_ROW").count();
    assert_eq!((done, open, org.count("Account")), (400, 200, 400));
}

#[tokio::test]
async fn a_header_that_the_org_does_not_know_is_a_matter_of_the_schema() {
    let org = org();
    let client = client(&org);
    let mut batch = batch(vec![create("a", Some("A"))]);
    batch.columns[0].name = "Nothing__c".into();
    assert_eq!(short(&written(&org, &client, &batch).await), ["Schema INVALID_FIELD"]);
}

#[tokio::test]
async fn a_batch_of_which_nothing_can_be_sent_needs_no_job() {
    let org = org();
    let client = client(&org);
    let batch = batch(vec![create("", Some("A"))]);
    let before = client.calls();
    assert_eq!(short(&written(&org, &client, &batch).await), ["Refused MISSING_EXTERNAL_ID"]);
    assert_eq!(client.calls(), before);
}

/// More records than one page, one internal batch and one answer of the plain API.
#[tokio::test]
async fn tens_of_thousands_go_out_and_come_back() {
    const COUNT: usize = 25_000;
    let org = org();
    org.set_bulk(BulkManners { polls: 3, ..BulkManners::default() });
    let client = client(&org);
    let site = "x".repeat(60);
    let writes = (0..COUNT).map(|n| Write::Create {
        identity: Some(Identity { field: "External_Id__c".into(), value: format!("k{n}") }),
        fields: vec![(0, Some(format!("n{n}"))), (1, Some(site.clone()))],
    });
    let batch = batch(writes.collect());
    let job = bulk(&client).start_write(&batch).await.expect("a job");
    bulk(&client).commit_write(&job).await.expect("committed");
    assert_eq!(ended(&client, &job).await, BulkState::Complete { records: COUNT as u64 });
    let outcomes = bulk(&client).outcomes(&job, &batch).await.expect("outcomes");
    let ids: Vec<&String> = outcomes
        .iter()
        .map(|outcome| match &outcome.result {
            Ok(Done::Created { id }) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    let columns = [text("Name"), text("External_Id__c")];
    let job = bulk(&client).start_read("Account", &columns).await.expect("a job");
    ended(&client, &job).await;
    let read = rest(&client, &job, &columns, None, bulk(&client).limits().page_records).await;
    let names: std::collections::HashMap<&String, &Record> =
        read.iter().map(|record| (&record.id, record)).collect();
    assert_eq!(names.len(), COUNT);
    for (n, id) in ids.into_iter().enumerate() {
        let expected = [Some(format!("n{n}")), Some(format!("k{n}"))];
        assert_eq!(names[id].values, expected, "{id}");
    }
}

/// Again until it works, as the engine would, with nothing but the handle.
macro_rules! persist {
    ($call:expr, $fault:ident => $check:expr) => {{
        let mut tries = 0;
        loop {
            match $call.await {
                Ok(done) => break done,
                Err($fault) => {
                    $check;
                    tries += 1;
                    assert!(tries < 200, "{}", $fault);
                }
            }
        }
    }};
}

/// Whatever goes wrong on the way, each record is written once or not at all, and its outcome says which.
#[tokio::test]
async fn random_faults_neither_repeat_a_record_nor_misreport_it() {
    for seed in 0..12 {
        let org = org();
        org.set_bulk(BulkManners { polls: seed % 3, ..BulkManners::default() });
        let client = client(&org);
        org.campaign(Campaign {
            seed,
            error: 0.1,
            html503: 0.1,
            cut_before: 0.1,
            cut_after: 0.15,
            cut_during: 0.15,
            expire_session: 0.1,
            record: 0.1,
            ..Campaign::default()
        });
        let plain = |n: usize| Write::Create {
            identity: None,
            fields: vec![(0, Some(format!("n{n}"))), (1, Some("a \"b\",\nc".to_owned()))],
        };
        let batch = batch((0..300).map(plain).collect());
        let job = persist!(bulk(&client).start_write(&batch), fault => {
            // So that starting anew is never wrong.
            assert_ne!(fault.kind, FaultKind::Ambiguous, "{seed}: {fault}");
            assert_eq!(org.count("Account"), 0, "{seed}");
        });
        let handle = job.0;
        let job = BulkJob(handle);
        persist!(bulk(&client).commit_write(&job), fault => assert_ne!(fault.code, "JOB_GONE"));
        while !persist!(bulk(&client).state(&job), fault => assert_ne!(fault.code, "JOB_GONE"))
            .has_ended()
        {}
        let outcomes = persist!(bulk(&client).outcomes(&job, &batch), fault => assert_ne!(fault.code, "JOB_GONE"));
        org.clear_faults();
        let mut made = 0;
        for (n, outcome) in outcomes.iter().enumerate() {
            match &outcome.result {
                Ok(Done::Created { id }) => {
                    made += 1;
                    let record = org.get(id).expect("a record");
                    assert_eq!(record["Name"], format!("n{n}"), "{seed}");
                }
                Err(fault) => assert_eq!(fault.code, "UNABLE_TO_LOCK_ROW", "{seed}: {fault}"),
                other => panic!("{seed}: {other:?}"),
            }
        }
        assert_eq!(org.count("Account"), made, "{seed}");
        assert!((200..300).contains(&made), "{seed}: {made}");
    }
}

/// And a read through the same faults yields each record once.
#[tokio::test]
async fn random_faults_neither_lose_nor_repeat_what_is_read() {
    for seed in 0..12 {
        let org = org();
        let mut seeded = seed_names(&org, 120);
        let client = client(&org);
        org.campaign(Campaign {
            seed,
            error: 0.1,
            html503: 0.1,
            cut_before: 0.1,
            cut_after: 0.1,
            cut_during: 0.2,
            expire_session: 0.1,
            ..Campaign::default()
        });
        let columns = [text("Name")];
        let job = persist!(bulk(&client).start_read("Account", &columns), fault => assert_ne!(fault.kind, FaultKind::Ambiguous));
        while !persist!(bulk(&client).state(&job), fault => assert_ne!(fault.kind, FaultKind::Ambiguous))
            .has_ended()
        {}
        let (mut names, mut locator) = (Vec::new(), None::<String>);
        loop {
            let page = persist!(bulk(&client).page(&job, &columns, locator.as_deref(), Some(7)), fault => assert_ne!(fault.kind, FaultKind::Ambiguous));
            names.extend(page.records.into_iter().filter_map(|mut r| r.values.swap_remove(0)));
            locator = page.next;
            if locator.is_none() {
                break;
            }
        }
        names.sort_unstable();
        seeded.sort_unstable();
        assert_eq!(names, seeded, "{seed}");
    }
}

fn seed_names(org: &LocalOrg, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
    for name in &names {
        org.insert("Account", json!({ "Name": name })).expect("an account");
    }
    names
}
