//! Every key of the configuration language in one table: its type, its range and whether it is acted on.

use Shape::{Any, Choice, Either, Flag, Integer, List, Number, Object, Settings, Text};

/// What may stand at a key.
#[derive(Debug)]
pub(crate) enum Shape {
    Flag,
    Integer(i64, i64),
    Number(f64, f64),
    /// A text that is not empty.
    Text,
    /// One of a closed set of texts.
    Choice(&'static [&'static str]),
    /// An array with at least so many elements.
    List(usize, &'static Shape),
    Object(&'static [Key]),
    /// An object of plain values with free names, none of them a secret.
    Settings,
    /// One of several shapes, told apart by the JSON type.
    Either(&'static [Shape]),
    Any,
}

/// What comes of a key that is well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Served,
    /// Kept, without effect so far.
    Kept,
}

/// A key of an object.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) standing: Standing,
    pub(crate) required: bool,
    /// A value that is right, as it stands in a document.
    pub(crate) example: &'static str,
}

const fn key(name: &'static str, shape: Shape, example: &'static str) -> Key {
    Key { name, shape, standing: Standing::Served, required: false, example }
}

impl Key {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn kept(mut self) -> Self {
        self.standing = Standing::Kept;
        self
    }
}

const DAY: f64 = 86_400.0;
const MANY: i64 = i32::MAX as i64;

const NAMES: Shape = List(0, &Text);
const TEXT_OR_TEXTS: Shape = Either(&[Text, List(1, &Text)]);
const LOG_LEVEL: Shape = Choice(&["debug", "info", "warning", "error"]);
const METRICS: Shape = List(0, &Choice(&["sync_latency", "latency", "error_rate", "throughput"]));

/// The document as a whole.
pub(crate) const DOCUMENT: &[Key] = &[
    key("connection_name", Text, "\"crm\""),
    key("source", ENDPOINT, "{\"connection\": \"crm\", \"object\": \"Account\"}"),
    key("target", ENDPOINT, "{\"table\": \"public.accounts\"}"),
    key("identity", Either(&[Text, Object(IDENTITY)]), "\"External_Id__c\""),
    // Which way, and who wins.
    key("sync_type", Choice(&["one_way", "bidirectional"]), "\"bidirectional\""),
    key("source_to_target", Flag, "true"),
    key("target_to_source", Flag, "false"),
    key(
        "conflict_resolution",
        Either(&[STRATEGY, Object(CONFLICT_RESOLUTION)]),
        "\"last_write_wins\"",
    ),
    key("loop_prevention", Object(LOOP_PREVENTION), "{\"enabled\": true}"),
    // Fields.
    key(
        "field_mappings",
        List(1, &Object(MAPPING)),
        "[{\"source\": \"Name\", \"target\": \"account_name\"}]",
    ),
    key("mapping_options", Object(MAPPING_OPTIONS), "{\"handle_nulls\": \"preserve\"}"),
    key("field_selection", Choice(&["explicit", "all"]), "\"explicit\""),
    key("include_fields", List(1, &Text), "[\"Id\", \"Name\"]"),
    key("exclude_fields", NAMES, "[\"SystemModstamp\"]"),
    key(
        "validation_rules",
        List(0, &Object(VALIDATION_RULE)),
        "[{\"field\": \"email\", \"rule\": \"email_format\"}]",
    ),
    key("stamp_columns", Object(STAMP_COLUMNS), "{\"synced_at\": \"last_sync\"}"),
    key("schema_changes", Choice(&["adapt", "pause", "ignore"]), "\"adapt\""),
    // Rows.
    key("row_function", Text, "\"public.lines_of_order\""),
    key("where", Text, "\"active\""),
    key("source_where", Text, "\"active\""),
    key("target_where", Text, "\"active\""),
    key("two_way_where", Text, "\"active\""),
    key("on_filter_exit", Choice(&["release", "delete"]), "\"release\""),
    key("match_on", List(1, &Either(&[Text, Object(MATCH)])), "[\"email\"]"),
    key("on_difference", ON_DIFFERENCE, "\"report\""),
    key("on_source_delete", ON_DELETE, "\"delete\""),
    key("on_target_delete", ON_DELETE, "\"delete\""),
    key("on_target_edit", Choice(&["overwrite", "keep", "report"]), "\"report\""),
    key("delete_limit", Either(&[Integer(0, i64::MAX), Text]), "\"5%\""),
    // Running.
    key("capture", Flag, "true"),
    key("initial_sync", Object(INITIAL_SYNC), "{\"strategy\": \"full_load\"}"),
    key("ongoing_sync", Object(ONGOING_SYNC), "{\"mode\": \"real_time\"}"),
    key("performance_settings", Object(PERFORMANCE), "{\"batch_size\": 500}"),
    key("error_handling", Object(ERROR_HANDLING), "{\"retry_strategy\": {\"max_attempts\": 5}}"),
    key("monitoring", Object(MONITORING), "{\"log_level\": \"info\"}").kept(),
    // A hub and its systems.
    key("sync_hub", Text, "\"local\""),
    key(
        "connected_systems",
        List(1, &Object(SYSTEM)),
        "[{\"system\": \"crm\", \"objects\": [\"Account\"]}]",
    ),
    key("tables", List(1, &Text), "[\"public.accounts\"]"),
];

