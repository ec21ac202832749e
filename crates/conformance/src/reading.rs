//! What is promised of reads.

use crate::moment::milliseconds;
use crate::{NAME, Scratch, Verdict, beginning, delete, demand, mark_of, names, told};
use connector::{Mark, Record};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// So many ids may be asked for at once; records come in their order, nothing where there is none.
pub(crate) async fn fetched_in_order(s: &Scratch<'_>) -> Verdict {
    let most = s.connector.capabilities().max_fetch;
    let mut ids = s.make(&names("fetched", most)).await?;
    ids.reverse();
    let gone = ids.len() / 2;
    s.write(false, vec![delete(&ids[gone])]).await?;
    for (place, record) in s.fetch(&ids).await?.iter().enumerate() {
        let found = record.as_ref().map(|r| (&r.id, r.deleted));
        let wanted = (&ids[place], place == gone);
        let fits = found.map_or(place == gone, |found| found == wanted);
        demand!(fits, "{found:?} stands in the place of {wanted:?}");
    }
    Ok(())
}

/// Going through the object meets each record once, and can be taken up after any of them.
pub(crate) async fn listed_from_anywhere(s: &Scratch<'_>) -> Verdict {
    let ids = s.make(&names("listed", s.connector.capabilities().max_fetch + 3)).await?;
    s.write(false, vec![delete(&ids[1])]).await?;
    let all = list(s, None).await?;
    let listed: HashSet<&String> = all.iter().collect();
    demand!(listed.len() == all.len(), "a record was listed twice");
    demand!(!listed.contains(&ids[1]), "a deleted record is listed");
    let lacking = ids.iter().filter(|&id| *id != ids[1]).find(|id| !listed.contains(id));
    demand!(lacking.is_none(), "{lacking:?} is not listed");
    for place in [0, all.len() / 2, all.len() - 1] {
        let rest = list(s, Some(&all[place])).await?;
        demand!(rest == all[place + 1..], "after {} come {} records", all[place], rest.len());
    }
    Ok(())
}

async fn list(s: &Scratch<'_>, after: Option<&str>) -> Result<Vec<String>, String> {
    let (columns, mut after) = (s.columns(), after.map(str::to_owned));
    let mut all = Vec::new();
    loop {
        let page = s.connector.list(s.object, &columns, after.as_deref()).await.map_err(told)?;
        all.extend(page.records.into_iter().map(|record| record.id));
        if !page.more {
            return Ok(all);
        }
        after = all.last().cloned();
    }
}

/// Changes come in the order of their marks, each once, and go on at any mark; a mark without an id takes in
/// all of its moment.
pub(crate) async fn changes_from_anywhere(s: &Scratch<'_>) -> Verdict {
    let ids = s.make(&names("changed", s.connector.capabilities().max_write + 3)).await?;
    let all = s.changes(beginning()).await?;
    let marks: Vec<Mark> = all.iter().map(mark_of).collect();
    demand!(marks.is_sorted(), "the changes are out of order");
    let seen: HashSet<&str> = all.iter().map(|record| record.id.as_str()).collect();
    demand!(seen.len() == all.len(), "a record is there twice");
    let lacking = ids.iter().find(|id| !seen.contains(id.as_str()));
    demand!(lacking.is_none(), "{lacking:?} is not among the changes");
    for place in [0, all.len() / 2, all.len() - 1] {
        let rest = s.changes(marks[place].clone()).await?;
        demand!(
            rest.iter().map(mark_of).eq(marks[place + 1..].iter().cloned()),
            "after {:?} come {} changes, not {}",
            marks[place],
            rest.len(),
            all.len() - place - 1
        );
        let moment = Mark { at: marks[place].at.clone(), id: String::new() };
        let first = marks.iter().position(|mark| mark.at == moment.at).unwrap_or(place);
        let rest = s.changes(moment).await?;
        demand!(
            rest.len() == all.len() - first,
            "a moment without its own records: {} of {}",
            rest.len(),
            all.len() - first
        );
    }
    Ok(())
}

