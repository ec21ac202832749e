//! Records of several objects in one call: parents with their children, by the Composite Graph API (REST API guide,
//! composite graph). A graph is carried out as a whole or not at all, so records that name each other by an external
//! id make one, and no other record is touched by what is wrong with one of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use connector::{Before, Fault, FaultKind, Outcome, Write, WriteBatch};
use egress::Method;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::client::Salesforce;
use crate::plan::{Item, MOST_BYTES, Verb, prepare};
use crate::{parents, refusal, write};

/// Most records of one call, and most graphs that they make (REST API guide, composite graph limits).
pub(crate) const MOST_NODES: usize = 500;
const MOST_GRAPHS: usize = 75;
/// Longest chain of records of which each names the one before.
const DEEPEST: usize = 15;

/// One record of one of the batches.
struct Node {
    batch: usize,
    verb: Verb,
    item: Item,
    /// The nodes that it names as its parents.
    parents: Vec<usize>,
    depth: usize,
}

impl Salesforce {
    pub(crate) async fn write_graphs(
        &self,
        batches: &[Arc<WriteBatch>],
    ) -> Result<Vec<Vec<Outcome>>, Fault> {
        let mut results: Vec<Vec<Option<Outcome>>> =
            batches.iter().map(|batch| vec![None; batch.writes.len()]).collect();
        let (nodes, refused) = nodes(batches);
        for (batch, place, fault) in refused {
            results[batch][place] = Some(failed(fault));
        }
        let graphs = fitting(&nodes);
        if !graphs.is_empty() {
            self.send_graphs(batches, &nodes, &graphs, &mut results).await?;
        }
        self.send_rest(batches, &nodes, &mut results).await?;
        let missing =
            || failed(Fault::new(FaultKind::Defect, "NOT_SENT", "a record was forgotten"));
        let all =
            |of: Vec<Option<Outcome>>| of.into_iter().map(|o| o.unwrap_or_else(missing)).collect();
        Ok(results.into_iter().map(all).collect())
    }

    /// An error only where nothing was carried out, or nobody knows.
    async fn send_graphs(
        &self,
        batches: &[Arc<WriteBatch>],
        nodes: &[Node],
        graphs: &[Vec<usize>],
        results: &mut [Vec<Option<Outcome>>],
    ) -> Result<(), Fault> {
        let body: Vec<Value> = graphs
            .iter()
            .enumerate()
            .map(|(n, graph)| {
                let parts: Vec<Value> =
                    graph.iter().map(|&node| self.part(batches, node, &nodes[node])).collect();
                json!({ "graphId": format!("g{n}"), "compositeRequest": parts })
            })
            .collect();
        let path = self.path("/composite/graph");
        let call = Call::write(Method::POST, path, Some(json!({ "graphs": body })));
        let (answer, request_id) = match self.send_write(call).await {
            Ok(answer) => answer,
            Err(fault) if fault.is_of_connection() => return Err(fault),
            // Refused as it stands, and nothing was carried out: its records go one object after the other.
            Err(_) => return Ok(()),
        };
        let answers = answer.get("graphs").and_then(Value::as_array);
        let answered: HashMap<&str, &Value> = answers
            .into_iter()
            .flatten()
            .filter_map(|graph| Some((graph.get("graphId")?.as_str()?, graph)))
            .collect();
        let session = self.logins.lock().await.session.clone();
        for (n, graph) in graphs.iter().enumerate() {
            let answer = answered.get(format!("g{n}").as_str());
            let parts: Option<HashMap<&str, &Value>> = answer.and_then(|answer| {
                let list = answer.get("graphResponse")?.get("compositeResponse")?.as_array()?;
                Some(
                    list.iter()
                        .filter_map(|p| Some((p.get("referenceId")?.as_str()?, p)))
                        .collect(),
                )
            });
            let done = answer.and_then(|answer| answer.get("isSuccessful")?.as_bool());
            for &node in graph {
                let of = &nodes[node];
                let part =
                    parts.as_ref().and_then(|parts| parts.get(reference(node).as_str()).copied());
                let mut outcome = match (done, part) {
                    (Some(true), Some(part)) => carried_out(&batches[of.batch], of, part),
                    (Some(false), part) => failed(of_part(&batches[of.batch], of, part)),
                    _ => failed(write::unclear(None)),
                };
                if let Err(fault) = &mut outcome.result {
                    fault.about.request_id.clone_from(&request_id);
                    *fault = self.redacted(fault.clone(), session.as_deref());
                }
                results[of.batch][of.item.place] = Some(outcome);
            }
        }
        for of in results {
            write::refuse_doubles(of.iter_mut().flatten().map(|outcome| &mut outcome.result));
        }
        Ok(())
    }

