use super::*;
use proptest::prelude::*;

const TWO_WAY: Flow =
    Flow { to_target: true, to_source: true, rule: Rule::Later, group: None, ignores_null: false };
const FORWARD: Flow =
    Flow { to_target: true, to_source: false, rule: Rule::Later, group: None, ignores_null: false };

fn merge<'a>(
    flows: &[Flow],
    base: Option<&Base<'a>>,
    now: &[Now<'a>; 2],
    times: Times,
) -> Decision<'a> {
    super::merge(flows, Deletes::Later, base, now, times, &[])
}

fn row<'a>(values: &[&'a str]) -> Row<'a> {
    let own: Vec<_> = values.iter().map(|v| Value::Bytes(v.as_bytes())).collect();
    Row { sent: own.clone(), own }
}

fn base<'a>(values: &[&'a str]) -> Base<'a> {
    let own = row(values).own;
    Base { source: own.clone(), target: own }
}

#[test]
fn edits_of_different_fields_both_survive() {
    let d = merge(
        &[TWO_WAY; 2],
        Some(&base(&["a", "b"])),
        &[Now::Row(row(&["x", "b"])), Now::Row(row(&["a", "y"]))],
        [1, 2],
    );
    assert_eq!(d.write, [Write::Update(vec![1]), Write::Update(vec![0])]);
    assert!(d.conflicts.is_empty());
    assert_eq!(d.base, Some(base(&["x", "y"])));
}

#[test]
fn the_later_of_two_edits_wins_and_the_source_wins_a_tie() {
    for (times, winner) in [([1, 2], Side::Target), ([2, 1], Side::Source), ([3, 3], Side::Source)]
    {
        let d = merge(
            &[TWO_WAY],
            Some(&base(&["a"])),
            &[Now::Row(row(&["s"])), Now::Row(row(&["t"]))],
            times,
        );
        assert_eq!(d.conflicts, [Conflict::won_by(0, Some(winner))]);
        assert_eq!(d.write[winner as usize], Write::Nothing);
        assert_eq!(d.write[winner.other() as usize], Write::Update(vec![0]));
    }
}

#[test]
fn a_null_that_is_kept_back_empties_nothing_and_stands_against_nothing() {
    const KEPT: Flow = Flow { ignores_null: true, ..TWO_WAY };
    let emptied = || {
        let mut row = row(&["a"]);
        (row.own[0], row.sent[0]) = (Value::Null, Value::Null);
        Now::Row(row)
    };
    let agreed = base(&["a"]);
    let alone = merge(&[KEPT], Some(&agreed), &[emptied(), Now::Unchanged], [1, 0]);
    assert!(alone.writes_nothing());
    let differ = Base { source: vec![Value::Null], ..agreed.clone() };
    assert_eq!(alone.base, Some(differ.clone()));
    // From there on the field travels as any other, whichever side it is edited on.
    let edited = || Now::Row(row(&["b"]));
    for now in [[edited(), Now::Unchanged], [Now::Unchanged, edited()], [emptied(), edited()]] {
        let written = if now[0] == edited() { Side::Target } else { Side::Source };
        let d = merge(&[KEPT], Some(&differ), &now, [9, 1]);
        assert_eq!(d.write[written as usize], Write::Update(vec![0]), "{now:?}");
        assert_eq!(
            (d.write[written.other() as usize].clone(), d.base),
            (Write::Nothing, Some(base(&["b"])))
        );
    }
    // Against an edit that it met, and without any agreement.
    for base in [Some(&agreed), None] {
        let met = merge(&[KEPT], base, &[emptied(), edited()], [9, 1]);
        assert_eq!(met.write, [Write::Update(vec![0]), Write::Nothing]);
        assert!(met.conflicts.is_empty());
    }
    // As part of a group it is not written either, also if its side wins.
    let part = Flow { group: Some(0), ..KEPT };
    let now = [
        Now::Row(Row {
            own: vec![Value::Null, Value::Bytes(b"x")],
            sent: vec![Value::Null, Value::Bytes(b"x")],
        }),
        Now::Row(row(&["b", "y"])),
    ];
    let d = merge(&[part; 2], Some(&base(&["a", "c"])), &now, [9, 1]);
    assert_eq!(d.write, [Write::Nothing, Write::Update(vec![1])]);
}

#[test]
fn an_echo_sends_nothing() {
    let d =
        merge(&[TWO_WAY], Some(&base(&["a"])), &[Now::Unchanged, Now::Row(row(&["a"]))], [0, 9]);
    assert!(d.writes_nothing());
}

