//! Step 2: from halves to records. Finds the links, reads the rows that are not known from the log,
//! pairs rows that exist on both sides without a link, and evaluates what each side sends.

use super::collect::{Half, Seen};
use super::link::{Link, Links, Places};
use super::loops::Chain;
use super::plan::{Column, How, Plan, Table};
use super::polled;
use super::queue;
use super::references::{self, Missing};
use super::remote::values;
use super::repair::Keep;
use super::screen;
use super::shapes::Shapes;
use super::statement::{self, FED, Fed, ORD, Statement};
use crate::sql::identifier;
use crate::worker::transaction::Failure;
use bumpalo::Bump;
use change::image::{self, Value};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use merge::{Choice, Deletes, Now, Row, Side};
use std::borrow::Cow;

/// One record with all that is known of it.
#[derive(Debug)]
pub struct Record<'b> {
    pub link: Option<Link<'b>>,
    /// The key on each side, as it is now.
    pub keys: [Option<&'b [u8]>; 2],
    pub seen: [Seen<'b>; 2],
    /// What each side sends, one value a field.
    pub sent: [Vec<Value<'b>>; 2],
    pub at: [i64; 2],
    pub echo: bool,
    /// Who applied what was changed of each side, if no user did; else 0.
    pub origin: [i32; 2],
    /// The writes that led to what is to be written to each side; none where a user did.
    pub chains: [Chain; 2],
    /// What the other system's record held last that is gone, where that is told.
    pub last: Option<&'b [Value<'b>]>,
    /// All that is known of that side came of what this sync wrote itself.
    pub own: [bool; 2],
    /// The row of that side was deleted and made anew.
    pub remade: [bool; 2],
    /// What the log says of such a side whose row had to be read.
    logged: [Seen<'b>; 2],
    pub entries: Vec<(Side, usize)>,
    /// Fields of which a person has decided whose value is to stand.
    pub kept: Vec<(usize, Side)>,
    /// A person has it put right.
    pub repair: Option<Keep>,
    /// Why this record cannot be synced without a person.
    pub trouble: Option<Failure>,
    /// Something of it is on its way to the other system, or has to be read there first: until that is answered nothing
    /// is decided.
    pub held: bool,
    /// It has to be read first.
    pub unread: bool,
    /// Another record has to be there first, to which it points.
    pub missing: Option<Missing<'b>>,
    /// Fields that are left out for now: they point to records that wait for this one.
    pub later: Vec<usize>,
    /// What functions chose for fields that both sides changed.
    pub chosen: Vec<Choice<'b>>,
    /// Does the row of each side pass its filter? `None`: it was not asked.
    pub passes: [Option<bool>; 2],
    /// Does the record go both ways, where that is a matter of its row?
    pub two_way: Option<bool>,
    /// The rules that what a side sends breaks: places in the plan's.
    pub broken: Vec<(Side, usize)>,
    /// The side whose row stays although the other's was deleted.
    pub stays: Option<Side>,
    /// The side whose row has left its filter, which is to the other as if it had been deleted.
    pub leaves: Option<Side>,
    /// A person is to say whether it takes the other side's record along.
    pub undecided: bool,
}

impl<'b> Record<'b> {
    pub fn new(link: Option<Link<'b>>) -> Self {
        let keys = link.as_ref().map_or([None, None], |l| [Some(l.key), Some(l.remote)]);
        Self {
            link,
            keys,
            seen: [Seen::Nothing, Seen::Nothing],
            sent: [Vec::new(), Vec::new()],
            at: [i64::MIN; 2],
            echo: true,
            origin: [0; 2],
            chains: Default::default(),
            last: None,
            own: [false; 2],
            remade: [false; 2],
            logged: [Seen::Nothing, Seen::Nothing],
            entries: Vec::new(),
            kept: Vec::new(),
            repair: None,
            trouble: None,
            held: false,
            unread: false,
            missing: None,
            later: Vec::new(),
            chosen: Vec::new(),
            passes: [None; 2],
            two_way: None,
            broken: Vec::new(),
            stays: None,
            leaves: None,
            undecided: false,
        }
    }

    /// Is the row of this side deleted, or to be taken for it?
    pub fn is_gone(&self, side: Side) -> bool {
        self.seen[side as usize] == Seen::Gone || self.leaves == Some(side)
    }

    /// The living link.
    pub fn linked(&self) -> Option<&Link<'b>> {
        self.link.as_ref().filter(|l| !l.deleted)
    }

    /// Who decides where one side deleted it and the other changed it: a person who has done so, else as the document
    /// says.
    pub fn deletes(&self, plan: &Plan) -> Deletes {
        match (self.repair, self.kept.first()) {
            (Some(Keep::Side(side)), _) | (_, Some(&(_, side))) => Deletes::Prefer(side),
            _ => plan.deletes,
        }
    }

    /// Who changed it, as the merge asks.
    pub fn edits(&self) -> merge::Edits {
        merge::Edits { at: self.at, own: self.own }
    }

    /// What the merge sees of a side.
    pub fn now(&self, plan: &Plan, side: Side) -> Now<'b> {
        match &self.seen[side as usize] {
            _ if self.leaves == Some(side) => Now::Gone,
            Seen::Nothing | Seen::Unread => Now::Unchanged,
            Seen::Gone => Now::Gone,
            Seen::Row(values) => {
                let sent = &self.sent[side as usize];
                let own = plan
                    .fields
                    .iter()
                    .enumerate()
                    .map(|(i, f)| f.column[side as usize].map_or(sent[i], |c| values[c]))
                    .collect();
                Now::Row(Row { own, sent: sent.clone() })
            }
        }
    }
}

