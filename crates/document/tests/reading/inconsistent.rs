//! Keys that are right one by one and wrong together: partners that miss, contradictions, names that lead nowhere.

use document::ErrorKind::{Malformed, Unknown};
use serde_json::{Value, json};

use crate::refused::{refuse, refuse_document};
use crate::{patched, read};

#[test]
fn a_missing_partner_is_named() {
    for (doc, path) in [
        (json!({}), "source"),
        (json!({"target": "a"}), "source"),
        (json!({"source": "a"}), "target"),
        (json!({"sync_hub": "local"}), "connected_systems"),
    ] {
        refuse_document(&doc, Malformed, path, "For example: ");
    }
    refuse(vec![
        (
            json!({"connected_systems": [{"system": "crm", "objects": ["a"]}]}),
            Malformed,
            "sync_hub",
            "\"local\"",
        ),
        (
            json!({"field_mappings": [{"source": "a"}]}),
            Malformed,
            "field_mappings[0].target",
            "For example",
        ),
        (
            json!({"field_mappings": [{"target": "a"}]}),
            Malformed,
            "field_mappings[0].source",
            "Name one source",
        ),
        (
            json!({"field_mappings": [{"target": "a", "transformation": "upper"}]}),
            Malformed,
            "field_mappings[0].source",
            "SQL expression",
        ),
        (
            json!({"field_mappings": [{"source": ["a", "b"], "target": "c"}]}),
            Malformed,
            "field_mappings[0].transformation",
            "SQL expression",
        ),
        (
            json!({"field_mappings": [{"source": ["a", "b"], "target": "c", "transformation": "portal.f"}]}),
            Malformed,
            "field_mappings[0].transformation",
            "SQL expression",
        ),
        (
            json!({"field_mappings": [{"target": "c", "transformation": "now()", "reverse": "f(c)"}]}),
            Malformed,
            "field_mappings[0].source",
            "Name the column",
        ),
        (
            json!({"sync_type": "bidirectional", "field_mappings": [{"source": "a", "target": "b", "reverse": "lower"}]}),
            Malformed,
            "field_mappings[0].transformation",
            "Give the transformation",
        ),
        (
            json!({"sync_type": "bidirectional", "field_mappings": [
                {"source": "a", "target": "b", "transformation": "f", "direction": "bidirectional"}]}),
            Malformed,
            "field_mappings[0].reverse",
            "\"direction\": \"source_to_target\"",
        ),
        (
            json!({"target_to_source": true, "field_mappings": [{"source": "a", "target": "b", "transformation": "f"}]}),
            Malformed,
            "field_mappings[0].reverse",
            "Give \"reverse\"",
        ),
        (
            json!({"field_selection": "explicit"}),
            Malformed,
            "include_fields",
            "\"field_selection\": \"all\"",
        ),
        (json!({"match_on": [{"source": "a"}]}), Malformed, "match_on[0].target", "For example"),
        (
            json!({"conflict_resolution": {}}),
            Malformed,
            "conflict_resolution.strategy",
            "\"last_write_wins\"",
        ),
        (
            json!({"conflict_resolution": {"strategy": "field_level_priority"}}),
            Malformed,
            "conflict_resolution.field_rules",
            "For example",
        ),
        (
            json!({"conflict_resolution": {"strategy": "system_priority"}}),
            Malformed,
            "conflict_resolution.priority_system",
            "For example",
        ),
        (
            json!({"validation_rules": [{"field": "a", "rule": "regex"}]}),
            Malformed,
            "validation_rules[0].pattern",
            "For example",
        ),
        (
            json!({"error_handling": {"fallback": {}}}),
            Malformed,
            "error_handling.fallback.action",
            "For example",
        ),
    ]);
}

