//! What well-formed documents come to.

use std::time::Duration;

use document::{
    Alike, Authority, Builtin, Config, Conflicts, DeleteLimit, Direction, Endpoint, Field, Fields,
    InitialSync, MatchField, Notice, Remote, Retry, SchemaPolicy, Severity, TableName, Transform,
};
use serde_json::{Map, Value, json};

use crate::{base, patched, read};

fn accept(patch: Value) -> (Config, Vec<Notice>) {
    let doc = patched(patch);
    read(&doc).unwrap_or_else(|error| panic!("{doc}: {error:?}"))
}

fn table(schema: Option<&str>, name: &str) -> Endpoint {
    Endpoint::Local(TableName { schema: schema.map(str::to_owned), name: name.to_owned() })
}

fn fields(patch: Value) -> (Vec<Field>, Vec<Notice>) {
    match accept(patch) {
        (Config { fields: Fields { mapped, .. }, .. }, notices) if !mapped.is_empty() => {
            (mapped, notices)
        }
        (config, _) => panic!("{:?}", config.fields),
    }
}

#[test]
fn the_least_document_has_all_defaults() {
    let (config, notices) = read(&base()).expect("the least document");
    let expected = Config {
        identity: None,
        conflicts: Conflicts {
            authority: Authority::LastUpdated,
            rules: vec![],
            groups: vec![],
            strict: false,
            deletes: None,
        },
        timestamp_field: None,
        source: table(Some("portal"), "users"),
        target: table(Some("salesforce"), "account"),
        direction: Direction::SourceToTarget,
        fields: Fields { mapped: vec![], alike: Some(Alike { include: None, exclude: vec![] }) },
        mapping: document::MappingOptions::default(),
        rules: vec![],
        filter: document::RowFilter {
            keys: ["source_where", "target_where"],
            ..document::RowFilter::default()
        },
        on_difference: None,
        on_delete: [document::OnDelete::Delete, document::OnDelete::Delete],
        on_target_edit: document::OnTargetEdit::Keep,
        stamps: document::StampColumns::default(),
        match_on: vec![],
        initial: InitialSync::FullLoad,
        retry: Retry {
            max_attempts: 5,
            initial_delay: Duration::from_secs(1),
            backoff_factor: 2.0,
            max_delay: Duration::from_secs(3600),
            jitter: 0.0,
            fallback: document::Fallback::Queue,
        },
        batch_size: 500,
        parallelism: None,
        polling_interval: None,
        polled: [None, None],
        real_time: true,
        priority: 0,
        reconcile_interval: Some(Duration::from_secs(86_400)),
        delete_limit: None,
        row_function: None,
        loop_prevention: Some(document::LoopPrevention::default()),
        rate_limits: document::RateLimits::default(),
        debounce: None,
        index_recommendation: false,
        capture: true,
        schema_policy: SchemaPolicy::Ignore,
        kept: Map::new(),
    };
    assert_eq!((config, notices), (expected, vec![]));
}

#[test]
fn directions_can_be_said_in_two_ways() {
    use Direction::{SourceToTarget, TargetToSource, TwoWay};
    let cases = [
        (json!({"sync_type": "one_way"}), SourceToTarget),
        (json!({"sync_type": "bidirectional"}), TwoWay),
        (
            json!({"sync_type": "bidirectional", "source_to_target": true, "target_to_source": true}),
            TwoWay,
        ),
        (json!({"sync_type": "one_way", "target_to_source": true}), TargetToSource),
        (json!({"sync_type": "one_way", "source_to_target": false}), TargetToSource),
        (json!({"source_to_target": false, "target_to_source": true}), TargetToSource),
        (json!({"source_to_target": true, "target_to_source": true}), TwoWay),
        (json!({"source_to_target": true}), SourceToTarget),
        (json!({"target_to_source": false}), SourceToTarget),
    ];
    for (patch, direction) in cases {
        assert_eq!(accept(patch.clone()).0.direction, direction, "{patch}");
    }
}

#[test]
fn a_first_delay_that_is_long_is_not_cut_short() {
    let (config, _) = read(&patched(
        json!({"error_handling": {"retry_strategy": {"initial_delay_seconds": 7200}}}),
    ))
    .unwrap();
    assert_eq!(config.retry.max_delay, Duration::from_secs(7200));
}

