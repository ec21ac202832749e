//! Which fields are synced, and what happens to each on its way.

use serde_json::{Map, Value};

use crate::config::Direction;
use crate::error::{Error, Notice};
use crate::name::{self, Found};
use crate::path::{Path, shown, shown_list};
use crate::transform::Transform;
use crate::validation;

/// The fields of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// Those that the document maps, what is included and excluded already applied.
    pub mapped: Vec<Field>,
    /// Those that are called alike on both sides, and of which no mapping names a column; never nothing where none is
    /// mapped.
    pub alike: Option<Alike>,
}

/// Which of the fields that are called alike on both sides are synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// Only these, if given.
    pub include: Option<Vec<String>>,
    /// All but these.
    pub exclude: Vec<String>,
}

impl Fields {
    /// Does a mapping name this field of the source?
    #[must_use]
    pub fn names_source(&self, name: &str) -> bool {
        self.mapped.iter().any(|field| field.sources.iter().any(|n| n.eq_ignore_ascii_case(name)))
    }

    /// Does a mapping name this field of the target?
    #[must_use]
    pub fn names_target(&self, name: &str) -> bool {
        self.mapped.iter().any(|field| field.target.eq_ignore_ascii_case(name))
    }

    /// Are fields of this name on both sides a pair by that alone?
    #[must_use]
    pub fn pairs(&self, name: &str) -> bool {
        self.alike.as_ref().is_some_and(|alike| alike.takes(name))
            && !self.names_source(name)
            && !self.names_target(name)
    }
}

impl Alike {
    /// Is a field of this name one of them?
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        let listed = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
        self.include.as_deref().is_none_or(listed) && !listed(&self.exclude)
    }
}

/// One field of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The source-side fields it is made of; the first one is what `reverse` writes to. Empty if the document names
    /// none, with an expression only.
    pub sources: Vec<String>,
    /// The target-side field.
    pub target: String,
    /// What happens on the way from source to target.
    pub transform: Transform,
    /// What happens on the way from target to source; nothing if the field does not go that way.
    pub reverse: Option<Transform>,
    /// The ways this field goes; never one that the sync as a whole does not go.
    pub direction: Direction,
    /// The syncs of the records that it may point to: what it holds is the key that the other record has on that side.
    pub reference: Vec<String>,
    /// It is not sent empty.
    pub required: bool,
    /// What stands in the place of a null, as a literal of the receiving type: in a record that is made, and wherever
    /// `mapping_options.handle_nulls` is `default`.
    pub default: Option<String>,
}

impl Field {
    /// The field of this side that is written, if one is.
    fn written(&self, side: &str) -> Option<&str> {
        match side {
            "target" if self.direction.to_target() => Some(&self.target),
            "source" if self.direction.to_source() => self.sources.first().map(String::as_str),
            _ => None,
        }
    }
}

/// Reads mappings and selection.
pub(crate) fn read(
    doc: &Map<String, Value>,
    direction: Direction,
    notices: &mut Vec<Notice>,
) -> Result<Fields, Error> {
    let selection = Selection::read(doc)?;
    let Some(mappings) = doc.get("field_mappings").and_then(Value::as_array) else {
        let alike = Alike { include: selection.include, exclude: selection.exclude };
        return Ok(Fields { mapped: Vec::new(), alike: Some(alike) });
    };
    let mut fields = Vec::new();
    for (at, mapping) in mappings.iter().enumerate() {
        let path = Path::root().key("field_mappings").index(at);
        fields.push((path.clone(), read_mapping(mapping, &path, direction, notices)?));
    }
    written_once(&fields)?;
    let alike = selection.all.then(|| Alike { include: None, exclude: selection.exclude.clone() });
    let mapped = selection.apply(fields, alike.is_some(), direction, notices)?;
    Ok(Fields { mapped, alike })
}

