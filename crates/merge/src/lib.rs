//! The three-way merge of one linked record: field by field, by value, against the base that both
//! sides last agreed on. Clocks only decide where both sides moved a field to different values.
//!
//! Pure: plain values in, a [`Decision`] out. Each side is compared with what *it* last was, never
//! with the other side, so a transform that does not round-trip makes no side look changed.

use change::image::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    Source = 0,
    Target = 1,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Source, Side::Target];

    pub const fn other(self) -> Self {
        match self {
            Side::Source => Side::Target,
            Side::Target => Side::Source,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }
}

/// Which ways a field travels, and whose value stands where both sides changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub to_target: bool,
    pub to_source: bool,
    pub rule: Rule,
    /// Fields of one group are decided as one, such as the parts of an address: with them comes the rule of the first.
    pub group: Option<usize>,
    /// A null is no edit: it empties nothing, and stands against nothing.
    pub ignores_null: bool,
}

/// Who decides a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// The later change stands; at the same time the source's.
    #[default]
    Later,
    /// This side's change stands.
    Prefer(Side),
    /// A person. Until then each side keeps what it has.
    Review,
    /// A function: each side gets what it chose. Where it was not asked, the later change stands.
    Function,
}

impl Rule {
    /// The winner; `None`: a person says.
    pub fn winner(self, times: Times) -> Option<Side> {
        match self {
            Rule::Later | Rule::Function => Some(later(times)),
            Rule::Prefer(side) => Some(side),
            Rule::Review => None,
        }
    }
}

/// What becomes of a record that one side deleted while the other changed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletes {
    /// Whichever was later stands; at the same time the source's.
    #[default]
    Later,
    /// What this side did stands.
    Prefer(Side),
    /// It stays deleted.
    Delete,
    /// It is created again.
    Edit,
    /// A person says. Until then each side stays as it is.
    Review,
}

impl Deletes {
    /// The side whose deed stands, of the one that deleted the record and the other, which changed it; `None`: a person
    /// says.
    fn winner(self, deleted: Side, times: Times) -> Option<Side> {
        match self {
            Deletes::Later => Some(later(times)),
            Deletes::Prefer(side) => Some(side),
            Deletes::Delete => Some(deleted),
            Deletes::Edit => Some(deleted.other()),
            Deletes::Review => None,
        }
    }
}

impl Flow {
    /// Does it leave this side?
    pub fn from(self, side: Side) -> bool {
        match side {
            Side::Source => self.to_target,
            Side::Target => self.to_source,
        }
    }

    /// Is this sent, or kept back because it is a null?
    fn sends(self, value: Value<'_>) -> bool {
        !self.ignores_null || value != Value::Null
    }
}

/// A row of one side, one value a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// In this side's own terms; `Absent` where the change left the column alone.
    pub own: Vec<Value<'a>>,
    /// As the other side would hold it; `Absent` where the field does not travel from here.
    pub sent: Vec<Value<'a>>,
}

/// What is known of one side now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Now<'a> {
    /// Nothing captured: it is what the base says.
    #[default]
    Unchanged,
    Gone,
    Row(Row<'a>),
}

/// The last agreement: each side's own value a field; `Absent` for one that was not synced then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base<'a> {
    pub source: Vec<Value<'a>>,
    pub target: Vec<Value<'a>>,
}

impl<'a> Base<'a> {
    pub fn side(&self, side: Side) -> &[Value<'a>] {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// Was the field not synced yet when this was agreed on?
    fn is_new(&self, field: usize) -> bool {
        self.source[field] == Value::Absent || self.target[field] == Value::Absent
    }

    pub fn set(&mut self, side: Side, field: usize, value: Value<'a>) {
        match side {
            Side::Source => self.source[field] = value,
            Side::Target => self.target[field] = value,
        }
    }
}

/// What has to be written to one side.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Write {
    #[default]
    Nothing,
    /// The row, from the other side's `sent` values.
    Insert,
    /// These fields, from the other side's `sent` values.
    Update(Vec<usize>),
    Delete,
}

/// A field that both sides moved away from the base to different values, or that one side edited while
/// the other deleted the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub field: usize,
    /// `None`: a person decides, and each side has kept its value; or a function has chosen.
    pub winner: Option<Side>,
    /// Each side gets what a function chose.
    pub chosen: bool,
}

impl Conflict {
    fn won_by(field: usize, winner: Option<Side>) -> Self {
        Self { field, winner, chosen: false }
    }
}

