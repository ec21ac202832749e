//! What an org does to a record before it saves it, as triggers and validation rules do.

use crate::ApiError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Something that happens when a record of an object is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rule {
    pub object: String,
    #[serde(flatten)]
    pub action: RuleAction,
}

/// What happens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum RuleAction {
    /// The text of a field becomes capitals.
    UpperCase { field: String },
    /// Another field gets a value whenever this one is written.
    Set { field: String, to: Value },
    /// The record is refused when the field has the value (FIELD_CUSTOM_VALIDATION_EXCEPTION).
    Reject { field: String, value: Value, message: String },
    /// A trigger throws when the field has the value (CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY).
    Throw { field: String, value: Value, message: String },
}

impl Rule {
    /// Changes the record that is to be saved, or refuses it.
    pub(crate) fn apply(&self, values: &mut Map<String, Value>) -> Result<(), ApiError> {
        match &self.action {
            RuleAction::UpperCase { field } => {
                if let Some(Value::String(text)) = values.get_mut(field) {
                    *text = text.to_uppercase();
                }
                Ok(())
            }
            RuleAction::Set { field, to } => {
                values.insert(field.clone(), to.clone());
                Ok(())
            }
            RuleAction::Reject { field, value, message } if values.get(field) == Some(value) => {
                Err(ApiError::record("FIELD_CUSTOM_VALIDATION_EXCEPTION", message, &[field]))
            }
            RuleAction::Throw { field, value, message } if values.get(field) == Some(value) => {
                let message = format!(
                    "LocalTrigger: execution of BeforeUpdate\n\ncaused by: {message}\n\nTrigger.LocalTrigger: line 1, column 1"
                );
                Err(ApiError::record("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message, &[]))
            }
            RuleAction::Reject { .. } | RuleAction::Throw { .. } => Ok(()),
        }
    }
}