#[test]
fn contradictions_are_refused() {
    let pair = |one: Value, other: Value| json!({"field_mappings": [one, other]});
    let retry = |strategy: Value| json!({"error_handling": {"retry_strategy": strategy}});
    let polling = json!({"change_detection": "polling"});
    let longest = "error_handling.retry_strategy.max_delay_seconds";
    refuse(vec![
        (
            retry(json!({"initial_delay_seconds": 30, "max_delay_seconds": 10})),
            Malformed,
            longest,
            "at least as long",
        ),
        (retry(json!({"max_delay_seconds": 0.5})), Malformed, longest, "at least as long"),
        (
            json!({"target": {"type": "application"}, "performance_settings": {"rate_limits": {"per_day": 5}}}),
            Malformed,
            "performance_settings.rate_limits",
            "Leave out",
        ),
        (
            json!({"target": {"type": "application"}, "ongoing_sync": {"debounce_seconds": 1}}),
            Malformed,
            "ongoing_sync.debounce_seconds",
            "Leave out",
        ),
        (
            json!({"source": {"table": "a", "key": "id"}}),
            Malformed,
            "source.key",
            "change_detection",
        ),
        (
            json!({"source": "a", "ongoing_sync": {"mode": "polling"}}),
            Malformed,
            "ongoing_sync.mode",
            "change_detection",
        ),
        (
            json!({"source": "a", "sync_type": "bidirectional", "performance_settings": polling}),
            Malformed,
            "performance_settings.change_detection",
            "one_way",
        ),
        (
            json!({"source": {"connection": "crm", "object": "Account"}, "performance_settings": polling}),
            Malformed,
            "performance_settings.change_detection",
            "ongoing_sync",
        ),
        (
            json!({"source": "a", "target": {"type": "application"}, "performance_settings": polling}),
            Malformed,
            "performance_settings.change_detection",
            "Leave it out",
        ),
        (
            json!({"source": "a", "target": {"table": "b", "key": ["id"]}, "performance_settings": polling}),
            Malformed,
            "target.key",
            "Leave it out",
        ),
        (
            json!({"source": "a", "row_function": "f", "performance_settings": polling}),
            Malformed,
            "row_function",
            "change_detection",
        ),
        (
            json!({"source": "a", "ongoing_sync": {"debounce_seconds": 1}, "performance_settings": polling}),
            Malformed,
            "ongoing_sync.debounce_seconds",
            "change_detection",
        ),
        (
            json!({"source": "a", "initial_sync": {"strategy": "none"}, "performance_settings": polling}),
            Malformed,
            "initial_sync.strategy",
            "change_detection",
        ),
        (
            json!({"sync_type": "one_way", "source_to_target": true, "target_to_source": true}),
            Malformed,
            "target_to_source",
            "change \"sync_type\"",
        ),
        (
            json!({"sync_type": "bidirectional", "source_to_target": false}),
            Malformed,
            "source_to_target",
            "Leave out",
        ),
        (
            json!({"sync_type": "bidirectional", "target_to_source": false}),
            Malformed,
            "target_to_source",
            "Leave out",
        ),
        (
            json!({"source_to_target": false, "target_to_source": false}),
            Malformed,
            "target_to_source",
            "sync.pause",
        ),
        (
            pair(json!({"source": "a", "target": "x"}), json!({"source": "b", "target": "x"})),
            Malformed,
            "field_mappings[1].target",
            "Keep one of them",
        ),
        (
            json!({"sync_type": "bidirectional", "field_mappings": [
                {"source": "a", "target": "x"}, {"source": "a", "target": "y"}]}),
            Malformed,
            "field_mappings[1].source",
            "different ways",
        ),
        (
            json!({"field_mappings": [{"source": ["a", "a"], "target": "x", "transformation": "a || a"}]}),
            Malformed,
            "field_mappings[0].source[1]",
            "Remove one",
        ),
        (
            json!({"field_mappings": [{"source": "a", "target": "x", "direction": "target_to_source"}]}),
            Malformed,
            "field_mappings[0].direction",
            "\"sync_type\": \"bidirectional\"",
        ),
        (
            json!({"include_fields": ["a", "b"], "exclude_fields": ["b"]}),
            Malformed,
            "exclude_fields[0]",
            "Keep it in one",
        ),
        (
            json!({"field_mappings": [{"source": "A", "target": "x"}], "include_fields": ["A"], "exclude_fields": ["x"]}),
            Malformed,
            "exclude_fields[0]",
            "Keep it in one",
        ),
        (json!({"include_fields": ["a", "a"]}), Malformed, "include_fields[1]", "Remove one"),
        (
            json!({"field_selection": "all", "include_fields": ["a"]}),
            Malformed,
            "field_selection",
            "\"explicit\"",
        ),
        (
            json!({"field_mappings": [{"source": "a", "target": "x"}], "exclude_fields": ["a"]}),
            Malformed,
            "exclude_fields",
            "Exclude fewer",
        ),
        (json!({"match_on": ["a", "a"]}), Malformed, "match_on[1]", "Remove one"),
        (
            json!({"monitoring": {"log_level": "info", "logging": {"level": "debug"}}}),
            Malformed,
            "monitoring.log_level",
            "keep one",
        ),
        (json!({"target": {"table": "portal.users"}}), Malformed, "target", "two different tables"),
    ]);
}