/// What a function chose for a field: the value of each side.
pub type Choice<'a> = (usize, [Value<'a>; 2]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Indexed by [`Side`]: what to write there.
    pub write: [Write; 2],
    pub conflicts: Vec<Conflict>,
    /// The new agreement; `None` when the record is gone on both sides.
    pub base: Option<Base<'a>>,
}

impl Decision<'_> {
    pub fn writes_nothing(&self) -> bool {
        self.write.iter().all(|w| *w == Write::Nothing)
    }
}

/// When each side was last changed; any unit, larger is later.
pub type Times = [i64; 2];

/// Last write wins, and where the clocks agree the source does: a total order, so that both
/// directions decide alike.
pub fn later(times: Times) -> Side {
    if times[Side::Target as usize] > times[Side::Source as usize] {
        Side::Target
    } else {
        Side::Source
    }
}

/// What is known of who changed a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    pub at: Times,
    /// Whatever this side has that is new came of what the sync itself wrote there: of a trigger, say. It reaches the
    /// other side, but stands against no edit that somebody made there, whatever the rule.
    pub own: [bool; 2],
}

impl From<Times> for Edits {
    fn from(at: Times) -> Self {
        Self { at, own: [false; 2] }
    }
}

impl Edits {
    /// The only side on which somebody changed something.
    pub fn only(self) -> Option<Side> {
        match self.own {
            [false, true] => Some(Side::Source),
            [true, false] => Some(Side::Target),
            _ => None,
        }
    }
}

/// Merges one record. `base` is `None` for a record that was never linked, or is linked to nothing
/// any more; `chosen` is what a function chose for the fields that are in [`disputed`].
pub fn merge<'a>(
    flows: &[Flow],
    deletes: Deletes,
    base: Option<&Base<'a>>,
    now: &[Now<'a>; 2],
    edits: impl Into<Edits>,
    chosen: &[Choice<'a>],
) -> Decision<'a> {
    let [source, target] = now;
    let edits = edits.into();
    let of_delete = |side| edits.only().or_else(|| deletes.winner(side, edits.at));
    match (source, target) {
        (Now::Unchanged, Now::Unchanged) => settled(base.cloned()),
        (Now::Gone, Now::Gone | Now::Unchanged) => gone(flows, base, Side::Source, target),
        (Now::Unchanged, Now::Gone) => gone(flows, base, Side::Target, source),
        (Now::Row(row), Now::Unchanged) => one_side(flows, base, Side::Source, row),
        (Now::Unchanged, Now::Row(row)) => one_side(flows, base, Side::Target, row),
        (Now::Row(source), Now::Row(target)) => both(flows, base, [source, target], edits, chosen),
        (Now::Gone, Now::Row(row)) => {
            deleted_and_present(flows, base, Side::Source, row, of_delete(Side::Source))
        }
        (Now::Row(row), Now::Gone) => {
            deleted_and_present(flows, base, Side::Target, row, of_delete(Side::Target))
        }
    }
}

fn settled(base: Option<Base<'_>>) -> Decision<'_> {
    Decision { write: Default::default(), conflicts: Vec::new(), base }
}

/// Does anything at all travel from this side? Then its deletes do too.
fn flows_from(flows: &[Flow], side: Side) -> bool {
    flows.iter().any(|f| f.from(side))
}

fn gone<'a>(flows: &[Flow], base: Option<&Base<'a>>, side: Side, other: &Now<'a>) -> Decision<'a> {
    let mut decision = settled(None);
    if base.is_some() && *other == Now::Unchanged {
        if flows_from(flows, side) {
            decision.write[side.other() as usize] = Write::Delete;
        } else {
            // A copy that was deleted on the side that decides nothing.
            decision.base = base.cloned();
        }
    }
    decision
}

fn one_side<'a>(
    flows: &[Flow],
    base: Option<&Base<'a>>,
    side: Side,
    row: &Row<'a>,
) -> Decision<'a> {
    let Some(base) = base else {
        let mut decision = settled(None);
        if flows_from(flows, side) {
            decision.write[side.other() as usize] = Write::Insert;
            decision.base = Some(agreed_on(flows, side, row));
        }
        return decision;
    };
    let mut decision = settled(Some(base.clone()));
    let mut fields = Vec::new();
    if let Some(agreed) = &mut decision.base {
        for (field, flow) in flows.iter().enumerate() {
            // An empty field that is new to the sync is no edit that would empty the other side's.
            let nothing = base.is_new(field) && row.sent[field] == Value::Null;
            if flow.from(side) && moved(row.own[field], base.side(side)[field]) && !nothing {
                agreed.set(side, field, row.own[field]);
                if row.sent[field] != base.side(side.other())[field] && flow.sends(row.sent[field])
                {
                    agreed.set(side.other(), field, row.sent[field]);
                    fields.push(field);
                }
            }
        }
    }
    if !fields.is_empty() {
        decision.write[side.other() as usize] = Write::Update(fields);
    }
    decision
}

