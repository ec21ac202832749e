use std::collections::{HashMap, HashSet};

use connector::{Before, Column, Done, Fault, FaultKind, Kind, Outcome, Record, Write, WriteBatch};
use egress::{Method, StatusCode};
use serde_json::{Value, json};

use crate::call::Call;
use crate::client::Salesforce;
use crate::plan::{CallPlan, Item, Plan, Step, Verb};
use crate::read::{is_done, page, retrieve_body, retrieved};
use crate::{id, json, parents, refusal, soql};

/// What came of one call.
struct Carried {
    /// The state of the records just before, by id; `None` where it was not read.
    before: Option<HashMap<String, Option<Record>>>,
    /// Of each step: one result for each of its records, or why it was refused as a whole.
    steps: Vec<Result<Vec<Value>, Fault>>,
    request_id: Option<String>,
}

impl Salesforce {
    pub(crate) async fn write_batch(&self, batch: &WriteBatch) -> Result<Vec<Outcome>, Fault> {
        let mut plan = Plan::new(batch)?;
        let mut results: Vec<Option<Result<Done, Fault>>> = vec![None; batch.writes.len()];
        let mut befores = vec![Before::NotRead; batch.writes.len()];
        for (place, fault) in std::mem::take(&mut plan.refused) {
            results[place] = Some(Err(fault));
        }
        let mut sent = false;
        while let Some(call) = plan.calls.pop_front() {
            let carried = match self.carry(batch, &call).await {
                Ok(carried) => carried,
                Err(fault) if !sent && fault.kind != FaultKind::Ambiguous => return Err(fault),
                Err(fault) => {
                    for item in call.steps.iter().flat_map(|step| &step.items) {
                        results[item.place] = Some(Err(fault.clone()));
                    }
                    let rest = not_sent(fault);
                    for result in results.iter_mut().filter(|result| result.is_none()) {
                        *result = Some(Err(rest.clone()));
                    }
                    break;
                }
            };
            sent = true;
            let session = self.logins.lock().await.session.clone();
            for (step, answer) in call.steps.iter().zip(carried.steps) {
                for item in &step.items {
                    if let Some(before) = before(&carried.before, item) {
                        befores[item.place] = before;
                    }
                }
                match answer {
                    Ok(rows) => {
                        for (item, row) in step.items.iter().zip(&rows) {
                            let done = result(batch, &step.verb, item, row, &befores[item.place]);
                            results[item.place] = Some(done.map_err(|mut fault| {
                                fault.about.request_id.clone_from(&carried.request_id);
                                self.redacted(fault, session.as_deref())
                            }));
                        }
                    }
                    Err(fault) if fault.code == "JSON_PARSER_ERROR" && plan.split(step) => {}
                    Err(mut fault) => {
                        fault.about.request_id.clone_from(&carried.request_id);
                        let fault = self.redacted(fault, session.as_deref());
                        for item in &step.items {
                            results[item.place] = Some(Err(fault.clone()));
                        }
                    }
                }
            }
        }
        refuse_doubles(results.iter_mut().flatten());
        let missing = || Err(Fault::new(FaultKind::Defect, "NOT_SENT", "a record was forgotten"));
        let outcomes = results.into_iter().zip(befores);
        Ok(outcomes
            .map(|(result, before)| Outcome { result: result.unwrap_or_else(missing), before })
            .collect())
    }

    /// Sends one call: a plain request of the collections API where that is enough, since it is
    /// simpler for the org, else a composite one.
    async fn carry(&self, batch: &WriteBatch, plan: &CallPlan) -> Result<Carried, Fault> {
        match plan.alone() {
            Some(step) => self.carry_plain(batch, step, plan.read).await,
            None => self.carry_composite(batch, plan).await,
        }
    }

    async fn carry_plain(
        &self,
        batch: &WriteBatch,
        step: &Step,
        read: bool,
    ) -> Result<Carried, Fault> {
        let ids: Vec<String> = step.items.iter().filter_map(|item| item.id.clone()).collect();
        let before = if read && !ids.is_empty() {
            let found = self.living_records(&batch.object, &batch.columns, &ids).await?;
            Some(ids.into_iter().zip(found).collect())
        } else {
            None
        };
        let (method, path, body) = self.request_of(batch, step);
        match self.send_write(Call::write(method, path, body)).await {
            Ok((body, request_id)) => {
                let steps = vec![rows(StatusCode::OK, &body, step.items.len())];
                Ok(Carried { before, steps, request_id })
            }
            Err(fault) if fault.is_of_connection() => Err(fault),
            Err(fault) => {
                let request_id = fault.about.request_id.clone();
                Ok(Carried { before, steps: vec![Err(of_step(fault))], request_id })
            }
        }
    }