/// The statements of one sync that read.
#[derive(Default)]
pub struct Readers {
    read: [Option<Statement>; 2],
    matched: [Option<Statement>; 2],
    twins: [Option<Statement>; 2],
    evaluate: [Option<Statement>; 2],
    pub(super) filter: [Option<Statement>; 2],
    pub(super) rules: [Option<Statement>; 2],
}

/// Turns halves into records. Inside a transaction and an SPI connection, as the sync's owner.
pub fn resolve<'b>(
    bump: &'b Bump,
    plan: &Plan,
    shapes: &mut Shapes,
    readers: &mut Readers,
    places: &mut Places,
    queued: &queue::Marks,
    halves: &[Half<'b>],
) -> Vec<Record<'b>> {
    let mut links = Links::open(plan, places);
    let mut records = pair(bump, plan, shapes, readers, &mut links, queued, halves);
    for side in Side::BOTH {
        read(bump, plan, readers, side, &mut records);
    }
    if !queued.is_empty() && find_renamed(bump, plan, &mut records) {
        for side in Side::BOTH {
            read(bump, plan, readers, side, &mut records);
        }
    }
    for side in Side::BOTH {
        evaluate(bump, plan, readers, side, &mut records);
    }
    for side in Side::BOTH {
        if match_existing(bump, plan, shapes, readers, &mut links, side, &mut records) {
            evaluate(bump, plan, readers, side, &mut records);
        }
    }
    links.close();
    records
}