fn both<'a>(
    flows: &[Flow],
    base: Option<&Base<'a>>,
    rows: [&Row<'a>; 2],
    edits: Edits,
    chosen: &[Choice<'a>],
) -> Decision<'a> {
    let start = base
        .cloned()
        .unwrap_or_else(|| Base { source: rows[0].own.clone(), target: rows[1].own.clone() });
    let mut decision = settled(Some(start));
    let mut fields: [Vec<usize>; 2] = Default::default();
    let changed = changes(flows, base, rows);
    let met = met_groups(flows, &changed, rows);
    for (field, flow) in flows.iter().enumerate() {
        // What goes one way comes from there, whoever wins the rest.
        let together = flow.to_source
            && flow.to_target
            && flow.group.is_some_and(|group| met.contains(&group));
        let changed = if together { [true, true] } else { changed[field] };
        // A field that is new to the sync, and empty on one side: it is filled from the other.
        let filled = filled_from(base, field, rows);
        if changed == [true, true]
            && filled.is_none()
            && let Some((_, values)) = chosen.iter().find(|(of, _)| *of == field)
        {
            decision.conflicts.push(Conflict { field, winner: None, chosen: true });
            for side in Side::BOTH {
                let value = values[side as usize];
                if value != held(&decision, field, side, rows) {
                    fields[side as usize].push(field);
                }
                if let Some(agreed) = &mut decision.base {
                    agreed.set(side, field, value);
                }
            }
            continue;
        }
        for side in Side::BOTH {
            // What is kept back is what this side holds from now on.
            let row = rows[side as usize];
            if flow.from(side)
                && !flow.sends(row.sent[field])
                && row.own[field] != Value::Absent
                && let Some(agreed) = &mut decision.base
            {
                agreed.set(side, field, row.own[field]);
            }
        }
        let winner = match changed {
            [false, false] => continue,
            [true, false] => Side::Source,
            [false, true] => Side::Target,
            [true, true] => match filled.or(edits.only()).or_else(|| flow.rule.winner(edits.at)) {
                Some(winner) => winner,
                None => {
                    differ(&mut decision, field, rows);
                    continue;
                }
            },
        };
        let row = rows[winner as usize];
        let other = winner.other();
        if !flow.sends(row.sent[field]) {
            // It lost nothing by its group's winning.
            continue;
        }
        let differs = row.sent[field] != held(&decision, field, other, rows);
        if changed == [true, true] && differs && filled.is_none() {
            decision.conflicts.push(Conflict::won_by(field, Some(winner)));
        }
        if let Some(agreed) = &mut decision.base {
            agreed.set(winner, field, row.own[field]);
            agreed.set(other, field, row.sent[field]);
        }
        if differs {
            fields[other as usize].push(field);
        }
    }
    for (write, fields) in decision.write.iter_mut().zip(fields) {
        if !fields.is_empty() {
            *write = Write::Update(fields);
        }
    }
    decision
}

/// Which fields each side changed.
fn changes(flows: &[Flow], base: Option<&Base<'_>>, rows: [&Row<'_>; 2]) -> Vec<[bool; 2]> {
    let by = |field: usize, flow: &Flow, side: Side| {
        let own = rows[side as usize].own[field];
        flow.from(side)
            && flow.sends(rows[side as usize].sent[field])
            && base.is_none_or(|b| moved(own, b.side(side)[field]))
    };
    flows
        .iter()
        .enumerate()
        .map(|(field, flow)| Side::BOTH.map(|side| by(field, flow, side)))
        .collect()
}

/// The side from which a field that is new to the sync is filled, where it is empty on the other.
fn filled_from(base: Option<&Base<'_>>, field: usize, rows: [&Row<'_>; 2]) -> Option<Side> {
    base.filter(|b| b.is_new(field)).and_then(|_| {
        match Side::BOTH.map(|side| rows[side as usize].sent[field] == Value::Null) {
            [false, true] => Some(Side::Source),
            [true, false] => Some(Side::Target),
            _ => None,
        }
    })
}

