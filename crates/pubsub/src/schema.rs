use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::event::Field;

/// How deep types may lie in each other: events have their record, compound fields, and values.
const DEEPEST: usize = 8;

/// Most fields of one record, parts of compound fields counted each time that they are there: objects have less than a
/// thousand, and a name that stands for a type makes much of little.
const MOST_FIELDS: usize = 1 << 14;

/// A record type with its fields.
#[derive(Debug, PartialEq)]
pub struct Record {
    pub name: String,
    pub(crate) fields: Vec<(String, Type)>,
    /// How deep its types lie in each other, those that are called by name too.
    depth: usize,
}

impl Record {
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|(field, _)| field == name)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Enum(Arc<[String]>),
    Array(Arc<Type>),
    Union(Arc<[Type]>),
    Record(Arc<Record>),
}

impl Type {
    /// The record that a field of this type may hold: then it is a compound field.
    pub(crate) fn record(&self) -> Option<&Arc<Record>> {
        match self {
            Self::Record(record) => Some(record),
            Self::Union(branches) => branches.iter().find_map(Self::record),
            _ => None,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Record(record) => record.depth,
            Self::Array(items) => 1 + items.depth(),
            Self::Union(branches) => 1 + branches.iter().map(Self::depth).max().unwrap_or_default(),
            _ => 0,
        }
    }

    /// Itself, and what it has of parts.
    fn fields(&self) -> usize {
        1 + self.record().map_or(0, |record| record.fields.len())
    }
}

/// The schema of an object's events.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(crate) record: Arc<Record>,
    /// What the REST API calls its fields and their parts, in lower case.
    names: Arc<HashSet<String>>,
}

impl Schema {
    /// Reads a schema in its JSON form (Avro specification, Schema Declaration), of the types that change events
    /// are made of. A type that refers to itself is refused: no event has one, and its values would know no end.
    ///
    /// # Errors
    /// What of it can't be used, for people.
    pub fn parse(json: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(json).map_err(|error| format!("no JSON: {error}"))?;
        let mut names = Names::default();
        match names.read(&json, "", 0)? {
            Type::Record(record) => {
                let names = Arc::new(rest_names(&record));
                Ok(Self { record, names })
            }
            _ => Err("it is no record".to_owned()),
        }
    }
}

impl Schema {
    /// Do events of this schema tell of a field, by its name in the REST API, when it changes?
    pub fn tells(&self, name: &str) -> bool {
        self.names.contains(&name.to_ascii_lowercase())
    }
}

fn rest_names(record: &Record) -> HashSet<String> {
    let mut names = HashSet::new();
    for (name, kind) in &record.fields {
        let field =
            |part: Option<&str>| Field { name: name.clone(), part: part.map(str::to_owned) };
        names.insert(name.to_ascii_lowercase());
        let parts = kind.record().into_iter().flat_map(|compound| &compound.fields);
        names.extend(parts.map(|(part, _)| field(Some(part)).rest_name().to_ascii_lowercase()));
    }
    names
}

const TOO_DEEP: &str = "its types lie too deep in each other";

/// The types that have been defined so far, by their full names.
#[derive(Default)]
struct Names(HashMap<String, Type>);

impl Names {
    fn read(&mut self, json: &Json, space: &str, depth: usize) -> Result<Type, String> {
        if depth > DEEPEST {
            return Err(TOO_DEEP.to_owned());
        }
        match json {
            Json::String(name) => self.named(name, space),
            Json::Array(branches) => {
                let branches: Vec<Type> = branches
                    .iter()
                    .map(|b| self.read(b, space, depth + 1))
                    .collect::<Result<_, _>>()?;
                Ok(Type::Union(branches.into()))
            }
            Json::Object(_) => self.defined(json, space, depth),
            _ => Err("a type is neither a name nor a definition".to_owned()),
        }
    }

    fn named(&self, name: &str, space: &str) -> Result<Type, String> {
        Ok(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::Text,
            other => {
                let known = self.0.get(&full(other, space)).or_else(|| self.0.get(other));
                known.cloned().ok_or_else(|| format!("type {other} is not known"))?
            }
        })
    }

    fn defined(&mut self, json: &Json, space: &str, depth: usize) -> Result<Type, String> {
        let kind = json.get("type").ok_or("a definition without a type")?;
        let Some(word) = kind.as_str() else { return self.read(kind, space, depth + 1) };
        let list = |name: &str| {
            json.get(name)
                .and_then(Json::as_array)
                .ok_or_else(|| format!("type {word} without its {name}"))
        };
        match word {
            "record" | "error" => {
                let (name, space) = name_of(json, space)?;
                let mut fields: Vec<(String, Type)> = Vec::new();
                let (mut names, mut count, mut deepest) = (HashSet::new(), 0, 0);
                for field in list("fields")? {
                    let own =
                        field.get("name").and_then(Json::as_str).ok_or("a field without a name")?;
                    if !names.insert(own) {
                        return Err(format!("field {own} is there twice"));
                    }
                    let kind =
                        field.get("type").ok_or_else(|| format!("field {own} has no type"))?;
                    let kind = self.read(kind, &space, depth + 1)?;
                    count += kind.fields();
                    if count > MOST_FIELDS {
                        return Err(format!("type {name} has too many fields"));
                    }
                    deepest = deepest.max(1 + kind.depth());
                    fields.push((own.to_owned(), kind));
                }
                // Types that are called by name make a chain as long as the schema, and values are read, and let go,
                // one inside of the other.
                if deepest > DEEPEST {
                    return Err(TOO_DEEP.to_owned());
                }
                let record = Record { name: name.clone(), fields, depth: deepest };
                self.define(Type::Record(Arc::new(record)), name)
            }
            "enum" => {
                let (name, _) = name_of(json, space)?;
                let symbols: Option<Vec<String>> =
                    list("symbols")?.iter().map(|s| s.as_str().map(str::to_owned)).collect();
                self.define(Type::Enum(symbols.ok_or("a symbol is no text")?.into()), name)
            }
            "array" => {
                let items = json.get("items").ok_or("an array without its items")?;
                Ok(Type::Array(Arc::new(self.read(items, space, depth + 1)?)))
            }
            "map" | "fixed" => Err(format!("type {word} is not one of change events")),
            // With a logical type or other properties, which change nothing of how it is written.
            other => self.named(other, space),
        }
    }

    fn define(&mut self, kind: Type, name: String) -> Result<Type, String> {
        if self.0.contains_key(&name) {
            return Err(format!("type {name} is defined twice"));
        }
        self.0.insert(name, kind.clone());
        Ok(kind)
    }
}