    /// Records that no call of this kind takes, and those of a call that was refused: parents first.
    async fn send_rest(
        &self,
        batches: &[Arc<WriteBatch>],
        nodes: &[Node],
        results: &mut [Vec<Option<Outcome>>],
    ) -> Result<(), Fault> {
        let depth = |batch: usize| {
            let of_batch = nodes.iter().filter(|node| node.batch == batch);
            of_batch.map(|node| node.depth).max().unwrap_or(0)
        };
        let mut order: Vec<usize> = (0..batches.len()).collect();
        order.sort_by_key(|&batch| depth(batch));
        let mut sent = results.iter().flatten().any(Option::is_some);
        let mut ended: Option<Fault> = None;
        for batch in order {
            let places: Vec<usize> = (0..batches[batch].writes.len())
                .filter(|&place| results[batch][place].is_none())
                .collect();
            if places.is_empty() {
                continue;
            }
            let outcomes = match &ended {
                Some(fault) => Err(write::not_sent(fault.clone())),
                None => {
                    let writes = places.iter().map(|&p| batches[batch].writes[p].clone()).collect();
                    self.write_batch(&WriteBatch { writes, ..batches[batch].as_ref().clone() })
                        .await
                }
            };
            match outcomes {
                Ok(outcomes) => {
                    for (&place, outcome) in places.iter().zip(outcomes) {
                        results[batch][place] = Some(outcome);
                    }
                }
                Err(fault) if !sent && fault.kind != FaultKind::Ambiguous => return Err(fault),
                Err(fault) => {
                    for &place in &places {
                        results[batch][place] = Some(failed(fault.clone()));
                    }
                    ended.get_or_insert(fault);
                }
            }
            sent = true;
        }
        Ok(())
    }

    /// A record as a part of a graph.
    fn part(&self, batches: &[Arc<WriteBatch>], place: usize, node: &Node) -> Value {
        let object = &batches[node.batch].object;
        let mut body = match &node.item.record {
            Value::Object(record) => record.clone(),
            _ => Map::new(),
        };
        body.remove("attributes");
        let (method, path) = match &node.verb {
            // In the path the key says which record it is, and may not be in the body as well.
            Verb::Upsert(field) => {
                let key = match body.remove(field) {
                    Some(Value::String(key)) => key,
                    key => key.map(|key| key.to_string()).unwrap_or_default(),
                };
                (Method::PATCH, format!("/sobjects/{object}/{field}/{}", in_path(&key)))
            }
            _ => (Method::POST, format!("/sobjects/{object}")),
        };
        json!({
            "method": method.as_str(), "url": self.path(&path), "referenceId": reference(place), "body": body,
        })
    }
}

fn reference(node: usize) -> String {
    format!("n{node}")
}