const ENDPOINT: Shape = Either(&[Text, Object(ENDPOINT_KEYS)]);

pub(crate) const ENDPOINT_KEYS: &[Key] = &[
    key("connection", Text, "\"crm\""),
    key("type", Text, "\"salesforce\""),
    key("credentials", Settings, "{\"instance_url\": \"https://example.my.salesforce.com\"}"),
    key("schema", Text, "\"public\""),
    key("table", Text, "\"accounts\""),
    key("object", Text, "\"Account\""),
    key("key", TEXT_OR_TEXTS, "\"id\""),
];

/// What makes a create repeatable; `column` is where its values come from, else they are made up.
const IDENTITY: &[Key] = &[
    key("field", Text, "\"External_Id__c\"").required(),
    key("column", Text, "\"id\""),
    key("accept_reuse", Flag, "true"),
];

const STRATEGY: Shape =
    Choice(&["last_write_wins", "system_priority", "field_level_priority", "manual", "function"]);

const CONFLICT_RESOLUTION: &[Key] = &[
    key("strategy", STRATEGY, "\"last_write_wins\"").required(),
    key("timestamp_field", Text, "\"LastModifiedDate\""),
    key("priority_system", Text, "\"crm\""),
    key("function", Text, "\"public.pick\""),
    key(
        "field_rules",
        List(1, &Object(FIELD_RULE)),
        "[{\"field\": \"email\", \"priority_system\": \"crm\"}]",
    ),
    key(
        "column_groups",
        List(1, &Object(COLUMN_GROUP)),
        "[{\"name\": \"address\", \"fields\": [\"street\", \"city\"]}]",
    ),
    key("strict", Flag, "true"),
    key("deletes", Choice(&["delete_wins", "edit_wins", "review"]), "\"delete_wins\""),
];

const FIELD_RULE: &[Key] = &[
    key("field", Text, "\"email\"").required(),
    key("priority_system", Text, "\"crm\""),
    key("function", Text, "\"public.pick\""),
];

const COLUMN_GROUP: &[Key] = &[
    key("name", Text, "\"address\"").required(),
    key("fields", List(2, &Text), "[\"street\", \"city\"]").required(),
];

const LOOP_PREVENTION: &[Key] = &[
    key("enabled", Flag, "true"),
    key("detection_window_seconds", Integer(1, MANY), "60"),
    key("max_update_count", Integer(1, MANY), "2"),
];

