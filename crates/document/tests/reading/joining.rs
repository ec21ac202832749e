//! Joining and changing documents.

use document::{ErrorKind, join_create, merge_patch};
use serde_json::{Value, json};

#[test]
fn pieces_are_joined_in_depth_and_sync_settings_is_opened_out() {
    let joined = join_create(&[
        json!({"source": {"type": "postgres"}, "sync_settings": {"sync_type": "bidirectional"}}),
        json!({"source": {"table": "a"}, "sync_type": "bidirectional", "performance_settings": {"batch_size": 5}}),
        json!({"performance_settings": {"batch_size": 5.0, "parallelism": 2}}),
        json!({}),
    ]);
    let expected = json!({
        "source": {"type": "postgres", "table": "a"},
        "sync_type": "bidirectional",
        "performance_settings": {"batch_size": 5, "parallelism": 2},
    });
    assert_eq!(joined, Ok(expected));
}

#[test]
fn a_key_with_two_values_is_refused_with_both_places() {
    let cases = [
        (
            vec![json!({"a": {"b": 1}}), json!({"c": 1}), json!({"a": {"b": 2}})],
            "a.b",
            "One stands at a.b in piece 1, another at a.b in piece 3.",
        ),
        (
            vec![json!({"capture": true, "sync_settings": {"capture": false}})],
            "capture",
            "One stands at capture in piece 1, another at sync_settings.capture in piece 1.",
        ),
        (
            vec![json!({"sync_settings": {"a": {"b": []}}}), json!({"a": {"b": {}}})],
            "a.b",
            "One stands at sync_settings.a.b in piece 1, another at a.b in piece 2.",
        ),
        (
            vec![
                json!({"a": {}}),
                json!({"a": {"b": {"c": [1]}}}),
                json!({"a": {"b": {"c": [1, 2]}}}),
            ],
            "a.b.c",
            "One stands at a.b.c in piece 2, another at a.b.c in piece 3.",
        ),
        (
            vec![json!({"a": null}), json!({"a": 1})],
            "a",
            "One stands at a in piece 1, another at a in piece 2.",
        ),
    ];
    for (pieces, path, detail) in cases {
        let error = join_create(&pieces).expect_err(path);
        assert_eq!((error.kind, error.path.as_str()), (ErrorKind::Malformed, path));
        assert_eq!(error.detail, detail);
        assert_eq!(error.message, format!("two different values for \"{path}\""));
    }
}

#[test]
fn what_is_no_piece_is_refused() {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!({"a": deep});
    }
    let cases: [(Vec<Value>, &str, &str); 12] = [
        (vec![], "$", "the configuration document is empty"),
        (vec![json!({})], "$", "the configuration document is empty"),
        (vec![json!({"sync_settings": {}})], "$", "the configuration document is empty"),
        (
            vec![json!({}), json!([])],
            "$",
            "piece 2 of the configuration document must be an object",
        ),
        (vec![json!(null)], "$", "piece 1 of the configuration document must be an object"),
        (vec![json!("x")], "$", "piece 1 of the configuration document must be an object"),
        (vec![json!({"sync_settings": 1})], "sync_settings", "\"sync_settings\" must be an object"),
        (
            vec![json!({"sync_settings": null})],
            "sync_settings",
            "\"sync_settings\" must be an object",
        ),
        (
            vec![json!({"sync_settings": {"sync_settings": {}}})],
            "sync_settings.sync_settings",
            "\"sync_settings\" must not stand inside itself",
        ),
        (
            vec![json!({"a": ["b", "c\0"]})],
            "a[1]",
            "the value of \"a[1]\" contains a NUL character",
        ),
        (vec![json!({"a\0": 1})], "\"a\\u0000\"", "the name of a key contains a NUL character"),
        (vec![deep], "", "the configuration document is nested too deeply"),
    ];
    for (pieces, path, message) in cases {
        let error = join_create(&pieces).expect_err(message);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Malformed, message));
        assert!(path.is_empty() || error.path == path, "{error:?}");
        assert!(!error.detail.is_empty() && !error.hint.is_empty(), "{error:?}");
        if !pieces.is_empty() && !message.contains("is empty") {
            let error = merge_patch(&json!({"a": 1}), &pieces).expect_err(message);
            assert_eq!(error.message, message);
        }
    }
    let error = merge_patch(&json!({}), &[]).expect_err("no piece");
    assert_eq!(error.message, "no piece of configuration was given");
}

#[test]
fn in_a_patch_later_replaces_earlier_and_null_removes() {
    let doc = json!({"a": {"x": 1, "y": 2}, "b": 1});
    let pieces = [
        json!({"a": {"x": 5}}),
        json!({"a": {"x": 6, "y": null}, "sync_settings": {"c": 3}}),
        json!({}),
    ];
    assert_eq!(merge_patch(&doc, &pieces), Ok(json!({"a": {"x": 6}, "b": 1, "c": 3})));
    assert_eq!(
        merge_patch(&doc, &[json!({"b": null}), json!({"b": null})]),
        Ok(json!({"a": {"x": 1, "y": 2}}))
    );
    let error = merge_patch(&doc, &[json!({"b": 1, "sync_settings": {"b": 2}})])
        .expect_err("contradiction");
    assert_eq!(error.path, "b");
}

#[test]
fn a_later_sync_type_overrides_earlier_flags_that_contradict_it() {
    let one_way =
        json!({"sync_type": "one_way", "source_to_target": true, "target_to_source": false});
    let both_ways =
        json!({"sync_type": "bidirectional", "source_to_target": true, "target_to_source": true});
    let back = json!({"source_to_target": false, "target_to_source": true});
    let cases = [
        (&one_way, json!({"sync_type": "bidirectional"}), json!({"sync_type": "bidirectional"})),
        (&both_ways, json!({"sync_type": "one_way"}), json!({"sync_type": "one_way"})),
        (&both_ways, json!({"sync_type": "bidirectional"}), both_ways.clone()),
        (
            &back,
            json!({"sync_type": "one_way"}),
            json!({"source_to_target": false, "target_to_source": true, "sync_type": "one_way"}),
        ),
        (
            &one_way,
            json!({"sync_type": "bidirectional", "target_to_source": false}),
            json!({"sync_type": "bidirectional", "source_to_target": true, "target_to_source": false}),
        ),
    ];
    for (doc, piece, expected) in cases {
        assert_eq!(
            merge_patch(doc, std::slice::from_ref(&piece)),
            Ok(expected),
            "{doc} patched with {piece}"
        );
    }
}