    async fn carry_composite(&self, batch: &WriteBatch, plan: &CallPlan) -> Result<Carried, Fault> {
        let ids: Vec<String> = match plan.read {
            true => plan.steps.iter().flat_map(|s| &s.items).filter_map(|i| i.id.clone()).collect(),
            false => Vec::new(),
        };
        let mut requests = Vec::new();
        if plan.read {
            requests.push(self.reading(batch, &ids)?);
        }
        for (place, step) in plan.steps.iter().enumerate() {
            let (method, url, body) = self.request_of(batch, step);
            let mut request = json!({ "method": method.as_str(), "url": url, "referenceId": format!("step{place}") });
            if let Some(body) = body {
                request["body"] = body;
            }
            requests.push(request);
        }
        // One after the other and in this order: the reading has to come before what is written.
        let body = json!({ "allOrNone": false, "collateSubrequests": false, "compositeRequest": requests });
        let call = Call::write(Method::POST, self.path("/composite"), Some(body));
        let count = requests.len();
        let (answer, request_id) = match self.send_write(call).await {
            Ok(answer) => answer,
            Err(fault) if fault.is_of_connection() => return Err(fault),
            Err(fault) => {
                let request_id = fault.about.request_id.clone();
                let steps = plan.steps.iter().map(|_| Err(of_step(fault.clone()))).collect();
                return Ok(Carried { before: None, steps, request_id });
            }
        };
        let answers = answer.get("compositeResponse").and_then(Value::as_array);
        let Some(answers) = answers.filter(|answers| answers.len() == count) else {
            return Err(unclear(request_id));
        };
        let (first, others) = answers.split_at(usize::from(plan.read));
        let before = first.first().and_then(|answer| {
            let body = answer.get("body").filter(|_| status(answer).is_success())?;
            if soql::has_of_parents(&batch.columns) {
                return queried(&batch.columns, ids, body);
            }
            let found = retrieved(&batch.columns, &ids, body).ok()?;
            Some(ids.into_iter().zip(found).collect())
        });
        let steps = plan.steps.iter().zip(others).map(|(step, answer)| {
            rows(status(answer), answer.get("body").unwrap_or(&Value::Null), step.items.len())
        });
        Ok(Carried { before, steps: steps.collect(), request_id })
    }

    /// The part of a composite request that reads the records first.
    fn reading(&self, batch: &WriteBatch, ids: &[String]) -> Result<Value, Fault> {
        if soql::has_of_parents(&batch.columns) {
            let query = soql::by_ids(&batch.object, &[], &batch.columns, ids)?;
            let url = self.query_path("/query", &query);
            return Ok(json!({ "method": "GET", "url": url, "referenceId": "before" }));
        }
        let (url, body) = (self.retrieve_path(&batch.object)?, retrieve_body(&batch.columns, ids)?);
        Ok(json!({ "method": "POST", "url": url, "referenceId": "before", "body": body }))
    }

    pub(crate) async fn send_write(&self, call: Call) -> Result<(Value, Option<String>), Fault> {
        let answer = self.answer(&call).await?;
        let request_id = refusal::request_id(&answer.headers);
        match json::read(&answer.body) {
            Some(body) => Ok((body, request_id)),
            None => Err(unclear(request_id)),
        }
    }

    /// The request of the collections API that a step is (REST API guide, sObject Collections).
    fn request_of(&self, batch: &WriteBatch, step: &Step) -> (Method, String, Option<Value>) {
        let records = || {
            let records: Vec<&Value> = step.items.iter().map(|item| &item.record).collect();
            Some(json!({ "allOrNone": false, "records": records }))
        };
        let path = self.path("/composite/sobjects");
        match &step.verb {
            Verb::Delete => {
                let ids: Vec<&str> =
                    step.items.iter().filter_map(|item| item.id.as_deref()).collect();
                (Method::DELETE, format!("{path}?ids={}&allOrNone=false", ids.join(",")), None)
            }
            Verb::Update => (Method::PATCH, path, records()),
            Verb::Create => (Method::POST, path, records()),
            Verb::Upsert(field) => {
                (Method::PATCH, format!("{path}/{}/{field}", batch.object), records())
            }
        }
    }
}