fn read_mapping(
    mapping: &Value,
    path: &Path,
    sync: Direction,
    notices: &mut Vec<Notice>,
) -> Result<Field, Error> {
    let sources = read_sources(mapping, path)?;
    let target = mapping.get("target").and_then(Value::as_str).unwrap_or_default().to_owned();
    let transform_path = path.key("transformation");
    let transform = Transform::read(mapping.get("transformation"));
    let reverse_path = path.key("reverse");
    let reverse = mapping.get("reverse").map(|reverse| Transform::read(Some(reverse)));
    let expression = matches!(transform, Transform::Expression(_));
    if sources.len() != 1 && !expression {
        let (at, detail) = match (sources.len(), mapping.get("transformation")) {
            (0, None) => (
                path.key("source"),
                "The mapping has neither a source nor an expression to compute the field.",
            ),
            (0, Some(_)) => (
                path.key("source"),
                "The name of a function or built-in needs a source to be applied to.",
            ),
            (_, None) => (
                transform_path,
                "The mapping has several sources and no expression that makes one value of them.",
            ),
            (_, Some(_)) => (
                transform_path,
                "The name of a function or built-in can be applied to one source only.",
            ),
        };
        return Err(Error::malformed(
            &at,
            if sources.is_empty() {
                format!("\"{at}\" is missing")
            } else {
                format!("\"{at}\" must be an expression over the sources")
            },
            detail,
            "Name one source, or give a SQL expression such as \"transformation\": \"first_name || ' ' || last_name\".",
        ));
    }
    if reverse.is_some() && sources.is_empty() {
        return Err(Error::malformed(
            path.key("source"),
            format!("\"{}\" is missing", path.key("source")),
            format!("The mapping has {reverse_path}, and no source that it could write to."),
            "Name the column that \"reverse\" writes to as \"source\".",
        ));
    }
    let asked = mapping.get("direction").and_then(Value::as_str).map(|text| match text {
        "target_to_source" => Direction::TargetToSource,
        "bidirectional" => Direction::TwoWay,
        _ => Direction::SourceToTarget,
    });
    let reference = read_reference(mapping, path, &transform, reverse.as_ref())?;
    let direction = asked.unwrap_or(sync);
    let field = Field {
        sources,
        target,
        transform,
        reverse,
        direction,
        reference,
        required: mapping.get("required").and_then(Value::as_bool).unwrap_or(false),
        default: validation::literal(mapping.get("default"), &path.key("default"))?,
    };
    if let Some(asked) = asked
        && !sync.covers(asked)
    {
        return Err(Error::malformed(
            path.key("direction"),
            format!("\"{}\" contradicts the direction of the sync", path.key("direction")),
            format!("The field goes {}, the sync only {}.", asked.described(), sync.described()),
            "Leave out the direction of the field, or set \"sync_type\": \"bidirectional\" for the sync.",
        ));
    }
    way_back(field, path, asked.is_some(), notices)
}

/// The syncs that a mapping names as those of the records it points to.
fn read_reference(
    mapping: &Value,
    path: &Path,
    transform: &Transform,
    reverse: Option<&Transform>,
) -> Result<Vec<String>, Error> {
    let path = path.key("reference");
    let syncs = texts(mapping.get("reference"));
    no_repetition(&syncs, &path)?;
    let changed = !transform.is_none() || reverse.is_some_and(|reverse| !reverse.is_none());
    if !syncs.is_empty() && changed {
        return Err(Error::malformed(
            &path,
            format!("\"{path}\" contradicts the transformation of the mapping"),
            "The key of the other record is all that such a field holds, and it is translated as it is.",
            "Leave out the transformation, or the reference.",
        ));
    }
    Ok(syncs)
}

/// Settles how a field comes back: as it is, by its `reverse`, or not at all.
fn way_back(
    mut field: Field,
    path: &Path,
    asked: bool,
    notices: &mut Vec<Notice>,
) -> Result<Field, Error> {
    let (transform, reverse) = (path.key("transformation"), path.key("reverse"));
    if !field.direction.to_source() {
        field.reverse = None;
        return Ok(field);
    }
    if field.transform.is_none() {
        // A way back that changes the value needs a way there, or the two sides never agree.
        if field.direction == Direction::TwoWay
            && field.reverse.as_ref().is_some_and(|reverse| !reverse.is_none())
        {
            return Err(Error::malformed(
                &transform,
                format!("\"{transform}\" is missing"),
                format!("The field goes both ways and has only {reverse}."),
                "Give the transformation that \"reverse\" undoes.",
            ));
        }
        field.reverse.get_or_insert(Transform::None);
        return Ok(field);
    }
    if field.reverse.is_some() {
        return Ok(field);
    }
    if let Transform::Builtin(builtin) = field.transform {
        // A normal form is its own way back, and a moment is read from its text.
        field.reverse = Some(Transform::Builtin(builtin));
        return Ok(field);
    }
    if asked || field.direction == Direction::TargetToSource {
        return Err(Error::malformed(
            &reverse,
            format!("\"{reverse}\" is missing"),
            format!(
                "The field goes {} and has a transformation without its reverse.",
                field.direction.described()
            ),
            "Give \"reverse\", or set \"direction\": \"source_to_target\" for the field.",
        ));
    }
    field.direction = Direction::SourceToTarget;
    notices.push(Notice::new(
        &transform,
        format!("field {} is synced from source to target only", shown(&field.target)),
        format!("{transform} has no reverse, so that a change on the target side cannot go back."),
        format!("Give \"{reverse}\" to sync the field both ways."),
    ));
    Ok(field)
}