/// Deleted records are among the changes, or never.
pub(crate) async fn deletes_among_changes(s: &Scratch<'_>) -> Verdict {
    let ids = s.make(&names("vanishing", 2)).await?;
    let since = Mark { at: s.one(&ids[0]).await?.version, id: String::new() };
    s.write(false, vec![delete(&ids[0])]).await?;
    s.other.delete(&ids[1]);
    let changes = s.changes(since).await?;
    let sees = s.connector.capabilities().sees_deletes;
    for id in &ids {
        let told: Vec<&Record> = changes.iter().filter(|r| r.id == *id && r.deleted).collect();
        demand!(told.len() == usize::from(sees), "{id} was deleted, and the changes tell {told:?}");
        let fetched = s.fetch(std::slice::from_ref(id)).await?.pop().flatten();
        demand!(fetched.is_some() == sees, "{id} was deleted, and is fetched as {fetched:?}");
        let columns = s.columns().len();
        let whole = |r: &&Record| r.values.is_empty() || r.values.len() == columns;
        demand!(told.iter().all(whole), "a deleted record has some of its values: {told:?}");
    }
    Ok(())
}

/// What becomes visible late is not further behind than said.
pub(crate) async fn late_records(s: &Scratch<'_>) -> Verdict {
    let Some(id) = s.other.insert_late("late", Duration::from_millis(2500)) else { return Ok(()) };
    // Marks may have whole seconds.
    std::thread::sleep(Duration::from_millis(1200));
    let before = s.one(&s.other.insert("in time")).await?.version;
    let wanted = [id];
    demand!(s.fetch(&wanted).await?[0].is_none(), "what comes late was there at once");
    let deadline = Instant::now() + Duration::from_secs(30);
    let late = loop {
        if let Some(record) = s.fetch(&wanted).await?.pop().flatten() {
            break record.version;
        }
        demand!(Instant::now() < deadline, "what comes late never came");
        std::thread::sleep(Duration::from_millis(100));
    };
    let (Some(seen), Some(came)) = (milliseconds(&before), milliseconds(&late)) else {
        return Err(format!("{before} or {late} is no moment"));
    };
    let overlap = i64::from(s.connector.capabilities().overlap_seconds) * 1000;
    demand!(seen - came <= overlap, "{late} became visible after {before} had been read");
    Ok(())
}

/// The records of these values are found, those of no other.
pub(crate) async fn found_by_value(s: &Scratch<'_>) -> Verdict {
    let names = names("found", 5);
    let ids = s.make(&names).await?;
    let columns = s.columns();
    let wanted = [names[1].clone(), names[3].clone(), "nobody's".to_owned()];
    let found = s.connector.find(s.object, &columns, &s.name.name, &wanted).await.map_err(told)?;
    let found: HashSet<(String, Option<String>)> =
        found.into_iter().map(|mut r| (r.id, r.values.swap_remove(NAME))).collect();
    let expected = [1, 3].map(|n| (ids[n].clone(), Some(names[n].clone()))).into_iter().collect();
    demand!(found == expected, "{found:?}, not {expected:?}");
    Ok(())
}

/// What this user made since a moment, and nothing that another made.
pub(crate) async fn own_records_since(s: &Scratch<'_>) -> Verdict {
    let ids = s.make(&names("own", 3)).await?;
    let others = s.other.insert("another's");
    let since = s.one(&ids[0]).await?.version;
    let columns = s.columns();
    let made = s.connector.created_since(s.object, &columns, &since).await.map_err(told)?;
    let made: HashSet<&str> = made.iter().map(|record| record.id.as_str()).collect();
    let lacking = ids.iter().find(|id| !made.contains(id.as_str()));
    demand!(lacking.is_none(), "{lacking:?} is not among those made since {since}");
    demand!(!made.contains(others.as_str()), "another user's record is among them");
    Ok(())
}