#[test]
fn settings_are_taken_over() {
    let (config, notices) = accept(json!({
        "conflict_resolution": {"strategy": "last_write_wins"},
        "mapping_options": {"handle_nulls": "preserve", "timestamp_format": "iso8601"},
        "initial_sync": {"strategy": "match_only"},
        "ongoing_sync": {"mode": "real_time", "polling_interval_seconds": 30, "reconcile_interval_seconds": 0},
        "performance_settings": {
            "batch_size": 10_000, "parallelism": 64.0, "change_detection": "database_triggers",
            "index_recommendation": false, "rate_limits": {"per_second": 2, "per_day": 5000},
        },
        "error_handling": {
            "retry_strategy": {"max_attempts": 3.0, "initial_delay_seconds": 0.25, "backoff_factor": 1,
                "max_delay_seconds": 60, "jitter": true},
            "fallback": {"action": "skip"},
        },
        "capture": false,
        "schema_changes": "pause",
        "delete_limit": "2.5 %",
    }));
    assert_eq!(notices, []);
    assert_eq!(config.initial, InitialSync::MatchOnly);
    assert_eq!(config.polling_interval, Some(Duration::from_secs(30)));
    assert_eq!(config.reconcile_interval, None);
    assert_eq!((config.batch_size, config.parallelism), (10_000, Some(64)));
    let retry = Retry {
        max_attempts: 3,
        initial_delay: Duration::from_millis(250),
        backoff_factor: 1.0,
        max_delay: Duration::from_secs(60),
        jitter: 0.5,
        fallback: document::Fallback::Skip,
    };
    assert_eq!(config.retry, retry);
    let limits = &config.rate_limits;
    assert_eq!((limits.per_second, limits.per_minute, limits.per_day), (Some(2), None, Some(5000)));
    assert!(!config.capture);
    assert_eq!(config.schema_policy, SchemaPolicy::Pause);
    assert_eq!(config.delete_limit, Some(DeleteLimit::Percent(2.5)));
    assert_eq!(accept(json!({"delete_limit": 0})).0.delete_limit, Some(DeleteLimit::Records(0)));
    assert_eq!(accept(json!({"initial_sync": {"strategy": "none"}})).0.initial, InitialSync::None);
}

#[test]
fn keys_without_effect_are_kept_with_one_warning() {
    let (config, notices) = accept(json!({
        "monitoring": {"dashboard_enabled": true, "log_level": "info", "logging": {"level": "info"}},
        "error_handling": {"notification": {"threshold": "critical"}, "notifications": {"email": "a@example.com"}},
    }));
    let kept: Vec<_> = config.kept.keys().map(String::as_str).collect();
    assert_eq!(kept.len(), 3);
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].severity, Severity::Warning);
    for key in ["monitoring", "error_handling.notification", "error_handling.notifications"] {
        assert!(kept.contains(&key) && notices[0].detail.contains(key), "{key}");
    }
}

#[test]
fn tables_of_this_database_can_be_named_in_many_ways() {
    let here = json!({"host": "h", "port": 5432, "database": "customer_data"});
    let cases = [
        (json!("accounts"), table(None, "accounts"), 0),
        (json!("Public.Accounts"), table(Some("public"), "accounts"), 0),
        (json!("\"My Schema\".\"t.x\""), table(Some("My Schema"), "t.x"), 0),
        (json!({"table": "a.b"}), table(Some("a"), "b"), 0),
        (json!({"schema": "a", "table": "b"}), table(Some("a"), "b"), 0),
        (json!({"schema": "a", "table": "a.b"}), table(Some("a"), "b"), 0),
        (
            json!({"schema": "\"My Schema\"", "table": "\"x\"\"y\""}),
            table(Some("My Schema"), "x\"y"),
            0,
        ),
        (json!({"connection": "local", "table": "b"}), table(None, "b"), 0),
        (json!({"connection": "local", "type": "postgres", "table": "b"}), table(None, "b"), 0),
        (json!({"connection": "local", "credentials": here, "table": "b"}), table(None, "b"), 1),
        (json!({"type": "postgres", "table": "b"}), table(None, "b"), 0),
        (json!({"type": "PostgreSQL", "credentials": here, "table": "b"}), table(None, "b"), 1),
        (
            json!({"type": "postgres", "credentials": {"database": "customer_data", "schema": "s"}, "table": "b"}),
            table(Some("s"), "b"),
            1,
        ),
    ];
    for (source, expected, notices) in cases {
        let read = read(&json!({"source": source, "target": "other.place"})).expect("well formed");
        assert_eq!((read.0.source, read.1.len()), (expected, notices), "{source}");
        if let [notice] = read.1.as_slice() {
            assert_eq!(
                (notice.severity, notice.path.as_str()),
                (Severity::Notice, "source.credentials")
            );
        }
    }
}

