//! The typed configuration of one sync.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::check::{self, Findings};
use crate::conflicts::{self, Conflicts};
use crate::endpoint::{self, Context, Endpoint, Remote};
use crate::error::{Error, Notice, Severity};
use crate::fields::{self, Fields};
use crate::mapping::MappingOptions;
use crate::matching::{self, MatchField};
use crate::name::{self, TableName};
use crate::path::{Path, shown};
use crate::polling::{self, Polled};
use crate::rows::{OnDelete, OnDifference, OnTargetEdit, RowFilter, StampColumns};
use crate::settings::{
    DeleteLimit, InitialSync, LoopPrevention, RateLimits, Retry, SchemaPolicy, Settings,
};
use crate::validation::{self, ValidationRule};

/// The ways that changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From source to target.
    SourceToTarget,
    /// From target to source.
    TargetToSource,
    /// Both ways.
    TwoWay,
}

impl Direction {
    /// Whether changes of the source reach the target.
    pub const fn to_target(self) -> bool {
        matches!(self, Self::SourceToTarget | Self::TwoWay)
    }

    /// Whether changes of the target reach the source.
    pub const fn to_source(self) -> bool {
        matches!(self, Self::TargetToSource | Self::TwoWay)
    }

    /// Whether all ways of `other` are ways of this one.
    pub(crate) fn covers(self, other: Self) -> bool {
        self == Self::TwoWay || self == other
    }

    pub(crate) const fn described(self) -> &'static str {
        match self {
            Self::SourceToTarget => "from source to target",
            Self::TargetToSource => "from target to source",
            Self::TwoWay => "both ways",
        }
    }

    fn read(doc: &Map<String, Value>) -> Result<Self, Error> {
        let flag = |key: &str| doc.get(key).and_then(Value::as_bool);
        let sync_type = doc.get("sync_type").and_then(Value::as_str);
        match (sync_type, flag("source_to_target"), flag("target_to_source")) {
            (Some("bidirectional"), Some(false), _) => {
                Err(contradiction("source_to_target", "bidirectional", "true"))
            }
            (Some("bidirectional"), _, Some(false)) => {
                Err(contradiction("target_to_source", "bidirectional", "true"))
            }
            (Some("bidirectional"), ..) => Ok(Self::TwoWay),
            (Some(_), Some(true), Some(true)) => {
                Err(contradiction("target_to_source", "one_way", "false"))
            }
            (_, Some(false), Some(false)) => Err(Error::malformed(
                Path::root().key("target_to_source"),
                "the sync goes no way at all",
                "Both \"source_to_target\" and \"target_to_source\" are false.",
                "Set one of them to true; to stop a sync for a while, use sync.pause.",
            )),
            (None, Some(true), Some(true)) => Ok(Self::TwoWay),
            (_, Some(false), _) | (_, None, Some(true)) => Ok(Self::TargetToSource),
            _ => Ok(Self::SourceToTarget),
        }
    }
}

fn contradiction(flag: &str, sync_type: &str, right: &str) -> Error {
    Error::malformed(
        Path::root().key(flag),
        format!("\"{flag}\" contradicts \"sync_type\""),
        format!(
            "The document has \"sync_type\": \"{sync_type}\", with which \"{flag}\" can only be {right}."
        ),
        format!("Leave out \"{flag}\", or change \"sync_type\"."),
    )
}

/// An external-id field of the other side, by whose value a record that was created there is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The field of the other side.
    pub field: String,
    /// The column of the local table that it is filled from; `None`: the column mapped to it, and where none
    /// is, a value made up for each record.
    pub column: Option<String>,
    /// A value may come to name another record later, as a serial column's does after a failover that lost
    /// the last transactions.
    pub accept_reuse: bool,
}

impl Identity {
    fn read(
        doc: &Map<String, Value>,
        source: &Endpoint,
        target: &Endpoint,
    ) -> Result<Option<Self>, Error> {
        let Some(value) = doc.get("identity") else { return Ok(None) };
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let field = value.as_str().map(str::to_owned).or_else(|| text("field"));
        let Some(field) = field else { return Ok(None) };
        if source.local().is_some() && target.local().is_some() {
            return Err(Error::malformed(
                Path::root().key("identity"),
                "\"identity\" has no meaning between two tables of this database",
                "It names the field by which a record that was created in another system is found again.",
                "Leave it out; rows that exist on both sides are paired by \"match_on\".",
            ));
        }
        let accept_reuse = value.get("accept_reuse").and_then(Value::as_bool).unwrap_or(false);
        Ok(Some(Self { field, column: text("column"), accept_reuse }))
    }
}

