//! Fifteen documents as they are found in the wild, F1 to F15, and what comes of each.

use document::{
    Builtin, Check, Config, DeleteLimit, Direction, Endpoint, Error, ErrorKind, Notice, OnInvalid,
    Severity, TableName, Transform, ValidationRule,
};
use document::{join_create, merge_patch};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{base, context, patched, read};

const F1: &str = include_str!("../fragments/F1.json");
const F2: &str = include_str!("../fragments/F2.json");
pub(crate) const F3: &str = include_str!("../fragments/F3.json");
const F4: &str = include_str!("../fragments/F4.json");
const F5: &str = include_str!("../fragments/F5.json");
const F6: &str = include_str!("../fragments/F6.json");
const F7: &str = include_str!("../fragments/F7.json");
const F8: &str = include_str!("../fragments/F8.json");
const F9: &str = include_str!("../fragments/F9.json");
const F10: &str = include_str!("../fragments/F10.json");
const F11: &str = include_str!("../fragments/F11.json");
const F12: &str = include_str!("../fragments/F12.json");
const F13: &str = include_str!("../fragments/F13.json");
const F14: &str = include_str!("../fragments/F14.json");
const F15: &str = include_str!("../fragments/F15.json");

fn fragment(text: &str) -> Value {
    serde_json::from_str(text).expect("a fragment is JSON")
}

/// What comes of a fragment laid over a sync of two tables.
fn altered(text: &str) -> Result<(Config, Vec<Notice>), Error> {
    read(&patched(fragment(text)))
}