/// A row that is not there under the key that its link knows may wait in the queue under another one: it was renamed, and
/// that has not arrived yet. True if there are such.
fn find_renamed<'b>(bump: &'b Bump, plan: &Plan, records: &mut [Record<'b>]) -> bool {
    let mut gone: Vec<(usize, Side, &'b [u8])> = Vec::new();
    for (n, record) in records.iter().enumerate() {
        let Some(link) = record.linked() else { continue };
        for side in Side::BOTH {
            let known = link.key_of(side);
            if !plan.is_remote(side)
                && record.seen[side as usize] == Seen::Gone
                && record.keys[side as usize].is_none_or(|key| key == known)
            {
                gone.push((n, side, known));
            }
        }
    }
    if gone.is_empty() {
        return false;
    }
    let renamed = queue::renamed(plan);
    let mut found = false;
    for (n, side, known) in gone {
        let (mut waiting, mut last) = (None, known);
        // However often it was renamed; not for ever, where names were swapped.
        for _ in 0..8 {
            let Some((key, at)) = renamed.get(&(side, last.to_vec())) else { break };
            (waiting, last) = (Some((key, *at)), key);
        }
        if let Some((key, at)) = waiting {
            let record = &mut records[n];
            record.keys[side as usize] = Some(bump.alloc_slice_copy(key));
            record.seen[side as usize] = Seen::Unread;
            record.at[side as usize] = at;
            found = true;
        }
    }
    found
}

/// Puts the halves that belong to one record together.
fn pair<'b>(
    bump: &'b Bump,
    plan: &Plan,
    shapes: &mut Shapes,
    readers: &mut Readers,
    links: &mut Links<'_>,
    queued: &queue::Marks,
    halves: &[Half<'b>],
) -> Vec<Record<'b>> {
    let mut records: Vec<Record<'b>> = Vec::with_capacity(halves.len());
    let mut by_link: HashMap<u64, usize> = HashMap::new();
    let mut by_key: HashMap<(Side, &'b [u8]), usize> = HashMap::new();
    let taken: HashSet<(Side, &'b [u8])> =
        halves.iter().filter_map(|h| Some((h.side, h.before?))).collect();
    // Keys that their row has left; one that comes from the queue says so by its successor.
    let gone: HashMap<(Side, &'b [u8]), usize> = halves
        .iter()
        .enumerate()
        .filter(|(_, h)| h.left || h.both && taken.contains(&(h.side, h.key)))
        .map(|(n, h)| ((h.side, h.key), n))
        .collect();
    let present: HashSet<(Side, &'b [u8])> = if taken.is_empty() && queued.is_empty() {
        HashSet::new()
    } else {
        halves.iter().map(|h| (h.side, h.key)).collect()
    };
    let waits =
        |side: Side, key: &[u8]| !queued.is_empty() && queued.contains(queue::mark(side, key));
    let mut moved = vec![false; halves.len()];
    let keys: Vec<(Side, &[u8])> = halves.iter().map(|h| (h.side, h.key)).collect();
    let mut found = links.find_all(bump, shapes, &keys);
    for (half, link) in halves.iter().zip(&mut found) {
        if link.as_ref().is_none_or(|l| l.deleted) && !taken.contains(&(half.side, half.key)) {
            let (side, mut key) = (half.side, half.key);
            let mut before = half.before;
            // A row that was renamed while it waited says in the queue what it was called; a row
            // renamed again and again is followed back only so far.
            for _ in 0..8 {
                if before.is_none() && waits(side, key) {
                    before = queue::waiting(plan, side, key)
                        .and_then(|w| w.before)
                        .map(|b| &*bump.alloc_slice_copy(&b));
                }
                let Some(old) = before.take() else { break };
                if let Some(renamed) = links.find(bump, shapes, side, old).filter(|l| !l.deleted) {
                    // Unless somebody else has the old key by now, the link goes along.
                    if let Some(&place) = gone.get(&(side, old)) {
                        moved[place] = true;
                        *link = Some(renamed);
                    } else if !present.contains(&(side, old))
                        && read_rows(bump, plan, readers, side, &[Some(old)])[0].is_none()
                    {
                        *link = Some(renamed);
                    }
                    break;
                }
                key = old;
            }
        }
    }
    for (n, (half, link)) in halves.iter().zip(found).enumerate() {
        if moved[n] {
            continue;
        }
        let same_key = if plan.same_key { half.side.other() } else { half.side };
        let place = match &link {
            Some(link) => *by_link.entry(super::link::place(link.tid)).or_insert(records.len()),
            None => by_key.get(&(same_key, half.key)).copied().unwrap_or(records.len()),
        };
        if place == records.len() {
            records.push(Record::new(link));
        }
        by_key.insert((half.side, half.key), place);
        let record = &mut records[place];
        let side = half.side as usize;
        record.keys[side] = Some(half.key);
        record.seen[side] = half.seen.clone();
        // What our own write came to is no user's change, and beats none (DECISIONS E7).
        record.at[side] = if half.echo { i64::MIN } else { half.at };
        if (half.echo && half.seen == Seen::Unread || half.at == i64::MIN)
            && waits(half.side, half.key)
            && let Some(waiting) = queue::waiting(plan, half.side, half.key)
        {
            // Somebody's edit waits under it.
            record.at[side] = waiting.changed_at;
        }
        record.echo &= half.echo;
        record.own[side] = half.echo;
        record.remade[side] |= half.remade;
        record.origin[side] = half.origin;
        record.last = half.last.or(record.last);
        record.entries.extend(half.entries.iter().map(|&e| (half.side, e)));
        let other = half.side.other() as usize;
        // What another system holds is not read here: it comes with its changes, and with each write.
        let readable = !plan.is_remote(half.side.other());
        let reads = half.both || half.remade;
        if readable && record.seen[other] == Seen::Nothing && (reads || !queued.is_empty()) {
            let key = match &record.link {
                Some(link) if !link.deleted => Some(link.key_of(half.side.other())),
                _ => plan.same_key.then_some(half.key),
            };
            if let Some(key) = key {
                if reads {
                    record.keys[other] = Some(key);
                    record.seen[other] = Seen::Unread;
                }
                if waits(half.side.other(), key) {
                    // What waits on the other side is merged now, or it would be forgotten when
                    // this record is settled.
                    record.keys[other] = Some(key);
                    record.seen[other] = Seen::Unread;
                    if let Some(waiting) = queue::waiting(plan, half.side.other(), key) {
                        record.at[other] = waiting.changed_at;
                    }
                }
            }
        }
    }
    for record in &mut records {
        for side in Side::BOTH {
            if record.own[side as usize] && !agrees(plan, record, side) {
                // What we wrote comes back from the log later than what we wrote after it: such an
                // image is no news, and where it differs only the row itself can tell why.
                record.logged[side as usize] =
                    std::mem::replace(&mut record.seen[side as usize], Seen::Unread);
            }
        }
    }
    screen::read_with(plan, &mut records);
    // Links are written in the order in which they lie.
    records.sort_by_key(|r| r.link.as_ref().map(|l| super::link::place(l.tid)));
    // A value left out because it did not change is what the base says; without a base, or where an
    // expression needs it, the row is read.
    for record in &mut records {
        for side in Side::BOTH {
            if let Seen::Row(values) = &record.seen[side as usize]
                && values.contains(&Value::Absent)
                && (record.linked().is_none()
                    || plan.evaluates()
                    || record.seen[side.other() as usize] != Seen::Nothing)
            {
                record.seen[side as usize] = Seen::Unread;
            }
        }
    }
    records
}

/// Is a side what the link says it is?
pub(super) fn agrees(plan: &Plan, record: &Record<'_>, side: Side) -> bool {
    let base = record.linked().and_then(|l| l.base.as_ref());
    match (&record.seen[side as usize], base) {
        (Seen::Row(values), Some(base)) => plan.fields.iter().enumerate().all(|(i, field)| {
            field.column[side as usize]
                .is_none_or(|c| values[c] == Value::Absent || values[c] == base.side(side)[i])
        }),
        (Seen::Gone, None) => true,
        (Seen::Nothing | Seen::Unread, _) => true,
        _ => false,
    }
}

/// Reads the rows that are not known from the log.
pub fn read<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    records: &mut [Record<'b>],
) {
    if plan.is_remote(side) {
        for record in records {
            if record.seen[side as usize] == Seen::Unread {
                record.seen[side as usize] = Seen::Nothing;
            }
        }
        return;
    }
    let wanted: Vec<usize> = (0..records.len())
        .filter(|&n| {
            records[n].seen[side as usize] == Seen::Unread
                && records[n].keys[side as usize].is_some()
        })
        .collect();
    if wanted.is_empty() {
        return;
    }
    let keys: Vec<_> = wanted.iter().map(|&n| records[n].keys[side as usize]).collect();
    let mut doubled = Vec::new();
    let rows = read_each(bump, plan, readers, side, &keys, |n| doubled.push(wanted[n]));
    for n in doubled {
        records[n].trouble = Some(polled::twice(plan, side));
    }
    for (&n, row) in wanted.iter().zip(rows) {
        let record = &mut records[n];
        record.seen[side as usize] = row.map_or(Seen::Gone, Seen::Row);
        if record.own[side as usize] {
            // Else somebody has changed it since.
            record.own[side as usize] = is_as_logged(record, side);
        }
    }
}

fn is_as_logged(record: &Record<'_>, side: Side) -> bool {
    match (&record.logged[side as usize], &record.seen[side as usize]) {
        (Seen::Row(logged), Seen::Row(row)) => {
            logged.iter().zip(*row).all(|(then, now)| *then == Value::Absent || then == now)
        }
        (Seen::Row(_), _) => false,
        (Seen::Gone, seen) => *seen == Seen::Gone,
        _ => false,
    }
}

/// The rows of a side that have these keys.
pub fn read_rows<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    keys: &[Option<&[u8]>],
) -> Vec<Option<&'b [Value<'b>]>> {
    read_each(bump, plan, readers, side, keys, |_| ())
}

/// The same; `twice` is told the places of keys that more than one row has.
fn read_each<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    keys: &[Option<&[u8]>],
    mut twice: impl FnMut(usize),
) -> Vec<Option<&'b [Value<'b>]>> {
    let table = plan.side(side);
    let statement = readers.read[side as usize].get_or_insert_with(|| {
        let columns: Vec<String> =
            table.columns.iter().map(|c| format!("t.{}", identifier(&c.name))).collect();
        let text = format!(
            "SELECT f.{ORD}, {} FROM {FED} AS f JOIN {} AS t ON {}",
            columns.join(", "),
            table.name,
            key_matches(table)
        );
        Statement::prepare(&text, FED, fed_key(table), false)
    });
    let lengths = table.key_lengths();
    let rows = keys.iter().map(|&key| key_values(bump, key, &lengths)).collect::<Vec<_>>();
    let mut read: Vec<Option<&'b [Value<'b>]>> = vec![None; keys.len()];
    let columns: Vec<&Column> = table.columns.iter().collect();
    statement.run(bump, rows.into_iter(), &columns, |ord, values| {
        if read[ord].replace(values).is_some() {
            twice(ord);
        }
    });
    read
}