/// The configuration of one sync, checked, with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The source endpoint; at least one of the two is a table of this database.
    pub source: Endpoint,
    /// The target endpoint.
    pub target: Endpoint,
    /// What makes the create of a record on the other side repeatable.
    pub identity: Option<Identity>,
    /// The ways that changes go.
    pub direction: Direction,
    /// Whose value stands where both sides changed a field.
    pub conflicts: Conflicts,
    /// The field that tells when a record was last changed, for `last_write_wins`.
    pub timestamp_field: Option<String>,
    /// The fields that are synced.
    pub fields: Fields,
    /// How their values are converted.
    pub mapping: MappingOptions,
    /// What values have to be like.
    pub rules: Vec<ValidationRule>,
    /// Which records take part.
    pub filter: RowFilter,
    /// Whose values stand where rows that are there on both sides are paired, and differ, if the document says so.
    pub on_difference: Option<OnDifference>,
    /// What becomes of the target's record when the source's is deleted, and of the source's when the target's is.
    pub on_delete: [OnDelete; 2],
    /// What becomes of an edit on the target of a sync that goes one way.
    pub on_target_edit: OnTargetEdit,
    /// Columns in which the sync says how it is with a row.
    pub stamps: StampColumns,
    /// A function of the user that makes the target's rows of a change, in the place of fields.
    pub row_function: Option<TableName>,
    /// What records of the two sides are recognised by; empty if the document leaves it to the keys.
    pub match_on: Vec<MatchField>,
    /// What happens to the rows that are already there.
    pub initial: InitialSync,
    /// How failed changes are tried again.
    pub retry: Retry,
    /// How many changes are worked through at once.
    pub batch_size: u32,
    /// How many requests to a remote run at once, if the document says so; means nothing for a local table.
    pub parallelism: Option<u32>,
    /// Where not all can have something, those with the higher number have it.
    pub priority: u32,
    /// For source and target: whether it is read from time to time in the place of being captured.
    pub polled: [Option<Polled>; 2],
    /// Whether another system's changes are taken as it tells them, or only with polling.
    pub real_time: bool,
    /// How often a remote, or a table that is polled, is asked for changes, if the document says so.
    pub polling_interval: Option<Duration>,
    /// How often all records of a remote are compared; `None`: never. Means nothing for a local table.
    pub reconcile_interval: Option<Duration>,
    /// How much a batch may delete before the sync asks, if the document says so.
    pub delete_limit: Option<DeleteLimit>,
    /// How often a record may come back, changed by nobody's hand; `None`: nobody counts.
    pub loop_prevention: Option<LoopPrevention>,
    /// How fast the sync may go.
    pub rate_limits: RateLimits,
    /// A record is sent when nothing more has happened to it for so long.
    pub debounce: Option<Duration>,
    /// Whether `sync.doctor` tells of indexes that lack.
    pub index_recommendation: bool,
    /// Whether changes of the tables are captured.
    pub capture: bool,
    /// What the sync does when the other system changes the object's fields.
    pub schema_policy: SchemaPolicy,
    /// Well-formed keys of alerts, metrics and dashboard by their path, such as `error_handling.notification`: kept,
    /// without effect.
    pub kept: Map<String, Value>,
}

impl Config {
    /// The endpoint that is no table of this database, if one is.
    pub fn remote(&self) -> Option<&Remote> {
        [&self.source, &self.target].into_iter().find_map(|endpoint| match endpoint {
            Endpoint::Remote(remote) => Some(remote),
            Endpoint::Local(_) | Endpoint::Application => None,
        })
    }

