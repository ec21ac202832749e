//! What holds for every input.

use document::{Config, Error, ErrorKind, join_create, merge_patch};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{base, context};

/// Any JSON; its keys are often ones that mean something.
fn json_value(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let texts = prop_oneof![
        proptest::sample::select(vec![
            "",
            " ",
            "none",
            "trim",
            "a.b",
            "\"q",
            "5%",
            "bidirectional",
            "local",
            "salesforce",
            "crm",
            "postgres",
            "customer_data",
            "\0",
            "last_write_wins",
            "full_load",
            "a || b",
            "iso8601",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2_i64..100).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        texts.prop_map(Value::from),
    ];
    let key = prop_oneof![9 => proptest::sample::select(keys).prop_map(str::to_owned), 1 => any::<String>()];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const KNOWN: &[&str] = &[
    "connection_name",
    "source",
    "target",
    "sync_type",
    "source_to_target",
    "target_to_source",
    "conflict_resolution",
    "field_mappings",
    "mapping_options",
    "field_selection",
    "include_fields",
    "exclude_fields",
    "match_on",
    "delete_limit",
    "capture",
    "initial_sync",
    "ongoing_sync",
    "performance_settings",
    "error_handling",
    "monitoring",
    "sync_settings",
    "connection",
    "type",
    "credentials",
    "schema",
    "table",
    "object",
    "database",
    "host",
    "port",
    "transformation",
    "reverse",
    "direction",
    "strategy",
    "batch_size",
    "retry_strategy",
    "max_attempts",
    "initial_delay_seconds",
    "validation_rules",
    "rule",
    "field",
    "sync_hub",
    "connected_systems",
    "logging",
    "level",
    "log_level",
];

const FEW: &[&str] = &["a", "b", "c"];

/// Small objects that overlap, with values that are sometimes equal.
fn overlapping() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(json!(1)), Just(json!(2)), Just(json!([1])), Just(Value::Null)];
    let key = || proptest::sample::select(FEW).prop_map(str::to_owned);
    let object = |inner: BoxedStrategy<Value>| {
        btree_map(key(), inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect()))
    };
    let inner = prop_oneof![3 => leaf.clone(), 1 => object(leaf.boxed())];
    object(inner.boxed())
}

fn is_worded(error: &Error) -> bool {
    let sentence =
        |text: &str| text.ends_with(['.', '}']) && !text.starts_with(|c: char| c.is_lowercase());
    !error.path.is_empty()
        && !error.message.is_empty()
        && !error.message.ends_with('.')
        && !error.message.starts_with(|c: char| c.is_ascii_uppercase())
        && !error.detail.is_empty()
        && sentence(&error.hint)
        && ![&error.path, &error.message, &error.detail, &error.hint]
            .iter()
            .any(|text| text.contains('\0'))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_document_panics_and_every_error_is_worded(doc in json_value(KNOWN)) {
        if let Err(error) = Config::read(&doc, &context()) {
            prop_assert!(is_worded(&error), "{error:?}");
        }
    }

    #[test]
    fn no_patch_panics_and_every_error_is_worded(pieces in vec(json_value(KNOWN), 0..3)) {
        match merge_patch(&base(), &pieces) {
            Ok(doc) => {
                if let Err(error) = Config::read(&doc, &context()) {
                    prop_assert!(is_worded(&error), "{error:?}");
                }
            }
            Err(error) => prop_assert!(is_worded(&error), "{error:?}"),
        }
    }

    #[test]
    fn one_random_value_at_any_key_never_panics(at in proptest::sample::select(KNOWN), value in json_value(KNOWN)) {
        let mut doc = base();
        doc[at] = value;
        if let Err(error) = Config::read(&doc, &context()) {
            prop_assert!(is_worded(&error), "{error:?}");
        }
    }

    #[test]
    fn joining_does_not_depend_on_the_order(
        (pieces, shuffled) in vec(overlapping(), 1..5).prop_flat_map(|pieces| (Just(pieces.clone()), Just(pieces).prop_shuffle()))
    ) {
        match (join_create(&pieces), join_create(&shuffled)) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (Err(one), Err(other)) => prop_assert_eq!((one.kind, other.kind), (ErrorKind::Malformed, ErrorKind::Malformed)),
            (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
        }
    }

    #[test]
    fn joining_keeps_every_key_of_every_piece(pieces in vec(overlapping(), 1..4)) {
        fn contains(whole: &Value, part: &Value) -> bool {
            match (whole, part) {
                (Value::Object(whole), Value::Object(part)) => {
                    part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
                }
                _ => whole == part,
            }
        }
        if let Ok(joined) = join_create(&pieces) {
            for piece in &pieces {
                prop_assert!(contains(&joined, piece), "{joined} lost a part of {piece}");
            }
        }
    }

    #[test]
    fn applying_a_patch_again_changes_nothing(doc in overlapping(), patch in overlapping()) {
        let once = merge_patch(&doc, std::slice::from_ref(&patch)).expect("objects");
        let twice = merge_patch(&once, &[patch]).expect("objects");
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_credential_never_shows_in_an_error(secret in "[A-Z]{12}", key in proptest::sample::select(vec![
        "password", "client_secret", "access_token", "private_key", "hsot", "port", "nested",
    ])) {
        let mut settings = Map::new();
        settings.insert("database".into(), json!("customer_data"));
        settings.insert(key.into(), if key == "nested" { json!({"password": secret}) } else { json!(secret) });
        let source = json!({"type": "postgres", "credentials": settings, "table": "a"});
        let doc = json!({"source": source, "target": "b"});
        let error = Config::read(&doc, &context()).expect_err("refused");
        prop_assert!(!format!("{error:?}").contains(&secret), "{error:?}");
    }
}
