use std::time::Duration;

use connector::{Field, Kind, Object};

use super::{Line, Wish, estimate};

fn field(name: &str, kind: Kind, length: u32) -> Field {
    Field {
        name: name.into(),
        kind,
        length,
        nillable: true,
        createable: true,
        updateable: true,
        filterable: true,
        ..Field::default()
    }
}

fn object(fields: Vec<Field>) -> Object {
    Object {
        name: "Account".into(),
        label: String::new(),
        createable: true,
        updateable: true,
        deletable: true,
        undeletable: true,
        queryable: true,
        id_field: "Id".into(),
        version_field: "SystemModstamp".into(),
        fields,
        ..Object::default()
    }
}

fn wish(object: &Object) -> Wish<'_> {
    Wish {
        object,
        fields: object.fields.iter().collect(),
        sent: object.fields.iter().collect(),
        pull: true,
        push: false,
        load: true,
        records: Some(100_000),
        rows: 0,
        job_from: 200_000,
        interval: Duration::from_secs(30),
        identity: false,
    }
}

#[track_caller]
fn figure(lines: &[Line], what: &str) -> f64 {
    let found = lines.iter().find(|line| line.what == what);
    found.unwrap_or_else(|| panic!("{what}: {lines:?}")).figure.expect("a figure")
}

fn warnings(lines: &[Line]) -> Vec<&str> {
    lines.iter().filter(|line| line.what == "warning").map(|line| line.detail.as_str()).collect()
}

#[test]
fn a_pull_is_priced_by_the_pages_and_the_interval() {
    let object = object(vec![field("Name", Kind::Text, 255), field("Active__c", Kind::Boolean, 0)]);
    let lines = estimate(&wish(&object));
    assert_eq!(figure(&lines, "records"), 100_000.0);
    assert_eq!(figure(&lines, "first load: calls"), 51.0);
    assert_eq!(figure(&lines, "polling: calls a day"), 2_880.0);
    // 42 bytes of values, twice, and what is around them.
    assert_eq!(figure(&lines, "disk: bytes"), 100_000.0 * (32.0 + 60.0 + 200.0 + 84.0));
    assert_eq!(warnings(&lines), [""; 0]);
    assert!(!lines.iter().any(|line| line.what.starts_with("first push")), "{lines:?}");
    let unloaded = estimate(&Wish { load: false, ..wish(&object) });
    assert!(!unloaded.iter().any(|line| line.what.starts_with("first load")), "{unloaded:?}");
    let large = estimate(&Wish { job_from: 100_000, ..wish(&object) });
    // Five pages, and what the job costs.
    assert_eq!(figure(&large, "first load: calls"), 19.0);
    assert!(large.iter().any(|line| line.detail.contains("Bulk API 2.0")), "{large:?}");
    let empty = estimate(&Wish { records: None, ..wish(&object) });
    assert_eq!((figure(&empty, "records"), figure(&empty, "first load: calls")), (0.0, 1.0));
}

#[test]
fn a_push_goes_by_the_interface_that_takes_the_fewest_calls() {
    let object = object(vec![field("Name", Kind::Text, 255)]);
    let push = |rows| Wish { pull: false, push: true, rows, ..wish(&object) };
    let few = estimate(&push(1_000));
    assert_eq!(figure(&few, "first push: calls"), 1.0);
    assert!(few.iter().any(|line| line.detail.contains("sObject Collections")), "{few:?}");
    let many = estimate(&push(50_000));
    assert!(figure(&many, "first push: calls") < 60.0, "{many:?}");
    assert!(many.iter().any(|line| line.detail.contains("Bulk API 2.0")), "{many:?}");
    assert!(!many.iter().any(|line| line.what.starts_with("polling")), "{many:?}");
}

#[test]
fn what_will_not_go_as_wished_is_said() {
    let computed =
        Field { createable: false, updateable: false, ..field("Total__c", Kind::Number, 0) };
    let once = Field { updateable: false, ..field("Master__c", Kind::Id, 18) };
    let needed = Field { nillable: false, ..field("Name", Kind::Text, 80) };
    let key = Field { external_id: true, ..field("Key__c", Kind::Text, 80) };
    let object = object(vec![needed, computed, once, key]);
    let push = Wish { push: true, sent: object.fields[1..].iter().collect(), ..wish(&object) };
    let lines = estimate(&push);
    let said = warnings(&lines).join("\n");
    for part in [
        "travel from there to here only: Total__c",
        "a later edit is refused: Master__c",
        "without: Name",
        "there is Key__c",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(warnings(&lines).len(), 4, "{said}");
    let good = Wish { identity: true, sent: vec![&object.fields[0]], ..push };
    assert_eq!(warnings(&estimate(&good)), [""; 0]);
}

#[test]
fn to_sync_everything_is_worth_a_word() {
    let fields = (0..70).map(|n| field(&format!("F{n}__c"), Kind::Text, 40)).collect();
    let object = object(fields);
    let said = |lines: Vec<Line>| warnings(&lines).join("\n");
    assert!(said(estimate(&wish(&object))).contains("syncs all 70 fields"));
    let some = Wish { fields: object.fields[..60].iter().collect(), ..wish(&object) };
    assert_eq!(said(estimate(&some)), "");
}