fn accepted(text: &str) -> (Config, Vec<Notice>) {
    altered(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

#[test]
fn f1_then_f2_turn_a_one_way_sync_into_a_two_way_one() {
    assert_eq!(accepted(F1).0.direction, Direction::SourceToTarget);
    assert_eq!(accepted(F2).0.direction, Direction::TwoWay);
    let doc = merge_patch(&base(), &[fragment(F1)]).expect("F1");
    let doc = merge_patch(&doc, &[fragment(F2)]).expect("F2 after F1");
    let (config, notices) = read(&doc).expect("F1 and F2");
    assert_eq!((config.direction, notices), (Direction::TwoWay, vec![]));
    let doc = merge_patch(&doc, &[fragment(F1)]).expect("F1 after F2");
    assert_eq!(read(&doc).expect("back to one way").0.direction, Direction::SourceToTarget);
}

#[test]
fn f4_brings_phone_numbers_into_one_form() {
    let fields = accepted(F4).0.fields.mapped;
    let of: Vec<_> = fields.iter().map(|field| (field.target.as_str(), &field.transform)).collect();
    let phone = Transform::Builtin(Builtin::FormatPhone);
    let expected =
        [("client_id", &Transform::None), ("full_name", &Transform::None), ("phone", &phone)];
    assert_eq!(of, expected);
}

#[test]
fn f9_asks_for_addresses_and_numbers_of_a_form() {
    let (config, notices) = accepted(F9);
    let pattern = r"^\+[1-9]\d{1,14}$".to_owned();
    let rule =
        |field: &str, check, on_error| ValidationRule { field: field.into(), check, on_error };
    let expected = vec![
        rule("email", Check::EmailFormat, OnInvalid::RejectRecord),
        rule("phone", Check::Regex(pattern), OnInvalid::StandardizeFormat),
    ];
    assert_eq!((config.rules, notices), (expected, vec![]));
}

#[test]
fn f11_says_how_often_a_record_may_come_back() {
    let (config, notices) = accepted(F11);
    let limit = config.loop_prevention.expect("enabled");
    assert_eq!((limit.returns, limit.window.as_secs(), notices), (2, 60, vec![]));
    let (config, _) = altered(r#"{"loop_prevention": {"enabled": false}}"#).expect("off");
    assert_eq!(config.loop_prevention, None);
}

#[test]
fn f5_gives_each_field_the_side_that_speaks_for_its_system() {
    use document::Authority::{LastUpdated, Source, Target};
    let rules = |ends: Value| {
        let doc = merge_patch(&ends, &[fragment(F5)]).expect("F5");
        read(&doc).map(|(config, _)| {
            assert_eq!(config.conflicts.authority, LastUpdated, "of the fields without a rule");
            let rules = config.conflicts.rules;
            rules.into_iter().map(|rule| (rule.field, rule.authority)).collect::<Vec<_>>()
        })
    };
    let named = |authorities: [document::Authority; 3]| {
        let fields = ["email", "billing_address", "phone"].map(str::to_owned);
        fields.into_iter().zip(authorities).collect::<Vec<_>>()
    };
    let crm = json!({"connection": "crm", "object": "Account"});
    // The ERP, which syncs the same table, is heard through it.
    let found = rules(json!({"source": crm, "target": "public.accounts"}));
    assert_eq!(found.expect("rules"), named([Source, Target, LastUpdated]));
    let found = rules(json!({"source": "public.accounts", "target": crm}));
    assert_eq!(found.expect("rules"), named([Target, Source, LastUpdated]));
    // Schemas are systems to each other.
    let found = rules(json!({"source": "erp.customers", "target": "crm.accounts"}));
    assert_eq!(found.expect("rules"), named([Target, Source, LastUpdated]));
    let error = rules(base()).expect_err("no side speaks for it");
    assert_eq!(error.path, "conflict_resolution.field_rules[0].priority_system");
    assert!(error.detail.contains("\"portal\", \"salesforce\""), "{error:?}");
}

#[test]
fn f6_sets_retries_and_keeps_the_notification_with_a_warning() {
    let (config, notices) = accepted(F6);
    assert_eq!((config.retry.max_attempts, config.retry.backoff_factor), (5, 1.5));
    assert_eq!(config.retry.initial_delay, Duration::from_secs(30));
    assert_eq!(config.kept["error_handling.notification"]["threshold"], "critical");
    assert_eq!(notices.len(), 1);
    assert_eq!(
        (notices[0].severity, notices[0].path.as_str()),
        (Severity::Warning, "error_handling.notification")
    );
}

#[test]
fn f7_sets_how_much_is_done_at_once_and_asks_for_advice() {
    let (config, notices) = accepted(F7);
    assert_eq!((config.batch_size, config.parallelism, notices), (1000, Some(5), vec![]));
    assert!(config.index_recommendation);
}

#[test]
fn f8_selects_fields_of_equal_name() {
    let (config, notices) = accepted(F8);
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let alike = config.fields.alike.expect("by their names");
    let expected = names(&["Id", "Name", "Email", "Phone", "LastModifiedDate"]);
    assert_eq!((config.fields.mapped, alike.include), (vec![], Some(expected)));
    let expected = names(&["CreatedById", "Internal_Notes__c", "SystemModstamp"]);
    assert_eq!((alike.exclude, notices), (expected, vec![]));
}

#[test]
fn f10_is_kept_with_a_warning() {
    let (config, notices) = accepted(F10);
    assert_eq!(config.kept["monitoring"], fragment(F10)["monitoring"]);
    assert_eq!((notices.len(), notices[0].severity), (1, Severity::Warning));
}

#[test]
fn f12_to_f15_in_one_call_describe_a_sync_with_another_system() {
    let pieces = [F12, F13, F14, F15].map(fragment);
    let joined = join_create(&pieces).expect("the fragments fit together");
    let (config, notices) = read(&joined).expect("all of it is served");
    assert_eq!(config.timestamp_field.as_deref(), Some("LastModifiedDate"));
    let Endpoint::Remote(source) = &config.source else { panic!("{:?}", config.source) };
    assert_eq!(source.connection.as_deref(), Some("SF_Postgres_Accounts"));
    assert!(!source.exists);
    assert_eq!((source.system.as_str(), source.object.as_str()), ("salesforce", "Account"));
    assert_eq!(source.settings["instance_url"], "https://yourinstance.salesforce.com");
    let table = TableName { schema: Some("public".into()), name: "accounts".into() };
    assert_eq!(config.target, Endpoint::Local(table));
    assert_eq!(config.direction, Direction::TwoWay);
    assert_eq!(config.polling_interval, Some(Duration::from_secs(30)));
    assert_eq!(
        (config.retry.max_attempts, config.retry.initial_delay),
        (3, Duration::from_secs(1))
    );
    assert_eq!(
        config.kept.keys().collect::<Vec<_>>(),
        ["error_handling.notifications", "monitoring"]
    );
    let fields = &config.fields.mapped;
    assert_eq!(fields.len(), 5);
    assert!(fields.iter().all(|field| field.direction == Direction::TwoWay));
    assert_eq!(config.delete_limit, None::<DeleteLimit>);
    let at: Vec<_> = notices.iter().map(|notice| notice.path.as_str()).collect();
    assert_eq!(at, ["target.credentials", "error_handling.notifications"]);
}

#[test]
fn f12_read_in_another_database_has_no_table_there() {
    let context = document::Context { database: "elsewhere".into(), ..context() };
    let error = Config::read(&fragment(F12), &context).expect_err("two remotes");
    assert_eq!((error.kind, error.path.as_str()), (ErrorKind::Malformed, "target"));
    assert!(error.detail.contains("\"elsewhere\""), "{error:?}");
}

#[test]
fn f13_maps_fields_of_different_names() {
    let fields = accepted(F13).0.fields.mapped;
    let pairs: Vec<_> =
        fields.iter().map(|field| (field.sources[0].as_str(), field.target.as_str())).collect();
    assert_eq!(pairs[..2], [("Id", "sf_id"), ("Name", "account_name")]);
    assert_eq!(pairs.len(), 5);
}

#[test]
fn f15_sets_retries_and_keeps_the_rest_with_one_warning() {
    let (config, notices) = accepted(F15);
    assert_eq!(config.retry.max_attempts, 3);
    assert_eq!(config.kept["error_handling.notifications"]["slack"], "#data-sync-alerts");
    assert_eq!(notices.len(), 1);
    assert!(notices[0].detail.contains("error_handling.notifications, monitoring"), "{notices:?}");
}
