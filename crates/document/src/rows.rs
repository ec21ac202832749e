//! Which records a sync has, and what becomes of one side's record when the other's is gone.

use serde_json::{Map, Value};

use crate::config::Direction;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::path::Path;

/// The conditions under which a record is synced, as SQL over the columns of a side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowFilter {
    /// For source and target: which of its records take part.
    pub sides: [Option<String>; 2],
    /// The key of the document that each of them stands at.
    pub keys: [&'static str; 2],
    /// For which records the sync goes both ways; the others go from source to target. Over the columns of the table of
    /// this database, of two the source.
    pub two_way: Option<String>,
    /// What becomes of the other side's record when one leaves the filter.
    pub on_exit: OnExit,
}

impl RowFilter {
    /// Does it leave any record out?
    pub fn is_empty(&self) -> bool {
        self.sides.iter().all(Option::is_none)
    }
}

/// What becomes of the other side's record when one leaves the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnExit {
    /// It stays as it is, until the record comes back.
    #[default]
    Release,
    /// To it the row is as one that was deleted.
    Delete,
}

/// Whose values stand where rows that are there on both sides are paired, and differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnDifference {
    /// The source's.
    Source,
    /// The target's.
    Target,
    /// Each side keeps its own, and a person decides.
    Report,
}

impl OnDifference {
    /// It can stand at the top or with the first load, and means the same.
    pub(crate) fn read(doc: &Map<String, Value>) -> Result<Option<Self>, Error> {
        let top = doc.get("on_difference").and_then(Value::as_str);
        let initial = doc.get("initial_sync").and_then(|it| it.get("on_difference")?.as_str());
        if let (Some(top), Some(initial)) = (top, initial)
            && top != initial
        {
            return Err(Error::malformed(
                Path::root().key("initial_sync").key("on_difference"),
                "\"initial_sync.on_difference\" contradicts \"on_difference\"",
                format!("One is \"{initial}\", the other \"{top}\"."),
                "Both mean the same: keep one of them.",
            ));
        }
        Ok(top.or(initial).map(|value| match value {
            "target" => Self::Target,
            "report" => Self::Report,
            _ => Self::Source,
        }))
    }
}

/// What becomes of a record when the other side's is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnDelete {
    /// It is deleted, too.
    #[default]
    Delete,
    /// A column says so: a boolean is set to true, anything else to the time.
    Mark {
        /// The column of the record that stays.
        column: String,
    },
    /// It stays, and belongs to nobody any more.
    Keep,
}

/// What becomes of an edit on the target of a sync that goes one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnTargetEdit {
    /// It stays until the source changes the field.
    #[default]
    Keep,
    /// The source's value is written over it.
    Overwrite,
    /// It stays, and is told as a conflict.
    Report,
}

impl RowFilter {
    pub(crate) fn read(
        doc: &Map<String, Value>,
        [source, target]: [&Endpoint; 2],
        direction: Direction,
    ) -> Result<Self, Error> {
        let text = |key: &str| doc.get(key).and_then(Value::as_str).map(str::to_owned);
        // The local table; of two the source.
        let local = usize::from(source.local().is_none() && target.local().is_some());
        let mut sides = [text("source_where"), text("target_where")];
        let mut keys = ["source_where", "target_where"];
        if let Some(condition) = text("where") {
            if sides[local].is_some() {
                return Err(Error::malformed(
                    Path::root().key("where"),
                    format!("\"where\" and \"{}\" are the same condition", keys[local]),
                    "\"where\" is over the table of this database, of two the source.",
                    "Keep one of them.",
                ));
            }
            (sides[local], keys[local]) = (Some(condition), "where");
        }
        let two_way = text("two_way_where");
        if two_way.is_some() && direction != Direction::TwoWay {
            return Err(Error::malformed(
                Path::root().key("two_way_where"),
                "\"two_way_where\" contradicts the direction of the sync",
                format!("The sync goes {}.", direction.described()),
                "Set \"sync_type\": \"bidirectional\", or leave it out.",
            ));
        }
        let on_exit = match doc.get("on_filter_exit").and_then(Value::as_str) {
            Some("delete") => OnExit::Delete,
            _ => OnExit::Release,
        };
        if doc.contains_key("on_filter_exit") && sides.iter().all(Option::is_none) {
            return Err(Error::malformed(
                Path::root().key("on_filter_exit"),
                "\"on_filter_exit\" needs a filter",
                "The document has none of \"where\", \"source_where\" and \"target_where\".",
                "Give one of these, or leave it out.",
            ));
        }
        Ok(Self { sides, keys, two_way, on_exit })
    }

