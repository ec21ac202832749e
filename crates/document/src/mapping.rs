//! How values are converted on their way, for all fields of a sync.

use serde_json::{Map, Value};

use crate::error::Error;
use crate::fields::Fields;
use crate::path::{Path, shown};

/// What becomes of a null on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Nulls {
    /// It is a value like any other.
    #[default]
    Preserve,
    /// It empties no field of the other side.
    Ignore,
    /// The field's default takes its place.
    Default,
}

/// How a moment is written where the other side holds a text or a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TimestampFormat {
    /// As in ISO 8601, in UTC and with microseconds.
    Iso8601,
    /// Milliseconds since 1970.
    EpochMs,
    /// A picture of `to_char`.
    Picture(String),
}

/// `mapping_options`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MappingOptions {
    /// What becomes of a null.
    pub nulls: Nulls,
    /// How a moment is written as text; `None`: as its type writes it.
    pub timestamp_format: Option<TimestampFormat>,
    /// The time zone of moments without one; `None`: UTC.
    pub time_zone: Option<String>,
    /// The country (ISO 3166-1, two letters) of phone numbers without a country code.
    pub phone_region: Option<String>,
}

impl MappingOptions {
    pub(crate) fn read(doc: &Map<String, Value>, fields: &Fields) -> Result<Self, Error> {
        let root = Path::root().key("mapping_options");
        let Some(options) = doc.get("mapping_options") else { return Ok(Self::default()) };
        let text = |key: &str| options.get(key).and_then(Value::as_str).map(str::to_owned);
        let nulls = match options.get("handle_nulls").and_then(Value::as_str) {
            Some("ignore") => Nulls::Ignore,
            Some("default") => Nulls::Default,
            _ => Nulls::Preserve,
        };
        let has_default = fields.mapped.iter().any(|field| field.default.is_some());
        if nulls == Nulls::Default && !has_default {
            let path = root.key("handle_nulls");
            return Err(Error::malformed(
                &path,
                format!("\"{path}\" needs a default"),
                "No mapping says what is to stand in the place of a null.",
                "Give a mapping its \"default\", for example {\"source\": \"Status\", \"target\": \"status\", \"default\": \"new\"}.",
            ));
        }
        let phone_region = text("phone_region");
        if let Some(region) = &phone_region
            && !(region.len() == 2 && region.bytes().all(|b| b.is_ascii_uppercase()))
        {
            let path = root.key("phone_region");
            return Err(Error::malformed(
                &path,
                format!("\"{path}\" must be a country"),
                format!("It is {}; a country is two capital letters (ISO 3166-1).", shown(region)),
                "For example: \"phone_region\": \"CH\".",
            ));
        }
        Ok(Self {
            nulls,
            timestamp_format: text("timestamp_format").map(|format| match format.as_str() {
                "iso8601" => TimestampFormat::Iso8601,
                "epoch_ms" => TimestampFormat::EpochMs,
                _ => TimestampFormat::Picture(format),
            }),
            time_zone: text("time_zone"),
            phone_region,
        })
    }
}