fn read_sources(mapping: &Value, path: &Path) -> Result<Vec<String>, Error> {
    let sources = texts(mapping.get("source"));
    no_repetition(&sources, &path.key("source"))?;
    Ok(sources)
}

/// One text, or a list of them.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// No side's field may be written by two mappings.
fn written_once(fields: &[(Path, Field)]) -> Result<(), Error> {
    for (at, (path, field)) in fields.iter().enumerate() {
        for side in ["source", "target"] {
            let Some(name) = field.written(side) else { continue };
            let earlier =
                fields.iter().take(at).find(|(_, other)| other.written(side) == Some(name));
            if let Some((first, _)) = earlier {
                return Err(Error::malformed(
                    path.key(side),
                    format!("{side} field {} is written by two mappings", shown(name)),
                    format!("One is {first}, the other {path}."),
                    "Keep one of them, or let them go different ways with \"direction\".",
                ));
            }
        }
    }
    Ok(())
}

fn no_repetition(names: &[String], path: &Path) -> Result<(), Error> {
    match names
        .iter()
        .enumerate()
        .find(|(at, name)| names.iter().take(*at).any(|earlier| earlier == *name))
    {
        None => Ok(()),
        Some((at, name)) => Err(Error::malformed(
            path.index(at),
            format!("{} stands twice in \"{path}\"", shown(name)),
            "Each name can stand there once.",
            "Remove one of the two.",
        )),
    }
}

/// `field_selection`, `include_fields` and `exclude_fields`.
struct Selection {
    /// `field_selection` says so itself.
    all: bool,
    include: Option<Vec<String>>,
    exclude: Vec<String>,
}

impl Selection {
    fn read(doc: &Map<String, Value>) -> Result<Self, Error> {
        let selection = Path::root().key("field_selection");
        let mode = doc.get("field_selection").and_then(Value::as_str);
        let include = names(doc, "include_fields")?;
        let exclude = names(doc, "exclude_fields")?.unwrap_or_default();
        if mode == Some("all") && include.is_some() {
            return Err(Error::malformed(
                &selection,
                "\"field_selection\" contradicts \"include_fields\"",
                "The one asks for all fields, the other for some.",
                "Leave out \"include_fields\", or set \"field_selection\": \"explicit\".",
            ));
        }
        if mode == Some("explicit") && include.is_none() && !doc.contains_key("field_mappings") {
            return Err(Error::malformed(
                Path::root().key("include_fields"),
                "\"include_fields\" is missing",
                "With \"field_selection\": \"explicit\" the fields have to be named.",
                "Give \"include_fields\" or \"field_mappings\", or set \"field_selection\": \"all\".",
            ));
        }
        let both = exclude
            .iter()
            .enumerate()
            .find(|(_, name)| include.as_ref().is_some_and(|it| it.contains(name)));
        if let Some((at, name)) = both {
            return Err(included_and_excluded(at, name));
        }
        Ok(Self { all: mode == Some("all"), include, exclude })
    }