/// The condition under which a row of `t` has the key of a fed row `f`.
pub fn key_matches(table: &Table) -> String {
    table
        .key_columns()
        .zip(&table.key_equals)
        .enumerate()
        .map(|(n, (column, equals))| {
            format!("t.{} OPERATOR({equals}) f.k{n}", identifier(&column.name))
        })
        .collect::<Vec<_>>()
        .join(" AND ")
}

pub fn fed_key(table: &Table) -> Vec<Fed> {
    table.key_columns().enumerate().map(|(n, c)| Fed::of(format!("k{n}"), c)).collect()
}

/// The values of a key, to be fed to a statement.
pub fn key_values<'k>(bump: &'k Bump, key: Option<&'k [u8]>, lengths: &[i16]) -> Vec<Value<'k>> {
    let value = |value: Cow<'k, [u8]>| {
        Value::Bytes(match value {
            Cow::Borrowed(bytes) => bytes,
            Cow::Owned(bytes) => bump.alloc_slice_copy(&bytes),
        })
    };
    key.and_then(|k| image::decode_key(k, lengths)).map_or_else(
        || vec![Value::Null; lengths.len()],
        |values| values.into_iter().map(value).collect(),
    )
}

/// Fills in what a side sends: copies, and one statement for all expressions of all rows.
pub fn evaluate<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    records: &mut [Record<'b>],
) {
    let s = side as usize;
    let mut pending = Vec::new();
    for (n, record) in records.iter_mut().enumerate() {
        let Seen::Row(values) = &record.seen[s] else { continue };
        if !record.sent[s].is_empty() {
            continue;
        }
        record.sent[s] = plan
            .fields
            .iter()
            .map(|f| match (&f.how[s], f.column[s]) {
                (Some(How::Copy), Some(c)) => values[c],
                _ => Value::Absent,
            })
            .collect();
        pending.push(n);
    }
    let evaluated: Vec<(usize, &str)> = plan
        .fields
        .iter()
        .enumerate()
        .filter_map(|(i, f)| Some((i, f.how[s].as_ref()?.sql()?)))
        .collect();
    if !pending.is_empty() && !evaluated.is_empty() {
        run_expressions(bump, plan, readers, side, records, &pending, &evaluated);
    }
    references::translate(bump, plan, side, records, &pending);
    if let Some(connector) = &plan.connector {
        values::canonicalise(bump, plan, connector.0.as_ref(), side, records, &pending);
    }
    screen::screen(bump, plan, readers, side, records, &pending);
}