    /// Is there anything that a row could take along when it leaves the filter?
    pub(crate) fn check_exit(
        &self,
        direction: Direction,
        on_delete: &[OnDelete; 2],
    ) -> Result<(), Error> {
        if self.on_exit != OnExit::Delete {
            return Ok(());
        }
        let path = Path::root().key("on_filter_exit");
        let travels = [direction.to_target(), direction.to_source()];
        let filtered = |side: usize| travels[side] && self.sides[side].is_some();
        if !filtered(0) && !filtered(1) {
            let receives = usize::from(self.sides[0].is_none());
            return Err(Error::malformed(
                &path,
                "\"on_filter_exit\" contradicts the direction of the sync",
                format!(
                    "The sync goes {}, and \"{}\" is of the side that only receives: what becomes of its rows deletes nothing on the other.",
                    direction.described(),
                    self.keys[receives]
                ),
                "Give the side that sends a filter, set \"sync_type\": \"bidirectional\", or leave it out.",
            ));
        }
        let keys = ["on_source_delete", "on_target_delete"];
        if let Some(side) = (0..2).find(|&side| filtered(side) && on_delete[side] == OnDelete::Keep)
        {
            return Err(Error::malformed(
                &path,
                format!("\"on_filter_exit\" contradicts \"{}\"", keys[side]),
                format!(
                    "To the other side a row that leaves \"{}\" is as one that was deleted, and \"{}\" keeps the record of such a row.",
                    self.keys[side], keys[side]
                ),
                format!("Set \"on_filter_exit\": \"release\", or another \"{}\".", keys[side]),
            ));
        }
        Ok(())
    }
}

impl OnDelete {
    /// For the source and for the target what becomes of the other's record when its own is deleted.
    pub(crate) fn of_both(
        doc: &Map<String, Value>,
        direction: Direction,
    ) -> Result<[Self; 2], Error> {
        let source = Self::read(doc, "on_source_delete", direction.to_target(), direction)?;
        let target = Self::read(doc, "on_target_delete", direction.to_source(), direction)?;
        Ok([source, target])
    }

    fn read(
        doc: &Map<String, Value>,
        key: &str,
        travels: bool,
        direction: Direction,
    ) -> Result<Self, Error> {
        let Some(value) = doc.get(key) else { return Ok(Self::Delete) };
        let path = Path::root().key(key);
        if !travels {
            return Err(Error::malformed(
                &path,
                format!("\"{key}\" contradicts the direction of the sync"),
                format!(
                    "The sync goes {}, so that these deletes do not travel.",
                    direction.described()
                ),
                "Leave it out, or set \"sync_type\": \"bidirectional\".",
            ));
        }
        let action = value.as_str().or_else(|| value.get("action")?.as_str());
        let column = value.get("column").and_then(Value::as_str);
        match (action, column) {
            (Some("mark"), Some(column)) => Ok(Self::Mark { column: column.to_owned() }),
            (Some("mark"), None) => Err(Error::malformed(
                path.key("column"),
                format!("\"{}\" is missing", path.key("column")),
                format!("\"{path}\" is \"mark\", which sets a column."),
                format!(
                    "For example: \"{key}\": {{\"action\": \"mark\", \"column\": \"deleted\"}}."
                ),
            )),
            (_, Some(_)) => Err(Error::malformed(
                path.key("column"),
                format!("\"{}\" means nothing without \"mark\"", path.key("column")),
                "Only the action \"mark\" sets a column.",
                "Leave it out, or set \"action\": \"mark\".",
            )),
            (Some("keep"), None) => Ok(Self::Keep),
            _ => Ok(Self::Delete),
        }
    }
}

impl OnTargetEdit {
    pub(crate) fn read(doc: &Map<String, Value>, direction: Direction) -> Result<Self, Error> {
        let Some(value) = doc.get("on_target_edit").and_then(Value::as_str) else {
            return Ok(Self::default());
        };
        if direction != Direction::SourceToTarget {
            return Err(Error::malformed(
                Path::root().key("on_target_edit"),
                "\"on_target_edit\" contradicts the direction of the sync",
                format!(
                    "The sync goes {}, so that edits of the target travel.",
                    direction.described()
                ),
                "Leave it out; whose edit stands is said by \"conflict_resolution\".",
            ));
        }
        Ok(match value {
            "overwrite" => Self::Overwrite,
            "report" => Self::Report,
            _ => Self::Keep,
        })
    }
}

/// Columns of the table of this database in which the sync says how it is with a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StampColumns {
    /// When it was last in sync.
    pub synced_at: Option<String>,
    /// Its state: `synced`, or what `sync.queue` says of it.
    pub state: Option<String>,
    /// Why it is not, while it is not.
    pub error: Option<String>,
}

impl StampColumns {
    pub(crate) fn read(doc: &Map<String, Value>) -> Result<Self, Error> {
        let text = |key: &str| {
            doc.get("stamp_columns").and_then(|it| it.get(key)?.as_str()).map(str::to_owned)
        };
        let stamps =
            Self { synced_at: text("synced_at"), state: text("state"), error: text("error") };
        let given: Vec<&String> = stamps.named().map(|(_, column)| column).collect();
        if doc.contains_key("stamp_columns") && given.is_empty() {
            let path = Path::root().key("stamp_columns").key("synced_at");
            return Err(Error::malformed(
                &path,
                format!("\"{path}\" is missing"),
                "\"stamp_columns\" names no column.",
                "Name at least one of \"synced_at\", \"state\" and \"error\".",
            ));
        }
        let twice = given.iter().enumerate().find(|(n, column)| given[..*n].contains(column));
        if let Some((_, column)) = twice {
            return Err(Error::malformed(
                Path::root().key("stamp_columns"),
                format!("column {} is to hold two stamps", crate::path::shown(column)),
                "\"stamp_columns\" names it more than once.",
                "Give each stamp a column of its own.",
            ));
        }
        Ok(stamps)
    }

    /// The stamps with their columns.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &String)> {
        [("synced_at", &self.synced_at), ("state", &self.state), ("error", &self.error)]
            .into_iter()
            .filter_map(|(stamp, column)| Some((stamp, column.as_ref()?)))
    }
}