/// A text as one segment of a path: whatever may have a meaning there, a dot too, stands as its bytes (RFC 3986, 2.1).
fn in_path(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn failed(fault: Fault) -> Outcome {
    Outcome { result: Err(fault), before: Before::NotRead }
}

/// The records of all batches, with whose children they are; and those that cannot be sent at all.
fn nodes(batches: &[Arc<WriteBatch>]) -> (Vec<Node>, Vec<(usize, usize, Fault)>) {
    let (mut nodes, mut refused) = (Vec::new(), Vec::new());
    for (batch, of) in batches.iter().enumerate() {
        for (place, write) in of.writes.iter().enumerate() {
            match prepare(of, place, write) {
                Ok((verb, item)) => {
                    nodes.push(Node { batch, verb, item, parents: Vec::new(), depth: 0 });
                }
                Err(fault) => refused.push((batch, place, fault)),
            }
        }
    }
    let mut named: HashMap<(String, &str), Vec<usize>> = HashMap::new();
    for (n, node) in nodes.iter().enumerate() {
        if let Write::Create { identity: Some(key), .. } =
            &batches[node.batch].writes[node.item.place]
        {
            named.entry((key.field.to_lowercase(), &key.value)).or_default().push(n);
        }
    }
    for n in 0..nodes.len() {
        let of = &batches[nodes[n].batch];
        let Write::Create { fields, .. } = &of.writes[nodes[n].item.place] else { continue };
        for (column, value) in fields {
            let column = of.columns.get(*column).filter(|column| column.lookup.is_some());
            let key = column.and_then(|column| parents::parts(&column.name));
            if let (Some((_, key)), Some(value)) = (key, value) {
                let found = named.get(&(key.to_lowercase(), value.as_str())).into_iter().flatten();
                nodes[n].parents.extend(found.filter(|&&parent| parent != n));
            }
        }
    }
    // Each round settles one level; a circle would go on.
    for _ in 0..DEEPEST {
        let depths: Vec<usize> = nodes.iter().map(|node| node.depth).collect();
        for node in &mut nodes {
            node.depth = node.parents.iter().map(|&p| depths[p] + 1).max().unwrap_or(0);
        }
    }
    (nodes, refused)
}

/// The graphs of one call, each with parents before children: families first, then, while there is room, records of
/// which none names another.
fn fitting(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut family: Vec<usize> = (0..nodes.len()).collect();
    fn root(family: &[usize], mut n: usize) -> usize {
        while family[n] != n {
            n = family[n];
        }
        n
    }
    for (n, node) in nodes.iter().enumerate() {
        for &parent in &node.parents {
            let (a, b) = (root(&family, n), root(&family, parent));
            family[a.max(b)] = a.min(b);
        }
    }
    let mut families: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for n in 0..nodes.len() {
        families.entry(root(&family, n)).or_default().push(n);
    }
    let mut families: Vec<Vec<usize>> = families.into_values().collect();
    families.sort_by_key(|family| family.len() == 1);
    let (mut graphs, mut records, mut bytes) = (Vec::new(), 0, 0);
    for mut family in families {
        let size: usize = family.iter().map(|&n| nodes[n].item.bytes()).sum();
        let creates = |n: &usize| matches!(nodes[*n].verb, Verb::Create | Verb::Upsert(_));
        // A text that looks like a reference would be taken for one; a circle has no order.
        let suits = family.iter().all(|n| creates(n) && !nodes[*n].item.quotes())
            && family.iter().all(|&n| nodes[n].depth < DEEPEST)
            && graphs.len() < MOST_GRAPHS
            && records + family.len() <= MOST_NODES
            && bytes + size <= MOST_BYTES;
        if suits {
            family.sort_by_key(|&n| nodes[n].depth);
            records += family.len();
            bytes += size;
            graphs.push(family);
        }
    }
    // Nobody depends on another: the collections API takes more at once.
    let alone = graphs.iter().all(|graph| graph.len() == 1);
    if alone && graphs.len() < nodes.len() { Vec::new() } else { graphs }
}

/// What came of a record of a graph that was carried out.
fn carried_out(batch: &WriteBatch, node: &Node, part: &Value) -> Outcome {
    let none = Value::Null;
    let row = part.get("body").unwrap_or(&none);
    if !write::status(part).is_success() {
        return failed(write::unclear(None));
    }
    let result = write::result(batch, &node.verb, &node.item, row, &Before::NotRead);
    Outcome { result, before: Before::NotRead }
}

/// Why a record of a graph was not carried out: for its own sake, or for that of another, and then it is sent again.
fn of_part(batch: &WriteBatch, node: &Node, part: Option<&Value>) -> Fault {
    let halted = || {
        let message = "another record of its graph was refused";
        Fault::new(FaultKind::Cascade, "PROCESSING_HALTED", message)
    };
    let Some(part) = part.filter(|part| !write::status(part).is_success()) else { return halted() };
    let body = part.get("body").unwrap_or(&Value::Null);
    let fault = refusal::of_body(write::status(part), body);
    // The graph says that nothing of it was carried out.
    if fault.kind == FaultKind::Ambiguous {
        return Fault { kind: FaultKind::Transient, ..fault };
    }
    match write::of_record(batch, &node.verb, &node.item, fault, &Before::NotRead) {
        Err(fault) => fault,
        Ok(_) => halted(),
    }
}
