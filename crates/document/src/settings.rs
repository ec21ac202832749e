//! How a sync starts, runs and retries.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::check;
use crate::error::Error;
use crate::path::{Path, shown};

/// How many changes are worked through at once, unless the document says otherwise.
const BATCH_SIZE: u32 = 500;

/// Seconds after which a remote's records are all compared, unless the document says otherwise.
const RECONCILE: u32 = 86_400;

/// What happens to the rows that are there when the sync is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InitialSync {
    /// All rows of the source are brought to the target.
    FullLoad,
    /// Nothing: only later changes are synced.
    None,
    /// Rows that exist on both sides are linked, nothing is written.
    MatchOnly,
}

/// How often and after what delay a change is tried again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Attempts in all, the first one counted.
    pub max_attempts: u32,
    /// The delay before the second attempt.
    pub initial_delay: Duration,
    /// What the delay grows by with each attempt.
    pub backoff_factor: f64,
    /// The longest delay.
    pub max_delay: Duration,
    /// So large a part of each delay is left to chance, from 0 to 1.
    pub jitter: f64,
    /// What happens after the last attempt.
    pub fallback: Fallback,
}

/// What happens to a record that a person would have to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fallback {
    /// It waits.
    #[default]
    Queue,
    /// It is given up until it is changed again.
    Skip,
    /// It waits, and its sync with it.
    PauseSync,
}

/// What `"jitter": true` leaves to chance.
const USUAL_JITTER: f64 = 0.5;

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_delay: Duration::from_secs(1),
            backoff_factor: 2.0,
            max_delay: Duration::from_secs(3600),
            jitter: 0.0,
            fallback: Fallback::Queue,
        }
    }
}

/// What a sync does when the other system changes the object's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaPolicy {
    /// What can follow does: columns are widened, and where all fields are synced, new ones are too.
    Adapt,
    /// It stops until somebody has looked.
    Pause,
    /// It goes on with what is mapped, as far as that can be.
    Ignore,
}

/// How many calls to another system, or records written to a table, a sync may make in any such span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// In any second.
    pub per_second: Option<u32>,
    /// In any minute.
    pub per_minute: Option<u32>,
    /// In any hour.
    pub per_hour: Option<u32>,
    /// In any 24 hours.
    pub per_day: Option<u32>,
}

impl RateLimits {
    /// Does nothing hold the sync back?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How often a record may come back before it is taken to go round in a circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopPrevention {
    /// So often a record that was changed on its way, by nobody's hand, is written on.
    pub returns: u32,
    /// Within this time.
    pub window: Duration,
}

impl Default for LoopPrevention {
    fn default() -> Self {
        Self { returns: 10, window: Duration::from_secs(60) }
    }
}

/// How much a batch may delete before the sync stops and asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeleteLimit {
    /// So many records.
    Records(u64),
    /// So many percent of the linked records, from 0 to 100.
    Percent(f64),
}

/// The settings of a document, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) initial: InitialSync,
    pub(crate) retry: Retry,
    pub(crate) delete_limit: Option<DeleteLimit>,
    pub(crate) loop_prevention: Option<LoopPrevention>,
    pub(crate) real_time: bool,
    pub(crate) polling_interval: Option<Duration>,
    pub(crate) reconcile_interval: Option<Duration>,
    pub(crate) batch_size: u32,
    pub(crate) parallelism: Option<u32>,
    pub(crate) priority: u32,
    pub(crate) rate_limits: RateLimits,
    pub(crate) debounce: Option<Duration>,
    pub(crate) index_recommendation: bool,
    pub(crate) capture: bool,
    pub(crate) schema_policy: SchemaPolicy,
}