fn run_expressions<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    records: &mut [Record<'b>],
    pending: &[usize],
    evaluated: &[(usize, &str)],
) {
    let (s, table, other) = (side as usize, plan.side(side), plan.side(side.other()));
    // The rows are fed under the name "source" with the table's own column names, which is how
    // expressions name them.
    let statement = readers.evaluate[s].get_or_insert_with(|| {
        let expressions: Vec<&str> = evaluated.iter().map(|e| e.1).collect();
        let fed: Vec<Fed> = table.columns.iter().map(|c| Fed::of(c.name.clone(), c)).collect();
        let ord = statement::ord(&fed);
        let text = format!("SELECT source.{ord}, {} FROM source AS source", expressions.join(", "));
        Statement::prepare(&text, "source", fed, false)
    });
    let results: Vec<&Column> = evaluated
        .iter()
        .filter_map(|(i, _)| {
            plan.fields[*i].column[side.other() as usize].map(|c| &other.columns[c])
        })
        .collect();
    let rows: Vec<&[Value<'b>]> = pending
        .iter()
        .map(|&n| match &records[n].seen[s] {
            Seen::Row(values) => *values,
            _ => &[][..],
        })
        .collect();
    statement.run(bump, rows.into_iter(), &results, |ord, values| {
        for (&(field, _), &value) in evaluated.iter().zip(values) {
            records[pending[ord]].sent[s][field] = value;
        }
    });
}

/// For records about to be created on `side`: is their row there already? Pairs what matches once;
/// what matches twice, or is another record's, goes to a person. True when rows were found.
fn match_existing<'b>(
    bump: &'b Bump,
    plan: &Plan,
    shapes: &mut Shapes,
    readers: &mut Readers,
    links: &mut Links<'_>,
    side: Side,
    records: &mut [Record<'b>],
) -> bool {
    let (s, from) = (side as usize, side.other());
    if plan.match_on.is_empty() || !plan.flows_from(from) || plan.is_remote(side) {
        return false;
    }
    let table = plan.side(side);
    // The value each pair is looked up by: what the field between the two columns sends.
    let pairs: Vec<(usize, Option<usize>, usize)> = plan
        .match_on
        .iter()
        .map(|&(source, target)| {
            let (own, theirs) =
                if side == Side::Source { (source, target) } else { (target, source) };
            let field = plan.fields.iter().position(|f| {
                f.column[s] == Some(own)
                    && f.column[from as usize] == Some(theirs)
                    && f.how[from as usize].is_some()
            });
            (own, field, theirs)
        })
        .collect();
    let value = |record: &Record<'b>, pair: &(usize, Option<usize>, usize)| match (
        &record.seen[from as usize],
        pair.1,
    ) {
        (Seen::Row(_), Some(field)) => record.sent[from as usize][field],
        (Seen::Row(values), None) => values[pair.2],
        _ => Value::Null,
    };
    let wanted: Vec<usize> = (0..records.len())
        .filter(|&n| {
            let record = &records[n];
            record.linked().is_none()
                && record.trouble.is_none()
                && record.seen[s] == Seen::Nothing
                && matches!(record.seen[from as usize], Seen::Row(_))
                && pairs.iter().all(|p| matches!(value(record, p), Value::Bytes(_)))
        })
        .collect();
    if wanted.is_empty() {
        return false;
    }
    let statement = readers.matched[s].get_or_insert_with(|| {
        let columns: Vec<String> =
            table.columns.iter().map(|c| format!("t.{}", identifier(&c.name))).collect();
        let matching = matching(plan, table, pairs.iter().map(|(own, ..)| &table.columns[*own]));
        let text =
            format!("SELECT f.{ORD}, {} FROM {FED} AS f CROSS JOIN {matching}", columns.join(", "));
        let fed = pairs
            .iter()
            .enumerate()
            .map(|(n, (own, ..))| Fed::of(format!("m{n}"), &table.columns[*own]))
            .collect();
        Statement::prepare(&text, FED, fed, false)
    });
    let rows: Vec<Vec<Value<'b>>> =
        wanted.iter().map(|&n| pairs.iter().map(|p| value(&records[n], p)).collect()).collect();
    let columns: Vec<&Column> = table.columns.iter().collect();
    let mut matches: Vec<Vec<&'b [Value<'b>]>> = vec![Vec::new(); wanted.len()];
    statement.run(bump, rows.into_iter(), &columns, |ord, values| matches[ord].push(values));
    let met: Vec<usize> =
        wanted.iter().zip(&matches).filter(|(_, rows)| rows.len() == 1).map(|(&n, _)| n).collect();
    let theirs: Vec<usize> = pairs.iter().map(|pair| pair.2).collect();
    let twins = twins(bump, plan, readers, from, &theirs, records, &met);
    let mut taken: HashMap<&'b [u8], usize> = HashMap::new();
    let mut any = false;
    for (&n, mut rows) in wanted.iter().zip(matches) {
        let Some(row) = rows.pop() else { continue };
        let trouble = |detail: &str| {
            Some(Failure {
                sqlstate: "21000".into(),
                message: format!("the row cannot be paired with one of {}", table.name),
                detail: Some(detail.into()),
                hint: Some(
                    "Make the columns of \"match_on\" unique, then retry the record.".into(),
                ),
            })
        };
        if !rows.is_empty() {
            records[n].trouble = trouble(
                "More than one row matches it; which one belongs to it is not for the sync to guess.",
            );
            continue;
        }
        let lengths = table.key_lengths();
        let Some(key) = image::encode_key(table.key.iter().map(|&k| row[k]), &lengths) else {
            continue;
        };
        let key = &*bump.alloc_slice_copy(&key);
        if twins.contains(&n) {
            records[n].trouble = trouble(
                "Another row here matches it too; which one belongs to it is not for the sync to guess.",
            );
            continue;
        }
        // Two that match the same row: neither is taken.
        if let Some(&other) = taken.get(key) {
            for n in [n, other] {
                records[n].trouble = trouble(
                    "More than one record matches the row; which one belongs to it is not for the sync to guess.",
                );
                records[n].keys[s] = None;
                records[n].seen[s] = Seen::Nothing;
            }
            continue;
        }
        taken.insert(key, n);
        if links.find(bump, shapes, side, key).is_some_and(|l| !l.deleted) {
            records[n].trouble =
                trouble("The row that matches it belongs to another record already.");
            continue;
        }
        records[n].keys[s] = Some(key);
        records[n].seen[s] = Seen::Row(row);
        any = true;
    }
    any
}

