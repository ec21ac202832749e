//! What became of every value, for tests that have to account for each of them. Kept only when asked for.

use crate::table::Row;
use serde_json::Value;

/// What an edit did to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Created,
    Changed,
    Deleted,
    Undeleted,
    Purged,
}

/// One field of one committed write. A write that changed no field leaves one edit without a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    pub object: String,
    pub id: String,
    /// Who wrote: see [`crate::LocalOrg::users`].
    pub user: String,
    pub deed: Deed,
    pub field: String,
    /// Null in a record that was just created.
    pub old: Value,
    /// Null in a record that was just deleted.
    pub new: Value,
}

/// What an org stamps by itself at each write.
const STAMPS: [&str; 6] = [
    "CreatedDate",
    "CreatedById",
    "LastModifiedDate",
    "LastModifiedById",
    "SystemModstamp",
    "OwnerId",
];

/// The edits of one write.
pub(crate) fn edits(object: &str, id: &str, old: Option<&Row>, new: Option<&Row>) -> Vec<Edit> {
    let was = old.is_some_and(|row| !row.deleted);
    let is = new.is_some_and(|row| !row.deleted);
    let deed = match (old, was, is) {
        (None, ..) => Deed::Created,
        (_, true, true) => Deed::Changed,
        (_, false, true) => Deed::Undeleted,
        _ if new.is_some() => Deed::Deleted,
        _ => Deed::Purged,
    };
    let user = new.or(old).map(|row| row.text("LastModifiedById").to_owned()).unwrap_or_default();
    let edit = |field: &str, old: Value, new: Value| Edit {
        object: object.to_owned(),
        id: id.to_owned(),
        user: user.clone(),
        deed,
        field: field.to_owned(),
        old,
        new,
    };
    let value = |row: Option<&Row>, live: bool, field: &str| match row {
        Some(row) if live => row.get(field).clone(),
        _ => Value::Null,
    };
    let mut fields: Vec<&str> = [old, new]
        .into_iter()
        .flatten()
        .flat_map(|row| row.values.keys().map(String::as_str))
        .filter(|field| !STAMPS.contains(field))
        .collect();
    fields.sort_unstable();
    fields.dedup();
    let mut edits: Vec<Edit> = fields
        .into_iter()
        .map(|field| edit(field, value(old, was, field), value(new, is, field)))
        .filter(|edit| edit.old != edit.new)
        .collect();
    if edits.is_empty() {
        edits.push(edit("", Value::Null, Value::Null));
    }
    edits
}
