//! What is promised of bulk jobs, where there are any.

use crate::{NAME, NOTE, Scratch, Verdict, create, delete, demand, names, told, update};
use connector::{
    Bulk, BulkJob, BulkState, Done, FaultKind, Outcome, Record, Write, WriteBatch, bulk,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A job that has not ended by then is taken for one that never will.
const PATIENCE: Duration = Duration::from_secs(1800);

async fn ended(jobs: &dyn Bulk, job: &BulkJob) -> Result<BulkState, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = 0;
    loop {
        let state = jobs.state(job).await.map_err(told)?;
        if state.has_ended() {
            return Ok(state);
        }
        demand!(Instant::now() < deadline, "the job does not end: {state:?}");
        // The first looks are quick ones, for jobs that end at once.
        looks += 1;
        if looks > 3 {
            std::thread::sleep(bulk::pause(looks - 3));
        }
    }
}

async fn started(s: &Scratch<'_>, jobs: &dyn Bulk) -> Result<BulkJob, String> {
    let job = jobs.start_read(s.object, &s.columns()).await.map_err(told)?;
    match ended(jobs, &job).await? {
        BulkState::Complete { .. } => Ok(job),
        other => Err(format!("the job ended as {other:?}")),
    }
}

/// From a locator on, page by page.
async fn pages(
    s: &Scratch<'_>,
    jobs: &dyn Bulk,
    job: &BulkJob,
    mut locator: Option<String>,
    most: usize,
) -> Result<Vec<(Option<String>, Vec<Record>)>, String> {
    let mut all = Vec::new();
    loop {
        let page = jobs.page(job, &s.columns(), locator.as_deref(), Some(most)).await;
        let page = page.map_err(told)?;
        demand!(page.records.len() <= most, "{} records, not {most}", page.records.len());
        all.push((page.next.clone(), page.records));
        locator = page.next;
        if locator.is_none() {
            return Ok(all);
        }
    }
}

fn by_id(records: impl IntoIterator<Item = Record>) -> Result<HashMap<String, Record>, String> {
    let mut found = HashMap::new();
    for record in records {
        let id = record.id.clone();
        demand!(found.insert(id.clone(), record).is_none(), "{id} was read twice");
    }
    Ok(found)
}

/// A job reads what going through the object does, in the same texts, and can be taken up at any page.
pub(crate) async fn reads_what_listing_does(s: &Scratch<'_>) -> Verdict {
    let Some(jobs) = s.connector.bulk() else { return Ok(()) };
    let ids = s.make(&names("in bulk", 23)).await?;
    s.write(false, vec![update(&ids[0], NOTE, Some("a \"note\", of\ntwo lines")), delete(&ids[1])])
        .await?;
    let job = started(s, jobs).await?;
    let mut listed = Vec::new();
    loop {
        let after = listed.last().map(|record: &Record| record.id.clone());
        let page =
            s.connector.list(s.object, &s.columns(), after.as_deref()).await.map_err(told)?;
        listed.extend(page.records);
        if !page.more {
            break;
        }
    }
    let most = listed.len() / 3 + 1;
    let read = pages(s, jobs, &job, None, most).await?;
    let all = by_id(read.iter().flat_map(|(_, records)| records.clone()))?;
    let listed = by_id(listed)?;
    let differs = listed.iter().find(|(id, record)| all.get(*id) != Some(record));
    demand!(
        differs.is_none(),
        "{differs:?} is {:?} in bulk",
        differs.and_then(|(id, _)| all.get(id))
    );
    demand!(all.len() == listed.len(), "{} records in bulk, {} listed", all.len(), listed.len());
    // The handle as it would come out of a store.
    let job = BulkJob(job.0.clone());
    let again = pages(s, jobs, &job, read[0].0.clone(), most).await?;
    demand!(again == read[1..], "from the second page on, other records come");
    Ok(())
}

/// The pages that are listed hold each record once.
pub(crate) async fn listed_pages_are_all(s: &Scratch<'_>) -> Verdict {
    let Some(jobs) = s.connector.bulk() else { return Ok(()) };
    let ids = s.make(&names("in pages", 9)).await?;
    let job = started(s, jobs).await?;
    let (mut records, mut from) = (Vec::new(), None);
    loop {
        let pages = match jobs.pages(&job, from.as_deref()).await {
            Err(fault) if fault.code == "NOT_SERVED" => return Ok(()),
            pages => pages.map_err(told)?,
        };
        for locator in &pages.locators {
            let page = jobs.page(&job, &s.columns(), Some(locator), None).await.map_err(told)?;
            records.extend(page.records);
        }
        from = pages.next;
        if from.is_none() {
            break;
        }
    }
    let records = by_id(records)?;
    let lacking = ids.iter().find(|id| !records.contains_key(*id));
    demand!(lacking.is_none(), "{lacking:?} is on no page");
    Ok(())
}

