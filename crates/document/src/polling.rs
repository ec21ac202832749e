//! Tables that are read from time to time in the place of having their changes captured: views, foreign tables, and
//! whatever may have no trigger.

use serde_json::{Map, Value};

use crate::config::Direction;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::path::Path;

/// A table that is read from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polled {
    /// The columns by which its rows are told apart; empty: the columns of its own key.
    pub key: Vec<String>,
}

/// For the source and for the target whether it is polled.
pub(crate) fn read(
    doc: &Map<String, Value>,
    endpoints: [&Endpoint; 2],
    direction: Direction,
) -> Result<[Option<Polled>; 2], Error> {
    let text = |of: &str, key: &str| doc.get(of)?.get(key)?.as_str();
    let names = ["source", "target"];
    let path = Path::root().key("performance_settings").key("change_detection");
    let keys = names.map(|side| doc.get(side).and_then(|it| it.get("key")));
    if text("performance_settings", "change_detection") != Some("polling") {
        if let Some(side) = (0..2).find(|&side| keys[side].is_some()) {
            return Err(Error::malformed(
                Path::root().key(names[side]).key("key"),
                format!("\"{}.key\" means nothing without polling", names[side]),
                "Rows whose changes are captured are known by the primary key of their table.",
                format!("Leave it out, or set \"{path}\": \"polling\"."),
            ));
        }
        let remote = endpoints.into_iter().any(|it| matches!(it, Endpoint::Remote(_)));
        if text("ongoing_sync", "mode") == Some("polling") && !remote {
            return Err(Error::malformed(
                Path::root().key("ongoing_sync").key("mode"),
                "there is nothing to poll",
                "Both sides are of this database, and their changes are captured as they are made.",
                format!("Leave it out, or set \"{path}\": \"polling\"."),
            ));
        }
        return Ok([None, None]);
    }
    let refused = |message: &str, detail: &str, hint: &str| {
        Err(Error::malformed(path.clone(), message, detail, hint))
    };
    let sender = match direction {
        Direction::SourceToTarget => 0,
        Direction::TargetToSource => 1,
        Direction::TwoWay => {
            return refused(
                "a sync that polls a table goes one way",
                "What is only read from time to time would be written over with what is older than its own changes.",
                "Set \"sync_type\": \"one_way\", or have the changes captured with \"database_triggers\".",
            );
        }
    };
    match endpoints[sender] {
        Endpoint::Local(_) => {}
        Endpoint::Remote(_) | Endpoint::Application => {
            return refused(
                "the sync polls no table of this database",
                "Its changes come from another system, which is asked for them anyway.",
                "Leave it out; \"ongoing_sync\" says how often the other system is asked.",
            );
        }
    }
    if *endpoints[1] == Endpoint::Application {
        return refused(
            "an application takes changes that were captured",
            "Polling finds how a row is now, and not what has happened to it.",
            "Leave it out.",
        );
    }
    if keys[1 - sender].is_some() {
        return Err(Error::malformed(
            Path::root().key(names[1 - sender]).key("key"),
            format!("the {} is not polled", names[1 - sender]),
            "Its rows are known by the primary key of their table.",
            "Leave it out.",
        ));
    }
    let others = [
        (
            doc.contains_key("row_function"),
            Path::root().key("row_function"),
            "The function is told what a row was before, which polling does not know.",
        ),
        (
            doc.get("ongoing_sync").is_some_and(|it| it.get("debounce_seconds").is_some()),
            Path::root().key("ongoing_sync").key("debounce_seconds"),
            "What has happened between two looks is one change already.",
        ),
        (
            !matches!(text("initial_sync", "strategy"), None | Some("full_load")),
            Path::root().key("initial_sync").key("strategy"),
            "Polling compares all rows each time; what has not been brought over would be with the next look.",
        ),
    ];
    if let Some((_, at, why)) = others.into_iter().find(|(given, ..)| *given) {
        return Err(Error::malformed(
            &at,
            format!("\"{at}\" contradicts polling"),
            why,
            format!("Leave it out, or \"{path}\"."),
        ));
    }
    let key = match keys[sender] {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let mut polled = [None, None];
    polled[sender] = Some(Polled { key });
    Ok(polled)
}