const MAPPING: &[Key] = &[
    key("source", TEXT_OR_TEXTS, "\"Name\""),
    key("target", Text, "\"account_name\"").required(),
    key("transformation", Text, "\"upper(source_column)\""),
    key("reverse", Text, "\"lower(target_column)\""),
    key(
        "direction",
        Choice(&["source_to_target", "target_to_source", "bidirectional"]),
        "\"source_to_target\"",
    ),
    key("required", Flag, "true"),
    key("default", Any, "\"unknown\""),
    key("reference", TEXT_OR_TEXTS, "\"accounts\""),
];

const MAPPING_OPTIONS: &[Key] = &[
    key("handle_nulls", Choice(&["preserve", "ignore", "default"]), "\"preserve\""),
    key("timestamp_format", Text, "\"iso8601\""),
    key("time_zone", Text, "\"Europe/Zurich\""),
    key("phone_region", Text, "\"CH\""),
];

const VALIDATION_RULE: &[Key] = &[
    key("field", Text, "\"email\"").required(),
    key(
        "rule",
        Choice(&["email_format", "regex", "length", "range", "allowed_values", "condition"]),
        "\"email_format\"",
    )
    .required(),
    key("pattern", Text, "\"^[0-9]+$\""),
    key("min", Any, "1"),
    key("max", Any, "100"),
    key("values", List(1, &Any), "[\"open\", \"closed\"]"),
    key("condition", Text, "\"amount > 0\""),
    key(
        "on_error",
        Choice(&["reject_record", "standardize_format", "set_null", "warn"]),
        "\"reject_record\"",
    ),
];

const STAMP_COLUMNS: &[Key] = &[
    key("synced_at", Text, "\"last_sync\""),
    key("state", Text, "\"sync_state\""),
    key("error", Text, "\"sync_error\""),
];

const MATCH: &[Key] = &[
    key("source", Text, "\"Email\"").required(),
    key("target", Text, "\"email\"").required(),
    key("expression", Text, "\"lower(value)\""),
];

/// `mark` comes with the column that takes the mark.
const ON_DELETE: Shape = Either(&[
    DELETE_POLICY,
    Object(&[
        key("action", DELETE_POLICY, "\"mark\"").required(),
        key("column", Text, "\"deleted\""),
    ]),
]);

const DELETE_POLICY: Shape = Choice(&["delete", "mark", "keep"]);

const ON_DIFFERENCE: Shape = Choice(&["source", "target", "report"]);

const INITIAL_SYNC: &[Key] = &[
    key("strategy", Choice(&["full_load", "none", "match_only"]), "\"full_load\""),
    key("on_difference", ON_DIFFERENCE, "\"report\""),
];

const ONGOING_SYNC: &[Key] = &[
    key("mode", Choice(&["real_time", "polling"]), "\"real_time\""),
    key("polling_interval_seconds", Integer(1, 86_400), "30"),
    key("reconcile_interval_seconds", Integer(0, MANY), "86400"),
    key("debounce_seconds", Number(0.0, 3600.0), "5"),
];

const PERFORMANCE: &[Key] = &[
    key("batch_size", Integer(1, 10_000), "500"),
    key("parallelism", Integer(1, 64), "4"),
    key("change_detection", Choice(&["database_triggers", "polling"]), "\"database_triggers\""),
    key("index_recommendation", Flag, "true"),
    key("priority", Integer(0, 1_000), "10"),
    key("rate_limits", Object(RATE_LIMITS), "{\"per_minute\": 100}"),
];

const RATE_LIMITS: &[Key] = &[
    key("per_second", Integer(1, MANY), "10"),
    key("per_minute", Integer(1, MANY), "100"),
    key("per_hour", Integer(1, MANY), "1000"),
    key("per_day", Integer(1, MANY), "10000"),
];