    /// Reads a joined document.
    ///
    /// What is malformed is reported first, then what does not exist, then what this version does not act on.
    pub fn read(doc: &Value, context: &Context) -> Result<(Self, Vec<Notice>), Error> {
        let (doc, findings) = check::document(doc)?;
        let mut notices = Vec::new();
        partners(doc)?;
        let direction = Direction::read(doc)?;
        let fields = fields::read(doc, direction, &mut notices)?;
        let match_on = matching::read(doc, &fields)?;
        let settings = Settings::read(doc)?;
        if let Some(key) = ["sync_hub", "connected_systems", "tables"]
            .into_iter()
            .find(|key| doc.contains_key(*key))
        {
            return Err(Error::malformed(
                Path::root().key(key),
                format!("\"{key}\" is a key of a hub"),
                "This is the document of one sync, which has one \"source\" and one \"target\".",
                "A hub is a document of its own: give it to sync.create_sync under another name.",
            ));
        }
        let (source, target) = endpoint::read(doc, context, &mut notices)?;
        if target == Endpoint::Application {
            for_application(doc, direction)?;
        }
        notices.extend(without_effect(&findings));
        let filter = RowFilter::read(doc, [&source, &target], direction)?;
        let polled = polling::read(doc, [&source, &target], direction)?;
        let on_delete = OnDelete::of_both(doc, direction)?;
        filter.check_exit(direction, &on_delete)?;
        let config = Self {
            identity: Identity::read(doc, &source, &target)?,
            conflicts: conflicts::read(doc, [&source, &target], context, &mut notices)?,
            source,
            target,
            direction,
            timestamp_field: doc
                .get("conflict_resolution")
                .and_then(|it| it.get("timestamp_field")?.as_str())
                .map(str::to_owned),
            row_function: row_function(doc, direction)?,
            mapping: MappingOptions::read(doc, &fields)?,
            rules: validation::read(doc)?,
            filter,
            on_difference: OnDifference::read(doc)?,
            on_delete,
            on_target_edit: OnTargetEdit::read(doc, direction)?,
            stamps: StampColumns::read(doc)?,
            fields,
            match_on,
            initial: settings.initial,
            retry: settings.retry,
            batch_size: settings.batch_size,
            parallelism: settings.parallelism,
            priority: settings.priority,
            polled,
            real_time: settings.real_time,
            polling_interval: settings.polling_interval,
            reconcile_interval: settings.reconcile_interval,
            delete_limit: settings.delete_limit,
            loop_prevention: settings.loop_prevention,
            rate_limits: settings.rate_limits,
            debounce: settings.debounce,
            index_recommendation: settings.index_recommendation,
            capture: settings.capture,
            schema_policy: settings.schema_policy,
            kept: findings.kept,
        };
        Ok((config, notices))
    }
}

/// What means something for an application.
fn for_application(doc: &Map<String, Value>, direction: Direction) -> Result<(), Error> {
    let nothing = [
        "field_mappings",
        "row_function",
        "match_on",
        "identity",
        "conflict_resolution",
        "delete_limit",
        "loop_prevention",
        "schema_changes",
        "initial_sync",
        "mapping_options",
        "validation_rules",
        "stamp_columns",
        "where",
        "source_where",
        "target_where",
        "two_way_where",
        "on_filter_exit",
        "on_difference",
        "on_source_delete",
        "on_target_delete",
        "on_target_edit",
    ];
    if let Some(key) = nothing.into_iter().find(|key| doc.contains_key(*key)) {
        return Err(Error::malformed(
            Path::root().key(key),
            format!("\"{key}\" means nothing for an application"),
            "It takes each change of the table as it is, from when the sync is made.",
            format!("Leave out \"{key}\"."),
        ));
    }
    let settings = [
        (
            "performance_settings",
            "rate_limits",
            "It takes as many changes at once, and as often, as it asks for.",
        ),
        (
            "ongoing_sync",
            "debounce_seconds",
            "It takes each change of the table, not what they come to.",
        ),
    ];
    if let Some((of, key, why)) = settings
        .into_iter()
        .find(|(of, key, _)| doc.get(*of).is_some_and(|it| it.get(key).is_some()))
    {
        return Err(Error::malformed(
            Path::root().key(of).key(key),
            format!("\"{of}.{key}\" means nothing for an application"),
            why,
            format!("Leave out \"{key}\"."),
        ));
    }
    if direction != Direction::SourceToTarget {
        return Err(Error::malformed(
            Path::root().key("sync_type"),
            "a sync with an application goes from source to target",
            "What the application changes it writes to tables itself.",
            "Leave out the direction.",
        ));
    }
    Ok(())
}