#[test]
fn equal_edits_are_no_conflict() {
    let d = merge(
        &[TWO_WAY],
        Some(&base(&["a"])),
        &[Now::Row(row(&["n"])), Now::Row(row(&["n"]))],
        [0, 9],
    );
    assert!(d.writes_nothing() && d.conflicts.is_empty());
    assert_eq!(d.base, Some(base(&["n"])));
}

#[test]
fn an_unrecorded_value_is_unchanged() {
    let mut partial = row(&["x", "?"]);
    partial.own[1] = Value::Absent;
    partial.sent[1] = Value::Absent;
    let d = merge(
        &[TWO_WAY; 2],
        Some(&base(&["a", "b"])),
        &[Now::Row(partial), Now::Unchanged],
        [0, 0],
    );
    assert_eq!(d.write[1], Write::Update(vec![0]));
    assert_eq!(d.base, Some(base(&["x", "b"])));
}

#[test]
fn delete_against_edit_goes_by_time_and_is_recorded() {
    let b = base(&["a"]);
    let d = merge(&[TWO_WAY], Some(&b), &[Now::Gone, Now::Row(row(&["e"]))], [1, 2]);
    assert_eq!(d.write, [Write::Insert, Write::Nothing]);
    assert_eq!(d.conflicts, [Conflict::won_by(0, Some(Side::Target))]);
    let d = merge(&[TWO_WAY], Some(&b), &[Now::Gone, Now::Row(row(&["e"]))], [2, 1]);
    assert_eq!(d.write, [Write::Nothing, Write::Delete]);
    assert_eq!(d.conflicts, [Conflict::won_by(0, Some(Side::Source))]);
}

#[test]
fn of_a_record_deleted_against_edits_each_edited_field_is_recorded() {
    let b = base(&["a", "b", "c"]);
    let edited = Now::Row(row(&["a", "x", "y"]));
    let d = merge(&[TWO_WAY; 3], Some(&b), &[edited, Now::Gone], [1, 2]);
    assert_eq!(d.write, [Write::Delete, Write::Nothing]);
    let lost = |field| Conflict::won_by(field, Some(Side::Target));
    assert_eq!(d.conflicts, [lost(1), lost(2)]);
}

#[test]
fn a_delete_beats_a_mere_echo() {
    let d = merge(&[TWO_WAY], Some(&base(&["a"])), &[Now::Row(row(&["a"])), Now::Gone], [9, 1]);
    assert_eq!(d.write, [Write::Delete, Write::Nothing]);
    assert!(d.conflicts.is_empty() && d.base.is_none());
}

#[test]
fn one_way_restores_a_copy_that_was_deleted_and_never_deletes_its_source() {
    let d = merge(&[FORWARD], Some(&base(&["a"])), &[Now::Row(row(&["a"])), Now::Gone], [1, 9]);
    assert_eq!(d.write, [Write::Nothing, Write::Insert]);
    let d = merge(&[FORWARD], Some(&base(&["a"])), &[Now::Unchanged, Now::Gone], [1, 9]);
    assert!(d.writes_nothing() && d.base.is_some());
}

#[test]
fn rows_that_exist_on_both_sides_without_a_link_are_joined() {
    let d = merge(
        &[TWO_WAY; 2],
        None,
        &[Now::Row(row(&["k", "s"])), Now::Row(row(&["k", "t"]))],
        [2, 1],
    );
    assert_eq!(d.write, [Write::Nothing, Write::Update(vec![1])]);
    assert_eq!(d.conflicts, [Conflict::won_by(1, Some(Side::Source))]);
    let d = merge(
        &[FORWARD; 2],
        None,
        &[Now::Row(row(&["k", "s"])), Now::Row(row(&["k", "t"]))],
        [1, 2],
    );
    assert_eq!(d.write, [Write::Nothing, Write::Update(vec![1])]);
    assert!(d.conflicts.is_empty());
}

/// Two sides, edits and merges in any order: after the last merge both sides are equal, and no
/// value that only one side wrote since the last merge is lost.
#[derive(Clone, Debug)]
enum Step {
    Edit(bool, usize, u8),
    Delete(bool),
    Insert(bool, [u8; 3]),
    Merge(i64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 0usize..3, any::<u8>()).prop_map(|(s, f, v)| Step::Edit(s, f, v)),
        1 => any::<bool>().prop_map(Step::Delete),
        1 => (any::<bool>(), any::<[u8; 3]>()).prop_map(|(s, v)| Step::Insert(s, v)),
        3 => (0i64..5, 0i64..5).prop_map(|(a, b)| Step::Merge(a, b)),
    ]
}