#[test]
fn objects_elsewhere_are_described() {
    let remote = |connection: Option<&str>, exists, system: &str, object: &str| Remote {
        connection: connection.map(str::to_owned),
        exists,
        system: system.to_owned(),
        settings: Map::new(),
        schema: None,
        object: object.to_owned(),
    };
    let cases = [
        (
            json!({"connection": "crm", "object": "Account"}),
            remote(Some("crm"), true, "salesforce", "Account"),
        ),
        (
            json!({"connection": "CRM", "object": "Account"}),
            remote(Some("crm"), true, "salesforce", "Account"),
        ),
        (
            json!({"connection": "netsuite", "object": "X"}),
            remote(Some("erp"), true, "netsuite", "X"),
        ),
        (
            json!({"connection": "erp", "type": "NetSuite", "table": "x.y"}),
            remote(Some("erp"), true, "netsuite", "x.y"),
        ),
        (
            json!({"type": "salesforce", "object": "Account"}),
            remote(Some("crm"), true, "salesforce", "Account"),
        ),
        (json!({"type": "hubspot", "object": "Deal"}), remote(None, false, "hubspot", "Deal")),
    ];
    for (source, expected) in cases {
        let (config, _) = read(&json!({"source": source, "target": "a"})).expect("well formed");
        assert_eq!(config.source, Endpoint::Remote(expected), "{source}");
        assert_eq!(config.source.local(), None);
        assert!(config.target.local().is_some());
    }
    let elsewhere = json!({"type": "postgres", "credentials": {"host": "h", "database": "d"}, "schema": "S", "table": "T"});
    let (config, notices) =
        read(&json!({"source": "a", "target": elsewhere})).expect("well formed");
    let Endpoint::Remote(remote) = config.target else { panic!("{:?}", config.target) };
    assert_eq!(
        (remote.system.as_str(), remote.schema.as_deref(), remote.object.as_str()),
        ("postgres", Some("S"), "T")
    );
    assert_eq!((remote.settings["host"].as_str(), notices), (Some("h"), vec![]));
}

#[test]
fn connection_name_names_the_remote_endpoint() {
    let described =
        json!({"type": "salesforce", "credentials": {"auth_type": "oauth2"}, "object": "Account"});
    for (name, source, connection, exists) in [
        ("sales", described.clone(), "sales", false),
        ("crm", described, "crm", true),
        ("crm", json!({"object": "Account"}), "crm", true),
        ("crm", json!({"connection": "crm", "object": "Account"}), "crm", true),
    ] {
        let doc = json!({"connection_name": name, "source": source, "target": "a"});
        let Endpoint::Remote(remote) = read(&doc).expect("well formed").0.source else {
            panic!("{doc}")
        };
        assert_eq!(
            (remote.connection.as_deref(), remote.exists),
            (Some(connection), exists),
            "{doc}"
        );
    }
    let (_, notices) = accept(json!({"connection_name": "peers"}));
    assert_eq!((notices.len(), notices[0].path.as_str()), (1, "connection_name"));
}

#[test]
fn mappings_say_what_happens_on_the_way() {
    let (fields, notices) = fields(json!({"field_mappings": [
        {"source": "a", "target": "t1"},
        {"source": "b", "target": "t2", "transformation": "Trim"},
        {"source": "c", "target": "t3", "transformation": "portal.clean"},
        {"source": ["d", "e"], "target": "t4", "transformation": "d || ' ' || e"},
        {"target": "t5", "transformation": "pg_catalog.now()"},
        {"source": "f", "target": "t6", "transformation": "upper(f)", "reverse": "lower(t6)"},
    ]}));
    assert_eq!(notices, []);
    let expected = [
        (vec!["a"], Transform::None),
        (vec!["b"], Transform::Builtin(Builtin::Trim)),
        (vec!["c"], Transform::Function { schema: Some("portal".into()), name: "clean".into() }),
        (vec!["d", "e"], Transform::Expression("d || ' ' || e".into())),
        (vec![], Transform::Expression("pg_catalog.now()".into())),
        (vec!["f"], Transform::Expression("upper(f)".into())),
    ];
    for (at, (field, (sources, transform))) in fields.iter().zip(expected).enumerate() {
        assert_eq!(field.sources, sources);
        assert_eq!(field.target, format!("t{}", at + 1));
        assert_eq!(field.transform, transform);
        assert_eq!((&field.reverse, field.direction), (&None, Direction::SourceToTarget));
    }
    assert_eq!(fields.len(), 6);
}

