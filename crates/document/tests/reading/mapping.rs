//! How values are converted, what they have to be like, and which records take part.

use document::ErrorKind::Malformed;
use document::{Check, Nulls, OnDelete, OnExit, OnInvalid, TimestampFormat, ValidationRule};
use serde_json::{Value, json};

use crate::{patched, read};

fn accepted(patch: Value) -> document::Config {
    let doc = patched(patch);
    read(&doc).unwrap_or_else(|error| panic!("{doc}: {error:?}")).0
}

/// The path of the key that is refused, and what the hint says to do.
fn refused(cases: Vec<(Value, &str, &str)>) {
    for (patch, path, hint) in cases {
        let error = read(&patched(patch.clone())).expect_err(&patch.to_string());
        assert_eq!((error.kind, error.path.as_str()), (Malformed, path), "{patch}: {error:?}");
        assert!(!error.message.is_empty() && !error.detail.is_empty(), "{error:?}");
        assert!(error.hint.contains(hint), "{patch}: {error:?}");
    }
}

fn mapped(options: Value) -> Value {
    json!({
        "field_mappings": [{"source": "a", "target": "b", "default": 5, "required": true}],
        "mapping_options": options,
    })
}

#[test]
fn mapping_options_are_read() {
    let options = accepted(mapped(json!({
        "handle_nulls": "default",
        "timestamp_format": "DD.MM.YYYY HH24:MI",
        "time_zone": "Europe/Zurich",
        "phone_region": "CH",
    })));
    let mapping = options.mapping;
    assert_eq!(mapping.nulls, Nulls::Default);
    let picture = TimestampFormat::Picture("DD.MM.YYYY HH24:MI".into());
    assert_eq!(mapping.timestamp_format, Some(picture));
    assert_eq!(mapping.time_zone.as_deref(), Some("Europe/Zurich"));
    assert_eq!(mapping.phone_region.as_deref(), Some("CH"));
    let fields = options.fields.mapped;
    assert_eq!((fields[0].default.as_deref(), fields[0].required), (Some("5"), true));
    for (text, format) in
        [("iso8601", TimestampFormat::Iso8601), ("epoch_ms", TimestampFormat::EpochMs)]
    {
        let read = accepted(mapped(json!({"timestamp_format": text}))).mapping;
        assert_eq!((read.timestamp_format, read.nulls), (Some(format), Nulls::Preserve));
    }
    let ignoring = accepted(json!({"mapping_options": {"handle_nulls": "ignore"}}));
    assert_eq!(ignoring.mapping.nulls, Nulls::Ignore);
}

#[test]
fn mapping_options_that_make_no_sense_are_refused() {
    let mapping = |key: &str, value: Value| json!({"field_mappings": [{"source": "a", "target": "b", key: value}]});
    refused(vec![
        (
            json!({"mapping_options": {"handle_nulls": "default"}}),
            "mapping_options.handle_nulls",
            "\"default\"",
        ),
        (mapped(json!({"phone_region": "ch"})), "mapping_options.phone_region", "\"CH\""),
        (mapped(json!({"phone_region": "Switzerland"})), "mapping_options.phone_region", "\"CH\""),
        (mapped(json!({"handle_nulls": "drop"})), "mapping_options.handle_nulls", "\"ignore\""),
        (mapped(json!({"time_zone": 1})), "mapping_options.time_zone", "For example"),
        (
            mapped(json!({"timestamp_format": ""})),
            "mapping_options.timestamp_format",
            "For example",
        ),
        (mapping("default", json!([1])), "field_mappings[0].default", "column"),
        (mapping("default", json!(null)), "field_mappings[0].default", "Leave the key out"),
        (mapping("required", json!("yes")), "field_mappings[0].required", "For example"),
    ]);
}