/// The records that a query found. Of those that it did not, nothing is known before its last page.
fn queried(
    columns: &[Column],
    ids: Vec<String>,
    body: &Value,
) -> Option<HashMap<String, Option<Record>>> {
    let records = page(columns, body).ok()?.records;
    let done = is_done(body).ok()?;
    let asked: HashSet<&str> = ids.iter().map(String::as_str).collect();
    if records.iter().any(|record| !asked.contains(record.id.as_str())) {
        return None;
    }
    let missing = ids.into_iter().filter(|_| done).map(|id| (id, None));
    let mut before: HashMap<String, Option<Record>> = missing.collect();
    before.extend(records.into_iter().map(|record| (record.id.clone(), Some(record))));
    Some(before)
}

fn before(read: &Option<HashMap<String, Option<Record>>>, item: &Item) -> Option<Before> {
    let found = read.as_ref()?.get(item.id.as_ref()?)?;
    Some(found.clone().map_or(Before::Missing, Before::There))
}

/// The status of one part of a composite answer.
pub(crate) fn status(answer: &Value) -> StatusCode {
    let code = answer.get("httpStatusCode").and_then(Value::as_u64).unwrap_or_default();
    u16::try_from(code)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok())
        .unwrap_or(StatusCode::BAD_GATEWAY)
}

/// The results of a step, one for each record; or why the whole of it was refused.
fn rows(status: StatusCode, body: &Value, count: usize) -> Result<Vec<Value>, Fault> {
    if status.is_success() {
        return match body.as_array() {
            Some(rows) if rows.len() == count => Ok(rows.clone()),
            _ => Err(unclear(None)),
        };
    }
    let fault = of_step(refusal::of_body(status, body));
    let gave_up = matches!(fault.code.as_str(), "REQUEST_RUNNING_TOO_LONG" | "UNKNOWN_EXCEPTION");
    if status.is_server_error() || gave_up {
        return Err(Fault { kind: FaultKind::Ambiguous, ..fault });
    }
    Err(fault)
}

/// The org says that it was carried out, and not what.
pub(crate) fn unclear(request_id: Option<String>) -> Fault {
    let mut fault = Fault::new(
        FaultKind::Ambiguous,
        "UNEXPECTED_ANSWER",
        "the answer to a write is not as it should be",
    );
    fault.about.request_id = request_id;
    fault
}

/// What a whole step is refused for lies in the object or the fields, as this user may use them.
fn of_step(mut fault: Fault) -> Fault {
    if fault.kind == FaultKind::Refused
        && matches!(fault.code.as_str(), "INVALID_FIELD" | "INVALID_TYPE")
        || fault.code == "NOT_FOUND"
    {
        fault.kind = FaultKind::Schema;
    }
    fault
}

pub(crate) fn not_sent(fault: Fault) -> Fault {
    if fault.kind == FaultKind::Ambiguous {
        return Fault::new(
            FaultKind::Transient,
            "NOT_SENT",
            "an earlier request of the batch had no answer",
        );
    }
    fault
}

/// What came of one record: `{"id": …, "success": true, "errors": []}`; a failure has no id.
pub(crate) fn result(
    batch: &WriteBatch,
    verb: &Verb,
    item: &Item,
    row: &Value,
    before: &Before,
) -> Result<Done, Fault> {
    let errors = row.get("errors").and_then(Value::as_array);
    match row.get("success").and_then(Value::as_bool) {
        Some(true) => {}
        Some(false) => {
            let entry = errors.and_then(|errors| errors.first()).unwrap_or(&Value::Null);
            return of_record(batch, verb, item, refusal::of_entry(entry), before);
        }
        None => return Err(unclear(None)),
    }
    let told = row.get("id").and_then(Value::as_str).map(id::long);
    // Of another record, it is the answer to another write.
    if told.as_ref().is_some_and(|told| item.id.as_ref().is_some_and(|id| id != told)) {
        return Err(unclear(None));
    }
    let id = || {
        let id = item.id.clone().or(told).filter(|id| id::is_id(id));
        id.ok_or_else(|| unclear(None))
    };
    Ok(match verb {
        Verb::Delete => Done::Deleted,
        Verb::Update => Done::Updated { id: id()? },
        Verb::Create => Done::Created { id: id()? },
        Verb::Upsert(_) => match row.get("created") {
            Some(Value::Bool(true)) => Done::Created { id: id()? },
            Some(Value::Bool(false)) | None => Done::Updated { id: id()? },
            Some(_) => return Err(unclear(None)),
        },
    })
}

