//! A hub: one document for the syncs of several systems with the same tables. It is taken apart into one document a
//! system and object, each with the object as its source and the hub's table as its target.

use serde_json::{Map, Value, json};

use crate::check;
use crate::endpoint::{Context, LOCAL, is_postgres};
use crate::error::Error;
use crate::join::{apply_patch, drop_contradicted_flags};
use crate::name::{self, Found};
use crate::path::{Path, shown, shown_list};

/// One of the syncs that a hub consists of.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoke {
    /// What follows the hub's name in its own: the system and the object.
    pub name: String,
    /// Where the document describes it.
    pub path: String,
    /// Its document.
    pub document: Value,
}

/// The keys that only a hub has.
const OWN: [&str; 3] = ["sync_hub", "connected_systems", "tables"];

/// Is it the document of a hub?
pub fn is_hub(doc: &Value) -> bool {
    OWN[..2].iter().any(|key| doc.get(key).is_some())
}

/// Takes the document of a hub apart. `exists` says whether there is a table that SQL would find by a name: where the
/// document names no table for an object, the hub's is called as the first system's object.
///
/// # Errors
/// What is malformed, with its path. What the documents of the spokes hold is read by [`crate::Config::read`].
pub fn spokes(
    doc: &Value,
    context: &Context,
    exists: &dyn Fn(&str) -> bool,
) -> Result<Vec<Spoke>, Error> {
    let (doc, _) = check::document(doc)?;
    crate::config::partners(doc)?;
    for key in ["source", "target", "connection_name"] {
        if doc.contains_key(key) {
            return Err(Error::malformed(
                Path::root().key(key),
                format!("\"{key}\" contradicts \"sync_hub\""),
                "The endpoints of a hub are its connected systems and its tables.",
                format!(
                    "Leave out \"{key}\"; name objects in \"connected_systems\" and tables in \"tables\"."
                ),
            ));
        }
    }
    let systems = Path::root().key("connected_systems");
    let list =
        doc.get("connected_systems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let hub = Hub { doc, context, exists, list };
    let mut spokes: Vec<Spoke> = Vec::new();
    for (at, system) in list.iter().enumerate() {
        let path = systems.index(at);
        let objects = system.get("objects").and_then(Value::as_array);
        for (n, object) in objects.into_iter().flatten().enumerate() {
            let path = path.key("objects").index(n);
            let spoke = hub.spoke(at, system, n, object, &path)?;
            if let Some(other) = spokes.iter().find(|other| other.name == spoke.name) {
                return Err(Error::malformed(
                    &path,
                    format!("{} stands twice in the hub", shown(&spoke.name)),
                    format!("It is named by \"{}\" already.", other.path),
                    "Name each object of a system once.",
                ));
            }
            spokes.push(spoke);
        }
    }
    Ok(spokes)
}

struct Hub<'a> {
    doc: &'a Map<String, Value>,
    context: &'a Context,
    exists: &'a dyn Fn(&str) -> bool,
    list: &'a [Value],
}

