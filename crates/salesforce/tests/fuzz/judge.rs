//! What may come of a call, by what the server sent.

use std::collections::HashSet;

use connector::{Before, Done, Fault, FaultKind, Outcome, Record, Write, WriteBatch};
use serde_json::Value;

use crate::org;
use crate::spoil::Spoiled;

pub(crate) enum Verdict {
    /// Whatever it is, it is told.
    Told(Option<Fault>),
    /// These names came out.
    Named(Result<Vec<String>, Fault>),
    /// Records that have to be all there are.
    All(Result<Vec<Record>, Fault>),
    Fetched(Result<Vec<Option<Record>>, Fault>),
    Written {
        batch: WriteBatch,
        outcomes: Result<Vec<Outcome>, Fault>,
    },
    OfJob {
        batch: WriteBatch,
        outcomes: Result<Vec<Outcome>, Fault>,
    },
}

/// What an answer says of one record that was written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Done,
    Refused,
    Nothing,
}

impl Verdict {
    pub(crate) fn of<T>(result: Result<T, Fault>) -> Self {
        Self::Told(result.err())
    }

    pub(crate) fn named<T>(result: Result<Vec<T>, Fault>, name: impl Fn(&T) -> &String) -> Self {
        Self::Named(result.map(|all| all.iter().map(|one| name(one).clone()).collect()))
    }

    pub(crate) fn all(result: Result<Vec<Record>, Fault>) -> Self {
        Self::All(result)
    }

    /// What is wrong with it.
    pub(crate) fn wrong(&self, spoiled: Option<&Spoiled>) -> Option<String> {
        let fault = match self {
            Self::Told(fault) => fault.as_ref(),
            Self::Named(result) => result.as_ref().err(),
            Self::All(result) => result.as_ref().err(),
            Self::Fetched(result) => result.as_ref().err(),
            Self::Written { outcomes, .. } | Self::OfJob { outcomes, .. } => {
                outcomes.as_ref().err()
            }
        };
        if let Some(fault) = fault {
            return says_nothing(fault).or_else(|| match self {
                _ if spoiled.is_none() => Some(format!("a fault without a reason: {fault:?}")),
                Self::Written { batch, .. } => {
                    // The whole of it failed: then it was carried out, as far as anybody knows, or was not.
                    let said = said(batch, spoiled);
                    let clear = fault.kind == FaultKind::Ambiguous || said[0] == Said::Refused;
                    (!clear).then(|| format!("{said:?} and {fault:?}"))
                }
                _ => None,
            });
        }
        match self {
            Self::Named(Ok(names)) if names.iter().any(String::is_empty) => {
                Some("something has no name".to_owned())
            }
            // One thing that is wrong never makes fewer or more.
            Self::All(Ok(records)) if records.len() != org::ids().len() => {
                Some(format!("{} records and no fault", records.len()))
            }
            Self::Fetched(Ok(records)) => fetched(records, spoiled),
            Self::Written { batch, outcomes: Ok(outcomes) } => {
                written(batch, outcomes, &said(batch, spoiled))
            }
            Self::OfJob { batch, outcomes: Ok(outcomes) } => {
                let said = outcomes.iter().map(|outcome| match &outcome.result {
                    Ok(_) => Said::Done,
                    Err(_) => Said::Nothing,
                });
                written(batch, outcomes, &said.collect::<Vec<_>>())
            }
            _ => None,
        }
    }
}

fn says_nothing(fault: &Fault) -> Option<String> {
    let short = fault.message.chars().count() <= 1100 && fault.code.len() <= 500;
    let wrong = fault.code.is_empty() || fault.message.is_empty() || !short;
    wrong.then(|| format!("a fault that says nothing, or too much: {fault:?}"))
}

/// A status that comes with a body, and the body as JSON.
fn json(spoiled: &Spoiled) -> Option<Value> {
    let answer = spoiled.answer.as_ref()?;
    let has_body = matches!(answer.status, 200 | 202 | 206);
    serde_json::from_slice(&answer.body).ok().filter(|_| has_body)
}