type Held = Option<[u8; 3]>;

fn now<'a>(held: &'a Held, dirty: bool) -> Now<'a> {
    match (dirty, held) {
        (false, _) => Now::Unchanged,
        (true, None) => Now::Gone,
        (true, Some(values)) => {
            let own: Vec<_> =
                values.iter().map(|v| Value::Bytes(std::slice::from_ref(v))).collect();
            Now::Row(Row { sent: own.clone(), own })
        }
    }
}

fn apply(side: &mut Held, write: &Write, from: &Held) {
    match write {
        Write::Nothing => {}
        Write::Insert => *side = *from,
        Write::Delete => *side = None,
        Write::Update(fields) => {
            if let (Some(to), Some(from)) = (side.as_mut(), from) {
                for &f in fields {
                    to[f] = from[f];
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn both_sides_converge(steps in prop::collection::vec(step(), 1..40)) {
        let mut sides: [Held; 2] = [Some([0; 3]); 2];
        let mut dirty = [false; 2];
        let mut linked: Held = Some([0; 3]);
        let mut steps = steps;
        steps.push(Step::Merge(1, 1));
        for step in steps {
            match step {
                Step::Edit(s, f, v) => {
                    if let Some(row) = &mut sides[usize::from(s)] {
                        row[f] = v;
                        dirty[usize::from(s)] = true;
                    }
                }
                Step::Delete(s) => {
                    dirty[usize::from(s)] |= sides[usize::from(s)].take().is_some();
                }
                Step::Insert(s, v) => {
                    if sides[usize::from(s)].is_none() {
                        sides[usize::from(s)] = Some(v);
                        dirty[usize::from(s)] = true;
                    }
                }
                Step::Merge(a, b) => {
                    let before = sides;
                    let values = linked;
                    let base = values.as_ref().map(|v| {
                        let own: Vec<_> = v.iter().map(|v| Value::Bytes(std::slice::from_ref(v))).collect();
                        Base { source: own.clone(), target: own }
                    });
                    let now = [now(&before[0], dirty[0]), now(&before[1], dirty[1])];
                    let d = merge(&[TWO_WAY; 3], base.as_ref(), &now, [a, b]);
                    apply(&mut sides[0], &d.write[0], &before[1]);
                    apply(&mut sides[1], &d.write[1], &before[0]);
                    prop_assert_eq!(sides[0], sides[1]);
                    prop_assert_eq!(d.base.is_some(), sides[0].is_some());
                    if let (Some(old), Some(s), Some(t), Some(now)) = (values, before[0], before[1], sides[0]) {
                        for f in 0..3 {
                            if dirty[0] && s[f] != old[f] && t[f] == old[f] { prop_assert_eq!(now[f], s[f]); }
                            if dirty[1] && t[f] != old[f] && s[f] == old[f] { prop_assert_eq!(now[f], t[f]); }
                        }
                    }
                    linked = sides[0];
                    dirty = [false; 2];
                }
            }
        }
    }
}

fn base_of(held: &Held) -> Option<Base<'_>> {
    held.as_ref().map(|values| {
        let own: Vec<_> = values.iter().map(|v| Value::Bytes(std::slice::from_ref(v))).collect();
        Base { source: own.clone(), target: own }
    })
}

/// What a user does to a row.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Nothing,
    Set(usize, u8),
    Replace([u8; 3]),
    Delete,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        1 => Just(Edit::Nothing),
        4 => (0usize..3, 0u8..4).prop_map(|(f, v)| Edit::Set(f, v)),
        1 => any::<[u8; 3]>().prop_map(Edit::Replace),
        1 => Just(Edit::Delete),
    ]
}

impl Edit {
    /// True when it did something.
    fn make(self, held: &mut Held) -> bool {
        let before = *held;
        match (self, held.as_mut()) {
            (Edit::Set(f, v), Some(row)) => row[f] = v,
            (Edit::Replace(v), _) => *held = Some(v),
            (Edit::Delete, _) => *held = None,
            _ => {}
        }
        *held != before
    }
}

/// Clocks that agree, that are apart, and that run backwards.
fn clocks() -> impl Strategy<Value = Vec<i64>> {
    let length = 1..24usize;
    prop_oneof![
        length.clone().prop_map(|n| vec![7; n]),
        length.clone().prop_map(|n| (0..n as i64).rev().collect()),
        prop::collection::vec(-3i64..3, length.clone()),
        prop::collection::vec(any::<i64>(), length),
    ]
}

/// As the engine does it: a side that nothing is known of is taken for what the base says, and what is
/// written there is checked against that; if it was otherwise, both sides are looked at.
fn merge_checked(sides: &mut [Held; 2], linked: &mut Held, known: [bool; 2], times: Times) {
    let (before, agreed) = (*sides, *linked);
    let now = [now(&before[0], known[0]), now(&before[1], known[1])];
    let decision = merge(&[TWO_WAY; 3], base_of(&agreed).as_ref(), &now, times);
    let holds = Side::BOTH.into_iter().all(|side| {
        let s = side as usize;
        known[s]
            || match &decision.write[s] {
                Write::Nothing => true,
                Write::Insert => before[s].is_none(),
                Write::Delete => before[s] == agreed,
                Write::Update(fields) => match (&before[s], &agreed) {
                    (Some(row), Some(base)) => fields.iter().all(|&f| row[f] == base[f]),
                    _ => false,
                },
            }
    });
    if !holds {
        return merge_checked(sides, linked, [true; 2], times);
    }
    for side in Side::BOTH {
        let from = before[side.other() as usize];
        apply(&mut sides[side as usize], &decision.write[side as usize], &from);
    }
    *linked = decision.base.map(|base| {
        let mut values = [0; 3];
        for (value, own) in values.iter_mut().zip(&base.source) {
            *value = own.bytes().map_or(0, |b| b[0]);
        }
        values
    });
}

/// Three tables with a sync between each two neighbours.
struct Chain {
    tables: [Held; 3],
    linked: [Held; 2],
    changed_at: [i64; 3],
}

impl Chain {
    /// Works on one of the syncs; true when it wrote.
    fn work(&mut self, link: usize, clock: &mut impl Iterator<Item = i64>) -> bool {
        let mut sides = [self.tables[link], self.tables[link + 1]];
        let times = [self.changed_at[link], self.changed_at[link + 1]];
        merge_checked(&mut sides, &mut self.linked[link], [true; 2], times);
        let mut wrote = false;
        for (n, side) in sides.into_iter().enumerate() {
            if self.tables[link + n] != side {
                self.tables[link + n] = side;
                self.changed_at[link + n] = clock.next().unwrap_or(0);
                wrote = true;
            }
        }
        wrote
    }
}

proptest! {
    /// P11: whichever side's change is seen first, or both at once, the outcome is the same.
    #[test]
    fn the_order_in_which_the_sides_are_seen_does_not_matter(
        start in any::<[u8; 3]>(), edits in (edit(), edit()), times in (-2i64..3, -2i64..3),
    ) {
        let mut sides: [Held; 2] = [Some(start); 2];
        let changed = [edits.0.make(&mut sides[0]), edits.1.make(&mut sides[1])];
        let times = [times.0, times.1];
        let mut outcomes = Vec::new();
        for orders in [vec![changed], vec![[changed[0], false], [false, changed[1]]], vec![[false, changed[1]], [changed[0], false]]] {
            let (mut sides, mut linked) = (sides, Some(start));
            for known in orders {
                if known != [false; 2] {
                    merge_checked(&mut sides, &mut linked, known, times);
                }
            }
            prop_assert_eq!(sides[0], sides[1]);
            prop_assert_eq!(sides[0], linked);
            outcomes.push(sides);
        }
        prop_assert_eq!(outcomes[0], outcomes[1]);
        prop_assert_eq!(outcomes[0], outcomes[2]);
    }

    /// P11: a chain of three tables comes to rest, all equal, whatever the clocks say and whichever link
    /// is worked on when.
    #[test]
    fn three_tables_in_a_chain_come_to_rest(
        steps in prop::collection::vec((0usize..3, edit(), prop::option::of(0usize..2)), 1..24), clocks in clocks(),
    ) {
        let mut chain = Chain { tables: [Some([0; 3]); 3], linked: [Some([0; 3]); 2], changed_at: [0; 3] };
        let mut clock = clocks.iter().copied().cycle();
        for (table, edit, link) in steps {
            if edit.make(&mut chain.tables[table]) {
                chain.changed_at[table] = clock.next().unwrap_or(0);
            }
            if let Some(link) = link {
                chain.work(link, &mut clock);
            }
        }
        let mut rounds = 0;
        while chain.work(0, &mut clock) | chain.work(1, &mut clock) {
            rounds += 1;
            prop_assert!(rounds < 6, "no rest: {:?}", chain.tables);
        }
        prop_assert_eq!(chain.tables[0], chain.tables[1]);
        prop_assert_eq!(chain.tables[1], chain.tables[2]);
    }
}

/// A field that was not synced when the record was agreed on, and is empty on one side, is filled from the other,
/// whoever was changed last; what is empty here never empties what is there.
#[test]
fn a_new_field_is_filled_and_empties_nothing() {
    let base = Base { source: vec![Value::Absent], target: vec![Value::Absent] };
    let empty = || Row { own: vec![Value::Null], sent: vec![Value::Null] };
    for times in [[1, 2], [2, 1]] {
        let now = [Now::Row(empty()), Now::Row(row(&["t"]))];
        let d = merge(&[TWO_WAY], Some(&base), &now, times);
        assert_eq!(d.write, [Write::Update(vec![0]), Write::Nothing]);
        assert_eq!((d.conflicts, d.base), (vec![], Some(self::base(&["t"]))));
    }
    let d = merge(&[TWO_WAY], Some(&base), &[Now::Row(empty()), Now::Unchanged], [2, 1]);
    assert!(d.writes_nothing());
    assert_eq!(d.base, Some(base.clone()));
    let d = merge(&[TWO_WAY], Some(&base), &[Now::Row(row(&["s"])), Now::Unchanged], [2, 1]);
    assert_eq!(d.write, [Write::Nothing, Write::Update(vec![0])]);
    // Two values are a conflict like any other, and so is emptying a field that was synced already.
    let d = merge(&[TWO_WAY], Some(&base), &[Now::Row(row(&["s"])), Now::Row(row(&["t"]))], [1, 2]);
    assert_eq!(d.conflicts, [Conflict::won_by(0, Some(Side::Target))]);
    let known = self::base(&["a"]);
    let d = merge(&[TWO_WAY], Some(&known), &[Now::Row(empty()), Now::Unchanged], [2, 1]);
    assert_eq!(d.write, [Write::Nothing, Write::Update(vec![0])]);
}

fn ruled(rule: Rule) -> Flow {
    Flow { rule, ..TWO_WAY }
}

#[test]
fn a_preferred_side_wins_whatever_the_clocks_say_and_only_where_both_changed() {
    for (winner, times) in [(Side::Source, [1, 2]), (Side::Target, [2, 1])] {
        let flows = [ruled(Rule::Prefer(winner)); 2];
        let now = [Now::Row(row(&["s", "b"])), Now::Row(row(&["t", "new"]))];
        let d = merge(&flows, Some(&base(&["a", "b"])), &now, times);
        assert_eq!(d.conflicts, [Conflict::won_by(0, Some(winner))]);
        let own = if winner == Side::Source { ["s", "new"] } else { ["t", "new"] };
        assert_eq!(d.base, Some(base(&own)));
        // The edit of one side alone arrives, also from the side that is not preferred.
        let other = winner.other() as usize;
        let mut now = [Now::Unchanged, Now::Unchanged];
        now[other] = Now::Row(row(&["x", "b"]));
        let d = merge(&flows, Some(&base(&["a", "b"])), &now, times);
        assert_eq!(d.write[winner as usize], Write::Update(vec![0]));
    }
}

#[test]
fn what_a_person_decides_stays_as_it_is_on_both_sides_until_one_changes_again() {
    let flows = [ruled(Rule::Review), TWO_WAY];
    let now = [Now::Row(row(&["s", "b"])), Now::Row(row(&["t", "new"]))];
    let d = merge(&flows, Some(&base(&["a", "b"])), &now, [1, 2]);
    assert_eq!(d.conflicts, [Conflict::won_by(0, None)]);
    assert_eq!(d.write, [Write::Update(vec![1]), Write::Nothing]);
    let differing = d.base.unwrap();
    assert_eq!(
        (differing.source[0], differing.target[0]),
        (Value::Bytes(b"s"), Value::Bytes(b"t"))
    );
    // Met again it is no conflict anew, and nothing is written.
    let now = [Now::Row(row(&["s", "new"])), Now::Row(row(&["t", "new"]))];
    let d = merge(&flows, Some(&differing), &now, [1, 2]);
    assert!(d.writes_nothing() && d.conflicts.is_empty());
    assert_eq!(d.base.as_ref(), Some(&differing));
    // A person's edit decides.
    let d =
        merge(&flows, Some(&differing), &[Now::Unchanged, Now::Row(row(&["done", "new"]))], [1, 9]);
    assert_eq!(d.write, [Write::Update(vec![0]), Write::Nothing]);
    assert_eq!(d.base, Some(base(&["done", "new"])));
    // The same value on both sides needs nobody.
    let now = [Now::Row(row(&["n", "b"])), Now::Row(row(&["n", "b"]))];
    let d = merge(&flows, Some(&base(&["a", "b"])), &now, [1, 2]);
    assert!(d.conflicts.is_empty() && d.writes_nothing());
}

#[test]
fn a_delete_against_an_edit_is_decided_by_its_own_rule() {
    let b = base(&["a"]);
    let now = [Now::Gone, Now::Row(row(&["e"]))];
    for (deletes, restored) in [
        (Deletes::Delete, false),
        (Deletes::Edit, true),
        (Deletes::Prefer(Side::Source), false),
        (Deletes::Prefer(Side::Target), true),
    ] {
        for times in [[1, 2], [2, 1]] {
            let d = super::merge(&[TWO_WAY], deletes, Some(&b), &now, times, &[]);
            let wanted = if restored {
                [Write::Insert, Write::Nothing]
            } else {
                [Write::Nothing, Write::Delete]
            };
            assert_eq!(d.write, wanted, "{deletes:?}");
            let winner = Some(if restored { Side::Target } else { Side::Source });
            assert_eq!(d.conflicts, [Conflict::won_by(0, winner)]);
        }
        // A row that nobody edited goes with the other.
        let d = super::merge(
            &[TWO_WAY],
            deletes,
            Some(&b),
            &[Now::Gone, Now::Row(row(&["a"]))],
            [1, 2],
            &[],
        );
        assert_eq!(d.write, [Write::Nothing, Write::Delete]);
    }
}

#[test]
fn a_person_decides_about_a_delete_and_until_then_nothing_is_written() {
    let b = base(&["a", "b"]);
    for (now, holder) in [
        ([Now::Gone, Now::Row(row(&["e", "b"]))], Side::Target),
        ([Now::Row(row(&["e", "b"])), Now::Gone], Side::Source),
    ] {
        let flows = [TWO_WAY; 2];
        let d = super::merge(&flows, Deletes::Review, Some(&b), &now, [1, 2], &[]);
        assert!(d.writes_nothing());
        assert_eq!(d.conflicts, [Conflict::won_by(0, None)]);
        assert_eq!(d.base, Some(b.clone()));
        // What a one-way copy lacks is made again, and there is nothing to ask.
        let one_way = Flow {
            to_target: holder == Side::Source,
            to_source: holder == Side::Target,
            ..TWO_WAY
        };
        let d = super::merge(&[one_way; 2], Deletes::Review, Some(&b), &now, [1, 2], &[]);
        assert_eq!(d.write[holder.other() as usize], Write::Insert);
    }
    let untouched = [Now::Gone, Now::Row(row(&["a", "b"]))];
    let d = super::merge(&[TWO_WAY; 2], Deletes::Review, Some(&b), &untouched, [1, 2], &[]);
    assert_eq!(d.write, [Write::Nothing, Write::Delete]);
}

#[test]
fn what_a_function_chose_goes_to_both_sides() {
    let flows = [Flow { rule: Rule::Function, ..TWO_WAY }, TWO_WAY];
    let b = base(&["a", "b"]);
    let now = [Now::Row(row(&["s", "b"])), Now::Row(row(&["t", "n"]))];
    assert_eq!(disputed(&flows, Some(&b), &now, [1, 2]), [0]);
    let value = |text: &'static str| Value::Bytes(text.as_bytes());
    let chosen = [(0, [value("s+t"), value("S+T")])];
    let d = super::merge(&flows, Deletes::Later, Some(&b), &now, [1, 2], &chosen);
    assert_eq!(d.write, [Write::Update(vec![0, 1]), Write::Update(vec![0])]);
    assert_eq!(d.conflicts, [Conflict { field: 0, winner: None, chosen: true }]);
    let agreed = d.base.unwrap();
    assert_eq!([agreed.source[0], agreed.target[0]], chosen[0].1);
    // One of both values: only the other side is written.
    let chosen = [(0, [value("t"), value("t")])];
    let d = super::merge(&flows, Deletes::Later, Some(&b), &now, [1, 2], &chosen);
    assert_eq!(d.write, [Write::Update(vec![0, 1]), Write::Nothing]);
    // One side's edit, or the same on both, is nothing to choose.
    for other in ["a", "s"] {
        let now = [Now::Row(row(&["s", "b"])), Now::Row(row(&[other, "b"]))];
        assert!(disputed(&flows, Some(&b), &now, [1, 2]).is_empty());
    }
    // Not asked, the later change stands.
    let d = super::merge(&flows, Deletes::Later, Some(&b), &now, [1, 2], &[]);
    assert_eq!(d.conflicts, [Conflict::won_by(0, Some(Side::Target))]);
}

#[test]
fn the_fields_of_a_group_come_from_one_side() {
    let part = Flow { group: Some(0), ..TWO_WAY };
    let flows = [part, part, TWO_WAY];
    let agreed = base(&["street", "city", "name"]);
    let now = [Now::Row(row(&["S1", "city", "n1"])), Now::Row(row(&["street", "C2", "name"]))];
    for (times, winner) in [([2, 1], Side::Source), ([1, 2], Side::Target)] {
        let d = merge(&flows, Some(&agreed), &now, times);
        let own =
            if winner == Side::Source { ["S1", "city", "n1"] } else { ["street", "C2", "n1"] };
        assert_eq!(d.base, Some(base(&own)));
        let lost = |field| Conflict::won_by(field, Some(winner));
        assert_eq!(d.conflicts, [lost(0), lost(1)]);
    }
    // Changed on one side, or on both to the same, it is no conflict.
    let d = merge(
        &flows,
        Some(&agreed),
        &[now[0].clone(), Now::Row(row(&["street", "city", "n2"]))],
        [2, 1],
    );
    assert_eq!(d.base, Some(base(&["S1", "city", "n1"])));
    assert_eq!(d.conflicts, [Conflict::won_by(2, Some(Side::Source))]);
    let same = Now::Row(row(&["S1", "city", "name"]));
    let d = merge(&flows, Some(&agreed), &[same.clone(), same], [2, 1]);
    assert!(d.conflicts.is_empty() && d.writes_nothing());
    // A person gets the whole group.
    let review = Flow { rule: Rule::Review, ..part };
    let d = merge(&[review, review, TWO_WAY], Some(&agreed), &now, [1, 2]);
    assert_eq!(d.conflicts.len(), 2);
    assert_eq!(d.write, [Write::Nothing, Write::Update(vec![2])]);
}

/// Found by the simulator: the winner's value of a field that does not travel from there is none at all.
#[test]
fn a_field_of_a_group_that_goes_one_way_does_not_come_from_a_winner_that_cannot_send_it() {
    let flows = [
        Flow { group: Some(0), rule: Rule::Prefer(Side::Target), ..FORWARD },
        Flow { group: Some(0), rule: Rule::Prefer(Side::Target), ..TWO_WAY },
    ];
    let agreed = base(&["street", "city"]);
    let mut target = row(&["street", "C2"]);
    target.sent[0] = Value::Absent;
    let now = [Now::Row(row(&["S1", "city"])), Now::Row(target)];
    let d = merge(&flows, Some(&agreed), &now, [1, 2]);
    assert_eq!(d.write, [Write::Update(vec![1]), Write::Update(vec![0])]);
    assert_eq!(d.base, Some(base(&["S1", "C2"])));
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        Just(Rule::Later),
        Just(Rule::Prefer(Side::Source)),
        Just(Rule::Prefer(Side::Target)),
        Just(Rule::Review),
    ]
}

