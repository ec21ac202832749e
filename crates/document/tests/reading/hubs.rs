//! The document of a hub, taken apart into one for each of its syncs.

use document::{Authority, Config, Endpoint, ErrorKind, Spoke, spokes};
use serde_json::{Value, json};

use crate::context;

const TABLES: [&str; 3] = ["account", "contacts", "public.customers"];

fn apart(doc: &Value) -> Result<Vec<Spoke>, document::Error> {
    spokes(doc, &context(), &|table| TABLES.contains(&table))
}

fn hub(more: Value) -> Value {
    let mut doc = json!({
        "sync_hub": "hub", "tables": ["public.customers"],
        "connected_systems": [
            {"system": "crm", "objects": ["Account"]},
            {"system": "netsuite", "objects": ["Customer"]},
            {"system": "local", "objects": ["shop.buyers", {"object": "desk.clients", "table": "public.customers"}]}]
    });
    if let (Value::Object(doc), Value::Object(more)) = (&mut doc, more) {
        doc.extend(more);
    }
    doc
}

#[test]
fn f3_is_a_hub_of_six_syncs() {
    let mut doc: Value = serde_json::from_str(crate::fragments::F3).unwrap();
    // With two connections of one type it could not be known which is meant.
    let error = apart(&doc).expect_err("zendesk");
    assert_eq!(
        (error.kind, error.path.as_str()),
        (ErrorKind::Unknown, "connected_systems[2].objects[0]")
    );
    assert!(error.detail.contains("desk_eu") && error.detail.contains("desk_us"), "{error:?}");
    doc["connected_systems"][2]["system"] = json!("desk_us");
    let made = apart(&doc).unwrap();
    let shown: Vec<String> = made
        .iter()
        .map(|spoke| {
            format!("{}: {}", spoke.name, spoke.document["target"]["table"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        shown,
        [
            "crm/Account: account",
            "crm/Contact: contacts",
            "erp/Customer: account",
            "erp/Contact: contacts",
            "desk_us/Organization: account",
            "desk_us/User: contacts",
        ]
    );
    for spoke in &made {
        let (config, notices) = Config::read(&spoke.document, &context()).unwrap();
        assert!(config.direction.to_source() && config.direction.to_target() && notices.is_empty());
    }
}

#[test]
fn a_system_that_nobody_has_connected_gets_a_connection_of_its_name() {
    let doc = hub(json!({"connected_systems": [{"system": "hubspot", "objects": ["contacts"]}]}));
    let made = apart(&doc).unwrap();
    assert_eq!(made[0].name, "hubspot/contacts");
    let (config, _) = Config::read(&made[0].document, &context()).unwrap();
    let Endpoint::Remote(remote) = config.source else { panic!("{:?}", config.source) };
    assert_eq!(
        (remote.connection.as_deref(), remote.exists, remote.system.as_str()),
        (Some("hubspot"), false, "hubspot")
    );
}

#[test]
fn settings_go_from_the_hub_to_the_system_to_the_object() {
    let doc = hub(json!({
        "match_on": ["email"], "delete_limit": 5,
        "connected_systems": [
            {"system": "crm", "sync_settings": {"sync_type": "one_way", "delete_limit": 7}, "objects": [
                "Account",
                {"object": "Contact", "table": "contacts", "sync_settings": {"delete_limit": null, "match_on": ["Phone"]}}]}],
        "tables": ["public.customers", "other"]
    }));
    let made = apart(&doc).unwrap();
    assert_eq!(made[0].document["delete_limit"], 7);
    assert_eq!(made[0].document["sync_type"], "one_way");
    assert_eq!(made[0].document["match_on"], json!(["email"]));
    assert_eq!(made[1].document.get("delete_limit"), None);
    assert_eq!(made[1].document["match_on"], json!(["Phone"]));
    assert_eq!(made[1].document["target"]["table"], "contacts");
    assert!(made.iter().all(|spoke| spoke.document.get("connected_systems").is_none()));
}

#[test]
fn each_spoke_knows_on_which_side_a_system_stands() {
    let rule = |field: &str, system: &str| json!({"field": field, "priority_system": system});
    let doc = hub(
        json!({"conflict_resolution": {"strategy": "field_level_priority", "field_rules": [
        rule("email", "crm"), rule("address", "netsuite"), rule("phone", "shop"), rule("name", "hub"), rule("note", "last_updated")]}}),
    );
    let authorities = |n: usize| -> Vec<Authority> {
        let made = apart(&doc).unwrap();
        let (config, _) = Config::read(&made[n].document, &context()).unwrap();
        config.conflicts.rules.into_iter().map(|rule| rule.authority).collect()
    };
    use Authority::{LastUpdated, Source, Target};
    assert_eq!(authorities(0), [Source, Target, Target, Target, LastUpdated]);
    assert_eq!(authorities(1), [Target, Source, Target, Target, LastUpdated]);
    assert_eq!(authorities(2), [Target, Target, Source, Target, LastUpdated]);
    assert_eq!(authorities(3), [Target, Target, Target, Target, LastUpdated]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let cases = [
        (json!({"source": "a"}), "source"),
        (json!({"connected_systems": null}), "connected_systems"),
        (
            json!({"connected_systems": [{"system": "crm", "objects": ["Account", "Account"]}], "tables": ["a", "b"]}),
            "connected_systems[0].objects[1]",
        ),
        (
            json!({"connected_systems": [{"system": "crm", "objects": ["Account", "Contact"]}]}),
            "connected_systems[0].objects[1]",
        ),
        (
            json!({"connected_systems": [{"system": "crm", "objects": [{"object": "Account", "sync_settings": 1}]}]}),
            "connected_systems[0].objects[0]",
        ),
        (
            json!({"connected_systems": [{"system": "crm", "objects": [{"table": "a"}]}]}),
            "connected_systems[0].objects[0].object",
        ),
        (
            json!({"conflict_resolution": {"strategy": "system_priority", "priority_system": "sap"}}),
            "conflict_resolution.priority_system",
        ),
    ];
    for (more, path) in cases {
        let mut doc = hub(more.clone());
        if let Value::Object(doc) = &mut doc {
            doc.retain(|_, value| !value.is_null());
        }
        let error = apart(&doc).expect_err(path);
        assert_eq!(error.path, path, "{error:?}");
        assert!(!error.hint.is_empty(), "{error:?}");
    }
    let mut doc = hub(json!({}));
    doc.as_object_mut().unwrap().remove("tables");
    doc["connected_systems"][0]["objects"] = json!(["Lead"]);
    let error = apart(&doc).expect_err("no table");
    assert!(error.detail.contains("lead, leads"), "{error:?}");
    // The document of one sync is none of a hub.
    let error = Config::read(&hub(json!({})), &context()).expect_err("a hub");
    assert_eq!((error.kind, error.path.as_str()), (ErrorKind::Malformed, "sync_hub"));
}
