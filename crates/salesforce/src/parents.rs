//! Fields of parents, by which a record says whose child it is without knowing the parent's id: `Account.Key__c`, or
//! `Parent__r.Key__c` along a field that people have made (SOQL guide, Relationship Names; REST API guide, Insert or
//! Update a Record Using an External ID). Written, such a field takes the value of an external id of the parent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use connector::{Fault, Field, Object, Unfit};

use crate::client::Salesforce;

impl Salesforce {
    /// An object, and of its parents the fields with these names. Each parent is described in a call of its own, which
    /// the org may answer with that nothing has changed.
    pub(crate) async fn object_with(
        &self,
        object: &str,
        of_parents: &[String],
    ) -> Result<Object, Fault> {
        let mut described = self.object(object).await?;
        let (mut fields, mut unfit): (Vec<Field>, Vec<Unfit>) = Default::default();
        let mut parents: HashMap<&str, Result<Object, Fault>> = HashMap::new();
        for name in of_parents {
            let found = match lookup(&described, name) {
                Err(unfit) => Err(unfit),
                Ok((lookup, parent)) if parent == described.name => key(lookup, &described, name),
                Ok((lookup, parent)) => {
                    let known = match parents.entry(parent) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(new) => new.insert(self.object(parent).await),
                    };
                    match known {
                        Ok(object) => key(lookup, object, name),
                        Err(fault) if fault.is_of_connection() => return Err(fault.clone()),
                        Err(fault) => Err(unreadable(name, parent, fault)),
                    }
                }
            };
            match found {
                Ok(field) if fields.iter().any(|known| known.name == field.name) => {}
                Ok(field) => fields.push(field),
                Err(refused) => unfit.push(refused),
            }
        }
        described.fields.extend(fields);
        described.unfit = unfit;
        Ok(described)
    }
}

/// A field that is hidden looks like one that is not there.
const READ_ACCESS: &str =
    "give the user of the connection Read Access (field-level security) by a permission set to";

/// The names of a relationship and of a field of the parent; `None` where it is a field of the object itself.
pub(crate) fn parts(name: &str) -> Option<(&str, &str)> {
    name.split_once('.')
}

/// The field that a way begins with, and the one object that it leads to.
fn lookup<'a>(object: &'a Object, name: &str) -> Result<(&'a Field, &'a str), Unfit> {
    let refuse = |why: String, hint: String| Err(Unfit { name: name.to_owned(), why, hint });
    let (relationship, rest) = parts(name).unwrap_or((name, ""));
    if rest.contains('.') {
        return refuse(
            format!("\"{name}\" leads over more than one relationship"),
            "A record is given its own parent, by a field of that.".to_owned(),
        );
    }
    let called = |f: &&Field| {
        f.relationship.as_deref().is_some_and(|r| r.eq_ignore_ascii_case(relationship))
            && !f.reference_to.is_empty()
    };
    let Some(field) = object.fields.iter().find(called) else {
        let why = format!("{} has no relationship \"{relationship}\"", object.name);
        return refuse(why, meant(object, relationship, rest));
    };
    match field.reference_to.as_slice() {
        [parent] => Ok((field, parent)),
        several => refuse(
            format!(
                "\"{relationship}\" of {} may lead to records of several objects: {}",
                object.name,
                several.join(", ")
            ),
            format!("Map the field with the parent's id instead, {}.", field.name),
        ),
    }
}

/// What may be meant by a relationship that is not there.
fn meant(object: &Object, name: &str, rest: &str) -> String {
    if let Some(relationship) = object.field(name).and_then(|f| f.relationship.as_deref()) {
        return format!("The parent's fields are reached as {relationship}.{rest}.");
    }
    let single = object.fields.iter().filter(|f| f.reference_to.len() == 1);
    let names: Vec<&str> = single.filter_map(|f| f.relationship.as_deref()).collect();
    format!(
        "If it is there, {READ_ACCESS} the field behind it. Those that he can see are: {}.",
        names.join(", ")
    )
}