#[test]
fn rules_are_read() {
    let rules = accepted(json!({"validation_rules": [
        {"field": "a", "rule": "length", "max": 80},
        {"field": "b", "rule": "range", "min": 0, "max": "100.5", "on_error": "set_null"},
        {"field": "c", "rule": "allowed_values", "values": ["x", 1, true], "on_error": "warn"},
        {"field": "d", "rule": "condition", "condition": "value > 0"},
    ]}))
    .rules;
    let rule =
        |field: &str, check, on_error| ValidationRule { field: field.into(), check, on_error };
    let expected = vec![
        rule("a", Check::Length { min: None, max: Some(80) }, OnInvalid::RejectRecord),
        rule(
            "b",
            Check::Range { min: Some("0".into()), max: Some("100.5".into()) },
            OnInvalid::SetNull,
        ),
        rule(
            "c",
            Check::AllowedValues(vec!["x".into(), "1".into(), "true".into()]),
            OnInvalid::Warn,
        ),
        rule("d", Check::Condition("value > 0".into()), OnInvalid::RejectRecord),
    ];
    assert_eq!(rules, expected);
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let rule = |rest: Value| {
        let mut rule = json!({"field": "a"});
        rule.as_object_mut().expect("an object").extend(rest.as_object().cloned().expect("one"));
        json!({"validation_rules": [rule]})
    };
    refused(vec![
        (rule(json!({"rule": "regexp"})), "validation_rules[0].rule", "\"regex\""),
        (rule(json!({"rule": "regex"})), "validation_rules[0].pattern", "For example"),
        (rule(json!({"rule": "condition"})), "validation_rules[0].condition", "For example"),
        (rule(json!({"rule": "allowed_values"})), "validation_rules[0].values", "For example"),
        (
            rule(json!({"rule": "allowed_values", "values": []})),
            "validation_rules[0].values",
            "For example",
        ),
        (
            rule(json!({"rule": "allowed_values", "values": [{}]})),
            "validation_rules[0].values[0]",
            "column",
        ),
        (rule(json!({"rule": "length"})), "validation_rules[0].min", "both"),
        (rule(json!({"rule": "range"})), "validation_rules[0].min", "both"),
        (rule(json!({"rule": "length", "max": -1})), "validation_rules[0].max", "80"),
        (rule(json!({"rule": "length", "max": "x"})), "validation_rules[0].max", "80"),
        (
            rule(json!({"rule": "length", "min": 2, "max": 1})),
            "validation_rules[0].max",
            "Exchange",
        ),
        (
            rule(json!({"rule": "range", "min": 2, "max": 1.5})),
            "validation_rules[0].max",
            "Exchange",
        ),
        (rule(json!({"rule": "range", "min": []})), "validation_rules[0].min", "column"),
        (
            rule(json!({"rule": "email_format", "pattern": "x"})),
            "validation_rules[0].pattern",
            "Leave",
        ),
        (
            rule(json!({"rule": "email_format", "on_error": "reject"})),
            "validation_rules[0].on_error",
            "reject_record",
        ),
        (
            rule(json!({"rule": "range", "min": 1, "on_error": "standardize_format"})),
            "validation_rules[0].on_error",
            "set_null",
        ),
        (
            json!({"validation_rules": [{"rule": "email_format"}]}),
            "validation_rules[0].field",
            "For example",
        ),
    ]);
}

#[test]
fn filters_are_read() {
    let filter = accepted(json!({
        "sync_type": "bidirectional",
        "where": "active",
        "target_where": "not hidden",
        "two_way_where": "region = 'EU'",
        "on_filter_exit": "release",
    }))
    .filter;
    assert_eq!(filter.sides, [Some("active".to_owned()), Some("not hidden".to_owned())]);
    assert_eq!(filter.keys, ["where", "target_where"]);
    assert_eq!(filter.two_way.as_deref(), Some("region = 'EU'"));
    assert_eq!(filter.on_exit, OnExit::Release);
    // Over the table of this database.
    let source = json!({"connection": "crm", "object": "Account"});
    let filter = accepted(json!({"source": source, "where": "active"})).filter;
    assert_eq!((filter.sides[1].as_deref(), filter.keys[1]), (Some("active"), "where"));
    assert!(!filter.is_empty() && accepted(json!({})).filter.is_empty());
}

#[test]
fn filters_that_make_no_sense_are_refused() {
    refused(vec![
        (json!({"where": "a", "source_where": "b"}), "where", "Keep one"),
        (json!({"two_way_where": "a"}), "two_way_where", "bidirectional"),
        (json!({"on_filter_exit": "release"}), "on_filter_exit", "Give one"),
        (json!({"where": "a", "on_filter_exit": "drop"}), "on_filter_exit", "\"release\""),
        (json!({"where": " "}), "where", "For example"),
        (
            json!({"target_where": "a", "on_filter_exit": "delete"}),
            "on_filter_exit",
            "bidirectional",
        ),
        (
            json!({"where": "a", "on_filter_exit": "delete", "on_source_delete": "keep"}),
            "on_filter_exit",
            "\"release\"",
        ),
        (
            json!({"sync_type": "bidirectional", "target_where": "a", "on_filter_exit": "delete",
                "on_target_delete": "keep"}),
            "on_filter_exit",
            "\"on_target_delete\"",
        ),
    ]);
}