proptest! {
    /// Whatever decides: what only one side changed arrives, a value is lost only in a conflict that holds it, what a
    /// person is to decide stays on both sides, and merged once more there is nothing to do.
    #[test]
    fn every_rule_keeps_what_it_promises(
        agreed in prop::option::of(prop::array::uniform3(0u8..3)),
        edits in (prop::array::uniform3(0u8..3), prop::array::uniform3(0u8..3)),
        rules in prop::array::uniform3(rule()),
        groups in prop::array::uniform3(prop::option::of(0usize..2)),
        times in any::<[i64; 2]>(),
    ) {
        let flows: Vec<Flow> = (0..3)
            .map(|f| {
                // The fields of a group have one rule.
                let first = (0..3).find(|&other| groups[f].is_some() && groups[other] == groups[f]).unwrap_or(f);
                Flow { rule: rules[first], group: groups[f], ..TWO_WAY }
            })
            .collect();
        let sides = [Some(edits.0), Some(edits.1)];
        let now = [now(&sides[0], true), now(&sides[1], true)];
        let d = super::merge(&flows, Deletes::Later, base_of(&agreed).as_ref(), &now, times, &[]);
        let mut after = sides;
        for side in Side::BOTH {
            apply(&mut after[side as usize], &d.write[side as usize], &sides[side.other() as usize]);
        }
        let (Some(s), Some(t), [Some(source), Some(target)]) = (sides[0], sides[1], after) else {
            return Err(TestCaseError::fail("a row is gone"));
        };
        for f in 0..3 {
            let conflict = d.conflicts.iter().find(|c| c.field == f);
            let alone = |side: usize| {
                let own = [s, t];
                agreed.is_some_and(|a| own[side][f] != a[f] && own[1 - side][f] == a[f])
            };
            let met = groups[f].is_some_and(|g| {
                let any = |own: [u8; 3]| (0..3).any(|o| groups[o] == Some(g) && agreed.is_none_or(|a| own[o] != a[o]));
                any(s) && any(t)
            });
            if !met && alone(0) { prop_assert_eq!((source[f], target[f]), (s[f], s[f])); }
            if !met && alone(1) { prop_assert_eq!((source[f], target[f]), (t[f], t[f])); }
            match conflict {
                Some(Conflict { winner: None, .. }) => {
                    prop_assert_eq!(flows[f].rule, Rule::Review);
                    prop_assert_eq!((source[f], target[f]), (s[f], t[f]));
                }
                Some(Conflict { winner: Some(winner), .. }) => {
                    let decided = match flows[f].rule {
                        Rule::Later | Rule::Function => later(times),
                        Rule::Prefer(side) => side,
                        Rule::Review => return Err(TestCaseError::fail("nobody was asked")),
                    };
                    prop_assert_eq!(decided, *winner);
                    let stands = if *winner == Side::Source { s[f] } else { t[f] };
                    prop_assert_eq!((source[f], target[f]), (stands, stands));
                }
                None => {
                    // Nobody's own value is gone.
                    let edited = |own: [u8; 3]| agreed.is_none_or(|a| own[f] != a[f]);
                    if edited(s) && source[f] != s[f] { prop_assert!(s[f] == t[f]); }
                    if edited(t) && target[f] != t[f] { prop_assert!(s[f] == t[f]); }
                    prop_assert_eq!(source[f], target[f]);
                }
            }
        }
        for (f, group) in groups.iter().enumerate().filter(|(_, group)| group.is_some()) {
            // One side's address is not mixed with the other's: whoever wins one part of it wins all.
            let winners = || d.conflicts.iter().filter(|c| groups[c.field] == *group);
            if let Some(Conflict { winner: Some(winner), .. }) = winners().next() {
                let stands = if *winner == Side::Source { s[f] } else { t[f] };
                prop_assert_eq!((source[f], target[f]), (stands, stands));
            }
            let mixed = agreed.is_some_and(|a| {
                let fields = || (0..3).filter(|&o| groups[o] == *group);
                fields().any(|o| s[o] != a[o] && t[o] == a[o]) && fields().any(|o| t[o] != a[o] && s[o] == a[o])
            });
            prop_assert!(!mixed || winners().next().is_some());
        }
        let again = [super::tests::now(&after[0], true), super::tests::now(&after[1], true)];
        let once_more = super::merge(&flows, Deletes::Later, d.base.as_ref(), &again, times, &[]);
        prop_assert!(once_more.writes_nothing() && once_more.conflicts.is_empty());
        prop_assert_eq!(once_more.base, d.base);
    }
}