/// The full name of a definition, and the space that names inside of it are in.
fn name_of(json: &Json, space: &str) -> Result<(String, String), String> {
    let name = json.get("name").and_then(Json::as_str).ok_or("a type without a name")?;
    let space = json.get("namespace").and_then(Json::as_str).unwrap_or(space);
    let full = full(name, space);
    let space = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
    Ok((full, space))
}

fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::{Schema, Type};

    #[test]
    fn a_type_is_called_by_its_name_where_it_comes_again() {
        let schema = Schema::parse(
            r#"{"type": "record", "name": "E", "namespace": "a.b", "fields": [
                {"name": "One", "type": ["null", {"type": "record", "name": "Address", "fields": [
                    {"name": "City", "type": ["null", "string"]}]}]},
                {"name": "Two", "type": ["null", "Address"]},
                {"name": "Three", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#,
        )
        .expect("a schema");
        let (one, two) = (schema.record.fields[0].1.record(), schema.record.fields[1].1.record());
        assert_eq!(one, two);
        assert_eq!(one.map(|record| record.name.as_str()), Some("a.b.Address"));
        assert_eq!(schema.record.fields[2].1, Type::Long);
    }

    /// A record of so many fields that begins with these, and goes on with fields of a type.
    fn record(name: &str, fields: usize, kind: &str) -> String {
        let field = |n: usize| format!(r#"{{"name": "{name}{n}", "type": {kind}}}"#);
        let fields: Vec<String> = (0..fields).map(field).collect();
        format!(r#"{{"type": "record", "name": "{name}", "fields": [{}]}}"#, fields.join(","))
    }

    /// Without a bound a thread would end here for want of stack, and the server with it.
    #[test]
    fn types_called_by_name_are_no_deeper_than_others() {
        let link = |n: usize| {
            let before = format!("\"R{}\"", n - 1);
            format!(r#"{{"name": "f{n}", "type": {}}}"#, record(&format!("R{n}"), 1, &before))
        };
        let chain = |length: usize| {
            let first = format!(r#"{{"name": "f0", "type": {}}}"#, record("R0", 1, "\"null\""));
            let links: Vec<String> = [first].into_iter().chain((1..length).map(link)).collect();
            format!(r#"{{"type": "record", "name": "E", "fields": [{}]}}"#, links.join(","))
        };
        assert!(Schema::parse(&chain(4)).is_ok());
        for length in [20, 100_000] {
            assert!(Schema::parse(&chain(length)).expect_err("too deep").contains("deep"));
        }
    }

    /// Each field looked for among all before it, or each part named for each field, would take hours and all memory.
    #[test]
    fn more_fields_than_any_object_has_are_refused() {
        let parts = record("P", 10_000, "\"int\"");
        let compound = record("E", 2, "\"P\"").replacen("\"P\"", &parts, 1);
        for schema in [record("E", 300_000, "\"int\""), compound] {
            assert!(Schema::parse(&schema).expect_err("too many").contains("too many fields"));
        }
        assert!(Schema::parse(&record("E", 1500, "\"int\"")).is_ok());
    }

    #[test]
    fn what_is_no_schema_of_events_is_refused() {
        let deep = format!("{}\"int\"{}", "[".repeat(100), "]".repeat(100));
        for (json, why) in [
            ("", "no JSON"),
            ("\"string\"", "no record"),
            (
                r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}"#,
                "R is not known",
            ),
            (
                r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": {"type": "map", "values": "int"}}]}"#,
                "map",
            ),
            (
                r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}"#,
                "twice",
            ),
            (
                &format!(
                    r#"{{"type": "record", "name": "R", "fields": [{{"name": "r", "type": {deep}}}]}}"#
                ),
                "deep",
            ),
        ] {
            let error = Schema::parse(json).expect_err(json);
            assert!(error.contains(why), "{error}");
        }
    }
}
