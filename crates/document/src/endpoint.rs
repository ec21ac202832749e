//! The two endpoints of a sync: a table of this database, or an object of another system.

use serde_json::{Map, Value};

use crate::check::missing;
use crate::credentials;
use crate::error::{Error, ErrorKind, Notice};
use crate::name::{self, Found, NameFault, TableName};
use crate::nearest::nearest;
use crate::path::{Path, shown, shown_list};

/// The built-in connection to this database.
pub(crate) const LOCAL: &str = "local";

/// The type of the endpoint that is no system: whoever calls `sync.take`.
const APPLICATION: &str = "application";

/// What reading must know of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The name of the current database.
    pub database: String,
    /// The connections that exist; `local` need not be among them.
    pub connections: Vec<Connection>,
}

/// A connection that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its name.
    pub name: String,
    /// The type of system it leads to, such as `salesforce`.
    pub system: String,
}

/// One side of a sync.
#[derive(Debug, Clone, PartialEq)]
pub enum Endpoint {
    /// A table of this database.
    Local(TableName),
    /// An object elsewhere.
    Remote(Remote),
    /// The application itself, which takes changes and says what became of them.
    Application,
}

impl Endpoint {
    /// The table, if the endpoint is one of this database.
    pub fn local(&self) -> Option<&TableName> {
        match self {
            Self::Local(table) => Some(table),
            Self::Remote(_) | Self::Application => None,
        }
    }
}

/// An object of another system or another database.
#[derive(Debug, Clone, PartialEq)]
pub struct Remote {
    /// The connection; without one, the document describes a system and leaves the connection's name open.
    pub connection: Option<String>,
    /// Whether the connection exists; if not, `system` and `settings` describe it.
    pub exists: bool,
    /// The type of system.
    pub system: String,
    /// What the document says of how to reach it: plain values, never a secret.
    pub settings: Map<String, Value>,
    /// The schema, where the other side has such a thing, as written.
    pub schema: Option<String>,
    /// The object or table, as written: the other side's rules for names apply.
    pub object: String,
}