impl Hub<'_> {
    /// The spoke of the `n`-th object of a system.
    fn spoke(
        &self,
        at: usize,
        system: &Value,
        n: usize,
        object: &Value,
        path: &Path,
    ) -> Result<Spoke, Error> {
        let word = text(system, "system").unwrap_or_default();
        let name = object_name(object);
        let source = self.source(word, name, path)?;
        let target = self.table(system, n, object, path)?;
        let mut document = Value::Object(self.doc.clone());
        for of in [system, object] {
            let Some(settings) = of.get("sync_settings") else { continue };
            let Value::Object(keys) = settings else {
                return Err(Error::malformed(
                    path,
                    "\"sync_settings\" must be an object",
                    format!("It is {}.", check::type_of(settings)),
                    "Its keys are keys of a document, for the syncs of one system or object.",
                ));
            };
            drop_contradicted_flags(&mut document, keys);
            apply_patch(&mut document, settings);
        }
        if let Value::Object(document) = &mut document {
            OWN.iter().for_each(|key| drop(document.shift_remove(*key)));
            // What comes from one system is to reach the others.
            let told = ["sync_type", "source_to_target", "target_to_source"];
            if !told.iter().any(|key| document.contains_key(*key)) {
                document.insert("sync_type".to_owned(), json!("bidirectional"));
            }
            document.insert("source".to_owned(), source.endpoint);
            document.insert("target".to_owned(), json!({ "table": target }));
            if let Some(connection) = source.connection {
                document.insert("connection_name".to_owned(), json!(connection));
            }
            if let Some(conflicts) = document.get_mut("conflict_resolution") {
                self.speak_for(at, name, conflicts)?;
            }
        }
        Ok(Spoke { name: format!("{}/{name}", source.name), path: path.to_string(), document })
    }

    /// Which endpoint an object of a system is.
    fn source(&self, word: &str, object: &str, path: &Path) -> Result<Source, Error> {
        if word == LOCAL
            || self.is_hub(word)
            || self.connection(word).is_none() && is_postgres(word)
        {
            let endpoint = json!({ "table": object });
            return Ok(Source { name: LOCAL.to_owned(), endpoint, connection: None });
        }
        match self.find(word) {
            Found::One(at) => {
                let name = &self.context.connections[at].name;
                let endpoint = json!({ "connection": name, "object": object });
                Ok(Source { name: name.clone(), endpoint, connection: None })
            }
            // A connection that is yet to be made, named as the document names the system.
            Found::Nothing => {
                let endpoint = json!({ "type": word, "object": object });
                Ok(Source { name: word.to_owned(), endpoint, connection: Some(word.to_owned()) })
            }
            Found::Several => {
                let of_type =
                    self.context.connections.iter().filter(|c| c.system.eq_ignore_ascii_case(word));
                Err(Error::unknown(
                    path,
                    format!("{} can mean more than one connection", shown(word)),
                    format!(
                        "These lead to such a system: {}.",
                        shown_list(of_type.map(|c| c.name.as_str()))
                    ),
                    "Name one of them as the \"system\".",
                ))
            }
        }
    }

    /// The connection that a system's name means: one of that name, else the only one of that type.
    fn find(&self, word: &str) -> Found {
        let connections = &self.context.connections;
        match name::find(word, connections.iter().map(|c| c.name.as_str())) {
            Found::Nothing => {
                name::only(connections.iter().map(|c| c.system.eq_ignore_ascii_case(word)))
            }
            found => found,
        }
    }

    fn connection(&self, word: &str) -> Option<&str> {
        match self.find(word) {
            Found::One(at) => Some(&self.context.connections[at].name),
            _ => None,
        }
    }

    fn is_hub(&self, word: &str) -> bool {
        self.doc.get("sync_hub").and_then(Value::as_str) == Some(word)
    }

    /// The hub's table for the `n`-th object of a system.
    fn table(
        &self,
        system: &Value,
        n: usize,
        object: &Value,
        path: &Path,
    ) -> Result<String, Error> {
        if let Some(table) = text(object, "table") {
            return Ok(table.to_owned());
        }
        let listed = |of: Option<&Value>| {
            of.and_then(Value::as_array)
                .and_then(|tables| tables.get(n)?.as_str())
                .map(str::to_owned)
        };
        let of_system = system.get("tables");
        let tables = of_system.or_else(|| self.doc.get("tables"));
        if let Some(table) = listed(tables) {
            return Ok(table);
        }
        if tables.is_some() {
            return Err(Error::malformed(
                path,
                format!("there is no table for {}", shown(object_name(object))),
                "It is an object further back in its list than the last of \"tables\".",
                "Name as many tables as the system has objects, in their order; or give the object a \"table\".",
            ));
        }
        let first = self.list.first().and_then(|system| system.get("objects")?.get(n));
        let like = object_name(first.unwrap_or(object));
        let candidates = candidates(like);
        candidates.iter().find(|name| (self.exists)(name)).cloned().ok_or_else(|| {
            Error::malformed(
                path,
                format!("there is no table for {}", shown(object_name(object))),
                format!(
                    "No \"tables\" are named, and of those that are called like {} none exists: {}.",
                    shown(like),
                    candidates.join(", ")
                ),
                "Create the table, or name it: \"tables\": [\"public.customers\"], one for each object in their order.",
            )
        })
    }

    /// Says of each system that may win conflicts on which side of one spoke it stands: its own system at the source, the
    /// hub and all that are heard through it at the target.
    fn speak_for(&self, at: usize, object: &str, conflicts: &mut Value) -> Result<(), Error> {
        let path = Path::root().key("conflict_resolution");
        if let Some(system) = conflicts.get_mut("priority_system") {
            self.side_of(at, object, system, &path.key("priority_system"))?;
        }
        let rules = conflicts.get_mut("field_rules").and_then(Value::as_array_mut);
        for (n, rule) in rules.into_iter().flatten().enumerate() {
            if let Some(system) = rule.get_mut("priority_system") {
                let path = path.key("field_rules").index(n).key("priority_system");
                self.side_of(at, object, system, &path)?;
            }
        }
        Ok(())
    }

    fn side_of(
        &self,
        at: usize,
        object: &str,
        system: &mut Value,
        path: &Path,
    ) -> Result<(), Error> {
        let Some(word) = system.as_str() else { return Ok(()) };
        if ["source", "target", "last_updated"].contains(&word) {
            return Ok(());
        }
        let of = |n: usize| text(&self.list[n], "system").unwrap_or_default();
        let same = |other: &str| {
            other == word
                || self.connection(other).is_some_and(|c| self.connection(word) == Some(c))
        };
        // Tables of this database are known by their schemas.
        let local = |n: usize| of(n) == LOCAL || self.is_hub(of(n));
        let in_schema = |object: &str| {
            name::table(object).is_ok_and(|table| table.schema.as_deref() == Some(word))
        };
        let own = if local(at) { in_schema(object) } else { same(of(at)) };
        let connected = |n: usize| {
            let objects = self.list[n].get("objects").and_then(Value::as_array);
            !local(n) && same(of(n))
                || local(n) && objects.into_iter().flatten().any(|o| in_schema(object_name(o)))
        };
        let side = if own {
            "source"
        } else if word == LOCAL || self.is_hub(word) || (0..self.list.len()).any(connected) {
            "target"
        } else {
            let mut known: Vec<&str> = (0..self.list.len()).map(of).collect();
            known.extend(self.doc.get("sync_hub").and_then(Value::as_str));
            return Err(Error::unknown(
                path,
                format!("there is no system {} in the hub", shown(word)),
                format!("It is to win conflicts. The hub has: {}.", shown_list(known.into_iter())),
                "Name one of these, or connect the system.",
            ));
        };
        *system = json!(side);
        Ok(())
    }
}