const ERROR_HANDLING: &[Key] = &[
    key("retry_strategy", Object(RETRY_STRATEGY), "{\"max_attempts\": 5}"),
    key("notification", Object(NOTIFICATION), "{\"channels\": [\"email\"]}").kept(),
    key("notifications", Object(NOTIFICATIONS), "{\"email\": [\"team@example.com\"]}").kept(),
    key("fallback", Object(FALLBACK), "{\"action\": \"queue_for_manual_review\"}"),
];

const RETRY_STRATEGY: &[Key] = &[
    key("max_attempts", Integer(1, 1000), "5"),
    key("initial_delay_seconds", Number(0.0, DAY), "1"),
    key("backoff_factor", Number(1.0, 100.0), "2.0"),
    key("jitter", Either(&[Flag, Number(0.0, 1.0)]), "true"),
    key("max_delay_seconds", Number(0.0, DAY), "3600"),
];

const NOTIFICATION: &[Key] = &[
    key("channels", List(1, &Choice(&["slack", "email"])), "[\"slack\", \"email\"]"),
    key("threshold", Choice(&["info", "warning", "error", "critical"]), "\"critical\""),
];

const NOTIFICATIONS: &[Key] = &[
    key("email", TEXT_OR_TEXTS, "[\"team@example.com\"]"),
    key("slack", TEXT_OR_TEXTS, "\"#sync-alerts\""),
];

const FALLBACK: &[Key] = &[key(
    "action",
    Choice(&["queue_for_manual_review", "skip", "pause_sync"]),
    "\"queue_for_manual_review\"",
)
.required()];

const MONITORING: &[Key] = &[
    key("metrics", METRICS, "[\"sync_latency\"]"),
    key("metric_collection", METRICS, "[\"latency\"]"),
    key("alerting", Object(ALERTING), "{\"error_rate_threshold\": 0.01}"),
    key("logging", Object(LOGGING), "{\"level\": \"info\"}"),
    key("log_level", LOG_LEVEL, "\"info\""),
    key("dashboard_enabled", Flag, "true"),
];

const ALERTING: &[Key] = &[
    key("latency_threshold_ms", Integer(1, MANY), "5000"),
    key("error_rate_threshold", Number(0.0, 1.0), "0.01"),
    key("consecutive_failures_threshold", Integer(1, MANY), "3"),
];

const LOGGING: &[Key] =
    &[key("level", LOG_LEVEL, "\"info\""), key("retention_days", Integer(1, 36_500), "30")];

const SYSTEM: &[Key] = &[
    key("system", Text, "\"crm\"").required(),
    key("objects", List(1, &Either(&[Text, Object(SYSTEM_OBJECT)])), "[\"Account\"]").required(),
    key("tables", List(1, &Text), "[\"public.accounts\"]"),
    key("sync_settings", Any, "{\"sync_type\": \"one_way\"}"),
];

/// `sync_settings` holds keys of the document, for the syncs of a system or for one of them: they are checked in its place.
const SYSTEM_OBJECT: &[Key] = &[
    key("object", Text, "\"Account\"").required(),
    key("table", Text, "\"public.accounts\""),
    key("sync_settings", Any, "{\"match_on\": [\"email\"]}"),
];

/// The objects of the document in which a key of this name is known, other than `inside` itself.
pub(crate) fn homes(name: &str, inside: &[Key]) -> Vec<String> {
    let mut homes = Vec::new();
    search(DOCUMENT, "", name, inside, &mut homes);
    homes
}

fn search(keys: &'static [Key], path: &str, name: &str, inside: &[Key], homes: &mut Vec<String>) {
    if !std::ptr::eq(keys, inside) && keys.iter().any(|key| key.name == name) {
        homes.push(path.to_owned());
    }
    for key in keys {
        let path =
            if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        for keys in objects(&key.shape) {
            search(keys, &path, name, inside, homes);
        }
    }
}

