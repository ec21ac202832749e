//! Whose value stands where both sides changed a field: `conflict_resolution`.

use serde_json::{Map, Value};

use crate::endpoint::{Connection, Context, Endpoint, LOCAL};
use crate::error::{Error, Notice};
use crate::name;
use crate::path::{Path, shown, shown_list};

/// Who decides a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// The later change.
    LastUpdated,
    /// The change of the source.
    Source,
    /// The change of the target.
    Target,
    /// A person.
    Review,
    /// A function of the user, of what was agreed on, our value and the other side's.
    Function {
        /// The schema, if one was given.
        schema: Option<String>,
        /// The name of the function, case folding and quotes already dealt with.
        name: String,
    },
}

/// A field that has an authority of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRule {
    /// The field as the document names it: of the target, or of the source.
    pub field: String,
    /// Who decides.
    pub authority: Authority,
}

/// Which deed stands where one side deleted a record and the other changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeletePolicy {
    /// The record stays deleted.
    DeleteWins,
    /// It is created again.
    EditWins,
    /// A person says.
    Review,
}

/// Fields that are decided as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnGroup {
    /// By which rules name it.
    pub name: String,
    /// Its fields, as the document names them.
    pub fields: Vec<String>,
}

/// How conflicts are decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts {
    /// Who decides, but for the fields that have a rule.
    pub authority: Authority,
    /// The rules of single fields, or groups.
    pub rules: Vec<FieldRule>,
    /// Fields that are decided as one.
    pub groups: Vec<ColumnGroup>,
    /// Are any two edits of one record a conflict?
    pub strict: bool,
    /// What a delete against an edit comes to, if the document says so; else it is as `authority`.
    pub deletes: Option<DeletePolicy>,
}

/// The word that stands for whoever was last.
const LAST_UPDATED: &str = "last_updated";

pub(crate) fn read(
    doc: &Map<String, Value>,
    ends: [&Endpoint; 2],
    context: &Context,
    notices: &mut Vec<Notice>,
) -> Result<Conflicts, Error> {
    let path = Path::root().key("conflict_resolution");
    let said = doc.get("conflict_resolution");
    let text = |key: &str| said.and_then(|it| it.get(key)).and_then(Value::as_str);
    let strategy = said.and_then(Value::as_str).or_else(|| text("strategy")).unwrap_or_default();
    let rules = said.and_then(|it| it.get("field_rules")).and_then(Value::as_array);
    let needed = match strategy {
        "system_priority" => Some("priority_system"),
        "field_level_priority" => Some("field_rules"),
        "function" => Some("function"),
        _ => None,
    };
    if let (Some(needed), Some(Value::String(_))) = (needed, said) {
        return Err(Error::malformed(
            &path,
            format!("{} needs \"{needed}\"", shown(strategy)),
            "The strategy is written as a mere word, which says nothing of whose value stands.",
            format!("Write it as {{\"strategy\": {}, \"{needed}\": ...}}.", shown(strategy)),
        ));
    }
    for key in ["priority_system", "field_rules", "function"] {
        if Some(key) != needed && said.is_some_and(|it| it.get(key).is_some()) {
            notices.push(Notice::new(
                path.key(key),
                format!("\"{key}\" has no effect beside the strategy {}", shown(strategy)),
                "",
                "Choose the strategy that goes with it: \"system_priority\" with \"priority_system\", \"field_level_priority\" with \"field_rules\", \"function\" with \"function\".",
            ));
        }
    }
    let authority = match (strategy, text("priority_system")) {
        ("system_priority", Some(system)) => {
            of_system(system, &path.key("priority_system"), ends, context)?
        }
        ("manual", _) => Authority::Review,
        ("function", _) => function(text("function").unwrap_or_default(), &path.key("function"))?,
        _ => Authority::LastUpdated,
    };
    let mut read: Vec<FieldRule> = Vec::new();
    let rules = rules.filter(|_| strategy == "field_level_priority");
    for (at, rule) in rules.into_iter().flatten().enumerate() {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        let (path, field) = (path.key("field_rules").index(at), text("field"));
        if read.iter().any(|other| other.field == field) {
            return Err(Error::malformed(
                path.key("field"),
                format!("the field {} has two rules", shown(field)),
                "Which of them holds is not for the sync to guess.",
                "Leave one of them out.",
            ));
        }
        let authority = match (text("priority_system"), text("function")) {
            ("", "") => {
                return Err(Error::malformed(
                    path.key("priority_system"),
                    format!("\"{}\" is missing", path.key("priority_system")),
                    format!("It says who decides the conflicts of {}.", shown(field)),
                    "For example: \"priority_system\": \"crm\"; or \"function\": \"public.pick\", a function of yours.",
                ));
            }
            (LAST_UPDATED, "") => Authority::LastUpdated,
            (system, "") => of_system(system, &path.key("priority_system"), ends, context)?,
            ("", name) => function(name, &path.key("function"))?,
            _ => {
                return Err(Error::malformed(
                    path.key("function"),
                    format!("the field {} has two authorities", shown(field)),
                    "A system and a function cannot both decide.",
                    "Leave one of them out.",
                ));
            }
        };
        read.push(FieldRule { field: field.to_owned(), authority });
    }
    let deletes = text("deletes").map(|word| match word {
        "edit_wins" => DeletePolicy::EditWins,
        "review" => DeletePolicy::Review,
        _ => DeletePolicy::DeleteWins,
    });
    let groups = said.and_then(|it| it.get("column_groups")).and_then(Value::as_array);
    let groups = groups.into_iter().flatten().map(|group| ColumnGroup {
        name: group.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        fields: group
            .get("fields")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|field| field.as_str().map(str::to_owned))
            .collect(),
    });
    let strict = said.and_then(|it| it.get("strict")).and_then(Value::as_bool).unwrap_or(false);
    Ok(Conflicts { authority, rules: read, groups: groups.collect(), strict, deletes })
}

