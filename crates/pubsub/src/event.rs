use crate::avro::Value;
use crate::schema::Schema;

/// Something that a stream tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Opaque. A stream that begins behind it goes on with what comes next.
    pub replay_id: Vec<u8>,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Changed(Change),
    /// These records changed, and the event does not say how (Change Data Capture guide, gap events). Where the
    /// ids are wildcards (`001*`), any record of the object may have.
    Gap {
        entity: String,
        ids: Vec<String>,
        change: String,
    },
    /// Any record of the object may have changed (Change Data Capture guide, overflow events).
    Overflow {
        entity: String,
    },
    /// An event that can't be read: nobody knows what it would have told, or of which object.
    Unreadable {
        why: String,
    },
    /// Nothing happened; the replay id is newer.
    Keepalive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    Created,
    Updated,
    Deleted,
    Undeleted,
}

/// The same change of one or more records.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub entity: String,
    /// As the event has them.
    pub ids: Vec<String>,
    pub change: ChangeType,
    /// Of a record that is new or back all fields that events tell at all, of one that was updated those that
    /// changed, of one that is gone none. `Null` is a field that was emptied.
    pub fields: Vec<(Field, Value)>,
    /// Fields that changed, and whose new value the event does not say: long texts come as differences. They have
    /// to be read.
    pub untold: Vec<Field>,
    /// When it was committed, in milliseconds since 1970.
    pub committed_at: i64,
    pub user: String,
    /// Through what it came, as `com/salesforce/api/rest/62.0;client=sync_ext`; may be empty.
    pub origin: String,
    /// The changes of one transaction have the same key, and are counted from 1.
    pub transaction: String,
    pub sequence: i64,
    /// What such events tell at all: formulas, for one, are not among it.
    pub schema: Schema,
}

impl PartialEq for Schema {
    /// Of the same types.
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

impl Change {
    /// The name that the client gave itself, where it gave one.
    pub fn client(&self) -> Option<&str> {
        self.origin.split(';').find_map(|part| part.strip_prefix("client="))
    }
}

/// A field, or a part of a compound one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// `Name`, `MailingAddress`
    pub name: String,
    /// `City`; nothing for a field as a whole.
    pub part: Option<String>,
}

impl Field {
    /// What the REST API calls it: the parts of a name by their own names, those of an address behind its stem, and
    /// those of a place of one's own with an ending (Object reference, compound fields).
    pub fn rest_name(&self) -> String {
        let Some(part) = &self.part else { return self.name.clone() };
        if let Some(stem) = self.name.strip_suffix("__c") {
            return format!("{stem}__{part}__s");
        }
        match self.name.strip_suffix("Address") {
            Some(stem) => format!("{stem}{part}"),
            None => part.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Field;

    #[test]
    fn parts_have_the_names_of_the_rest_api() {
        for (name, part, rest) in [
            ("Industry", None, "Industry"),
            ("Name", Some("LastName"), "LastName"),
            ("MailingAddress", Some("City"), "MailingCity"),
            ("Address", Some("PostalCode"), "PostalCode"),
            ("Place__c", Some("Latitude"), "Place__Latitude__s"),
        ] {
            let field = Field { name: name.into(), part: part.map(str::to_owned) };
            assert_eq!(field.rest_name(), rest);
        }
    }
}