#[test]
fn a_name_that_is_no_field_or_more_than_one_is_refused() {
    let mapped = |patch: Value| {
        let mut doc = patched(json!({"field_mappings": [
            {"source": "Email", "target": "email"},
            {"source": "Email", "target": "login"},
            {"source": ["First", "Last"], "target": "full_name", "transformation": "First || Last"},
            {"source": "a", "target": "A"},
            {"source": "b", "target": "a"},
        ]}));
        doc["match_on"] = patch;
        doc
    };
    let cases = [
        (json!(["emial"]), "match_on[0]", "Perhaps you meant \"email\"."),
        (json!(["phone"]), "match_on[0]", "name the two fields"),
        (json!(["email", "First"]), "match_on[1]", "Name the two fields"),
    ];
    for (patch, path, hint) in cases {
        refuse_document(&mapped(patch), Malformed, path, hint);
    }
    let patch = json!({"field_mappings": [{"source": "Email", "target": "x"}, {"source": "Email", "target": "y"}]});
    let mut doc = patched(patch);
    doc["include_fields"] = json!(["Email"]);
    refuse_document(&doc, Malformed, "include_fields[0]", "exact name of the target");
    let mut doc = patched(
        json!({"field_mappings": [{"source": "p", "target": "x"}, {"source": "q", "target": "X"}]}),
    );
    doc["exclude_fields"] = json!(["x"]);
    assert!(read(&doc).is_ok());
    doc["exclude_fields"] = json!(["y"]);
    assert!(read(&doc).is_ok());
}