fn fetched(records: &[Option<Record>], spoiled: Option<&Spoiled>) -> Option<String> {
    let ids = org::ids();
    if records.len() != ids.len() {
        return Some(format!("{} answers to {} ids", records.len(), ids.len()));
    }
    let rows = spoiled.and_then(json);
    for (place, (record, id)) in records.iter().zip(&ids).enumerate() {
        match record {
            Some(record) if record.id != *id => return Some(format!("{} for {id}", record.id)),
            Some(_) => {}
            None => {
                // It has to say so itself: that there is nothing, or that it is deleted.
                let row = rows.as_ref().and_then(|rows| rows.get(place));
                let gone = row.is_some_and(|row| {
                    row.is_null() || row.get("IsDeleted") == Some(&Value::Bool(true))
                });
                if !gone {
                    return Some(format!("{id} is taken for deleted"));
                }
            }
        }
    }
    None
}

/// What the spoiled answer says of each record.
fn said(batch: &WriteBatch, spoiled: Option<&Spoiled>) -> Vec<Said> {
    let count = batch.writes.len();
    let Some(spoiled) = spoiled else { return vec![Said::Done; count] };
    if let Some(answer) = &spoiled.answer
        && matches!(answer.status, 300..=499)
    {
        return vec![Said::Refused; count];
    }
    let Some(body) = json(spoiled) else { return vec![Said::Nothing; count] };
    let rows = if batch.read_before {
        let parts = body.get("compositeResponse").and_then(Value::as_array);
        let Some([_, part]) = parts.map(Vec::as_slice) else { return vec![Said::Nothing; count] };
        match part.get("httpStatusCode").and_then(Value::as_u64) {
            Some(200..=299) => part.get("body").cloned().unwrap_or_default(),
            Some(300..=499) => return vec![Said::Refused; count],
            _ => return vec![Said::Nothing; count],
        }
    } else {
        body
    };
    let Some(rows) = rows.as_array().filter(|rows| rows.len() == count) else {
        return vec![Said::Nothing; count];
    };
    let of_row = |(row, write): (&Value, &Write)| match row.get("success") {
        Some(Value::Bool(false)) => Said::Refused,
        Some(Value::Bool(true)) => {
            let id = row.get("id").and_then(Value::as_str);
            match write {
                Write::Update { id: own, .. } | Write::Delete { id: own }
                    if id.is_some_and(|id| id != own) =>
                {
                    Said::Nothing
                }
                _ => Said::Done,
            }
        }
        _ => Said::Nothing,
    };
    rows.iter().zip(&batch.writes).map(of_row).collect()
}

fn written(batch: &WriteBatch, outcomes: &[Outcome], said: &[Said]) -> Option<String> {
    if outcomes.len() != batch.writes.len() {
        return Some(format!("{} outcomes", outcomes.len()));
    }
    let mut made = HashSet::new();
    for ((write, outcome), said) in batch.writes.iter().zip(outcomes).zip(said) {
        let wrong = || Some(format!("{said:?} of {write:?}, and it came to {outcome:?}"));
        let own = match write {
            Write::Update { id, .. } | Write::Delete { id } => Some(id),
            Write::Create { .. } => None,
        };
        match (&outcome.result, said) {
            (Err(fault), _) if says_nothing(fault).is_some() => return says_nothing(fault),
            (Err(fault), Said::Done | Said::Nothing) if fault.kind != FaultKind::Ambiguous => {
                return wrong();
            }
            (Ok(Done::Gone), Said::Refused) | (Err(_), _) => {}
            (Ok(_), Said::Nothing | Said::Refused) => return wrong(),
            (Ok(Done::Deleted), _) if matches!(write, Write::Delete { .. }) => {}
            (Ok(Done::Updated { id }), _) if own.is_some_and(|own| own == id) => {}
            (Ok(Done::Created { id } | Done::Updated { id }), _) if own.is_none() => {
                if id.len() != 18 || !made.insert(id) {
                    return wrong();
                }
            }
            (Ok(_), _) => return wrong(),
        }
        if let (Before::There(record), Some(own)) = (&outcome.before, own)
            && record.id != *own
        {
            return wrong();
        }
    }
    None
}