/// What came of the sync's own write stands against nobody's edit or delete, whatever the rule.
#[test]
fn what_came_of_our_own_write_beats_nothing() {
    let agreed = base(&["a"]);
    let now = [Now::Row(row(&["user"])), Now::Row(row(&["trigger"]))];
    let edits = Edits { at: [1, 2], own: [false, true] };
    for rule in [Rule::Later, Rule::Prefer(Side::Target), Rule::Review, Rule::Function] {
        let flows = [Flow { rule, ..TWO_WAY }];
        let d = super::merge(&flows, Deletes::Later, Some(&agreed), &now, edits, &[]);
        assert_eq!(d.write, [Write::Nothing, Write::Update(vec![0])], "{rule:?}");
        assert_eq!(d.conflicts, [Conflict::won_by(0, Some(Side::Source))], "{rule:?}");
        assert!(disputed(&flows, Some(&agreed), &now, edits).is_empty());
    }
    let gone = [Now::Gone, Now::Row(row(&["trigger"]))];
    for deletes in [Deletes::Later, Deletes::Prefer(Side::Target), Deletes::Edit, Deletes::Review] {
        let d = super::merge(&[TWO_WAY], deletes, Some(&agreed), &gone, edits, &[]);
        assert_eq!(d.write, [Write::Nothing, Write::Delete], "{deletes:?}");
    }
    // Alone it reaches the other side.
    let d = super::merge(
        &[TWO_WAY],
        Deletes::Later,
        Some(&agreed),
        &[Now::Unchanged, now[1].clone()],
        edits,
        &[],
    );
    assert_eq!(d.write, [Write::Update(vec![0]), Write::Nothing]);
}
