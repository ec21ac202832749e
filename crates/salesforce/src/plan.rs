use std::collections::VecDeque;

use connector::{Column, Fault, FaultKind, Identity, Write, WriteBatch};
use serde_json::{Map, Value, json};

use crate::soql;
use crate::{id, parents, value};

/// Most records of one request of the collections API (REST API guide, sObject Collections).
pub(crate) const MOST_IN_STEP: usize = 200;

/// Most records of one call: of the five collections that a composite request may hold, one reads
/// (REST API guide, composite).
pub(crate) const MOST_IN_ONE_CALL: usize = 4 * MOST_IN_STEP;

pub(crate) const MOST_COLLECTIONS: usize = 5;

/// Most bytes of one call's records. Salesforce takes some 50 MB, and has to answer in ten minutes.
pub(crate) const MOST_BYTES: usize = 6 << 20;

/// How often a request that one bad value spoils is halved, in one batch.
const MOST_SPLITS: u32 = 24;

/// What is done with the records of a step. Deletes go first, for what they leave free, and updates
/// before creates, for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Delete,
    Update,
    Create,
    /// By this external-id field.
    Upsert(String),
}

/// One record, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// Its place in the batch.
    pub(crate) place: usize,
    /// Known beforehand, of an update and a delete.
    pub(crate) id: Option<String>,
    pub(crate) record: Value,
    bytes: usize,
    quotes: bool,
}

impl Item {
    /// Has it a text that a composite request would take for a reference to another of its parts, `@{…}` (REST API
    /// guide, composite)?
    pub(crate) fn quotes(&self) -> bool {
        self.quotes
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Records of one operation that go in one request of the collections API.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) verb: Verb,
    pub(crate) items: Vec<Item>,
}

impl Step {
    /// Can it not be a part of a composite request?
    fn stands_alone(&self) -> bool {
        self.items.iter().any(Item::quotes)
    }
}

/// Steps that go in one call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallPlan {
    pub(crate) steps: Vec<Step>,
    /// Are the records read first?
    pub(crate) read: bool,
}

impl CallPlan {
    /// The step that is a request of its own, since it cannot be or need not be a part of one.
    pub(crate) fn alone(&self) -> Option<&Step> {
        match self.steps.as_slice() {
            [step] if !self.read || step.stands_alone() => Some(step),
            _ => None,
        }
    }
}

/// How a batch is cut into calls.
pub(crate) struct Plan {
    pub(crate) calls: VecDeque<CallPlan>,
    /// Records that are not sent at all.
    pub(crate) refused: Vec<(usize, Fault)>,
    splits: u32,
}

impl Plan {
    pub(crate) fn new(batch: &WriteBatch) -> Result<Self, Fault> {
        soql::check_name(&batch.object)?;
        batch.columns.iter().try_for_each(|column| soql::check_field(&column.name))?;
        let most_read = if batch.read_before && soql::has_of_parents(&batch.columns) {
            soql::most_ids(&batch.object, &batch.columns)?
        } else {
            MOST_IN_ONE_CALL
        };
        let mut refused = Vec::new();
        let mut groups: Vec<((Verb, bool), Vec<Item>)> = Vec::new();
        for (place, write) in batch.writes.iter().enumerate() {
            match prepare(batch, place, write) {
                Ok((verb, item)) => {
                    let of = (verb, item.quotes);
                    match groups.iter_mut().find(|(group, _)| *group == of) {
                        Some((_, items)) => items.push(item),
                        None => groups.push((of, vec![item])),
                    }
                }
                Err(fault) => refused.push((place, fault)),
            }
        }
        groups.sort_by(|(a, _), (b, _)| a.cmp(b));
        let steps = groups.into_iter().flat_map(|((verb, _), items)| cut(verb, items, most_read));
        Ok(Self { calls: pack(steps, batch.read_before, most_read), refused, splits: 0 })
    }

