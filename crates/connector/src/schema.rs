//! What changed between two descriptions of an object.

use crate::object::{Field, Kind, Object};

/// One change of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As it is called now, or was called last.
    pub field: String,
    pub what: What,
}

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new, or this user may see it now.
    Added,
    /// It is gone, or this user may not see it any more.
    Removed,
    /// Its values are of another kind.
    Kind { was: Kind, now: Kind },
    /// Its texts may be as long as this now, in characters; 0: without limit.
    Length { was: u32, now: u32 },
    /// This user may write it now, or not any more.
    Writable(bool),
}

/// The changes of fields from one description to the next, in the order of the later one; what is gone comes last.
/// Names are compared as the other side takes them, ignoring case. A parent's field that was only not asked for in one
/// of them is no change.
pub fn differences(before: &Object, now: &Object) -> Vec<Difference> {
    let mut found = Vec::new();
    for field in &now.fields {
        let note = |what| Difference { field: field.name.clone(), what };
        match before.field(&field.name) {
            None if field.lookup.is_some() && before.unfit(&field.name).is_none() => {}
            None => found.push(note(What::Added)),
            Some(old) => found.extend(of_field(old, field).into_iter().map(note)),
        }
    }
    let gone = before.fields.iter().filter(|old| {
        now.field(&old.name).is_none() && (old.lookup.is_none() || now.unfit(&old.name).is_some())
    });
    found.extend(gone.map(|old| Difference { field: old.name.clone(), what: What::Removed }));
    found
}

fn of_field(old: &Field, new: &Field) -> Vec<What> {
    let mut found = Vec::new();
    if old.kind != new.kind {
        found.push(What::Kind { was: old.kind, now: new.kind });
    } else if old.length != new.length {
        found.push(What::Length { was: old.length, now: new.length });
    }
    if old.read_only() != new.read_only() {
        found.push(What::Writable(!new.read_only()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Difference, What, differences};
    use crate::object::{Field, Kind, Object, Unfit};

    fn field(name: &str) -> Field {
        Field {
            name: name.into(),
            label: name.into(),
            kind: Kind::Text,
            native_type: "string".into(),
            length: 80,
            nillable: true,
            createable: true,
            updateable: true,
            filterable: true,
            ..Field::default()
        }
    }

    fn object(fields: Vec<Field>) -> Object {
        Object {
            name: "Thing__c".into(),
            label: "Thing".into(),
            createable: true,
            updateable: true,
            deletable: true,
            undeletable: true,
            queryable: true,
            id_field: "Id".into(),
            version_field: "SystemModstamp".into(),
            fields,
            ..Object::default()
        }
    }

    #[test]
    fn each_change_of_a_field_is_told_once() {
        let before =
            object(vec![field("Name"), field("Old__c"), field("Size__c"), field("Kept__c")]);
        let longer = Field { length: 255, ..field("name") };
        let number = Field {
            kind: Kind::Number,
            length: 0,
            createable: false,
            updateable: false,
            ..field("Size__c")
        };
        let now = object(vec![longer, number, field("Kept__c"), field("New__c")]);
        let of = |field: &str, what| Difference { field: field.into(), what };
        assert_eq!(
            differences(&before, &now),
            [
                of("name", What::Length { was: 80, now: 255 }),
                of("Size__c", What::Kind { was: Kind::Text, now: Kind::Number }),
                of("Size__c", What::Writable(false)),
                of("New__c", What::Added),
                of("Old__c", What::Removed),
            ]
        );
        assert_eq!(differences(&now, &now), []);
    }

    #[test]
    fn a_parents_field_changes_where_it_was_asked_for() {
        let parents = Field { lookup: Some("Parent__c".into()), ..field("Parent__r.Key__c") };
        let unfit = Unfit { name: parents.name.clone(), ..Unfit::default() };
        let without = object(vec![field("Name")]);
        let refused = Object { unfit: vec![unfit], ..without.clone() };
        let with = object(vec![field("Name"), parents]);
        assert_eq!(differences(&without, &with), []);
        assert_eq!(differences(&with, &without), []);
        let of = |what| Difference { field: "Parent__r.Key__c".into(), what };
        assert_eq!(differences(&refused, &with), [of(What::Added)]);
        assert_eq!(differences(&with, &refused), [of(What::Removed)]);
    }
}
