//! A field of an object, and what it is by itself.

use crate::formula::Expression;
use crate::rollup::Summary;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A field's type (REST API guide, sObject Describe; the names on the wire are these in lower case).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    Id,
    Reference,
    String,
    TextArea,
    Picklist,
    MultiPicklist,
    Combobox,
    Boolean,
    Int,
    Double,
    Currency,
    Percent,
    Date,
    DateTime,
    Time,
    Phone,
    Url,
    Email,
    /// Made of the fields that name it as their compound; read-only.
    Address,
}

impl FieldType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Reference => "reference",
            Self::String => "string",
            Self::TextArea => "textarea",
            Self::Picklist => "picklist",
            Self::MultiPicklist => "multipicklist",
            Self::Combobox => "combobox",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Double => "double",
            Self::Currency => "currency",
            Self::Percent => "percent",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Time => "time",
            Self::Phone => "phone",
            Self::Url => "url",
            Self::Email => "email",
            Self::Address => "address",
        }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double | Self::Currency | Self::Percent)
    }

    /// Its values are quoted in a query.
    pub(crate) fn is_text(self) -> bool {
        !self.is_number()
            && !matches!(self, Self::Boolean | Self::Date | Self::DateTime | Self::Time)
    }
}

/// A field of an object. Made with [`Field::new`] and the methods that return it changed, or read from JSON, where only
/// `name` and `type` are needed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    #[serde(default)]
    pub label: String,
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// Longest text in characters.
    #[serde(default)]
    pub length: u32,
    /// Digits in all, and behind the point, of a number.
    #[serde(default)]
    pub precision: u32,
    #[serde(default)]
    pub scale: u32,
    /// Null is refused.
    #[serde(default)]
    pub required: bool,
    #[serde(default = "yes")]
    pub createable: bool,
    #[serde(default = "yes")]
    pub updateable: bool,
    #[serde(default)]
    pub external_id: bool,
    #[serde(default)]
    pub unique: bool,
    /// Of a unique field: `ABC` and `abc` are two values.
    #[serde(default)]
    pub case_sensitive: bool,
    /// Can be the key of an upsert though it is no external id.
    #[serde(default)]
    pub id_lookup: bool,
    /// The values of a list, in its order.
    #[serde(default)]
    pub values: Vec<String>,
    /// Other values than these are refused.
    #[serde(default)]
    pub restricted: bool,
    /// Taken where a create says nothing.
    #[serde(default)]
    pub default: Option<Value>,
    #[serde(default)]
    pub reference_to: Vec<String>,
    #[serde(default)]
    pub relationship: Option<String>,
    /// Of a reference: the name that the parent has for these records, as `Contacts`.
    #[serde(default)]
    pub children: Option<String>,
    /// Of a reference: the record goes when its parent goes.
    #[serde(default)]
    pub cascade: bool,
    /// Of a reference: the record is a detail of its parent. It needs one, goes when that goes, and has no owner of its
    /// own (Salesforce help, Object Relationships Overview).
    #[serde(default)]
    pub master_detail: bool,
    /// Of a detail: it may be given another parent.
    #[serde(default)]
    pub reparentable: bool,
    /// Of a reference: the parent can't be deleted while this record is there.
    #[serde(default)]
    pub restrict: bool,
    /// Computed when it is read: `Name & IF(ISBLANK(Industry), "", " in " & Industry)`. Served are fields, also of
    /// parents, constants, operators, and AND, BLANKVALUE, IF, ISBLANK, NOT, OR and TEXT.
    #[serde(default)]
    pub formula: Option<String>,
    /// The formula as it was read; nothing where it can't be.
    #[serde(skip)]
    pub(crate) expression: Option<Arc<Expression>>,
    /// Computed from the records that have this one as their master.
    #[serde(default)]
    pub summary: Option<Summary>,
    /// How the number of a record is written, with the number of digits in braces: `A-{0000}`.
    #[serde(default)]
    pub auto_number: Option<String>,
    /// The compound field that it is a part of.
    #[serde(default)]
    pub compound: Option<String>,
    /// Holds the record's name.
    #[serde(default)]
    pub name_field: bool,
    /// Field-level security of the integration user (Salesforce help, Field-Level Security).
    #[serde(default = "yes")]
    pub visible: bool,
    #[serde(default = "yes")]
    pub editable: bool,
}

/// What is open unless it is closed.
pub(crate) fn yes() -> bool {
    true
}

impl Field {
    pub fn new(name: impl Into<String>, kind: FieldType) -> Self {
        let mut field = Self {
            name: name.into(),
            label: String::new(),
            kind,
            length: 0,
            precision: 0,
            scale: 0,
            required: false,
            createable: true,
            updateable: true,
            external_id: false,
            unique: false,
            case_sensitive: false,
            id_lookup: false,
            values: Vec::new(),
            restricted: false,
            default: None,
            reference_to: Vec::new(),
            relationship: None,
            children: None,
            cascade: false,
            master_detail: false,
            reparentable: false,
            restrict: false,
            formula: None,
            expression: None,
            summary: None,
            auto_number: None,
            compound: None,
            name_field: false,
            visible: true,
            editable: true,
        };
        field.complete();
        field
    }