    /// A value that can't be read spoils the whole request, and nothing of it was carried out: its
    /// halves are tried apart, next. False where that was done too often.
    pub(crate) fn split(&mut self, step: &Step) -> bool {
        if step.items.len() < 2 || self.splits >= MOST_SPLITS {
            return false;
        }
        self.splits += 1;
        let (first, second) = step.items.split_at(step.items.len() / 2);
        for half in [second, first] {
            let step = Step { verb: step.verb.clone(), items: half.to_vec() };
            self.calls.push_front(CallPlan { steps: vec![step], read: false });
        }
        true
    }
}

pub(crate) fn prepare(
    batch: &WriteBatch,
    place: usize,
    write: &Write,
) -> Result<(Verb, Item), Fault> {
    let mut record = Map::new();
    record.insert("attributes".to_owned(), json!({ "type": batch.object }));
    let (verb, id) = match write {
        Write::Create { identity: None, fields } => {
            put(&mut record, batch, fields, None)?;
            (Verb::Create, None)
        }
        Write::Create { identity: Some(identity), fields } => {
            soql::check_name(&identity.field)?;
            record.insert(identity.field.clone(), key(batch, identity)?);
            put(&mut record, batch, fields, Some(&identity.field))?;
            (Verb::Upsert(identity.field.clone()), None)
        }
        Write::Update { id, fields } => {
            let id = own_id(id)?;
            record.insert("id".to_owned(), Value::from(id.as_str()));
            put(&mut record, batch, fields, None)?;
            (Verb::Update, Some(id))
        }
        Write::Delete { id } => (Verb::Delete, Some(own_id(id)?)),
    };
    let bytes = size(&record);
    let record = Value::Object(record);
    Ok((verb, Item { place, id, quotes: quotes(&record), record, bytes }))
}

fn put(
    record: &mut Map<String, Value>,
    batch: &WriteBatch,
    fields: &[(usize, Option<String>)],
    but: Option<&str>,
) -> Result<(), Fault> {
    for (column, text) in fields {
        let Some(column) = batch.columns.get(*column) else {
            return Err(defect(
                "UNKNOWN_COLUMN",
                "a write names a field that its batch does not have",
            ));
        };
        // The id says which record it is, and is no value of it.
        let is_key = |key: &str| key.eq_ignore_ascii_case(&column.name);
        if is_key("Id") || but.is_some_and(is_key) {
            continue;
        }
        let (name, value) = written(column, value::to_json(column, text.as_deref())?);
        if record.insert(name, value).is_some() {
            return Err(defect("FIELD_TWICE", "a write gives the same field twice"));
        }
    }
    Ok(())
}

/// How a record says the value of a field. A parent is named by its external id, and is none where the lookup itself is
/// null (REST API guide, Insert or Update a Record Using an External ID).
fn written(column: &Column, value: Value) -> (String, Value) {
    match (parents::parts(&column.name), &column.lookup) {
        (Some(_), Some(lookup)) if value.is_null() => (lookup.clone(), value),
        (Some((relationship, field)), _) => (relationship.to_owned(), json!({ field: value })),
        (None, _) => (column.name.clone(), value),
    }
}

/// The value of an external id, in the type of its field where that is known.
fn key(batch: &WriteBatch, identity: &Identity) -> Result<Value, Fault> {
    let column = batch.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&identity.field));
    let key = match column {
        Some(column) => value::to_json(column, Some(&identity.value))?,
        None => Value::from(identity.value.as_str()),
    };
    if key.is_null() || key == "" {
        let mut fault = Fault::new(
            FaultKind::Refused,
            "MISSING_EXTERNAL_ID",
            format!("the value of field {}, which identifies the record, is empty", identity.field),
        );
        fault.about.fields = vec![identity.field.clone()];
        return Err(fault);
    }
    Ok(key)
}

fn own_id(text: &str) -> Result<String, Fault> {
    if id::is_id(text) {
        Ok(id::long(text))
    } else {
        Err(defect("MALFORMED_ID", "what should be the id of a record is none"))
    }
}