/// Reads both endpoints and holds them against each other.
pub(crate) fn read(
    doc: &Map<String, Value>,
    context: &Context,
    notices: &mut Vec<Notice>,
) -> Result<(Endpoint, Endpoint), Error> {
    let connection_name = text(doc, "connection_name");
    if connection_name == Some(LOCAL) {
        return Err(Error::malformed(
            Path::root().key("connection_name"),
            "\"connection_name\" must not be \"local\"",
            "The name \"local\" stands for the connection to this database.",
            "Give the connection to the other system a name of its own, such as \"crm\".",
        ));
    }
    let mut side = |key: &str, example: &str| {
        let path = Path::root().key(key);
        let value = doc.get(key).ok_or_else(|| missing(&path, &Path::root(), example))?;
        Description { path, value, connection_name, context }.read(notices)
    };
    let source = side("source", "{\"table\": \"portal.users\"}");
    let target = side("target", "{\"table\": \"salesforce.account\"}");
    let (source, target) = match (source, target) {
        (Ok(source), Ok(target)) => (source, target),
        (Err(source), Err(target)) if source.kind != ErrorKind::Malformed => return Err(target),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    match (&source, &target) {
        (Endpoint::Application, _) | (Endpoint::Remote(_), Endpoint::Application) => {
            Err(Error::malformed(
                Path::root().key("source"),
                "the source of an application's changes is a table of this database",
                "What an application takes are changes of rows.",
                "Name the table in \"source\", and {\"type\": \"application\"} in \"target\".",
            ))
        }
        (Endpoint::Local(a), Endpoint::Local(b)) if a == b => Err(Error::malformed(
            Path::root().key("target"),
            "source and target are the same table",
            format!("Both name the table {}.", shown(&a.name)),
            "Name two different tables.",
        )),
        (Endpoint::Remote(_), Endpoint::Remote(_)) => Err(Error::malformed(
            Path::root().key("target"),
            "neither source nor target is a table of this database",
            format!(
                "The current database is {}; both endpoints lie elsewhere.",
                shown(&context.database)
            ),
            "Name a table of this database as {\"table\": \"schema.table\"} on one side.",
        )),
        (Endpoint::Local(_), Endpoint::Local(_)) if connection_name.is_some() => {
            notices.push(Notice::new(
                Path::root().key("connection_name"),
                "\"connection_name\" has no effect",
                "Both endpoints are tables of this database.",
                "",
            ));
            Ok((source, target))
        }
        _ => Ok((source, target)),
    }
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

/// One endpoint as the document describes it.
struct Description<'a> {
    path: Path,
    value: &'a Value,
    connection_name: Option<&'a str>,
    context: &'a Context,
}

impl Description<'_> {
    fn read(&self, notices: &mut Vec<Notice>) -> Result<Endpoint, Error> {
        let Some(map) = self.value.as_object() else {
            let written = self.value.as_str().unwrap_or_default();
            return Ok(Endpoint::Local(
                name::table(written).map_err(|fault| no_name(&self.path, &fault))?,
            ));
        };
        let nothing = Map::new();
        let settings = map.get("credentials").and_then(Value::as_object);
        let (connection, system) = (text(map, "connection"), text(map, "type"));
        let settings_or_nothing = settings.unwrap_or(&nothing);
        if system == Some(APPLICATION) {
            let other = map.keys().find(|key| *key != "type");
            return match other {
                None => Ok(Endpoint::Application),
                Some(key) => Err(self.contradiction(
                    key,
                    "type",
                    "An application is no system that could be reached: it takes changes itself, by the name of the sync.",
                    "Leave everything out but \"type\".",
                )),
            };
        }
        let postgres = system.is_some_and(is_postgres);
        credentials::check(settings_or_nothing, &self.path.key("credentials"), postgres)?;
        if settings.is_some() && connection.is_some_and(|name| name != LOCAL) {
            return Err(self.contradiction(
                "credentials",
                "connection",
                "A connection that is named already has its settings.",
                "Leave out \"credentials\", or describe the system by \"type\" and \"credentials\".",
            ));
        }
        if self.is_local(map, connection, system, settings)? {
            if let Some(settings) = settings {
                notices.push(Notice::new(
                    self.path.key("credentials"),
                    format!("\"{}\" is a table of this database", self.path),
                    format!(
                        "The keys {} are kept and not used to connect.",
                        shown_list(settings.keys().map(String::as_str))
                    ),
                    "",
                ));
            }
            return self.local_table(map, settings_or_nothing).map(Endpoint::Local);
        }
        if let (Some(name), Some(other)) = (connection, self.connection_name)
            && name != other
        {
            let at = self.path.key("connection");
            return Err(Error::malformed(
                &at,
                format!("\"{at}\" contradicts \"connection_name\""),
                format!("One is {}, the other {}.", shown(name), shown(other)),
                "Both name the connection to the other system: keep one of them.",
            ));
        }
        let (schema, object) = self.remote_object(map)?;
        let remote = |connection: Option<&str>, exists, system: &str| {
            Endpoint::Remote(Remote {
                connection: connection.map(str::to_owned),
                exists,
                system: system.to_owned(),
                settings: settings_or_nothing.clone(),
                schema: schema.map(str::to_owned),
                object: object.to_owned(),
            })
        };
        let Some(system) = system else {
            let (wanted, at) = match (connection, self.connection_name) {
                (Some(name), _) => (name, self.path.key("connection")),
                (None, Some(name)) => (name, Path::root().key("connection_name")),
                (None, None) => {
                    return Err(missing(&self.path.key("connection"), &self.path, "\"crm\""));
                }
            };
            let found = self.connection(wanted, &at)?;
            return Ok(remote(Some(&found.name), true, &found.system));
        };
        if let Some(wanted) = connection {
            let found = self.connection(wanted, &self.path.key("connection"))?;
            self.same_system(found, system)?;
            return Ok(remote(Some(&found.name), true, &found.system));
        }
        if let Some(wanted) = self.connection_name {
            return match self.by_name(wanted) {
                Found::One(at) => {
                    let found = &self.context.connections[at];
                    self.same_system(found, system)?;
                    Ok(remote(Some(&found.name), true, &found.system))
                }
                Found::Nothing => Ok(remote(Some(wanted), false, system)),
                Found::Several => Err(self.ambiguous(wanted, &Path::root().key("connection_name"))),
            };
        }
        match (self.by_system(system), settings) {
            (Found::One(at), None) => {
                let found = &self.context.connections[at];
                Ok(remote(Some(&found.name), true, &found.system))
            }
            (Found::Several, None) => Err(self.ambiguous(system, &self.path.key("type"))),
            _ => Ok(remote(None, false, system)),
        }
    }

    fn is_local(
        &self,
        map: &Map<String, Value>,
        connection: Option<&str>,
        system: Option<&str>,
        settings: Option<&Map<String, Value>>,
    ) -> Result<bool, Error> {
        let database = settings.and_then(|settings| text(settings, "database"));
        match (connection, system) {
            (Some(LOCAL), _) if database.is_some_and(|database| database != self.context.database) => {
                Err(self.contradiction(
                    "credentials",
                    "connection",
                    "The connection \"local\" leads to this database, the credentials name another one.",
                    "Leave out \"credentials\", or \"connection\".",
                ))
            }
            (Some(LOCAL), None) => Ok(true),
            (Some(LOCAL), Some(system)) if is_postgres(system) => Ok(true),
            (Some(LOCAL), Some(_)) => Err(self.contradiction(
                "type",
                "connection",
                "The connection \"local\" leads to this database.",
                "Leave out \"type\", or name another connection.",
            )),
            (Some(_), _) => Ok(false),
            (None, None) if settings.is_some() => Err(missing(&self.path.key("type"), &self.path, "\"postgres\"")),
            (None, None) => Ok(!map.contains_key("object") || map.contains_key("table")),
            (None, Some(system)) if is_postgres(system) => match settings {
                None => Ok(true),
                Some(_) => match database {
                    Some(database) => Ok(database == self.context.database),
                    None => {
                        let inside = self.path.key("credentials");
                        Err(missing(&inside.key("database"), &inside, "\"customer_data\""))
                    }
                },
            },
            (None, Some(_)) => Ok(false),
        }
    }

    fn local_table(
        &self,
        map: &Map<String, Value>,
        settings: &Map<String, Value>,
    ) -> Result<TableName, Error> {
        if map.contains_key("object") {
            return Err(Error::malformed(
                self.path.key("object"),
                "a table of this database is named by \"table\"",
                format!("\"{}\" is in this database and has the key \"object\".", self.path),
                "Write \"table\" instead of \"object\".",
            ));
        }
        let at = self.path.key("table");
        let written =
            text(map, "table").ok_or_else(|| missing(&at, &self.path, "\"public.accounts\""))?;
        let mut table = name::table(written).map_err(|fault| no_name(&at, &fault))?;
        let beside = [(map, self.path.clone()), (settings, self.path.key("credentials"))];
        for (map, inside) in beside {
            let Some(written) = text(map, "schema") else { continue };
            let at = inside.key("schema");
            let schema = name::single(written).map_err(|fault| no_name(&at, &fault))?;
            if table.schema.get_or_insert_with(|| schema.clone()) != &schema {
                return Err(Error::malformed(
                    &at,
                    format!("\"{}\" names two different schemas", self.path),
                    format!(
                        "One is {}, another {}.",
                        shown(table.schema.as_deref().unwrap_or_default()),
                        shown(&schema)
                    ),
                    "Name the schema once.",
                ));
            }
        }
        Ok(table)
    }

    fn remote_object<'a>(
        &self,
        map: &'a Map<String, Value>,
    ) -> Result<(Option<&'a str>, &'a str), Error> {
        let schema = text(map, "schema");
        match (text(map, "object"), text(map, "table")) {
            (Some(_), Some(_)) => Err(self.contradiction(
                "table",
                "object",
                "An endpoint is one object or one table.",
                "Keep the one that the other system knows.",
            )),
            (Some(name), None) | (None, Some(name)) => Ok((schema, name)),
            (None, None) => Err(missing(&self.path.key("object"), &self.path, "\"Account\"")),
        }
    }

    /// The connection that a document calls `wanted`: by name, else by type if exactly one has it.
    fn connection(&self, wanted: &str, at: &Path) -> Result<&Connection, Error> {
        let found = match self.by_name(wanted) {
            Found::Nothing => self.by_system(wanted),
            found => found,
        };
        match found {
            Found::One(at) => Ok(&self.context.connections[at]),
            Found::Several => Err(self.ambiguous(wanted, at)),
            Found::Nothing => {
                let names =
                    self.context.connections.iter().map(|connection| connection.name.as_str());
                let hint = match nearest(wanted, names.chain([LOCAL])) {
                    Some(near) => format!("Perhaps you meant \"{near}\"."),
                    None => "Create the connection first, with sync.create_connection.".to_owned(),
                };
                Err(Error::unknown(
                    at,
                    format!("connection {} does not exist", shown(wanted)),
                    format!("The connections are: {}.", self.candidates(|_| true)),
                    hint,
                ))
            }
        }
    }

    fn by_name(&self, wanted: &str) -> Found {
        name::find(
            wanted,
            self.context.connections.iter().map(|connection| connection.name.as_str()),
        )
    }

    fn by_system(&self, wanted: &str) -> Found {
        name::only(
            self.context
                .connections
                .iter()
                .map(|connection| connection.system.eq_ignore_ascii_case(wanted)),
        )
    }

    fn same_system(&self, found: &Connection, system: &str) -> Result<(), Error> {
        if found.system.eq_ignore_ascii_case(system)
            || (is_postgres(&found.system) && is_postgres(system))
        {
            return Ok(());
        }
        Err(Error::malformed(
            self.path.key("type"),
            format!("connection {} has another type", shown(&found.name)),
            format!("It leads to {}, the document says {}.", shown(&found.system), shown(system)),
            "Leave out \"type\", or name another connection.",
        ))
    }

    fn ambiguous(&self, wanted: &str, at: &Path) -> Error {
        let meant = |connection: &Connection| {
            connection.name.eq_ignore_ascii_case(wanted)
                || connection.system.eq_ignore_ascii_case(wanted)
        };
        Error::unknown(
            at,
            format!("{} can mean more than one connection", shown(wanted)),
            format!("The candidates are: {}.", self.candidates(meant)),
            "Name one of them in \"connection\".",
        )
    }

    fn candidates(&self, wanted: impl Fn(&Connection) -> bool) -> String {
        let known = self.context.connections.iter().filter(|connection| wanted(connection));
        let listed: Vec<_> = known
            .map(|connection| format!("{} ({})", shown(&connection.name), connection.system))
            .collect();
        if listed.is_empty() { format!("\"{LOCAL}\"") } else { listed.join(", ") }
    }

    fn contradiction(&self, one: &str, other: &str, detail: &str, hint: &str) -> Error {
        let (one, other) = (self.path.key(one), self.path.key(other));
        Error::malformed(&one, format!("\"{one}\" contradicts \"{other}\""), detail, hint)
    }
}

pub(crate) fn is_postgres(system: &str) -> bool {
    ["postgres", "postgresql"].iter().any(|known| system.eq_ignore_ascii_case(known))
}

fn no_name(path: &Path, fault: &NameFault) -> Error {
    Error::malformed(
        path,
        format!("\"{path}\" is not a valid name"),
        fault.to_string(),
        "Write names as in SQL, in double quotes where they hold other characters: \"My Schema\".\"My Table\".",
    )
}