/// `Account.Key__c` is one field of the other side, and not the column of a table.
#[test]
fn a_name_with_a_point_is_one_name() {
    let org = json!({"connection": "crm", "object": "Contact"});
    let (there, _) = fields(json!({
        "source": org, "field_mappings": [{"source": "Account.Key__c", "target": "account_key"}],
    }));
    assert_eq!(there[0].sources, ["Account.Key__c"]);
    let (back, _) = fields(json!({
        "target": org, "match_on": ["Parent__r.Key__c"],
        "field_mappings": [{"source": "parent", "target": "Parent__r.Key__c"}],
    }));
    assert_eq!(
        (back[0].sources.as_slice(), back[0].target.as_str()),
        (&["parent".to_owned()][..], "Parent__r.Key__c")
    );
}

#[test]
fn in_a_two_way_sync_a_field_without_a_way_back_goes_one_way() {
    let (fields, notices) = fields(json!({"sync_type": "bidirectional", "field_mappings": [
        {"source": "a", "target": "t1"},
        {"source": "b", "target": "t2", "transformation": "lower(b)"},
        {"source": "c", "target": "t3", "transformation": "f(c)", "reverse": "g(t3)"},
        {"source": "d", "target": "t4", "transformation": "f", "direction": "source_to_target"},
        {"source": "e", "target": "t5", "transformation": "none", "direction": "target_to_source"},
        {"source": "g", "target": "t6", "transformation": "trim", "reverse": "none"},
        {"source": ["h", "i"], "target": "t7", "transformation": "h || i", "direction": "source_to_target"},
        {"source": "h", "target": "t7", "reverse": "split_part(t7, ' ', 1)", "direction": "target_to_source"},
        {"target": "t8", "transformation": "1 + 1"},
        {"source": "j", "target": "t9", "transformation": "lower"},
        {"source": "k", "target": "t10", "transformation": "iso8601", "direction": "target_to_source"},
    ]}));
    use Direction::{SourceToTarget, TargetToSource, TwoWay};
    let expected = [
        (TwoWay, Some(Transform::None)),
        (SourceToTarget, None),
        (TwoWay, Some(Transform::Expression("g(t3)".into()))),
        (SourceToTarget, None),
        (TargetToSource, Some(Transform::None)),
        (TwoWay, Some(Transform::None)),
        (SourceToTarget, None),
        (TargetToSource, Some(Transform::Expression("split_part(t7, ' ', 1)".into()))),
        (SourceToTarget, None),
        // A normal form is its own way back, and a moment is read from its text.
        (TwoWay, Some(Transform::Builtin(Builtin::Lower))),
        (TargetToSource, Some(Transform::Builtin(Builtin::Iso8601))),
    ];
    let ways: Vec<_> = fields.into_iter().map(|field| (field.direction, field.reverse)).collect();
    assert_eq!(ways, expected);
    let at: Vec<_> = notices.iter().map(|notice| (notice.severity, notice.path.as_str())).collect();
    let expected = ["field_mappings[1].transformation", "field_mappings[8].transformation"];
    assert_eq!(at, expected.map(|path| (Severity::Notice, path)));
}

#[test]
fn the_fields_that_are_called_alike_can_come_beside_those_that_are_mapped() {
    let all = |patch: Value| {
        let mut doc = patched(patch);
        doc["field_selection"] = json!("all");
        doc["field_mappings"] = json!([
            {"source": "Name", "target": "title"},
            {"source": ["Street", "City"], "target": "address", "transformation": "concat(\"Street\", \"City\")"}]);
        read(&doc).expect("all beside mappings").0.fields
    };
    let fields = all(json!({"exclude_fields": ["secret"]}));
    assert_eq!(fields.mapped.len(), 2);
    let pairs = |names: &[&str]| names.iter().map(|n| fields.pairs(n)).collect::<Vec<_>>();
    assert_eq!(pairs(&["phone", "PHONE", "secret", "Secret"]), [true, true, false, false]);
    // What a mapping names on either side belongs to it.
    assert_eq!(pairs(&["name", "title", "street", "City", "Address"]), [false; 5]);
    // Those that are mapped may all be left out.
    let fields = all(json!({"exclude_fields": ["title", "address"]}));
    assert!(fields.mapped.is_empty() && fields.pairs("name") && !fields.pairs("title"));
    assert!(!read(&base()).expect("by names").0.fields.mapped.iter().any(|_| true));
}