/// What a side holds of a field.
fn held<'a>(decision: &Decision<'a>, field: usize, side: Side, rows: [&Row<'a>; 2]) -> Value<'a> {
    match rows[side as usize].own[field] {
        Value::Absent => decision.base.as_ref().map_or(Value::Absent, |b| b.side(side)[field]),
        value => value,
    }
}

/// The fields of which a function has to choose the value: both sides moved them to different ones.
pub fn disputed(
    flows: &[Flow],
    base: Option<&Base<'_>>,
    now: &[Now<'_>; 2],
    edits: impl Into<Edits>,
) -> Vec<usize> {
    let [Now::Row(source), Now::Row(target)] = now else { return Vec::new() };
    if edits.into().only().is_some() {
        return Vec::new();
    }
    let rows = [source, target];
    let changed = changes(flows, base, rows);
    (0..flows.len())
        .filter(|&field| {
            flows[field].rule == Rule::Function
                && changed[field] == [true, true]
                && source.sent[field] != target.own[field]
                && filled_from(base, field, rows).is_none()
        })
        .collect()
}

/// The groups of which both sides changed something, and not to the same.
fn met_groups(flows: &[Flow], changed: &[[bool; 2]], rows: [&Row<'_>; 2]) -> Vec<usize> {
    let mut groups: Vec<usize> = flows.iter().filter_map(|flow| flow.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.retain(|group| {
        let fields = || (0..flows.len()).filter(|&field| flows[field].group == Some(*group));
        let [source, target] = rows;
        Side::BOTH.iter().all(|&side| fields().any(|field| changed[field][side as usize]))
            && fields().any(|field| {
                changed[field] != [false, false] && source.sent[field] != target.own[field]
            })
    });
    groups
}

/// Both sides keep what they have, and that they differ is what they have agreed on, until one of them changes again.
fn differ<'a>(decision: &mut Decision<'a>, field: usize, rows: [&Row<'a>; 2]) {
    let [source, target] = rows;
    if source.sent[field] != target.own[field] && target.sent[field] != source.own[field] {
        decision.conflicts.push(Conflict::won_by(field, None));
    }
    if let Some(agreed) = &mut decision.base {
        for (side, row) in Side::BOTH.into_iter().zip(rows) {
            if row.own[field] != Value::Absent {
                agreed.set(side, field, row.own[field]);
            }
        }
    }
}

/// `side` deleted the record, the other side has `row`; `winner` stands where that was changed.
fn deleted_and_present<'a>(
    flows: &[Flow],
    base: Option<&Base<'a>>,
    side: Side,
    row: &Row<'a>,
    winner: Option<Side>,
) -> Decision<'a> {
    let holder = side.other();
    let edits: Vec<usize> = (0..flows.len())
        .filter(|&i| {
            flows[i].from(holder) && base.is_none_or(|b| moved(row.own[i], b.side(holder)[i]))
        })
        .collect();
    let delete_travels = flows_from(flows, side) && base.is_some();
    let edit_travels = flows_from(flows, holder);
    if winner.is_none() && delete_travels && edit_travels && !edits.is_empty() {
        let mut decision = settled(base.cloned());
        decision.conflicts = edits.into_iter().map(|field| Conflict::won_by(field, None)).collect();
        return decision;
    }
    // A delete that does not travel leaves a copy missing; what travels towards it restores it.
    let restore =
        edit_travels && (!delete_travels || (!edits.is_empty() && winner == Some(holder)));
    let mut decision = settled(None);
    if delete_travels {
        let winner = Some(if restore { holder } else { side });
        decision.conflicts =
            edits.into_iter().map(|field| Conflict::won_by(field, winner)).collect();
    }
    if restore {
        decision.write[side as usize] = Write::Insert;
        decision.base = Some(agreed_on(flows, holder, row));
    } else if delete_travels {
        decision.write[holder as usize] = Write::Delete;
    } else {
        decision.base = base.cloned();
    }
    decision
}

/// What both sides hold once `row` has been written to the other side.
fn agreed_on<'a>(flows: &[Flow], side: Side, row: &Row<'a>) -> Base<'a> {
    let sent: Vec<Value<'a>> = flows
        .iter()
        .enumerate()
        .map(|(i, f)| if f.from(side) { row.sent[i] } else { Value::Null })
        .collect();
    match side {
        Side::Source => Base { source: row.own.clone(), target: sent },
        Side::Target => Base { source: sent, target: row.own.clone() },
    }
}

fn moved(now: Value<'_>, base: Value<'_>) -> bool {
    now != Value::Absent && now != base
}

#[cfg(test)]
mod tests;
