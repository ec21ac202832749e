//! By which of Salesforce's interfaces a set of writes goes, and what each would cost. Decided before any batch is cut:
//! `plan` then cuts what goes by collections, and the bulk jobs take the rest. Pure: amounts and an allowance in, a
//! choice out.

use crate::bulk::{MOST_BYTES, MOST_RECORDS};
use crate::plan::{MOST_COLLECTIONS, MOST_IN_STEP};

/// Below this many records Salesforce itself advises against bulk jobs (Bulk API guide, introduction).
pub const FEWEST_IN_BULK: usize = 2000;

/// Records of one composite graph request (REST API guide, Composite Graph Limits).
pub const MOST_NODES: usize = 500;

/// Records of an internal batch of a bulk job, of which a day has its number (Bulk API guide, Limits).
pub const BULK_BATCH: usize = 10_000;

/// Calls of a bulk job beside the looks at it: to make it, to hand over its data, to commit it, two for its results,
/// one to put it away.
const JOB_CALLS: u64 = 6;

/// What is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub creates: usize,
    /// Creates by an external id.
    pub upserts: usize,
    pub updates: usize,
    pub deletes: usize,
    /// Of all records together, as they would be sent.
    pub bytes: usize,
    /// Some of the records point to others that are only just being created and have no external id: the id of one is
    /// needed while the request is carried out.
    pub parents_inside: bool,
    /// The state of each record is wanted as it was just before it was written.
    pub read_before: bool,
}

impl Shape {
    pub fn records(&self) -> usize {
        self.groups().iter().sum()
    }

    /// Each group goes in requests, or jobs, of its own.
    fn groups(&self) -> [usize; 4] {
        [self.deletes, self.updates, self.creates, self.upserts]
    }
}

/// What is left of the day, beyond what is kept for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub calls: u64,
    pub bulk_batches: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// sObject Collections, several of them in one composite request.
    Collections,
    /// Composite graphs. The client does not write them yet: who is told to use one has to make the parents first, or
    /// give them an external id.
    Graph,
    /// Ingest jobs of Bulk API 2.0.
    Bulk,
}

/// What a transport would take of the day's allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub transport: Transport,
    pub calls: u64,
    pub bulk_batches: u64,
}

impl Cost {
    fn fits(&self, left: Allowance) -> bool {
        self.calls <= left.calls && self.bulk_batches <= left.bulk_batches
    }
}

/// The day's allowance is too small for every way; the one that takes the fewest calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDear(pub Cost);

/// The way to go: few records by collections, whose answer is there at once; many by bulk jobs, which cost next to
/// nothing of the allowance; where the allowance is short, whatever fits into it.
pub fn choose(shape: &Shape, left: Allowance) -> Result<Cost, TooDear> {
    let (first, second) = match (graph(shape), bulk(shape)) {
        (Some(graph), _) => (graph, None),
        (None, Some(bulk)) if shape.records() > FEWEST_IN_BULK => (bulk, Some(collections(shape))),
        (None, bulk) => (collections(shape), bulk),
    };
    match [Some(first), second].into_iter().flatten().find(|way| way.fits(left)) {
        Some(way) => Ok(way),
        None => Err(TooDear(second.filter(|way| way.calls < first.calls).unwrap_or(first))),
    }
}

fn collections(shape: &Shape) -> Cost {
    let steps: usize = shape.groups().iter().map(|count| count.div_ceil(MOST_IN_STEP)).sum();
    // Where a call reads first, one of its collections is the reading.
    let calls = if shape.read_before {
        let reading = shape.deletes.div_ceil(MOST_IN_STEP) + shape.updates.div_ceil(MOST_IN_STEP);
        let room = MOST_COLLECTIONS - 1;
        let with_reading = reading.div_ceil(room);
        let filled = (with_reading * room - reading).min(steps - reading);
        with_reading + (steps - reading - filled).div_ceil(MOST_COLLECTIONS)
    } else {
        steps.div_ceil(MOST_COLLECTIONS)
    };
    let by_size = shape.bytes.div_ceil(crate::plan::MOST_BYTES);
    Cost { transport: Transport::Collections, calls: calls.max(by_size) as u64, bulk_batches: 0 }
}

