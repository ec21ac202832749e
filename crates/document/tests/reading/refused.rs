//! Every key and every class of error: kind, path, message and hint.

use document::ErrorKind::{self, Malformed, Unknown};
use serde_json::{Value, json};

use crate::{base, patched, read};

/// A patch to the least document, the kind and path of the error, and a part of its hint.
pub(crate) type Case = (Value, ErrorKind, &'static str, &'static str);

pub(crate) fn refuse(cases: Vec<Case>) {
    for (patch, kind, path, hint) in cases {
        let doc = patched(patch);
        refuse_document(&doc, kind, path, hint);
    }
}

pub(crate) fn refuse_document(doc: &Value, kind: ErrorKind, path: &str, hint: &str) {
    let Err(error) = read(doc) else { panic!("{doc} was accepted") };
    assert_eq!((error.kind, error.path.as_str()), (kind, path), "{doc}: {error:?}");
    assert!(error.hint.contains(hint), "{doc}: {error:?} lacks the hint {hint}");
    assert!(!error.detail.is_empty() && !error.hint.is_empty(), "{error:?}");
}

/// Puts `value` at a dotted path.
fn at(path: &str, value: &Value) -> Value {
    path.rsplit('.').fold(value.clone(), |value, key| json!({key: value}))
}

#[test]
fn kinds_have_their_sqlstates() {
    assert_eq!(Malformed.sqlstate(), "22023");
    assert_eq!(Unknown.sqlstate(), "42704");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_at_every_key() {
    let (yes, text, number, list, object) =
        (json!(true), json!("x"), json!(7), json!(["x"]), json!({"x": 1}));
    let of = |nots: &[&Value]| {
        nots.iter().map(|&value| value.clone()).chain([Value::Null]).collect::<Vec<_>>()
    };
    let texts = of(&[&yes, &number, &list, &object]);
    let flags = of(&[&text, &number, &list, &object]);
    let numbers = of(&[&yes, &text, &list, &object]);
    let lists = of(&[&yes, &text, &number, &object]);
    let objects = of(&[&yes, &text, &number, &list]);
    let text_or_object = of(&[&yes, &number, &list]);
    let number_or_text = of(&[&yes, &list, &object]);
    let number_or_flag = of(&[&text, &list, &object]);
    let keys: Vec<(&str, &Vec<Value>)> = vec![
        ("connection_name", &texts),
        ("source", &text_or_object),
        ("target", &text_or_object),
        ("sync_type", &texts),
        ("source_to_target", &flags),
        ("target_to_source", &flags),
        ("conflict_resolution", &text_or_object),
        ("conflict_resolution.strategy", &texts),
        ("conflict_resolution.timestamp_field", &texts),
        ("conflict_resolution.field_rules", &lists),
        ("loop_prevention", &objects),
        ("loop_prevention.enabled", &flags),
        ("loop_prevention.detection_window_seconds", &numbers),
        ("loop_prevention.max_update_count", &numbers),
        ("field_mappings", &lists),
        ("mapping_options", &objects),
        ("mapping_options.handle_nulls", &texts),
        ("mapping_options.timestamp_format", &texts),
        ("mapping_options.time_zone", &texts),
        ("mapping_options.phone_region", &texts),
        ("field_selection", &texts),
        ("include_fields", &lists),
        ("exclude_fields", &lists),
        ("validation_rules", &lists),
        ("stamp_columns", &objects),
        ("where", &texts),
        ("two_way_where", &texts),
        ("match_on", &lists),
        ("on_source_delete", &text_or_object),
        ("on_target_edit", &texts),
        ("delete_limit", &number_or_text),
        ("capture", &flags),
        ("initial_sync", &objects),
        ("initial_sync.strategy", &texts),
        ("ongoing_sync", &objects),
        ("ongoing_sync.mode", &texts),
        ("ongoing_sync.polling_interval_seconds", &numbers),
        ("ongoing_sync.debounce_seconds", &numbers),
        ("performance_settings", &objects),
        ("performance_settings.batch_size", &numbers),
        ("performance_settings.parallelism", &numbers),
        ("performance_settings.change_detection", &texts),
        ("performance_settings.index_recommendation", &flags),
        ("performance_settings.rate_limits", &objects),
        ("performance_settings.rate_limits.per_second", &numbers),
        ("performance_settings.rate_limits.per_minute", &numbers),
        ("performance_settings.rate_limits.per_hour", &numbers),
        ("performance_settings.rate_limits.per_day", &numbers),
        ("error_handling", &objects),
        ("error_handling.retry_strategy", &objects),
        ("error_handling.retry_strategy.max_attempts", &numbers),
        ("error_handling.retry_strategy.initial_delay_seconds", &numbers),
        ("error_handling.retry_strategy.backoff_factor", &numbers),
        ("error_handling.retry_strategy.max_delay_seconds", &numbers),
        ("error_handling.retry_strategy.jitter", &number_or_flag),
        ("error_handling.notification", &objects),
        ("error_handling.notification.channels", &lists),
        ("error_handling.notification.threshold", &texts),
        ("error_handling.notifications", &objects),
        ("error_handling.fallback", &objects),
        ("error_handling.fallback.action", &texts),
        ("monitoring", &objects),
        ("monitoring.metrics", &lists),
        ("monitoring.metric_collection", &lists),
        ("monitoring.alerting", &objects),
        ("monitoring.alerting.latency_threshold_ms", &numbers),
        ("monitoring.alerting.error_rate_threshold", &numbers),
        ("monitoring.alerting.consecutive_failures_threshold", &numbers),
        ("monitoring.logging", &objects),
        ("monitoring.logging.level", &texts),
        ("monitoring.logging.retention_days", &numbers),
        ("monitoring.log_level", &texts),
        ("monitoring.dashboard_enabled", &flags),
        ("sync_hub", &texts),
        ("connected_systems", &lists),
    ];
    for (path, wrong) in keys {
        for value in wrong {
            let mut doc = base();
            // Not a patch: null would remove the key.
            let (first, _) = path.split_once('.').unwrap_or((path, ""));
            doc[first] = at(path, value)[first].clone();
            refuse_document(&doc, Malformed, path, "For example: ");
        }
    }
}

#[test]
fn what_is_out_of_range_is_refused() {
    let keys = [
        (
            "performance_settings.batch_size",
            vec![json!(0), json!(10_001), json!(-1), json!(2.5), json!(1e300)],
        ),
        ("performance_settings.parallelism", vec![json!(0), json!(65), json!(u64::MAX)]),
        ("ongoing_sync.polling_interval_seconds", vec![json!(0), json!(86_401)]),
        ("ongoing_sync.debounce_seconds", vec![json!(-0.1), json!(3600.5)]),
        ("performance_settings.rate_limits.per_second", vec![json!(0), json!(-1), json!(1.5)]),
        ("performance_settings.rate_limits.per_day", vec![json!(0), json!(1e12)]),
        ("error_handling.retry_strategy.jitter", vec![json!(-0.1), json!(1.1)]),
        (
            "error_handling.retry_strategy.max_delay_seconds",
            vec![json!(-1), json!(86_401), json!(1e300)],
        ),
        ("error_handling.retry_strategy.max_attempts", vec![json!(0), json!(1001), json!(1.5)]),
        ("error_handling.retry_strategy.initial_delay_seconds", vec![json!(-0.1), json!(1e9)]),
        ("error_handling.retry_strategy.backoff_factor", vec![json!(0.9), json!(101)]),
        ("monitoring.alerting.error_rate_threshold", vec![json!(-0.1), json!(1.1)]),
        ("monitoring.alerting.latency_threshold_ms", vec![json!(0)]),
        ("monitoring.logging.retention_days", vec![json!(0)]),
        ("loop_prevention.max_update_count", vec![json!(0)]),
        (
            "delete_limit",
            vec![
                json!(-1),
                json!(1.5),
                json!("101%"),
                json!("-1%"),
                json!("5"),
                json!("x%"),
                json!("%"),
                json!("inf%"),
            ],
        ),
        ("connection_name", vec![json!(""), json!(" ")]),
        ("field_mappings", vec![json!([])]),
        ("include_fields", vec![json!([])]),
        ("match_on", vec![json!([])]),
    ];
    for (path, values) in keys {
        for value in values {
            refuse(vec![(at(path, &value), Malformed, path, "For example: ")]);
        }
    }
    refuse(vec![(
        json!({"include_fields": ["a", ""]}),
        Malformed,
        "include_fields[1]",
        "For example",
    )]);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    refuse(vec![
        (json!({"synctype": "one_way"}), Malformed, "synctype", "Perhaps you meant \"sync_type\"."),
        (
            json!({"feild_mappings": []}),
            Malformed,
            "feild_mappings",
            "Perhaps you meant \"field_mappings\".",
        ),
        (json!({"batch_size": 5}), Malformed, "batch_size", "belongs in \"performance_settings\"."),
        (
            json!({"performance_settings": {"capture": true}}),
            Malformed,
            "performance_settings.capture",
            "belongs at the top level",
        ),
        (
            json!({"colour": 1}),
            Malformed,
            "colour",
            "The keys that can stand here are: connection_name, source,",
        ),
        (
            json!({"field_mappings": [{"source": "a", "target": "b"}, {"sorce": "a", "target": "c"}]}),
            Malformed,
            "field_mappings[1].sorce",
            "Perhaps you meant \"source\".",
        ),
        (
            json!({"error_handling": {"retry_strategy": {"max_attemps": 1}}}),
            Malformed,
            "error_handling.retry_strategy.max_attemps",
            "Perhaps you meant \"max_attempts\".",
        ),
        (
            json!({"monitoring": {"log_lvl": "info"}}),
            Malformed,
            "monitoring.log_lvl",
            "\"log_level\"",
        ),
        (
            json!({"odd \"key\"": 1}),
            Malformed,
            "\"odd \\\"key\\\"\"",
            "The keys that can stand here",
        ),
        (
            json!({"source": {"tabel": "a"}}),
            Malformed,
            "source.tabel",
            "Perhaps you meant \"table\".",
        ),
    ]);
}

#[test]
fn an_unknown_value_is_refused_with_the_values_that_are_served() {
    refuse(vec![
        (
            json!({"sync_type": "two_way"}),
            Malformed,
            "sync_type",
            "The values are: \"one_way\", \"bidirectional\".",
        ),
        (
            json!({"sync_type": "Bidirectional"}),
            Malformed,
            "sync_type",
            "Perhaps you meant \"bidirectional\".",
        ),
        (
            json!({"conflict_resolution": "lastwritewins"}),
            Malformed,
            "conflict_resolution",
            "\"last_write_wins\"",
        ),
        (
            json!({"conflict_resolution": {"strategy": "newest"}}),
            Malformed,
            "conflict_resolution.strategy",
            "The values are: \"last_write_wins\", \"system_priority\", \"field_level_priority\", \"manual\", \"function\".",
        ),
        (
            json!({"initial_sync": {"strategy": "full"}}),
            Malformed,
            "initial_sync.strategy",
            "The values are: \"full_load\", \"none\", \"match_only\".",
        ),
        (
            json!({"ongoing_sync": {"mode": "realtime"}}),
            Malformed,
            "ongoing_sync.mode",
            "\"real_time\"",
        ),
        (json!({"field_selection": "some"}), Malformed, "field_selection", "\"explicit\", \"all\""),
        (
            json!({"performance_settings": {"change_detection": "cdc"}}),
            Malformed,
            "performance_settings.change_detection",
            "\"database_triggers\"",
        ),
        (
            json!({"error_handling": {"fallback": {"action": "queue"}}}),
            Malformed,
            "error_handling.fallback.action",
            "\"queue_for_manual_review\"",
        ),
        (
            json!({"error_handling": {"notification": {"channels": ["slack", "fax"]}}}),
            Malformed,
            "error_handling.notification.channels[1]",
            "\"slack\", \"email\"",
        ),
        (
            json!({"monitoring": {"metrics": ["latancy"]}}),
            Malformed,
            "monitoring.metrics[0]",
            "meant \"latency\"",
        ),
        (
            json!({"monitoring": {"log_level": "loud"}}),
            Malformed,
            "monitoring.log_level",
            "\"debug\", \"info\"",
        ),
        (
            json!({"mapping_options": {"handle_nulls": "drop"}}),
            Malformed,
            "mapping_options.handle_nulls",
            "\"preserve\"",
        ),
        (
            json!({"field_mappings": [{"source": "a", "target": "b", "direction": "both"}]}),
            Malformed,
            "field_mappings[0].direction",
            "\"source_to_target\", \"target_to_source\", \"bidirectional\"",
        ),
        (
            json!({"validation_rules": [{"field": "a", "rule": "mail"}]}),
            Malformed,
            "validation_rules[0].rule",
            "\"email_format\"",
        ),
    ]);
}

#[test]
fn a_text_without_end_is_refused_by_its_key() {
    let long = "x".repeat(65_537);
    let mut doc = base();
    doc["where"] = json!(long);
    refuse_document(&doc, Malformed, "where", "make a function");
    let mut doc = base();
    doc["field_mappings"] = json!([{"source": "a", "target": "b", "transformation": long}]);
    refuse_document(&doc, Malformed, "field_mappings[0].transformation", "make a function");
    assert!(read(&patched(json!({"where": "x".repeat(65_536)}))).is_ok());
}

#[test]
fn outcomes_are_never_mixed() {
    let malformed_last = json!({"source": {"connection": "nowhere", "object": "a"}, "captrue": 1});
    refuse(vec![(malformed_last, Malformed, "captrue", "\"capture\"")]);
    let both_sides =
        json!({"source": {"connection": "nowhere", "object": "a"}, "target": {"table": "1"}});
    refuse(vec![(both_sides, Malformed, "target.table", "double quotes")]);
    let unknown = json!({"source": {"connection": "nowhere", "object": "a"}});
    refuse(vec![(unknown, Unknown, "source.connection", "sync.create_connection")]);
}

#[test]
fn whole_documents_of_the_wrong_shape_are_refused() {
    for doc in [json!(null), json!([]), json!("x"), json!(1), json!(true)] {
        refuse_document(&doc, Malformed, "$", "For example: ");
    }
    refuse_document(&json!({"source": "a\0"}), Malformed, "source", "Remove the character.");
    let deep = (0..100).fold(json!(1), |value, _| json!([value]));
    assert_eq!(read(&json!({"where": deep})).map_err(|error| error.kind), Err(Malformed));
}