/// One id for two records: nobody knows whose it is.
pub(crate) fn refuse_doubles<'a>(results: impl Iterator<Item = &'a mut Result<Done, Fault>>) {
    let mut by_id: HashMap<String, Vec<&'a mut Result<Done, Fault>>> = HashMap::new();
    for result in results {
        if let Ok(Done::Created { id } | Done::Updated { id }) = result {
            by_id.entry(id.clone()).or_default().push(result);
        }
    }
    for result in by_id.into_values().filter(|of_id| of_id.len() > 1).flatten() {
        *result = Err(unclear(None));
    }
}

/// The same code means one thing of the record itself and another of a record that it points to.
pub(crate) fn of_record(
    batch: &WriteBatch,
    verb: &Verb,
    item: &Item,
    mut fault: Fault,
    before: &Before,
) -> Result<Done, Fault> {
    let absent = matches!(
        fault.code.as_str(),
        "ENTITY_IS_DELETED" | "NOT_FOUND" | "INVALID_CROSS_REFERENCE_KEY"
    );
    let of_reference = |name: &str| {
        let named = |c: &Column| {
            c.kind == Kind::Id && c.name.eq_ignore_ascii_case(name)
                || c.lookup.as_deref().is_some_and(|lookup| lookup.eq_ignore_ascii_case(name))
        };
        batch.columns.iter().any(named) && !name.eq_ignore_ascii_case("Id")
    };
    if absent {
        let points = points_elsewhere(batch, item)
            || fault.about.fields.iter().any(|name| of_reference(name));
        let gone = match (verb, before) {
            (Verb::Create | Verb::Upsert(_), _) => false,
            (_, Before::Missing) => true,
            // A trigger's own code can fail with the same words on a record that is there.
            (Verb::Delete, Before::There(_)) => fault.code != "INVALID_CROSS_REFERENCE_KEY",
            (Verb::Update, Before::There(_)) => false,
            (Verb::Delete | Verb::Update, Before::NotRead) => !points,
        };
        if gone {
            return Ok(Done::Gone);
        }
        let create = matches!(verb, Verb::Create | Verb::Upsert(_));
        fault.kind = if points || create { FaultKind::Dependency } else { FaultKind::Conflict };
    }
    if fault.code == "FIELD_INTEGRITY_EXCEPTION"
        && fault.about.fields.iter().any(|name| of_reference(name))
    {
        fault.kind = FaultKind::Dependency;
    }
    // The message names the field that several records of one value have: the key of the upsert, or a parent's.
    let of_parent = |c: &Column| {
        let key = parents::parts(&c.name).filter(|_| c.lookup.is_some()).map(|(_, key)| key);
        key.is_some_and(|key| {
            let own = matches!(verb, Verb::Upsert(field) if field.eq_ignore_ascii_case(key));
            !own && fault.message.starts_with(&format!("{key}:"))
        })
    };
    if fault.code == "DUPLICATE_EXTERNAL_ID" && batch.columns.iter().any(of_parent) {
        fault.kind = FaultKind::Refused;
        fault.hint = "Several parents have this external id: make the field unique over there, or change all but one of them.".to_owned();
    }
    // The field is not there for this user: it is the same with every record that sets it.
    if fault.kind == FaultKind::Refused && fault.code == "INVALID_FIELD" {
        fault.kind = FaultKind::Schema;
    }
    Err(fault)
}

/// Does the write set a field that points to another record?
fn points_elsewhere(batch: &WriteBatch, item: &Item) -> bool {
    let fields = match &batch.writes[item.place] {
        Write::Create { fields, .. } | Write::Update { fields, .. } => fields.as_slice(),
        Write::Delete { .. } => &[],
    };
    fields.iter().any(|(column, value)| {
        let points = |column: &Column| column.kind == Kind::Id || column.lookup.is_some();
        value.is_some() && batch.columns.get(*column).is_some_and(points)
    })
}
