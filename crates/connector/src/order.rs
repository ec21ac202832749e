//! In which order objects are best made: those that others refer to first.

use crate::Object;

/// An object in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its place among those that were given.
    pub place: usize,
    /// Objects it refers to that come after it, because they refer to it in turn.
    pub before: Vec<String>,
}

/// Parents first, else as they were given. Where objects refer to each other in a circle, the first by name begins.
pub fn parents_first(objects: &[Object]) -> Vec<Placed> {
    let parents: Vec<Vec<usize>> = objects.iter().map(|object| parents(object, objects)).collect();
    let mut left: Vec<usize> = (0..objects.len()).collect();
    let mut order = Vec::with_capacity(objects.len());
    while !left.is_empty() {
        let waits = |place: usize| parents[place].iter().any(|parent| left.contains(parent));
        let next = left.iter().copied().find(|&place| !waits(place)).unwrap_or_else(|| {
            let in_circle = |&place: &usize| reaches_itself(place, &parents, &left);
            let names = |&place: &usize| &objects[place].name;
            left.iter().copied().filter(in_circle).min_by_key(names).unwrap_or(left[0])
        });
        let missing = parents[next].iter().filter(|parent| left.contains(parent));
        let before = missing.map(|&parent| objects[parent].name.clone()).collect();
        order.push(Placed { place: next, before });
        left.retain(|&place| place != next);
    }
    order
}

/// The other objects that an object's fields refer to. A field of many kinds of records (an owner, what a task is about)
/// makes none of them a parent.
fn parents(object: &Object, objects: &[Object]) -> Vec<usize> {
    let single = object.fields.iter().filter_map(|field| match field.reference_to.as_slice() {
        [parent] => Some(parent),
        _ => None,
    });
    let mut parents: Vec<usize> = single
        .filter_map(|parent| objects.iter().position(|o| o.name.eq_ignore_ascii_case(parent)))
        .filter(|&place| objects[place].name != object.name)
        .collect();
    parents.sort_unstable();
    parents.dedup();
    parents
}

fn reaches_itself(place: usize, parents: &[Vec<usize>], left: &[usize]) -> bool {
    let (mut seen, mut next) = (Vec::new(), parents[place].clone());
    while let Some(parent) = next.pop() {
        if parent == place {
            return true;
        }
        if left.contains(&parent) && !seen.contains(&parent) {
            seen.push(parent);
            next.extend(&parents[parent]);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::parents_first;
    use crate::{Field, Kind, Object};

    fn object(name: &str, parents: &[&[&str]]) -> Object {
        let field = |to: &&[&str]| Field {
            name: "ParentId".into(),
            kind: Kind::Id,
            native_type: "reference".into(),
            length: 18,
            nillable: true,
            createable: true,
            updateable: true,
            filterable: true,
            reference_to: to.iter().map(|&to| to.to_owned()).collect(),
            ..Field::default()
        };
        Object {
            name: name.into(),
            label: String::new(),
            createable: true,
            updateable: true,
            deletable: true,
            undeletable: true,
            queryable: true,
            id_field: "Id".into(),
            version_field: "SystemModstamp".into(),
            fields: parents.iter().map(field).collect(),
            ..Object::default()
        }
    }

    fn order(objects: &[Object]) -> Vec<(String, String)> {
        let placed = parents_first(objects);
        placed.iter().map(|p| (objects[p.place].name.clone(), p.before.join(" "))).collect()
    }

    fn named(names: &[(&str, &str)]) -> Vec<(String, String)> {
        names.iter().map(|(name, before)| ((*name).to_owned(), (*before).to_owned())).collect()
    }

    #[test]
    fn parents_come_first_and_the_rest_as_given() {
        let objects = [
            object("Task", &[&["Contact", "Lead"]]),
            object("OpportunityLineItem", &[&["Opportunity"], &["Product2"]]),
            object("Contact", &[&["Account"], &["Contact"]]),
            object("Opportunity", &[&["Account"], &["NotAsked"]]),
            object("Account", &[&["Account"]]),
            object("Product2", &[]),
        ];
        let expected = ["Task", "Account", "Contact", "Opportunity", "Product2"];
        let expected: Vec<_> = expected.iter().map(|&name| (name, "")).collect();
        let last = [("OpportunityLineItem", "")];
        assert_eq!(order(&objects), named(&[expected.as_slice(), &last].concat()));
    }

    #[test]
    fn a_circle_is_cut_at_the_first_name_and_said() {
        let objects = [
            object("Z", &[&["C"]]),
            object("C", &[&["B"]]),
            object("B", &[&["A"]]),
            object("A", &[&["C"]]),
        ];
        assert_eq!(order(&objects), named(&[("A", "C"), ("B", ""), ("C", ""), ("Z", "")]));
    }

    #[test]
    fn what_only_hangs_on_a_circle_does_not_cut_it() {
        // By name "0" would be first, and it is in no circle.
        let objects = [object("0", &[&["A"]]), object("B", &[&["A"]]), object("A", &[&["B"]])];
        assert_eq!(order(&objects), named(&[("A", "B"), ("0", ""), ("B", "")]));
    }
}