/// The rows `t` of a table that match what is fed as `f`, as they stand behind FROM: m0, m1 and so on are the values of
/// these of its columns.
fn matching<'c>(plan: &Plan, table: &Table, columns: impl Iterator<Item = &'c Column>) -> String {
    let mut from = format!("{} AS t", table.name);
    let mut on = Vec::new();
    for (n, column) in columns.enumerate() {
        let mut sides = [format!("t.{}", identifier(&column.name)), format!("f.m{n}")];
        if let Some(pair) = plan.config.match_on.get(n)
            && let Some(expression) = &pair.expression
        {
            for (value, side) in sides.iter_mut().zip(["t", "f"]) {
                // The planner pulls it up, so that an index on the expression serves.
                from += &format!(
                    " CROSS JOIN LATERAL (SELECT ({expression}\n) AS made FROM (SELECT {value} AS value) AS v) AS {side}{n}"
                );
                *value = format!("{side}{n}.made");
            }
        }
        on.push(sides.join(" = "));
    }
    format!("{from} WHERE {}", on.join(" AND "))
}

/// Those of the records that have a twin in their own table: another row of the same values in the columns by which
/// rows are paired. Of another system only what is read with them is known.
fn twins<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    columns: &[usize],
    records: &[Record<'b>],
    met: &[usize],
) -> HashSet<usize> {
    let mut found = HashSet::new();
    if plan.is_remote(side) || met.is_empty() {
        return found;
    }
    let table = plan.side(side);
    let named: Vec<&Column> = columns.iter().map(|&c| &table.columns[c]).collect();
    let statement = readers.twins[side as usize].get_or_insert_with(|| {
        let matching = matching(plan, table, named.iter().copied());
        // A second one is enough.
        let text = format!(
            "SELECT f.{ORD} FROM {FED} AS f WHERE EXISTS (SELECT FROM {matching} OFFSET 1)"
        );
        let fed = named.iter().enumerate().map(|(n, c)| Fed::of(format!("m{n}"), c)).collect();
        Statement::prepare(&text, FED, fed, false)
    });
    let rows: Vec<Vec<Value<'b>>> = met
        .iter()
        .map(|&n| match &records[n].seen[side as usize] {
            Seen::Row(row) => columns.iter().map(|&c| row[c]).collect(),
            _ => vec![Value::Null; columns.len()],
        })
        .collect();
    statement.run(bump, rows.into_iter(), &[], |ord, _| {
        found.insert(met[ord]);
    });
    found
}
