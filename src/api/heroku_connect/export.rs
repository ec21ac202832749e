//! What `heroku connect:export` writes: the mappings of a connection.

use crate::worker::transaction::{Failure, refuse};
use serde_json::{Map, Value as Json};

/// An object that Heroku Connect syncs, as far as it is known what it was told.
pub(super) struct Mapping {
    /// As the export spells it; of a table alone, its name.
    pub(super) object: String,
    pub(super) access: Option<Access>,
    /// The fields that are mapped; `None`: those for which there are columns.
    pub(super) fields: Option<Vec<String>>,
    /// Those of them that were to have an index.
    pub(super) indexed: Vec<String>,
    /// The external id by which a record that was made here is found again.
    pub(super) upsert_field: Option<String>,
    pub(super) daily_calls: Option<u64>,
}

/// Was what was written here sent to the org?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::ReadWrite => "read_write",
        }
    }
}

impl Mapping {
    /// What is known of a table without an export.
    pub(super) fn of_table(table: &str, access: Option<Access>) -> Self {
        Self {
            object: table.to_owned(),
            access,
            fields: None,
            indexed: Vec::new(),
            upsert_field: None,
            daily_calls: None,
        }
    }

    /// The table that Connect makes for it.
    pub(super) fn table(&self) -> String {
        self.object.to_ascii_lowercase()
    }
}

/// The mappings of an export.
///
/// # Errors
/// It is none; DETAIL says at which place.
pub(super) fn read(export: &Json) -> Result<Vec<Mapping>, Failure> {
    let Some(Json::Array(mappings)) = export.get("mappings") else {
        return Err(wrong("mappings", "a list of mappings", export.get("mappings")));
    };
    let mut read: Vec<Mapping> = Vec::with_capacity(mappings.len());
    for (n, mapping) in mappings.iter().enumerate() {
        let path = format!("mappings[{n}]");
        let mapping = one(mapping, &path)?;
        if read.iter().any(|known| known.object.eq_ignore_ascii_case(&mapping.object)) {
            return Err(no_export(
                &format!("\"{}\" is mapped twice in the export", mapping.object),
                &format!("Once more at \"{path}.object_name\"."),
            ));
        }
        read.push(mapping);
    }
    if read.is_empty() {
        return Err(no_export("the export has no mappings", "\"mappings\" is an empty list."));
    }
    Ok(read)
}

fn one(mapping: &Json, path: &str) -> Result<Mapping, Failure> {
    let object = match mapping.get("object_name") {
        Some(Json::String(name)) if is_name(name) => name.clone(),
        other => return Err(wrong(&format!("{path}.object_name"), "an object's name", other)),
    };
    let config = match mapping.get("config") {
        Some(Json::Object(config)) => config,
        other => return Err(wrong(&format!("{path}.config"), "an object", other)),
    };
    let path = format!("{path}.config");
    let access = match config.get("access") {
        None | Some(Json::Null) => None,
        Some(Json::String(access)) if access == "read_only" => Some(Access::ReadOnly),
        Some(Json::String(access)) if access == "read_write" => Some(Access::ReadWrite),
        other => {
            return Err(wrong(&format!("{path}.access"), "\"read_only\" or \"read_write\"", other));
        }
    };
    let upsert_field = match config.get("upsert_field") {
        None | Some(Json::Null) => None,
        Some(Json::String(field)) => Some(field.clone()).filter(|field| !field.is_empty()),
        other => return Err(wrong(&format!("{path}.upsert_field"), "a field's name", other)),
    };
    let daily_calls = match config.get("sf_max_daily_api_calls") {
        None | Some(Json::Null) => None,
        Some(number) => match number.as_u64() {
            Some(number) => Some(number).filter(|&number| number > 0),
            None => {
                let path = format!("{path}.sf_max_daily_api_calls");
                return Err(wrong(&path, "a number of calls", Some(number)));
            }
        },
    };
    Ok(Mapping {
        object,
        access,
        fields: names(config, &path, "fields")?,
        indexed: names(config, &path, "indexes")?.unwrap_or_default(),
        upsert_field,
        daily_calls,
    })
}

/// Could an object be called so?
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The names that stand before the values of an object.
fn names(
    config: &Map<String, Json>,
    path: &str,
    key: &str,
) -> Result<Option<Vec<String>>, Failure> {
    match config.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(fields)) => Ok(Some(fields.keys().cloned().collect())),
        other => Err(wrong(&format!("{path}.{key}"), "an object of fields", other)),
    }
}

fn wrong(path: &str, wanted: &str, found: Option<&Json>) -> Failure {
    let found = found.map_or("missing".to_owned(), Json::to_string);
    let cut: String = found.chars().take(80).collect();
    no_export(
        "this is no export of Heroku Connect",
        &format!("\"{path}\" should be {wanted}; it is {cut}."),
    )
}

fn no_export(message: &str, detail: &str) -> Failure {
    let hint =
        "Give the JSON that heroku connect:export wrote, or leave it out: then the tables say it.";
    refuse("22023", message.to_owned(), detail, hint)
}