#[test]
fn include_and_exclude_choose_among_the_mapped_fields() {
    let mappings = json!([
        {"source": "Id", "target": "sf_id"},
        {"source": "Name", "target": "account_name"},
        {"source": "Industry", "target": "industry_type"},
    ]);
    let targets = |patch: Value| {
        let mut doc = patched(patch);
        doc["field_mappings"] = mappings.clone();
        let (config, notices) = read(&doc).unwrap_or_else(|error| panic!("{doc}: {error:?}"));
        let fields = config.fields.mapped;
        (fields.into_iter().map(|field| field.target).collect::<Vec<_>>(), notices.len())
    };
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let cases = [
        (
            json!({"field_selection": "explicit"}),
            names(&["sf_id", "account_name", "industry_type"]),
            0,
        ),
        (
            json!({"exclude_fields": ["Industry", "unheard_of"]}),
            names(&["sf_id", "account_name"]),
            1,
        ),
        (json!({"exclude_fields": ["SF_ID"]}), names(&["account_name", "industry_type"]), 1),
        (json!({"include_fields": ["Id", "account_name"]}), names(&["sf_id", "account_name"]), 1),
        (json!({"include_fields": ["Id", "Phone"]}), names(&["sf_id", "Phone"]), 2),
    ];
    for (patch, expected, notices) in cases {
        assert_eq!(targets(patch.clone()), (expected, notices), "{patch}");
    }
}

#[test]
fn match_on_names_a_field_or_a_pair() {
    let pair = |source: &str, target: &str| MatchField {
        source: source.to_owned(),
        target: target.to_owned(),
        expression: None,
    };
    let same =
        accept(json!({"match_on": ["email", {"source": "Id", "target": "sf_id"}]})).0.match_on;
    assert_eq!(same, [pair("email", "email"), pair("Id", "sf_id")]);
    let mapped = accept(json!({
        "field_mappings": [{"source": "Mail", "target": "email"}, {"source": "Id", "target": "sf_id"}],
        "match_on": ["Email", "Id", {"source": "x", "target": "y"}],
    }));
    assert_eq!(mapped.0.match_on, [pair("Mail", "email"), pair("Id", "sf_id"), pair("x", "y")]);
    let made = accept(json!({
        "match_on": [{"source": "Mail", "target": "email", "expression": "lower(value)"}],
    }));
    let expression = Some("lower(value)".to_owned());
    assert_eq!(made.0.match_on, [MatchField { expression, ..pair("Mail", "email") }]);
}

#[test]
fn an_identity_is_a_field_of_the_other_side() {
    let remote =
        json!({"source": {"connection": "crm", "object": "Account"}, "target": "accounts"});
    let with = |identity: serde_json::Value| {
        let mut doc = remote.clone();
        doc["identity"] = identity;
        read(&doc).map(|(config, _)| config.identity)
    };
    let identity = |column: Option<&str>, accept_reuse| {
        let (field, column) = ("Ext__c".to_owned(), column.map(str::to_owned));
        Ok(Some(document::Identity { field, column, accept_reuse }))
    };
    assert_eq!(with(json!("Ext__c")), identity(None, false));
    assert_eq!(with(json!({"field": "Ext__c"})), identity(None, false));
    let object = json!({"field": "Ext__c", "column": "id", "accept_reuse": true});
    assert_eq!(with(object), identity(Some("id"), true));
    for (wrong, path) in [(json!(1), "identity"), (json!({"column": "id"}), "identity.field")] {
        assert_eq!(with(wrong).unwrap_err().path, path);
    }
    let local = patched(json!({"identity": "Ext__c"}));
    assert_eq!(read(&local).unwrap_err().path, "identity");
}

#[test]
fn a_table_that_is_polled_has_the_key_that_is_named() {
    let polling = json!({"change_detection": "polling"});
    let keys = [
        (json!({"table": "a"}), vec![]),
        (json!({"table": "a", "key": "id"}), vec!["id"]),
        (json!({"table": "a", "key": ["region", "Id"]}), vec!["region", "Id"]),
    ];
    for (source, key) in keys {
        let (config, _) = accept(json!({"source": source, "performance_settings": polling}));
        let key = key.into_iter().map(str::to_owned).collect();
        assert_eq!(config.polled, [Some(document::Polled { key }), None], "{source}");
    }
    let (config, _) = accept(json!({
        "source": "a", "target": {"table": "b", "key": "id"}, "source_to_target": false, "performance_settings": polling
    }));
    assert!(config.polled[0].is_none() && config.polled[1].is_some());
    let remote = json!({"connection": "crm", "object": "Account"});
    assert!(!accept(json!({"source": remote, "ongoing_sync": {"mode": "polling"}})).0.real_time);
}