fn objects(shape: &Shape) -> Vec<&'static [Key]> {
    match shape {
        Object(keys) => vec![keys],
        List(_, of) => objects(of),
        Either(shapes) => shapes.iter().flat_map(objects).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::path::Path;

    /// Every key's example must itself pass the check: hints are made of them.
    #[test]
    fn every_example_is_well_formed() {
        fn walk(keys: &'static [Key], path: &Path) {
            for key in keys {
                let example: serde_json::Value = serde_json::from_str(key.example)
                    .unwrap_or_else(|_| panic!("{}: {}", path, key.example));
                let path = path.key(key.name);
                check::value_of_key(&example, key, &path)
                    .unwrap_or_else(|error| panic!("{path}: {error:?}"));
                for keys in objects(&key.shape) {
                    walk(keys, &path);
                }
            }
        }
        walk(DOCUMENT, &Path::root());
    }

    /// Values of every type, at the ends of every range, and texts that no closed set has.
    fn strangers() -> Vec<serde_json::Value> {
        serde_json::from_str(
            r#"[null, true, 0, -1, 1.5, 1e300, -1e300, 9223372036854775807, "", "  ", "no such value",
                [], [null], [[]], [{}], [1], {}, {"no such key": 1}, {"client_secret": "x"}]"#,
        )
        .unwrap()
    }

    /// Whatever a key does not take is refused at its place, with what is wrong and what would be right.
    #[test]
    fn every_key_says_what_it_does_not_take() {
        fn walk(keys: &'static [Key], path: &Path, tried: &mut usize) {
            for key in keys {
                let path = path.key(key.name);
                let mut refused = 0;
                for value in strangers() {
                    let Err(error) = check::value_of_key(&value, key, &path) else { continue };
                    refused += 1;
                    let (at, here) = (error.path.as_str(), path.to_string());
                    assert!(at.starts_with(&here), "{here}: {value}: {error:?}");
                    let told = [&error.message, &error.detail, &error.hint];
                    assert!(told.iter().all(|text| !text.is_empty()), "{here}: {value}: {error:?}");
                    assert_eq!(error.kind.sqlstate(), "22023", "{here}: {value}: {error:?}");
                }
                assert!(refused > 0 || matches!(key.shape, Any), "{path} takes anything");
                *tried += refused;
                for keys in objects(&key.shape) {
                    walk(keys, &path, tried);
                }
            }
        }
        let mut tried = 0;
        walk(DOCUMENT, &Path::root(), &mut tried);
        assert!(tried > 1000, "{tried}");
    }

    /// The paths of the keys. An object whose keys are listed is not listed itself; the two endpoints have the same keys.
    fn paths(keys: &'static [Key], inside: &str, served: &mut Vec<String>) {
        for key in keys {
            let path = format!("{inside}{}", key.name);
            let inner = objects(&key.shape);
            let list = matches!(key.shape, List(..));
            if !matches!(key.shape, Object(_)) {
                served.push(path.clone());
            }
            if path == "target" {
                continue;
            }
            for keys in inner {
                paths(keys, &format!("{path}{}.", if list { "[]" } else { "" }), served);
            }
        }
    }

    #[test]
    fn the_reference_names_every_key_and_no_other() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
        let page = std::fs::read_to_string(file).unwrap();
        let (_, page) = page.split_once("\n## Keys of a document\n").unwrap();
        let (page, _) = page.split_once("\n## ").unwrap();
        let lines = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let mut named: Vec<String> = lines.map(|(name, _)| name.to_owned()).collect();
        named.sort();
        let mut served = Vec::new();
        paths(DOCUMENT, "", &mut served);
        served.sort();
        assert_eq!(named, served);
    }

    #[test]
    fn a_misplaced_key_is_found_where_it_belongs() {
        assert_eq!(homes("batch_size", DOCUMENT), ["performance_settings"]);
        assert_eq!(homes("max_attempts", DOCUMENT), ["error_handling.retry_strategy"]);
        assert!(homes("nothing", DOCUMENT).is_empty());
    }
}