    /// Leaves of the mapped fields what is included and not excluded; an included field that is not mapped has the
    /// same name on both sides.
    fn apply(
        self,
        mut fields: Vec<(Path, Field)>,
        has_others: bool,
        direction: Direction,
        notices: &mut Vec<Notice>,
    ) -> Result<Vec<Field>, Error> {
        let mut added = Vec::new();
        let mut kept = vec![self.include.is_none(); fields.len()];
        for (at, name) in self.include.iter().flatten().enumerate() {
            let path = Path::root().key("include_fields").index(at);
            match find_field(name, fields.iter().map(|(_, field)| field), &path)? {
                Some(hit) => kept[hit] = true,
                None => added.push((path, same_name(name, direction))),
            }
        }
        let mut excluded = vec![false; fields.len()];
        for (at, name) in self.exclude.iter().enumerate() {
            let path = Path::root().key("exclude_fields").index(at);
            if let Some(hit) = find_field(name, fields.iter().map(|(_, field)| field), &path)? {
                if self.include.is_some() && kept[hit] {
                    return Err(included_and_excluded(at, name));
                }
                excluded[hit] = true;
            }
        }
        for ((path, field), (kept, excluded)) in fields.iter().zip(kept.iter().zip(&excluded)) {
            if !*kept || *excluded {
                let by = if *excluded {
                    "excluded by \"exclude_fields\""
                } else {
                    "not among \"include_fields\""
                };
                notices.push(Notice::new(
                    path,
                    format!("field {} is not synced", shown(&field.target)),
                    format!("{path} is mapped, and {by}."),
                    "",
                ));
            }
        }
        let mut left = kept.iter().zip(&excluded).map(|(kept, excluded)| *kept && !*excluded);
        fields.retain(|_| left.next().unwrap_or(true));
        fields.extend(added);
        if fields.is_empty() && !has_others {
            return Err(Error::malformed(
                Path::root().key("exclude_fields"),
                "no field is left to sync",
                "All mapped fields are excluded.",
                "Exclude fewer fields, or map more.",
            ));
        }
        written_once(&fields)?;
        Ok(fields.into_iter().map(|(_, field)| field).collect())
    }
}

fn included_and_excluded(at: usize, name: &str) -> Error {
    Error::malformed(
        Path::root().key("exclude_fields").index(at),
        format!("field {} is both included and excluded", shown(name)),
        "It is named by \"include_fields\" and by \"exclude_fields\".",
        "Keep it in one of them.",
    )
}

fn same_name(name: &str, direction: Direction) -> Field {
    Field {
        sources: vec![name.to_owned()],
        target: name.to_owned(),
        transform: Transform::None,
        reverse: direction.to_source().then_some(Transform::None),
        direction,
        reference: Vec::new(),
        required: false,
        default: None,
    }
}

fn names(doc: &Map<String, Value>, key: &str) -> Result<Option<Vec<String>>, Error> {
    let Some(list) = doc.get(key).and_then(Value::as_array) else {
        return Ok(None);
    };
    let names: Vec<_> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    no_repetition(&names, &Path::root().key(key))?;
    Ok(Some(names))
}

/// A field outside the mappings is a target-side name, or a source-side one where that is unambiguous.
pub(crate) fn find_field<'a>(
    name: &str,
    fields: impl Iterator<Item = &'a Field> + Clone,
    path: &Path,
) -> Result<Option<usize>, Error> {
    let several = |fields: Vec<&str>| {
        Error::malformed(
            path,
            format!("{} can mean more than one field", shown(name)),
            format!(
                "The mapped fields that it can mean are, by their targets: {}.",
                shown_list(fields)
            ),
            "Use the exact name of the target field.",
        )
    };
    let alike = |other: &str| other.to_lowercase() == name.to_lowercase();
    match name::find(name, fields.clone().map(|field| field.target.as_str())) {
        Found::One(at) => return Ok(Some(at)),
        Found::Several => {
            return Err(several(
                fields.map(|field| field.target.as_str()).filter(|it| alike(it)).collect(),
            ));
        }
        Found::Nothing => {}
    }
    let exactly =
        name::only(fields.clone().map(|field| field.sources.iter().any(|source| source == name)));
    let found = match exactly {
        Found::Nothing => {
            name::only(fields.clone().map(|field| field.sources.iter().any(|source| alike(source))))
        }
        found => found,
    };
    match found {
        Found::One(at) => Ok(Some(at)),
        Found::Nothing => Ok(None),
        Found::Several => {
            let meant = fields.filter(|field| field.sources.iter().any(|source| alike(source)));
            Err(several(meant.map(|field| field.target.as_str()).collect()))
        }
    }
}