/// A function by its name.
fn function(text: &str, path: &Path) -> Result<Authority, Error> {
    let named = name::table(text).map_err(|_| {
        Error::malformed(
            path,
            format!("\"{path}\" must be the name of a function"),
            format!("It is {}.", shown(text)),
            "Name a function of three arguments: what was agreed on, our value and the other side's.",
        )
    })?;
    Ok(Authority::Function { schema: named.schema, name: named.name })
}

/// The side that speaks for a system: the other system itself, or our table, through which all others speak.
fn of_system(
    system: &str,
    path: &Path,
    ends: [&Endpoint; 2],
    context: &Context,
) -> Result<Authority, Error> {
    let sides = [Authority::Source, Authority::Target];
    let words = ["source", "target"];
    let mut known: Vec<String> = words.map(str::to_owned).to_vec();
    for (end, side) in ends.iter().zip(sides.clone()) {
        match end {
            Endpoint::Remote(remote) => {
                let name = remote.connection.as_deref();
                known.extend(name.map(str::to_owned));
                let of_type = context
                    .connections
                    .iter()
                    .filter(|other| other.system == remote.system)
                    .count();
                if name == Some(system) || remote.system == system && of_type <= 1 {
                    return Ok(side);
                }
            }
            Endpoint::Application => {}
            Endpoint::Local(table) => {
                known.extend(table.schema.clone());
                let other = ends
                    .iter()
                    .any(|e| e.local().is_some_and(|t| t != table && t.schema == table.schema));
                if table.schema.as_deref() == Some(system) && !other {
                    return Ok(side);
                }
            }
        }
    }
    if let Some(side) = words.iter().position(|word| *word == system) {
        return Ok(sides[side].clone());
    }
    let local: Vec<usize> = (0..2).filter(|&n| ends[n].local().is_some()).collect();
    if let [local] = local.as_slice() {
        known.push(LOCAL.to_owned());
        // Another system that syncs the same table is heard through it.
        let elsewhere = |c: &Connection| c.name == system || c.system == system;
        if system == LOCAL || context.connections.iter().any(elsewhere) {
            return Ok(sides[*local].clone());
        }
    }
    known.extend(context.connections.iter().map(|other| other.name.clone()));
    known.sort_unstable();
    known.dedup();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Err(Error::unknown(
        path,
        format!("there is no system {}", shown(system)),
        format!("It is to win conflicts. Known here: {}.", shown_list(known.iter().copied())),
        "Name one of these, or create the connection first.",
    ))
}