/// A graph is all or nothing, which is why it is only taken where nothing else will do.
fn graph(shape: &Shape) -> Option<Cost> {
    if !shape.parents_inside {
        return None;
    }
    let reads = if shape.read_before { shape.deletes + shape.updates } else { 0 };
    let calls = (shape.records() + reads).div_ceil(MOST_NODES);
    let by_size = shape.bytes.div_ceil(crate::plan::MOST_BYTES);
    Some(Cost { transport: Transport::Graph, calls: calls.max(by_size) as u64, bulk_batches: 0 })
}

fn bulk(shape: &Shape) -> Option<Cost> {
    if shape.parents_inside || shape.read_before {
        return None;
    }
    let (mut calls, mut batches) = (0, 0);
    let records = shape.records();
    for count in shape.groups().into_iter().filter(|&count| count > 0) {
        let bytes = (shape.bytes as u128 * count as u128 / records as u128) as usize;
        let jobs = count.div_ceil(MOST_RECORDS).max(bytes.div_ceil(MOST_BYTES)).max(1);
        let each = count.div_ceil(jobs);
        let internal = each.div_ceil(BULK_BATCH) as u64;
        calls += jobs as u64 * (JOB_CALLS + looks(internal));
        batches += jobs as u64 * internal;
    }
    Some(Cost { transport: Transport::Bulk, calls, bulk_batches: batches })
}

/// Looks at a job with the pauses of [`connector::bulk::pause`], if an internal batch takes the half of the five
/// minutes that it may take (Bulk API guide, Limits) and one runs after the other: an estimate on the safe side.
fn looks(batches: u64) -> u64 {
    let needed = std::time::Duration::from_secs(150 * batches);
    let mut waited = std::time::Duration::ZERO;
    let mut looks = 0;
    while waited < needed {
        waited += connector::bulk::pause(looks);
        looks += 1;
    }
    u64::from(looks)
}

#[cfg(test)]
mod tests {
    use super::{Allowance, Shape, TooDear, Transport, bulk, choose, collections};
    use proptest::prelude::*;

    const PLENTY: Allowance = Allowance { calls: 100_000, bulk_batches: 15_000 };

    fn updates(updates: usize) -> Shape {
        Shape { updates, bytes: updates * 200, ..Shape::default() }
    }

    fn chosen(shape: Shape) -> (Transport, u64) {
        let cost = choose(&shape, PLENTY).expect("a way");
        (cost.transport, cost.calls)
    }

    #[test]
    fn few_records_go_by_collections_and_many_by_a_job() {
        assert_eq!(chosen(updates(1)), (Transport::Collections, 1));
        assert_eq!(chosen(updates(200)), (Transport::Collections, 1));
        assert_eq!(chosen(updates(1000)), (Transport::Collections, 1));
        assert_eq!(chosen(updates(1001)), (Transport::Collections, 2));
        assert_eq!(chosen(updates(2000)), (Transport::Collections, 2));
        assert_eq!(chosen(updates(2001)).0, Transport::Bulk);
        assert_eq!(chosen(Shape::default()), (Transport::Collections, 0));
    }

    #[test]
    fn reading_before_rules_jobs_out_and_takes_room() {
        let reading = |n| Shape { read_before: true, ..updates(n) };
        assert_eq!(chosen(reading(800)), (Transport::Collections, 1));
        assert_eq!(chosen(reading(801)), (Transport::Collections, 2));
        assert_eq!(chosen(reading(100_000)), (Transport::Collections, 125));
    }