fn batch(s: &Scratch<'_>, writes: Vec<Write>) -> WriteBatch {
    WriteBatch { object: s.object.into(), columns: s.columns(), read_before: false, writes }
}

async fn written(
    s: &Scratch<'_>,
    jobs: &dyn Bulk,
    writes: Vec<Write>,
) -> Result<Vec<Outcome>, String> {
    let batch = batch(s, writes);
    let job = jobs.start_write(&batch).await.map_err(told)?;
    jobs.commit_write(&job).await.map_err(told)?;
    ended(jobs, &job).await?;
    let outcomes = jobs.outcomes(&job, &batch).await.map_err(told)?;
    demand!(
        outcomes.len() == batch.writes.len(),
        "{} outcomes of {} writes",
        outcomes.len(),
        batch.writes.len()
    );
    Ok(outcomes)
}

/// Outcomes stand in the order of the records, whatever the order in which they were carried out.
pub(crate) async fn outcomes_in_order(s: &Scratch<'_>) -> Verdict {
    let Some(jobs) = s.connector.bulk() else { return Ok(()) };
    let names = names("job", 7);
    let mut writes: Vec<Write> = names.iter().map(|name| create(None, name)).collect();
    // A record without the text that every record has to have.
    writes.insert(3, Write::Create { identity: None, fields: vec![(NAME, None)] });
    let mut outcomes = written(s, jobs, writes).await?;
    let refused = outcomes.remove(3).result;
    let kind = refused.as_ref().err().map(|fault| fault.kind);
    demand!(kind == Some(FaultKind::Refused), "a record without a name: {refused:?}");
    let mut ids = Vec::new();
    for (outcome, name) in outcomes.iter().zip(&names) {
        let Ok(Done::Created { id }) = &outcome.result else {
            return Err(format!("{name} came back as {:?}", outcome.result));
        };
        let held = s.one(id).await?;
        demand!(held.values[NAME].as_ref() == Some(name), "the outcome of {name} is {held:?}");
        ids.push(id.clone());
    }
    let writes = ids[..2].iter().map(|id| update(id, NOTE, Some("changed"))).collect();
    for (outcome, id) in written(s, jobs, writes).await?.iter().zip(&ids) {
        demand!(outcome.result == Ok(Done::Updated { id: id.clone() }), "{id}: {outcome:?}");
        let held = s.one(id).await?;
        let both = [&held.values[NAME], &held.values[NOTE]].iter().all(|value| value.is_some());
        demand!(both, "not named, and became {held:?}");
    }
    s.write(false, vec![delete(&ids[0])]).await?;
    let gone = written(s, jobs, ids[..2].iter().map(|id| delete(id)).collect()).await?;
    let done: Vec<_> = gone.into_iter().map(|outcome| outcome.result).collect();
    demand!(done == [Ok(Done::Gone), Ok(Done::Deleted)], "deleted twice, and once: {done:?}");
    Ok(())
}

/// Nothing is carried out before the commit; commit and outcomes can be repeated by whoever has the handle.
pub(crate) async fn begins_with_the_commit(s: &Scratch<'_>) -> Verdict {
    let Some(jobs) = s.connector.bulk() else { return Ok(()) };
    let name = "committed";
    let batch = batch(s, vec![create(None, name)]);
    let job = jobs.start_write(&batch).await.map_err(told)?;
    let state = jobs.state(&job).await.map_err(told)?;
    demand!(state == BulkState::Open, "not committed, and is {state:?}");
    let wanted = [name.to_owned()];
    let count = async || {
        let found = s.connector.find(s.object, &s.columns(), &s.name.name, &wanted).await;
        found.map(|found| found.len()).map_err(told)
    };
    demand!(count().await? == 0, "written before the commit");
    let early = jobs.outcomes(&job, &batch).await;
    demand!(early.is_err(), "outcomes before the commit: {early:?}");
    jobs.commit_write(&job).await.map_err(told)?;
    let job = BulkJob(job.0.clone());
    jobs.commit_write(&job).await.map_err(told)?;
    ended(jobs, &job).await?;
    jobs.commit_write(&job).await.map_err(told)?;
    let first = jobs.outcomes(&job, &batch).await.map_err(told)?;
    let second = jobs.outcomes(&job, &batch).await.map_err(told)?;
    demand!(first == second, "{first:?}, and then {second:?}");
    let made = count().await?;
    demand!(made == 1, "committed three times, and made {made} records");
    jobs.end(&job).await.map_err(told)?;
    jobs.end(&job).await.map_err(told)?;
    let state = jobs.state(&job).await.map_err(told)?;
    demand!(state == BulkState::Gone, "put away, and is {state:?}");
    Ok(())
}