struct Source {
    /// What the system is called in the name of the spoke.
    name: String,
    endpoint: Value,
    /// The connection that is to be made.
    connection: Option<String>,
}

fn text<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of.get(key).and_then(Value::as_str)
}

fn object_name(object: &Value) -> &str {
    object.as_str().or_else(|| text(object, "object")).unwrap_or_default()
}

/// What a table of such records may be called: `OrderItem` is looked for as `orderitem`, `order_item` and their plurals.
fn candidates(object: &str) -> Vec<String> {
    let lower = object.to_lowercase();
    let mut parted = String::new();
    for (n, c) in object.chars().enumerate() {
        if c.is_uppercase() && n > 0 && !parted.ends_with('_') {
            parted.push('_');
        }
        parted.extend(c.to_lowercase());
    }
    let mut names = Vec::new();
    for name in [lower, parted] {
        let plural = match name.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
            _ => format!("{name}s"),
        };
        for name in [name, plural] {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if plain && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::candidates;

    #[test]
    fn tables_are_called_like_objects() {
        assert_eq!(candidates("Account"), ["account", "accounts"]);
        assert_eq!(candidates("Opportunity"), ["opportunity", "opportunities"]);
        assert_eq!(
            candidates("OrderItem"),
            ["orderitem", "orderitems", "order_item", "order_items"]
        );
        assert!(candidates("Größe").is_empty());
    }
}