#[test]
fn endpoints_that_make_no_sense_are_refused() {
    let source = |value: Value| json!({"source": null, "target": "b", "the": value});
    let postgres =
        |settings: Value| json!({"type": "postgres", "credentials": settings, "table": "a"});
    let cases = vec![
        (json!(""), Malformed, "source", "For example"),
        (json!("a b"), Malformed, "source", "in double quotes"),
        (json!("a.b.c"), Malformed, "source", "in double quotes"),
        (json!("\"a"), Malformed, "source", "in double quotes"),
        (json!({}), Malformed, "source.table", "\"public.accounts\""),
        (json!({"table": "1a"}), Malformed, "source.table", "in double quotes"),
        (
            json!({"schema": "My Schema", "table": "a"}),
            Malformed,
            "source.schema",
            "in double quotes",
        ),
        (json!({"schema": "x", "table": "y.a"}), Malformed, "source.schema", "once"),
        (json!({"object": "Account"}), Malformed, "source.connection", "\"crm\""),
        (
            json!({"connection": "local", "object": "a"}),
            Malformed,
            "source.object",
            "Write \"table\"",
        ),
        (
            json!({"connection": "local", "type": "salesforce", "table": "a"}),
            Malformed,
            "source.type",
            "Leave out",
        ),
        (json!({"connection": "crm"}), Malformed, "source.object", "\"Account\""),
        (
            json!({"connection": "crm", "object": "a", "table": "a"}),
            Malformed,
            "source.table",
            "Keep the one",
        ),
        (
            json!({"connection": "crm", "type": "netsuite", "object": "a"}),
            Malformed,
            "source.type",
            "Leave out",
        ),
        (
            json!({"connection": "crm", "credentials": {"host": "h"}, "object": "a"}),
            Malformed,
            "source.credentials",
            "Leave out",
        ),
        (
            json!({"credentials": {"host": "h"}, "table": "a"}),
            Malformed,
            "source.type",
            "\"postgres\"",
        ),
        (
            postgres(json!({"host": "h"})),
            Malformed,
            "source.credentials.database",
            "\"customer_data\"",
        ),
        (
            postgres(json!({"hots": "h"})),
            Malformed,
            "source.credentials.hots",
            "Perhaps you meant \"host\".",
        ),
        (
            postgres(json!({"color": "h"})),
            Malformed,
            "source.credentials.color",
            "The keys that can stand here",
        ),
        (postgres(json!({"port": 70000})), Malformed, "source.credentials.port", "5432"),
        (postgres(json!({"port": "5432"})), Malformed, "source.credentials.port", "5432"),
        (postgres(json!({"host": 1})), Malformed, "source.credentials.host", "For example"),
        (
            json!({"connection": "local", "credentials": {"database": "other"}, "table": "a"}),
            Malformed,
            "source.credentials",
            "Leave out",
        ),
        (
            json!({"type": "salesforce", "credentials": {"x": {"y": 1}}, "object": "a"}),
            Malformed,
            "source.credentials.x",
            "For example",
        ),
        (
            postgres(json!({"password": "hunter2"})),
            Malformed,
            "source.credentials.password",
            "sync.set_secret",
        ),
        (
            json!({"type": "salesforce", "credentials": {"clientSecret": "x"}, "object": "a"}),
            Malformed,
            "source.credentials.clientSecret",
            "sync.set_secret",
        ),
        (
            json!({"type": "salesforce", "credentials": {"instance_url": "https://u:p@h"}, "object": "a"}),
            Malformed,
            "source.credentials.instance_url",
            "sync.set_secret",
        ),
        (json!({"password": "x", "table": "a"}), Malformed, "source.password", "sync.set_secret"),
        (
            json!({"connection": "cmr", "object": "a"}),
            Unknown,
            "source.connection",
            "Perhaps you meant \"crm\".",
        ),
        (
            json!({"connection": "payroll", "object": "a"}),
            Unknown,
            "source.connection",
            "sync.create_connection",
        ),
        (
            json!({"connection": "zendesk", "object": "a"}),
            Unknown,
            "source.connection",
            "Name one of them",
        ),
        (json!({"type": "zendesk", "object": "a"}), Unknown, "source.type", "Name one of them"),
    ];
    for (value, kind, path, hint) in cases {
        let mut doc = source(value);
        doc["source"] = doc["the"].take();
        doc.as_object_mut().expect("an object").remove("the");
        refuse_document(&doc, kind, path, hint);
    }
}

#[test]
fn connection_names_that_make_no_sense_are_refused() {
    let doc = |name: &str, source: Value| json!({"connection_name": name, "source": source, "target": "a"});
    let cases = [
        (
            doc("local", json!({"type": "salesforce", "object": "a"})),
            Malformed,
            "connection_name",
            "\"crm\"",
        ),
        (
            doc("crm", json!({"type": "netsuite", "object": "a"})),
            Malformed,
            "source.type",
            "another connection",
        ),
        (
            doc("erp", json!({"connection": "crm", "object": "a"})),
            Malformed,
            "source.connection",
            "keep one",
        ),
        (
            doc("payroll", json!({"object": "a"})),
            Unknown,
            "connection_name",
            "sync.create_connection",
        ),
    ];
    for (doc, kind, path, hint) in cases {
        refuse_document(&doc, kind, path, hint);
    }
}