impl Settings {
    /// Reads settings whose types and ranges the grammar has already made sure of.
    pub(crate) fn read(doc: &Map<String, Value>) -> Result<Self, Error> {
        agreeing_log_levels(doc)?;
        let at = |way: &[&str]| {
            let (first, rest) = way.split_first()?;
            rest.iter().try_fold(doc.get(*first)?, |value, key| value.get(key))
        };
        let whole = |way: &[&str]| {
            at(way)
                .and_then(|value| check::integer(value.as_number()?))
                .and_then(|n| u32::try_from(n).ok())
        };
        let number = |way: &[&str]| at(way).and_then(Value::as_f64);
        let retry = "retry_strategy";
        let (usual, usual_loops) = (Retry::default(), LoopPrevention::default());
        let delay = |key: &str| {
            number(&["error_handling", retry, key])
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        };
        let initial_delay = delay("initial_delay_seconds").unwrap_or(usual.initial_delay);
        // Where only the first is given and is long, it is not cut short.
        let max_delay = delay("max_delay_seconds").unwrap_or(usual.max_delay.max(initial_delay));
        growing_delays([initial_delay, max_delay])?;
        Ok(Self {
            initial: match at(&["initial_sync", "strategy"]).and_then(Value::as_str) {
                Some("none") => InitialSync::None,
                Some("match_only") => InitialSync::MatchOnly,
                _ => InitialSync::FullLoad,
            },
            retry: Retry {
                max_attempts: whole(&["error_handling", retry, "max_attempts"])
                    .unwrap_or(usual.max_attempts),
                initial_delay,
                backoff_factor: number(&["error_handling", retry, "backoff_factor"])
                    .unwrap_or(usual.backoff_factor),
                max_delay,
                jitter: match at(&["error_handling", retry, "jitter"]) {
                    Some(Value::Bool(true)) => USUAL_JITTER,
                    Some(part) => part.as_f64().unwrap_or(usual.jitter),
                    None => usual.jitter,
                },
                fallback: match at(&["error_handling", "fallback", "action"])
                    .and_then(Value::as_str)
                {
                    Some("skip") => Fallback::Skip,
                    Some("pause_sync") => Fallback::PauseSync,
                    _ => Fallback::Queue,
                },
            },
            delete_limit: doc.get("delete_limit").map(delete_limit).transpose()?,
            loop_prevention: at(&["loop_prevention", "enabled"])
                .and_then(Value::as_bool)
                .unwrap_or(true)
                .then(|| LoopPrevention {
                    returns: whole(&["loop_prevention", "max_update_count"])
                        .unwrap_or(usual_loops.returns),
                    window: whole(&["loop_prevention", "detection_window_seconds"])
                        .map_or(usual_loops.window, |seconds| {
                            Duration::from_secs(u64::from(seconds))
                        }),
                }),
            real_time: at(&["ongoing_sync", "mode"]).and_then(Value::as_str) != Some("polling"),
            polling_interval: whole(&["ongoing_sync", "polling_interval_seconds"])
                .map(|seconds| Duration::from_secs(u64::from(seconds))),
            reconcile_interval: Some(
                whole(&["ongoing_sync", "reconcile_interval_seconds"]).unwrap_or(RECONCILE),
            )
            .filter(|&seconds| seconds > 0)
            .map(|seconds| Duration::from_secs(u64::from(seconds))),
            batch_size: whole(&["performance_settings", "batch_size"]).unwrap_or(BATCH_SIZE),
            parallelism: whole(&["performance_settings", "parallelism"]),
            priority: whole(&["performance_settings", "priority"]).unwrap_or(0),
            rate_limits: {
                let limit = |span: &str| whole(&["performance_settings", "rate_limits", span]);
                RateLimits {
                    per_second: limit("per_second"),
                    per_minute: limit("per_minute"),
                    per_hour: limit("per_hour"),
                    per_day: limit("per_day"),
                }
            },
            debounce: number(&["ongoing_sync", "debounce_seconds"])
                .filter(|&seconds| seconds > 0.0)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            index_recommendation: at(&["performance_settings", "index_recommendation"])
                .and_then(Value::as_bool)
                .unwrap_or(false),
            capture: doc.get("capture").and_then(Value::as_bool).unwrap_or(true),
            schema_policy: match doc.get("schema_changes").and_then(Value::as_str) {
                Some("adapt") => SchemaPolicy::Adapt,
                Some("pause") => SchemaPolicy::Pause,
                _ => SchemaPolicy::Ignore,
            },
        })
    }
}

fn delete_limit(value: &Value) -> Result<DeleteLimit, Error> {
    let Some(text) = value.as_str() else {
        let records =
            value.as_number().and_then(check::integer).and_then(|n| u64::try_from(n).ok());
        return Ok(DeleteLimit::Records(records.unwrap_or(u64::MAX)));
    };
    let digits = text.strip_suffix('%').map(str::trim).unwrap_or_default();
    let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    match digits.parse::<f64>() {
        Ok(percent) if plain && percent <= 100.0 => Ok(DeleteLimit::Percent(percent)),
        _ => Err(Error::malformed(
            Path::root().key("delete_limit"),
            "\"delete_limit\" must be a number of records or a percentage",
            format!("It is the text {}; a percentage goes from \"0%\" to \"100%\".", shown(text)),
            "For example: \"delete_limit\": 1000, or \"delete_limit\": \"5%\".",
        )),
    }
}

/// The first delay is not longer than the longest.
fn growing_delays([initial, longest]: [Duration; 2]) -> Result<(), Error> {
    if initial <= longest {
        return Ok(());
    }
    Err(Error::malformed(
        Path::root().key("error_handling").key("retry_strategy").key("max_delay_seconds"),
        "\"max_delay_seconds\" is less than \"initial_delay_seconds\"",
        format!(
            "The longest delay is {} s, the first {} s.",
            longest.as_secs_f64(),
            initial.as_secs_f64()
        ),
        "Delays grow from the first to the longest: make \"max_delay_seconds\" at least as long as the first.",
    ))
}

/// The level can be written in two ways, and then has to be the same.
fn agreeing_log_levels(doc: &Map<String, Value>) -> Result<(), Error> {
    let monitoring = doc.get("monitoring");
    let long = monitoring.and_then(|it| it.get("logging")?.get("level"));
    match (long, monitoring.and_then(|it| it.get("log_level"))) {
        (Some(long), Some(short)) if long != short => Err(Error::malformed(
            Path::root().key("monitoring").key("log_level"),
            "\"monitoring.log_level\" contradicts \"monitoring.logging.level\"",
            format!("One is {short}, the other {long}."),
            "Both mean the same: keep one of them.",
        )),
        _ => Ok(()),
    }
}