/// The function that makes the target's rows, which has no way back and no fields beside it.
fn row_function(
    doc: &Map<String, Value>,
    direction: Direction,
) -> Result<Option<TableName>, Error> {
    let path = Path::root().key("row_function");
    let Some(text) = doc.get("row_function").and_then(Value::as_str) else { return Ok(None) };
    let name = name::table(text).map_err(|_| {
        Error::malformed(
            &path,
            "\"row_function\" must be the name of a function",
            format!("It is {}.", shown(text)),
            "Name a function of (operation text, old, new) that returns rows of the target; old and new are rows of the source.",
        )
    })?;
    let others = [
        "field_mappings",
        "include_fields",
        "exclude_fields",
        "field_selection",
        "match_on",
        "mapping_options",
        "validation_rules",
        "stamp_columns",
        "where",
        "source_where",
        "target_where",
        "on_filter_exit",
        "on_difference",
        "on_source_delete",
        "on_target_edit",
    ];
    if let Some(key) = others.into_iter().find(|key| doc.contains_key(*key)) {
        return Err(Error::malformed(
            Path::root().key(key),
            format!("\"{key}\" contradicts \"row_function\""),
            "The function says what each row of the target is.",
            format!("Leave out \"{key}\", or the function."),
        ));
    }
    if direction != Direction::SourceToTarget {
        return Err(Error::malformed(
            &path,
            "a sync with \"row_function\" goes from source to target",
            "What a function made of a row cannot be taken back to it.",
            "Set \"sync_type\": \"one_way\".",
        ));
    }
    Ok(Some(name))
}

/// Keys that only mean something together.
pub(crate) fn partners(doc: &Map<String, Value>) -> Result<(), Error> {
    let root = Path::root();
    let need = |has: &str, path: Path, example: &str| {
        Err(Error::malformed(
            &path,
            format!("\"{path}\" is missing"),
            format!("The document has {has}, which needs it."),
            format!("For example: \"{}\": {example}.", path.last_key()),
        ))
    };
    match (doc.contains_key("sync_hub"), doc.contains_key("connected_systems")) {
        (true, false) => {
            let example = "[{\"system\": \"crm\", \"objects\": [\"Account\"]}]";
            return need("\"sync_hub\"", root.key("connected_systems"), example);
        }
        (false, true) => return need("\"connected_systems\"", root.key("sync_hub"), "\"local\""),
        _ => {}
    }
    if let Some(Value::Object(conflicts)) = doc.get("conflict_resolution") {
        let partner = match conflicts.get("strategy").and_then(Value::as_str) {
            Some("field_level_priority") => {
                Some(("field_rules", "[{\"field\": \"email\", \"priority_system\": \"crm\"}]"))
            }
            Some("system_priority") => Some(("priority_system", "\"crm\"")),
            Some("function") => Some(("function", "\"public.pick\"")),
            _ => None,
        };
        if let Some((partner, example)) = partner
            && !conflicts.contains_key(partner)
        {
            return need("this strategy", root.key("conflict_resolution").key(partner), example);
        }
    }
    let rules = doc.get("validation_rules").and_then(Value::as_array);
    for (at, rule) in rules.into_iter().flatten().enumerate() {
        let partner = match rule.get("rule").and_then(Value::as_str) {
            Some("regex") => Some(("pattern", "\"^[0-9]+$\"")),
            Some("allowed_values") => Some(("values", "[\"open\", \"closed\"]")),
            Some("condition") => Some(("condition", "\"amount > 0\"")),
            _ => None,
        };
        if let Some((partner, example)) = partner
            && rule.get(partner).is_none()
        {
            return need("this rule", root.key("validation_rules").index(at).key(partner), example);
        }
    }
    Ok(())
}

fn without_effect(findings: &Findings) -> Option<Notice> {
    let first = findings.kept.keys().next()?;
    let all: Vec<_> = findings.kept.keys().map(String::as_str).collect();
    Some(Notice {
        severity: Severity::Warning,
        path: first.clone(),
        message: "keys of alerts, metrics and dashboard have no effect yet".to_owned(),
        detail: format!("These keys are kept without effect: {}.", all.join(", ")),
        hint: String::new(),
    })
}
