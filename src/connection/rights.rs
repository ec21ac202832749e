//! What the user of a connection may do with the objects that syncs use, by what the other side says of them to him.

use super::fault_to_failure;
use super::inspect::{Finding, failed};
use connector::{Fault, Object};

/// What a sync asks of an object.
pub struct Need {
    pub sync: String,
    pub object: String,
    /// Records are created, changed and deleted there.
    pub writes: bool,
    pub fields: Vec<FieldNeed>,
}

impl Need {
    /// Adds the fields of parents that it names to those that are known.
    pub fn add_of_parents(&self, names: &mut Vec<String>) {
        for name in self.fields.iter().map(|field| &field.name).filter(|name| is_of_parent(name)) {
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.clone());
            }
        }
    }
}

/// Does a name lead over a relationship, as `Account.Key__c` does?
pub fn is_of_parent(name: &str) -> bool {
    name.contains('.')
}

/// A field that it reads, and perhaps writes.
pub struct FieldNeed {
    pub name: String,
    pub write: bool,
}

/// What is found of one object: the rights on it, and each field that lacks one.
pub(super) fn findings(needs: &[&Need], object: &Result<Object, Fault>) -> Vec<Finding> {
    let Some(first) = needs.first() else { return Vec::new() };
    let what = format!("object {}", first.object);
    let object = match object {
        Ok(object) => object,
        Err(fault) => return vec![failed(what, &fault_to_failure(fault))],
    };
    let mut lacks: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for need in needs {
        for field in &need.fields {
            let Some(lack) = lack(object, need, field) else { continue };
            match lacks.iter_mut().find(|(name, ..)| name.eq_ignore_ascii_case(&field.name)) {
                Some((.., syncs)) => syncs.push(&need.sync),
                None => lacks.push((&field.name, lack, vec![&need.sync])),
            }
        }
    }
    let mut found = vec![of_object(what, needs, object)];
    found.extend(lacks.iter().map(|(name, lack, syncs)| of_field(object, name, lack, syncs)));
    found
}

const MISSING: &str = "is not there, or the user may not read it";
const READ_ONLY: &str = "may be read by the user and not written";

fn of_object(what: String, needs: &[&Need], object: &Object) -> Finding {
    let writes = needs.iter().any(|need| need.writes);
    let rights = [
        ("Read", object.queryable, true),
        ("Create", object.createable, writes),
        ("Edit", object.updateable, writes),
        ("Delete", object.deletable, writes),
    ];
    let named = |of: &dyn Fn(bool, bool) -> bool| -> Vec<&str> {
        rights.iter().filter(|(_, held, used)| of(*held, *used)).map(|(name, ..)| *name).collect()
    };
    let held = named(&|held, used| held && used);
    let lacked = named(&|held, used| !held && used);
    let syncs: Vec<&str> = needs.iter().map(|need| need.sync.as_str()).collect();
    if lacked.is_empty() {
        let fields: usize = needs.iter().map(|need| need.fields.len()).sum();
        let detail = format!(
            "the user has {}; {fields} fields are named by {}",
            held.join(", "),
            syncs.join(", ")
        );
        return Finding { what, ok: true, detail, remedy: None };
    }
    Finding {
        what,
        ok: false,
        detail: format!("the user lacks {}, which {} needs", lacked.join(", "), syncs.join(", ")),
        remedy: Some(format!(
            "Give the user {} on {} by a permission set, under its object settings{}.",
            lacked.join(", "),
            object.name,
            if writes { ", or let the sync go one way" } else { "" }
        )),
    }
}

fn lack(object: &Object, need: &Need, field: &FieldNeed) -> Option<&'static str> {
    match object.field(&field.name) {
        None => Some(MISSING),
        // What the other side keeps itself is written by nobody, and what it holds comes here all the same. Without a
        // right on the object itself there is nothing to say of its fields.
        Some(found) if field.write && need.writes && found.read_only() && !found.fixed => {
            (object.createable || object.updateable).then_some(READ_ONLY)
        }
        Some(_) => None,
    }
}

fn of_field(object: &Object, name: &str, lack: &str, syncs: &[&str]) -> Finding {
    if let Some(unfit) = object.unfit(name) {
        return Finding {
            what: format!("field {}.{name}", object.name),
            ok: false,
            detail: format!("{}; mapped by {}", unfit.why, syncs.join(", ")),
            remedy: Some(unfit.hint.clone()),
        };
    }
    let remedy = if lack == MISSING {
        let near = document::nearest(name, object.fields.iter().map(|f| f.name.as_str()));
        let near = near.map(|near| format!(" Perhaps \"{near}\" is meant.")).unwrap_or_default();
        format!(
            "Give the user Read Access to the field (field-level security) by a permission set, or take it out of the mapping.{near}"
        )
    } else {
        // Whose child a record is, is written in the field that points to the parent.
        let field = object.field(name).and_then(|field| field.lookup.as_deref());
        let field = field.unwrap_or("the field");
        format!(
            "Give the user Edit Access to {field} (field-level security) by a permission set, or let it go one way."
        )
    };
    Finding {
        what: format!("field {}.{name}", object.name),
        ok: false,
        detail: format!("it {lack}; mapped by {}", syncs.join(", ")),
        remedy: Some(remedy),
    }
}
