//! Which records changed and which went, by the time at which they did (REST API guide, sObject Get Updated and
//! sObject Get Deleted).

use super::known;
use crate::exchange::{Answer, Request};
use crate::moment::{self, Millis};
use crate::org::Org;
use crate::{ApiError, moment::DAY};
use serde_json::{Value, json};

const MINUTE: Millis = 60_000;
const MOST_IDS: usize = 600_000;

/// How far back one can ask.
const UPDATED_DAYS: i64 = 30;
const DELETED_DAYS: i64 = 15;

/// From `start` on and before `end`, in whole minutes.
struct Range {
    start: String,
    end: String,
    covered: String,
}

fn range(org: &mut Org, request: &Request, days: i64) -> Result<Range, ApiError> {
    let wrong = |message: String| ApiError::new(400, "INVALID_REPLICATION_DATE", message);
    let at = |name: &str| {
        let text = request.parameter(name).ok_or_else(|| {
            ApiError::new(400, "MISSING_ARGUMENT", format!("Missing required parameter: {name}"))
        })?;
        let at = moment::moment(text, false);
        let at = at.ok_or_else(|| wrong(format!("{name} is no date and time: {text}")))?;
        Ok(at.div_euclid(MINUTE) * MINUTE)
    };
    let (start, end) = (at("start")?, at("end")?);
    if end - start < MINUTE {
        return Err(wrong("startDate must be more than one minute before endDate".into()));
    }
    let now = org.clock.now();
    if start < now - days * DAY || end - start > days * DAY {
        return Err(wrong(format!("startDate cannot be more than {days} days ago")));
    }
    // What others have written and not committed yet will appear with the stamp that it has already.
    let waiting = org.pending.iter().map(|pending| pending.row.stamp().to_owned()).min();
    let covered = moment::text(end.min(now.div_euclid(1000) * 1000));
    let covered = waiting.map_or(covered.clone(), |stamp| stamp.min(covered));
    Ok(Range { start: moment::text(start), end: moment::text(end), covered })
}

pub(super) fn updated(org: &mut Org, request: &Request, object: &str) -> Result<Answer, ApiError> {
    let object = known(org, object)?;
    let range = range(org, request, UPDATED_DAYS)?;
    let rows = org.table(&object).into_iter().flat_map(|table| table.since(&range.start));
    let rows = rows.take_while(|row| row.stamp() < range.end.as_str()).filter(|row| !row.deleted);
    let ids: Vec<Value> = rows.map(|row| row.id.clone().into()).collect();
    if ids.len() > MOST_IDS {
        let message = format!("More than {MOST_IDS} records were updated in this time");
        return Err(ApiError::new(400, "EXCEEDED_ID_LIMIT", message));
    }
    Ok(Answer::json(200, json!({"ids": ids, "latestDateCovered": range.covered})))
}

pub(super) fn deleted(org: &mut Org, request: &Request, object: &str) -> Result<Answer, ApiError> {
    let object = known(org, object)?;
    let range = range(org, request, DELETED_DAYS)?;
    let earliest = moment::text(org.clock.now().div_euclid(1000) * 1000 - DELETED_DAYS * DAY);
    let rows = org.table(&object).into_iter().flat_map(|table| table.since(&range.start));
    let in_bin = rows.filter(|row| row.deleted).map(|row| (row.stamp(), row.id.as_str()));
    let purged = org.purged.iter().filter(|gone| gone.object == object);
    let purged = purged.map(|gone| (gone.stamp.as_str(), gone.id.as_str()));
    let mut gone: Vec<(&str, &str)> = in_bin
        .chain(purged)
        .filter(|(stamp, _)| (range.start.as_str()..range.end.as_str()).contains(stamp))
        .collect();
    gone.sort_unstable();
    let records: Vec<Value> =
        gone.iter().map(|(stamp, id)| json!({"id": id, "deletedDate": stamp})).collect();
    Ok(Answer::json(
        200,
        json!({
            "deletedRecords": records,
            "earliestDateAvailable": earliest,
            "latestDateCovered": range.covered,
        }),
    ))
}
