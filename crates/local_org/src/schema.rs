//! Objects.

use crate::field::yes;
use serde::{Deserialize, Serialize};

pub use crate::field::{Field, FieldType};

/// Standard objects whose records belong to nobody, and those whose records can't be deleted.
const UNOWNED: [&str; 8] = [
    "Organization",
    "PermissionSet",
    "PermissionSetAssignment",
    "Pricebook2",
    "PricebookEntry",
    "Product2",
    "Profile",
    "User",
];
const KEPT: [&str; 5] =
    ["Organization", "PermissionSet", "PermissionSetAssignment", "Profile", "User"];

/// An object with its fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    pub name: String,
    #[serde(default)]
    pub label: String,
    /// The first three characters of its ids.
    #[serde(default)]
    pub key_prefix: String,
    #[serde(default = "yes")]
    pub createable: bool,
    #[serde(default = "yes")]
    pub updateable: bool,
    #[serde(default = "yes")]
    pub deletable: bool,
    #[serde(default = "yes")]
    pub queryable: bool,
    /// Those that every object has are added.
    #[serde(default)]
    pub fields: Vec<Field>,
}

impl Object {
    /// An object with the fields that every one has.
    pub fn new(name: impl Into<String>, key_prefix: impl Into<String>) -> Self {
        let mut object = Self {
            name: name.into(),
            label: String::new(),
            key_prefix: key_prefix.into(),
            createable: true,
            updateable: true,
            deletable: true,
            queryable: true,
            fields: Vec::new(),
        };
        object.complete();
        object
    }

    #[must_use]
    pub fn with(mut self, field: Field) -> Self {
        self.put(field);
        self
    }

    /// Adds a field, or replaces the one of its name.
    pub(crate) fn put(&mut self, mut field: Field) {
        field.complete();
        name_children(&self.name, &mut field);
        match self.fields.iter_mut().find(|f| f.name.eq_ignore_ascii_case(&field.name)) {
            Some(there) => *there = field,
            None => self.fields.push(field),
        }
        self.drop_owner_of_detail();
    }

    /// Who owns the master owns its details.
    fn drop_owner_of_detail(&mut self) {
        if self.fields.iter().any(|f| f.master_detail) {
            self.fields.retain(|f| f.name != "OwnerId");
        }
    }

    /// Adds the fields that every object has (Object reference, System Fields).
    pub(crate) fn complete(&mut self) {
        use FieldType::{Boolean, DateTime, Id, Reference, String};
        if self.label.is_empty() {
            self.label = self.name.trim_end_matches("__c").replace('_', " ");
        }
        let user = |name, label| {
            Field::new(name, Reference).label(label).references(&["User"]).required().read_only()
        };
        let moment = |name, label| Field::new(name, DateTime).label(label).required().read_only();
        let mut owner =
            Field::new("OwnerId", Reference).label("Owner ID").references(&["Group", "User"]);
        owner.required = true;
        let mut fields = vec![
            Field::new("Id", Id).label(&format!("{} ID", self.label)).required().read_only(),
            Field::new("IsDeleted", Boolean).label("Deleted").required().read_only(),
        ];
        if self.name.ends_with("__c") {
            fields.push(Field::new("Name", String).label("Name").length(80).name_field());
        }
        if !UNOWNED.contains(&self.name.as_str()) {
            fields.push(owner);
        }
        fields.extend([
            moment("CreatedDate", "Created Date"),
            user("CreatedById", "Created By ID"),
            moment("LastModifiedDate", "Last Modified Date"),
            user("LastModifiedById", "Last Modified By ID"),
            moment("SystemModstamp", "System Modstamp"),
        ]);
        if KEPT.contains(&self.name.as_str()) {
            fields.retain(|field| field.name != "IsDeleted");
        }
        for mut field in std::mem::take(&mut self.fields) {
            field.complete();
            name_children(&self.name, &mut field);
            match fields.iter_mut().find(|f| f.name.eq_ignore_ascii_case(&field.name)) {
                Some(there) => *there = field,
                None => fields.push(field),
            }
        }
        self.fields = fields;
        self.drop_owner_of_detail();
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name.eq_ignore_ascii_case(name))
    }

    /// Only if the integration user may see it.
    pub(crate) fn visible(&self, name: &str) -> Option<&Field> {
        self.field(name).filter(|f| f.visible)
    }

    /// The reference whose parent has this name: `Account` for `AccountId`.
    pub(crate) fn relationship(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|f| f.relationship.as_deref().is_some_and(|r| r.eq_ignore_ascii_case(name)))
    }
}

/// A field that was added to an object lets its parents know their children by the object's plural.
fn name_children(object: &str, field: &mut Field) {
    if field.custom() && field.kind == FieldType::Reference && field.children.is_none() {
        field.children = Some(format!("{}__r", plural(object.trim_end_matches("__c"))));
    }
}

pub(crate) fn plural(name: &str) -> String {
    match name.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{name}s"),
    }
}
