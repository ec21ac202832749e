//! Duplicate rules: a record that looks like one that is there is refused, or saved by one who insists (Salesforce
//! help, Duplicate Rules; SOAP API guide, DuplicateResult; REST API guide, Duplicate Rule Header).

use crate::exchange::Request;
use crate::org::{Caller, Org};
use crate::schema::Object;
use crate::table::{Row, key};
use crate::{ApiError, soql};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Records of an object are duplicates of each other when all these fields have the same value, ignoring case. Where
/// one of them is empty, there is no match.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuplicateRule {
    pub object: String,
    pub fields: Vec<String>,
    /// `Local_Account_Duplicate_Rule`, if left open.
    #[serde(default)]
    pub name: String,
    /// Nobody can save a duplicate; otherwise who sends `Sforce-Duplicate-Rule-Header: allowSave=true` can.
    #[serde(default)]
    pub block: bool,
    #[serde(default = "question")]
    pub message: String,
}

fn question() -> String {
    "Use one of these records?".into()
}

impl DuplicateRule {
    /// A rule that warns.
    pub fn new(object: &str, fields: &[&str]) -> Self {
        Self {
            object: object.to_owned(),
            fields: fields.iter().map(|&f| f.to_owned()).collect(),
            name: String::new(),
            block: false,
            message: question(),
        }
    }

    /// Without a way round it.
    #[must_use]
    pub fn block(mut self) -> Self {
        self.block = true;
        self
    }
}

/// What a request says about duplicates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Insistence {
    allow_save: bool,
    /// The answer has all fields of the records that it duplicates.
    details: bool,
}

impl Insistence {
    pub(crate) fn of(request: &Request) -> Self {
        let header = request.header("sforce-duplicate-rule-header").unwrap_or_default();
        let says = |name: &str| {
            header.split([';', ',']).filter_map(|part| part.split_once('=')).any(|(n, value)| {
                n.trim().eq_ignore_ascii_case(name) && value.trim().eq_ignore_ascii_case("true")
            })
        };
        Self { allow_save: says("allowSave"), details: says("includeRecordDetails") }
    }

    /// What a part of a request says holds beside what the whole does.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            allow_save: self.allow_save || other.allow_save,
            details: self.details || other.details,
        }
    }
}

impl Org {
    pub(crate) fn add_duplicate_rule(&mut self, mut rule: DuplicateRule) -> Result<(), ApiError> {
        let object = self.object(&rule.object).ok_or_else(ApiError::not_found)?;
        for name in &mut rule.fields {
            let field = object.field(name).filter(|f| f.createable || f.updateable);
            let field = field.ok_or_else(|| {
                let message = format!("No such column '{name}' on sobject of type {}", object.name);
                ApiError::new(400, "INVALID_FIELD", message)
            })?;
            name.clone_from(&field.name);
        }
        if rule.fields.is_empty() {
            return Err(ApiError::json("a duplicate rule needs a field"));
        }
        rule.object.clone_from(&object.name);
        if rule.name.is_empty() {
            rule.name = format!("Local_{}_Duplicate_Rule", rule.object);
        }
        let object = rule.object.clone();
        self.duplicate_rules.push(rule);
        self.index(&object);
        Ok(())
    }

    pub(crate) fn clear_duplicate_rules(&mut self) {
        for rule in std::mem::take(&mut self.duplicate_rules) {
            self.index(&rule.object);
        }
    }

    /// Refuses a record of the API that a rule takes for a duplicate. Of a record that is there already, only a change
    /// of a field that the rule looks at is examined.
    pub(crate) fn check_duplicates(
        &self,
        caller: &Caller,
        object: &Object,
        values: &Map<String, Value>,
        old: Option<&Row>,
    ) -> Result<(), ApiError> {
        if !caller.api {
            return Ok(());
        }
        let new = |field: &str| values.get(field).unwrap_or(&Value::Null);
        for rule in self.duplicate_rules.iter().filter(|rule| rule.object == object.name) {
            let passed = caller.insistence.allow_save && !rule.block;
            let touched = |row: &Row| rule.fields.iter().any(|f| row.get(f) != new(f));
            if passed || !old.is_none_or(touched) {
                continue;
            }
            let matching = self.matching(rule, values, old.map(|row| row.id.as_str()));
            if !matching.is_empty() {
                return Err(self.detected(caller, object, rule, &matching));
            }
        }
        Ok(())
    }

    /// The live records that are alike, by way of the field that fewest records share.
    fn matching(
        &self,
        rule: &DuplicateRule,
        values: &Map<String, Value>,
        own: Option<&str>,
    ) -> Vec<&Row> {
        let Some(table) = self.table(&rule.object) else { return Vec::new() };
        let new = |field: &str| values.get(field).unwrap_or(&Value::Null);
        let rarest = rule.fields.iter().min_by_key(|f| table.sharing(f, new(f)));
        let ids = rarest.and_then(|f| table.with_key(f, new(f))).unwrap_or_default();
        let others = ids.into_iter().filter(|id| Some(*id) != own).filter_map(|id| table.live(id));
        let alike = |row: &&Row| {
            rule.fields.iter().all(|f| key(new(f)).is_some() && key(new(f)) == key(row.get(f)))
        };
        others.filter(alike).collect()
    }

    fn detected(
        &self,
        caller: &Caller,
        object: &Object,
        rule: &DuplicateRule,
        matching: &[&Row],
    ) -> ApiError {
        let version = caller.path.strip_prefix("/services/data/v").unwrap_or("66.0");
        let version = version.split('/').next().unwrap_or_default();
        let fields = object.fields.iter().filter(|f| f.visible);
        let names: Vec<String> = fields
            .filter(|f| caller.insistence.details || f.name == "Id")
            .map(|f| f.name.clone())
            .collect();
        let selected = soql::selected(self, object, &names).unwrap_or_default();
        let records: Vec<Value> = matching
            .iter()
            .map(|row| {
                json!({
                    "additionalInformation": [],
                    "fieldDiffs": [],
                    "matchConfidence": 100.0,
                    "record": soql::render(self, &object.name, row, &selected, version),
                })
            })
            .collect();
        let result = json!({
            "allowSave": !rule.block,
            "duplicateRule": rule.name,
            "duplicateRuleEntityType": object.name,
            "errorMessage": rule.message,
            "matchResults": [{
                "entityType": object.name,
                "errors": [],
                "matchEngine": "ExactMatchEngine",
                "matchRecords": records,
                "rule": format!("Local_{}_Match_Rule", object.name),
                "size": matching.len(),
                "success": true,
            }],
        });
        let error = ApiError::new(400, "DUPLICATES_DETECTED", &rule.message);
        ApiError { duplicates: Some(Box::new(result)), ..error }
    }
}