fn defect(code: &str, message: &str) -> Fault {
    Fault::new(FaultKind::Defect, code, message)
}

fn size(record: &Map<String, Value>) -> usize {
    let of = |value: &Value| match value {
        Value::String(text) => text.len(),
        Value::Object(parent) => size(parent),
        _ => 30,
    };
    record.iter().map(|(name, value)| name.len() + 6 + of(value)).sum()
}

fn quotes(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("@{"),
        Value::Object(fields) => fields.values().any(quotes),
        _ => false,
    }
}

/// Is the state of the records of such a step read first, if that of any is?
fn is_read(verb: &Verb) -> bool {
    matches!(verb, Verb::Delete | Verb::Update)
}

fn cut(verb: Verb, items: Vec<Item>, most_read: usize) -> Vec<Step> {
    let most = if is_read(&verb) { MOST_IN_STEP.min(most_read) } else { MOST_IN_STEP };
    let mut steps: Vec<Step> = Vec::new();
    let mut bytes = 0;
    for item in items {
        match steps.last_mut() {
            Some(step) if step.items.len() < most && bytes + item.bytes <= MOST_BYTES => {
                bytes += item.bytes;
                step.items.push(item);
            }
            _ => {
                bytes = item.bytes;
                steps.push(Step { verb: verb.clone(), items: vec![item] });
            }
        }
    }
    steps
}