    #[test]
    fn parents_that_are_only_being_made_need_a_graph() {
        let family = |creates| Shape { creates, parents_inside: true, ..Shape::default() };
        assert_eq!(chosen(family(500)), (Transport::Graph, 1));
        assert_eq!(chosen(family(501)), (Transport::Graph, 2));
        assert_eq!(
            chosen(Shape { updates: 1, read_before: true, ..family(499) }),
            (Transport::Graph, 2)
        );
    }

    #[test]
    fn each_kind_of_write_is_a_job_of_its_own() {
        let one = bulk(&updates(5000)).expect("a job");
        let two = bulk(&Shape { deletes: 2500, updates: 2500, ..Shape::default() }).expect("jobs");
        assert_eq!((one.transport, one.bulk_batches, two.bulk_batches), (Transport::Bulk, 1, 2));
        assert_eq!(two.calls, 2 * one.calls);
    }

    #[test]
    fn a_short_allowance_is_kept_to() {
        let shape = updates(50_000);
        let choose = |calls, bulk_batches| choose(&shape, Allowance { calls, bulk_batches });
        assert_eq!(choose(1000, 5).expect("a job").transport, Transport::Bulk);
        // No batch is left, and 50 calls are.
        assert_eq!(choose(50, 0).expect("collections").transport, Transport::Collections);
        assert!(matches!(choose(10, 0), Err(TooDear(_))));
        // Not many, but calls are short: a job would be dearer.
        let few = super::choose(&updates(2000), Allowance { calls: 1, bulk_batches: 9 });
        assert!(matches!(few, Err(TooDear(cost)) if cost.transport == Transport::Collections));
    }

    proptest! {
        /// What collections are said to cost is what the plan of one batch really takes.
        #[test]
        fn collections_cost_what_their_plan_takes(
            counts in prop::array::uniform4(0..450usize),
            read_before: bool,
        ) {
            use connector::{Identity, Write, WriteBatch};
            let [deletes, updates, creates, upserts] = counts;
            let id = |n| format!("001{n:012}");
            let identity = |n: usize| Identity { field: "Ext__c".into(), value: n.to_string() };
            let mut writes: Vec<Write> = Vec::new();
            writes.extend((0..deletes).map(|n| Write::Delete { id: id(n) }));
            writes.extend((0..updates).map(|n| Write::Update { id: id(n + deletes), fields: vec![] }));
            writes.extend((0..creates).map(|_| Write::Create { identity: None, fields: vec![] }));
            writes.extend((0..upserts).map(|n| Write::Create { identity: Some(identity(n)), fields: vec![] }));
            let batch = WriteBatch { object: "Account".into(), columns: vec![], read_before, writes };
            let plan = crate::plan::Plan::new(&batch).expect("a plan");
            let shape = Shape { creates, upserts, updates, deletes, read_before, ..Shape::default() };
            prop_assert_eq!(collections(&shape).calls, plan.calls.len() as u64);
        }

        #[test]
        fn a_choice_is_within_the_allowance(
            counts in prop::array::uniform4(0..400_000usize),
            bytes in 0..1usize << 34,
            parents_inside: bool,
            read_before: bool,
            calls in 0..3000u64,
            bulk_batches in 0..200u64,
        ) {
            let [deletes, updates, creates, upserts] = counts;
            let shape = Shape { creates, upserts, updates, deletes, bytes, parents_inside, read_before };
            let left = Allowance { calls, bulk_batches };
            match choose(&shape, left) {
                Ok(cost) => {
                    prop_assert!(cost.calls <= calls && cost.bulk_batches <= bulk_batches);
                    prop_assert!(cost.transport != Transport::Bulk || !(parents_inside || read_before));
                    prop_assert_eq!(cost.transport == Transport::Graph, parents_inside);
                }
                Err(TooDear(cheapest)) => prop_assert!(cheapest.calls > calls || cheapest.bulk_batches > bulk_batches),
            }
        }
    }
}