    /// Fills what was left open.
    pub(crate) fn complete(&mut self) {
        use FieldType::{
            Combobox, Currency, Double, Email, Id, Int, MultiPicklist, Percent, Phone, Picklist,
            Reference, String, TextArea, Url,
        };
        if self.label.is_empty() {
            self.label = self.name.trim_end_matches("__c").replace('_', " ");
        }
        if self.length == 0 {
            self.length = match self.kind {
                Id | Reference => 18,
                String | Picklist | Combobox | Url | TextArea => 255,
                MultiPicklist => 4099,
                Phone => 40,
                Email => 80,
                _ => 0,
            };
        }
        if self.precision == 0 && matches!(self.kind, Double | Currency | Percent | Int) {
            self.precision = if self.kind == Int { 8 } else { 18 };
        }
        self.case_sensitive &= self.unique;
        self.id_lookup |= self.external_id || self.kind == Id;
        if self.calculated() || self.auto_number.is_some() || self.kind == FieldType::Address {
            self.createable = false;
            self.updateable = false;
        }
        let expression = self.formula.as_deref().map(Expression::parse);
        self.expression = expression.and_then(Result::ok).map(Arc::new);
        if self.master_detail {
            (self.required, self.cascade) = (true, true);
            self.updateable &= self.reparentable;
        }
        if self.kind == Reference && self.relationship.is_none() {
            self.relationship = match (self.name.strip_suffix("__c"), self.name.strip_suffix("Id"))
            {
                (Some(stem), _) => Some(format!("{stem}__r")),
                (None, Some(stem)) => Some(stem.to_owned()),
                (None, None) => None,
            };
        }
    }

    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    #[must_use]
    pub fn length(mut self, length: u32) -> Self {
        self.length = length;
        self
    }

    #[must_use]
    pub fn digits(mut self, precision: u32, scale: u32) -> Self {
        (self.precision, self.scale) = (precision, scale);
        self
    }

    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Set by the org alone.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        (self.createable, self.updateable) = (false, false);
        self
    }

    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    #[must_use]
    pub fn external_id(mut self) -> Self {
        (self.external_id, self.id_lookup) = (true, true);
        self
    }

    #[must_use]
    pub fn id_lookup(mut self) -> Self {
        self.id_lookup = true;
        self
    }

    #[must_use]
    pub fn values(mut self, values: &[&str]) -> Self {
        self.values = values.iter().map(|v| (*v).to_owned()).collect();
        self
    }

    #[must_use]
    pub fn restricted(mut self) -> Self {
        self.restricted = true;
        self
    }

    #[must_use]
    pub fn default_value(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    #[must_use]
    pub fn references(mut self, objects: &[&str]) -> Self {
        self.reference_to = objects.iter().map(|o| (*o).to_owned()).collect();
        self
    }

    #[must_use]
    pub fn children(mut self, name: &str) -> Self {
        self.children = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn cascade(mut self) -> Self {
        self.cascade = true;
        self
    }

    /// A detail's reference to its master.
    #[must_use]
    pub fn master_detail(mut self) -> Self {
        self.master_detail = true;
        self.complete();
        self
    }

    /// Details may be moved to another master.
    #[must_use]
    pub fn reparentable(mut self) -> Self {
        (self.reparentable, self.updateable) = (true, true);
        self
    }

    #[must_use]
    pub fn summary(mut self, summary: Summary) -> Self {
        self.summary = Some(summary);
        self.read_only()
    }

    #[must_use]
    pub fn restrict(mut self) -> Self {
        self.restrict = true;
        self
    }

    #[must_use]
    pub fn formula(mut self, formula: &str) -> Self {
        self.formula = Some(formula.to_owned());
        self.complete();
        self
    }

    #[must_use]
    pub fn auto_number(mut self, format: &str) -> Self {
        self.auto_number = Some(format.to_owned());
        self.read_only()
    }

    #[must_use]
    pub fn part_of(mut self, compound: &str) -> Self {
        self.compound = Some(compound.to_owned());
        self
    }

    #[must_use]
    pub fn name_field(mut self) -> Self {
        self.name_field = true;
        self
    }

    pub(crate) fn custom(&self) -> bool {
        self.name.ends_with("__c")
    }

    /// The org computes it from other fields.
    pub(crate) fn calculated(&self) -> bool {
        self.formula.is_some() || self.summary.is_some()
    }

    /// Text of more than 255 characters can be no condition (SOQL guide, Fields in Conditions).
    pub(crate) fn filterable(&self) -> bool {
        self.kind != FieldType::Address && (self.kind != FieldType::TextArea || self.length <= 255)
    }

    /// Records are looked up by it: keys, and parents. The 18 characters of an id differ in more than case.
    pub(crate) fn indexed(&self) -> bool {
        self.name != "Id"
            && (self.unique
                || self.id_lookup
                || self.reference_to.iter().any(|o| o != "User" && o != "Group"))
    }

    /// A create need not tell it.
    pub(crate) fn defaulted(&self) -> bool {
        self.kind == FieldType::Boolean
            || self.default.is_some()
            || self.auto_number.is_some()
            || self.name == "OwnerId"
    }
}