/// The parent's field as one of the child: its values are the parent's, and what may be done with it is what may be done
/// with the lookup.
fn key(lookup: &Field, parent: &Object, name: &str) -> Result<Field, Unfit> {
    let (_, wanted) = parts(name).unwrap_or(("", name));
    let relationship = lookup.relationship.as_deref().unwrap_or_default();
    let refuse = |why: String| {
        let keys: Vec<&str> =
            parent.fields.iter().filter(|f| f.external_id).map(|f| f.name.as_str()).collect();
        let hint = if keys.is_empty() {
            format!(
                "{} has no external-id field that the user of the connection can see. Make one, or map {}, the parent's id.",
                parent.name, lookup.name
            )
        } else {
            format!("The external ids of {} are: {}.", parent.name, keys.join(", "))
        };
        Unfit { name: name.to_owned(), why, hint }
    };
    let Some(field) = parent.field(wanted) else {
        let why = format!(
            "{}, to which {relationship} leads, has no field \"{wanted}\" that the user of the connection can see",
            parent.name
        );
        let known = refuse(why);
        let hint = format!("If it is there, {READ_ACCESS} it. {}", known.hint);
        return Err(Unfit { hint, ..known });
    };
    if !field.external_id {
        return Err(refuse(format!(
            "field {} of {} is no external id, by which {relationship} could be given",
            field.name, parent.name
        )));
    }
    Ok(Field {
        name: format!("{relationship}.{}", field.name),
        label: format!("{}: {}", lookup.label, field.label),
        nillable: lookup.nillable,
        createable: lookup.createable,
        updateable: lookup.updateable,
        fixed: lookup.fixed,
        defaulted: lookup.defaulted,
        // It identifies the parent, and many children have the same.
        external_id: false,
        unique: false,
        filterable: lookup.filterable && field.filterable,
        reference_to: Vec::new(),
        relationship: None,
        lookup: Some(lookup.name.clone()),
        compound: None,
        ..field.clone()
    })
}

fn unreadable(name: &str, parent: &str, fault: &Fault) -> Unfit {
    Unfit {
        name: name.to_owned(),
        why: format!("{parent}, the object of the parents, cannot be described: {}", fault.message),
        hint: format!("Give the user of the connection the right to read {parent}."),
    }
}

#[cfg(test)]
mod tests {
    use super::{key, lookup};
    use connector::{Field, Kind, Object, Unfit};

    fn text(name: &str, external_id: bool) -> Field {
        Field {
            name: name.into(),
            label: name.into(),
            native_type: "string".into(),
            length: 40,
            external_id,
            unique: external_id,
            filterable: true,
            createable: true,
            updateable: true,
            ..Field::default()
        }
    }

    fn reference(name: &str, relationship: &str, to: &[&str]) -> Field {
        Field {
            kind: Kind::Id,
            length: 18,
            nillable: true,
            createable: true,
            relationship: (!relationship.is_empty()).then(|| relationship.to_owned()),
            reference_to: to.iter().map(|&to| to.to_owned()).collect(),
            updateable: false,
            ..text(name, false)
        }
    }

    fn object(name: &str, fields: Vec<Field>) -> Object {
        Object { name: name.into(), fields, ..Object::default() }
    }

    fn contact() -> Object {
        let fields = vec![
            reference("AccountId", "Account", &["Account"]),
            reference("Team__c", "Team__r", &["Team__c"]),
            reference("OwnerId", "Owner", &["Group", "User"]),
            reference("Hidden__c", "", &["Thing__c"]),
        ];
        object("Contact", fields)
    }

    fn found(name: &str, parent: &Object) -> Result<Field, Unfit> {
        let contact = contact();
        let (field, of) = lookup(&contact, name)?;
        assert_eq!(of, parent.name);
        key(field, parent, name)
    }

    #[test]
    fn a_key_of_the_parent_may_be_used_as_the_lookup_may() {
        let team = object("Team__c", vec![text("Name", false), text("Key__c", true)]);
        let field = found("team__R.key__C", &team).expect("a field");
        assert_eq!(
            (field.name.as_str(), field.kind, field.length, field.lookup.as_deref()),
            ("Team__r.Key__c", Kind::Text, 40, Some("Team__c"))
        );
        assert!(field.nillable && field.createable && !field.updateable);
        assert!(!field.external_id && !field.unique && field.reference_to.is_empty());
    }

    #[test]
    fn what_can_name_no_parent_is_refused_with_what_can() {
        let account = object("Account", vec![text("Name", false), text("ERP__c", true)]);
        let bare = object("Account", vec![text("Name", false)]);
        let cases = [
            ("Acount.ERP__c", &account, "no relationship \"Acount\"", "are: Account, Team__r."),
            ("AccountId.ERP__c", &account, "\"AccountId\"", "reached as Account.ERP__c."),
            ("Hidden.Key__c", &account, "no relationship", "are: Account, Team__r."),
            ("Owner.Key__c", &account, "several objects: Group, User", "instead, OwnerId."),
            ("Account.Owner.Key__c", &account, "more than one", "its own parent"),
            ("Account.ERP", &account, "no field \"ERP\"", "ids of Account are: ERP__c."),
            ("Account.Name", &account, "Name of Account is no external id", "are: ERP__c."),
            ("Account.Name", &bare, "is no external id", "or map AccountId"),
            ("Account.", &bare, "no field \"\"", "Make one"),
        ];
        for (name, parent, why, hint) in cases {
            let unfit = found(name, parent).expect_err(name);
            assert!(unfit.why.contains(why) && unfit.hint.contains(hint), "{name}: {unfit:?}");
            assert_eq!(unfit.name, name);
        }
    }
}