#[test]
fn what_becomes_of_rows_that_leave_the_filter_is_read() {
    for more in [
        json!({"where": "a"}),
        json!({"sync_type": "bidirectional", "target_where": "a"}),
        // Each is of what the other filter never asks.
        json!({"sync_type": "bidirectional", "target_where": "a", "on_source_delete": "keep"}),
        json!({"where": "a", "on_source_delete": {"action": "mark", "column": "gone"}}),
        json!({"source_where": "a", "target_where": "b"}),
    ] {
        let mut document = more;
        document["on_filter_exit"] = json!("delete");
        assert_eq!(accepted(document).filter.on_exit, OnExit::Delete);
    }
}

#[test]
fn what_becomes_of_deletes_is_read() {
    let policies = accepted(json!({
        "sync_type": "bidirectional",
        "on_source_delete": {"action": "mark", "column": "gone"},
        "on_target_delete": "keep",
    }))
    .on_delete;
    assert_eq!(policies, [OnDelete::Mark { column: "gone".into() }, OnDelete::Keep]);
    let policies = accepted(json!({"on_source_delete": {"action": "delete"}})).on_delete;
    assert_eq!(policies, [OnDelete::Delete, OnDelete::Delete]);
    refused(vec![
        (json!({"on_source_delete": "mark"}), "on_source_delete.column", "\"column\""),
        (json!({"on_source_delete": {"action": "mark"}}), "on_source_delete.column", "\"column\""),
        (
            json!({"on_source_delete": {"action": "keep", "column": "x"}}),
            "on_source_delete.column",
            "\"mark\"",
        ),
        (json!({"on_source_delete": {"column": "x"}}), "on_source_delete.action", "For example"),
        (json!({"on_source_delete": "archive"}), "on_source_delete", "\"keep\""),
        (json!({"on_source_delete": true}), "on_source_delete", "For example"),
        (json!({"on_target_delete": "keep"}), "on_target_delete", "bidirectional"),
        (
            json!({"source_to_target": false, "target_to_source": true, "on_source_delete": "keep"}),
            "on_source_delete",
            "bidirectional",
        ),
    ]);
}

#[test]
fn stamps_are_read() {
    let stamps =
        accepted(json!({"stamp_columns": {"synced_at": "last_sync", "error": "why"}})).stamps;
    let named: Vec<_> = stamps.named().map(|(stamp, column)| (stamp, column.as_str())).collect();
    assert_eq!(named, [("synced_at", "last_sync"), ("error", "why")]);
    refused(vec![
        (json!({"stamp_columns": {}}), "stamp_columns.synced_at", "at least one"),
        (json!({"stamp_columns": {"synced_at": 1}}), "stamp_columns.synced_at", "For example"),
        (json!({"stamp_columns": {"last_sync": "x"}}), "stamp_columns.last_sync", "synced_at"),
        (json!({"stamp_columns": {"state": "x", "error": "x"}}), "stamp_columns", "of its own"),
    ]);
}

#[test]
fn what_becomes_of_edits_of_the_target_is_read() {
    use document::OnTargetEdit::{Keep, Overwrite, Report};
    for (text, policy) in [("overwrite", Overwrite), ("keep", Keep), ("report", Report)] {
        assert_eq!(accepted(json!({"on_target_edit": text})).on_target_edit, policy);
    }
    refused(vec![
        (json!({"on_target_edit": "undo"}), "on_target_edit", "\"overwrite\""),
        (
            json!({"sync_type": "bidirectional", "on_target_edit": "keep"}),
            "on_target_edit",
            "conflict_resolution",
        ),
    ]);
}

#[test]
fn what_becomes_of_rows_that_differ_is_read_from_either_place() {
    use document::OnDifference::{Report, Source, Target};
    for (text, policy) in [("source", Source), ("target", Target), ("report", Report)] {
        for doc in
            [json!({"on_difference": text}), json!({"initial_sync": {"on_difference": text}})]
        {
            assert_eq!(accepted(doc).on_difference, Some(policy));
        }
    }
    refused(vec![
        (json!({"on_difference": "newer"}), "on_difference", "\"source\""),
        (
            json!({"on_difference": "source", "initial_sync": {"on_difference": "target"}}),
            "initial_sync.on_difference",
            "keep one",
        ),
    ]);
}
