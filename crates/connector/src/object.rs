use serde::{Deserialize, Serialize};

/// What a field holds, as far as a sync has to know. Each kind stands for one PostgreSQL type that
/// holds its values without loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// The record's own id, or that of another record: text.
    Id,
    /// text
    #[default]
    Text,
    /// A closed or open list of values: text.
    Choice,
    /// Several values of a list, in the list's order: text[].
    Choices,
    /// boolean
    Boolean,
    /// integer or bigint
    Integer,
    /// numeric
    Number,
    /// date
    Date,
    /// timestamp with time zone
    DateTime,
    /// time without time zone
    Time,
    /// bytea
    Bytes,
    /// Structured, read-only: jsonb.
    Structure,
}

/// A field as a request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    /// Longest text in characters; 0 where there is no limit.
    pub length: u32,
    /// See [`Field::lookup`].
    pub lookup: Option<String>,
}

/// An object's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    pub name: String,
    pub label: String,
    /// Can be written by this user, and how.
    pub createable: bool,
    pub updateable: bool,
    pub deletable: bool,
    /// Can be asked for its changes.
    pub replicateable: bool,
}

/// A field as the other side describes it to this user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub label: String,
    pub kind: Kind,
    /// The other side's own name of the type.
    pub native_type: String,
    /// Longest text in characters; 0 where there is no limit.
    pub length: u32,
    /// Digits in all and after the point, of a number.
    pub precision: u32,
    pub scale: u32,
    pub nillable: bool,
    pub createable: bool,
    pub updateable: bool,
    /// No right could make it writable: the other side computes it, or keeps it itself.
    #[serde(default)]
    pub fixed: bool,
    /// Filled by the other side where a create says nothing.
    pub defaulted: bool,
    /// Can identify a record in an upsert.
    pub external_id: bool,
    pub unique: bool,
    /// Can stand in a condition.
    pub filterable: bool,
    /// The objects whose records it may point to.
    pub reference_to: Vec<String>,
    /// Of a field that points to another record: the name by which fields of that record are reached, as `Account` is in
    /// `Account.Key__c`.
    #[serde(default)]
    pub relationship: Option<String>,
    /// Of a field that belongs to the parent: the field of this object that points to the parent. What is read is the
    /// parent's value; what is written makes the record of that value the parent, and null makes it none.
    #[serde(default)]
    pub lookup: Option<String>,
    /// The field that it is a part of, as a street is of an address.
    pub compound: Option<String>,
    /// The values of a list that are offered.
    pub choices: Vec<String>,
}

impl Field {
    pub fn column(&self) -> Column {
        Column {
            name: self.name.clone(),
            kind: self.kind,
            length: self.length,
            lookup: self.lookup.clone(),
        }
    }

    /// Computed by the other side; can be read and never written.
    pub fn read_only(&self) -> bool {
        !self.createable && !self.updateable
    }
}

/// An object as the other side describes it to this user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub name: String,
    pub label: String,
    pub createable: bool,
    pub updateable: bool,
    pub deletable: bool,
    pub undeletable: bool,
    pub queryable: bool,
    /// The name of the field that is the record's id.
    pub id_field: String,
    /// The name of the field that tells when a record was last touched: the version.
    pub version_field: String,
    /// Its own, and those of its parents that were asked for.
    pub fields: Vec<Field>,
    /// Fields of parents that were asked for and can't be synced.
    #[serde(default)]
    pub unfit: Vec<Unfit>,
}

/// A field of a parent that was asked for and is not to be had, or identifies no record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// As it was asked for.
    pub name: String,
    /// In lower case, without full stop.
    pub why: String,
    /// What to do about it, in full sentences.
    pub hint: String,
}

impl Object {
    /// By name: exactly, else ignoring case.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|f| f.name == name)
            .or_else(|| self.fields.iter().find(|f| f.name.eq_ignore_ascii_case(name)))
    }

    /// Those that are not its parents'.
    pub fn own_fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.lookup.is_none())
    }

    /// Why a field of a parent that was asked for is not there.
    pub fn unfit(&self, name: &str) -> Option<&Unfit> {
        self.unfit.iter().find(|unfit| unfit.name.eq_ignore_ascii_case(name))
    }
}