fn pack(
    steps: impl Iterator<Item = Step>,
    read_before: bool,
    most_read: usize,
) -> VecDeque<CallPlan> {
    let mut calls: VecDeque<CallPlan> = VecDeque::new();
    let (mut bytes, mut read_items) = (0, 0);
    for step in steps {
        let more: usize = step.items.iter().map(|item| item.bytes).sum();
        let reads = read_before && is_read(&step.verb);
        let items = if reads { step.items.len() } else { 0 };
        let joins = |call: &CallPlan| !call.steps.iter().any(Step::stands_alone);
        if let Some(call) = calls.back_mut().filter(|call| joins(call) && !step.stands_alone()) {
            let read = call.read || reads;
            let room = MOST_COLLECTIONS - usize::from(read);
            let fits = bytes + more <= MOST_BYTES && read_items + items <= most_read;
            if call.steps.len() < room && fits {
                bytes += more;
                read_items += items;
                call.read = read;
                call.steps.push(step);
                continue;
            }
        }
        (bytes, read_items) = (more, items);
        calls.push_back(CallPlan { steps: vec![step], read: reads });
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::{Plan, Verb};
    use connector::{Column, Identity, Kind, Write, WriteBatch};
    use serde_json::json;

    fn batch(writes: Vec<Write>, read_before: bool) -> WriteBatch {
        let column =
            |name: &str| Column { name: name.into(), kind: Kind::Text, ..Column::default() };
        let columns = vec![column("Name"), column("Ext__c")];
        WriteBatch { object: "Account".into(), columns, read_before, writes }
    }

    fn id(n: usize) -> String {
        format!("001{n:012}")
    }

    fn update(n: usize) -> Write {
        Write::Update { id: id(n), fields: vec![(0, Some(format!("n{n}")))] }
    }

    fn shape(plan: &Plan) -> Vec<(bool, Vec<(Verb, usize)>)> {
        let steps =
            |steps: &[super::Step]| steps.iter().map(|s| (s.verb.clone(), s.items.len())).collect();
        plan.calls.iter().map(|call| (call.read, steps(&call.steps))).collect()
    }

    #[test]
    fn eight_hundred_updates_go_in_one_call_that_reads_first() {
        let plan = Plan::new(&batch((0..801).map(update).collect(), true)).expect("a plan");
        let four = vec![(Verb::Update, 200); 4];
        assert_eq!(shape(&plan), [(true, four), (true, vec![(Verb::Update, 1)])]);
    }

    #[test]
    fn a_call_that_does_not_read_holds_a_thousand() {
        let plan = Plan::new(&batch((0..1001).map(update).collect(), false)).expect("a plan");
        let five = vec![(Verb::Update, 200); 5];
        assert_eq!(shape(&plan), [(false, five), (false, vec![(Verb::Update, 1)])]);
    }

    #[test]
    fn deletes_go_first_and_creates_by_their_key_in_a_step_of_their_own() {
        let identity = Identity { field: "Ext__c".into(), value: "k".into() };
        let fields = vec![(0, Some("a".to_owned())), (1, Some("k".to_owned()))];
        let plan = Plan::new(&batch(
            vec![
                Write::Create { identity: Some(identity), fields: fields.clone() },
                Write::Create { identity: None, fields },
                update(1),
                Write::Delete { id: id(2) },
            ],
            true,
        ))
        .expect("a plan");
        let verbs = vec![
            (Verb::Delete, 1),
            (Verb::Update, 1),
            (Verb::Create, 1),
            (Verb::Upsert("Ext__c".into()), 1),
        ];
        assert_eq!(shape(&plan), [(true, verbs)]);
        let upsert = plan.calls[0].steps[3].items[0].record.to_string();
        assert_eq!(upsert.matches("Ext__c").count(), 1, "{upsert}");
    }

    #[test]
    fn a_parent_is_named_by_its_key_or_the_lookup_is_null() {
        let column = |name: &str, lookup: &str| Column {
            name: name.into(),
            lookup: Some(lookup.into()),
            ..Column::default()
        };
        let columns =
            vec![column("Account.Key__c", "AccountId"), column("Team__r.No__c", "Team__c")];
        let body = |fields: Vec<(usize, Option<&str>)>| {
            let own = |(at, value): (usize, Option<&str>)| (at, value.map(str::to_owned));
            let fields = fields.into_iter().map(own).collect();
            let mut batch = batch(vec![Write::Create { identity: None, fields }], false);
            batch.columns.clone_from(&columns);
            let plan = Plan::new(&batch).expect("a plan");
            plan.calls.front().map(|call| call.steps[0].items[0].record.clone())
        };
        let attributes = json!({"type": "Account"});
        assert_eq!(
            body(vec![(0, Some("x")), (1, Some(" 7 "))]),
            Some(
                json!({"attributes": attributes, "Account": {"Key__c": "x"}, "Team__r": {"No__c": "7"}})
            )
        );
        assert_eq!(
            body(vec![(0, None), (1, Some(" "))]),
            Some(json!({"attributes": attributes, "AccountId": null, "Team__c": null}))
        );
        assert_eq!(body(vec![(0, Some("x")), (0, Some("y"))]), None, "a parent is one");
    }

    #[test]
    fn large_records_go_in_calls_of_their_own() {
        let large = |n| Write::Update { id: id(n), fields: vec![(0, Some("x".repeat(2 << 20)))] };
        let plan = Plan::new(&batch((0..4).map(large).collect(), true)).expect("a plan");
        assert_eq!(plan.calls.len(), 2);
    }

    #[test]
    fn what_cannot_be_sent_leaves_the_others_alone() {
        let plan = Plan::new(&batch(
            vec![
                Write::Update { id: "nonsense".into(), fields: vec![] },
                update(1),
                Write::Update { id: id(2), fields: vec![(7, None)] },
            ],
            false,
        ))
        .expect("a plan");
        assert_eq!(plan.refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(shape(&plan), [(false, vec![(Verb::Update, 1)])]);
    }

    #[test]
    fn a_spoiled_step_is_halved_until_that_was_done_too_often() {
        let mut plan = Plan::new(&batch((0..3).map(update).collect(), true)).expect("a plan");
        let call = plan.calls.pop_front().expect("a call");
        assert!(plan.split(&call.steps[0]));
        assert_eq!(
            shape(&plan),
            [(false, vec![(Verb::Update, 1)]), (false, vec![(Verb::Update, 2)])]
        );
        plan.splits = super::MOST_SPLITS;
        assert!(!plan.split(&call.steps[0]));
    }
}
