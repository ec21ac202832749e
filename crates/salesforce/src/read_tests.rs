use super::{own_path, record, retrieved};
use connector::{Column, Kind};
use egress::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{id, refusal};

fn columns() -> Vec<Column> {
    let column = |name: &str, kind| Column { name: name.into(), kind, ..Column::default() };
    vec![
        column("Name", Kind::Text),
        column("Number__c", Kind::Number),
        column("Set__c", Kind::Boolean),
    ]
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| id::long(&format!("001{n:012}"))).collect()
}

fn rows(names: &[String]) -> Value {
    let row = |(id, name): (String, &String)| {
        json!({
            "attributes": {"type": "Account", "url": format!("/services/data/v62.0/sobjects/Account/{id}")},
            "Id": id, "SystemModstamp": "2026-05-01T07:25:37.000+0000",
            "Name": name, "Number__c": 1.5, "Set__c": true,
        })
    };
    ids(names.len()).into_iter().zip(names).map(row).collect()
}

#[test]
fn a_parents_field_stands_in_the_parent_which_may_be_missing() {
    let columns = [Column { name: "Account.Key__c".into(), ..Column::default() }];
    let read = |parent: Value| {
        let mut row = rows(&[String::new()])[0].clone();
        row["account"] = parent;
        record(&columns, &row).map(|record| record.values[0].clone())
    };
    let attributes = json!({"type": "Account", "url": "/"});
    assert_eq!(read(json!({"attributes": attributes, "Key__c": "x"})), Ok(Some("x".to_owned())));
    assert_eq!(read(json!({"attributes": attributes, "Key__c": null})), Ok(None));
    assert_eq!(read(Value::Null), Ok(None));
    // Taken for null, any of these would empty the column.
    for odd in [json!({"attributes": attributes}), json!("x"), json!([])] {
        assert!(read(odd.clone()).is_err(), "{odd}");
    }
    assert!(record(&columns, &rows(&[String::new()])[0]).is_err());
}

/// JSON of any shape, with the names that the decoders look for among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("001000000000001AAA".to_owned()),
        Just("2026-05-01T07:25:37.000+0000".to_owned()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let name = prop::sample::select(
        &[
            "Id",
            "id",
            "SystemModstamp",
            "IsDeleted",
            "Name",
            "Number__c",
            "Set__c",
            "attributes",
            "errorCode",
            "statusCode",
            "message",
            "fields",
            "duplicateResult",
            "matchResults",
            "matchRecords",
            "record",
            "state",
            "records",
        ][..],
    );
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

#[test]
fn an_address_of_a_next_page_stays_on_the_org() {
    assert!(own_path("/services/data/v62.0/query/0r8xx-2000").is_ok());
    for wrong in
        ["https://else.example/services/", "//else.example", "/services/../x", "/services/a@b", ""]
    {
        assert!(own_path(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_json_makes_a_decoder_panic(body in any_json(), status in 100..600u16) {
        if let Ok(record) = record(&columns(), &body) {
            prop_assert!(id::is_id(&record.id));
        }
        for count in 0..3 {
            if let Ok(found) = retrieved(&columns(), &ids(count), &body) {
                prop_assert_eq!(found.len(), count);
            }
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let _ = refusal::of_body(status, &body);
        let _ = refusal::of_entry(&body);
    }

    /// One byte of an answer changed or cut off: a fault, or one record at most that is not as it was, and none in the
    /// place of another.
    #[test]
    fn a_damaged_answer_never_puts_a_record_in_the_place_of_another(
        names in prop::collection::vec("[a-c\"\\\\{}, ]{1,5}[a-c]", 1..4),
        at in any::<prop::sample::Index>(),
        byte in prop::option::of(prop_oneof![any::<u8>(), prop::sample::select(&b"\",:{}[]\\"[..])]),
    ) {
        let asked = ids(names.len());
        let whole = retrieved(&columns(), &asked, &rows(&names)).expect("whole");
        let mut bytes = rows(&names).to_string().into_bytes();
        let at = at.index(bytes.len());
        match byte {
            Some(byte) => bytes[at] = byte,
            None => bytes.truncate(at),
        }
        if let Ok(body) = serde_json::from_slice::<Value>(&bytes)
            && let Ok(read) = retrieved(&columns(), &asked, &body)
        {
            for (record, id) in read.iter().zip(&asked) {
                prop_assert!(record.as_ref().is_none_or(|record| record.id == *id));
            }
            let same = read.iter().zip(&whole).filter(|(now, was)| now == was).count();
            prop_assert!(same + 1 >= names.len(), "{read:?}");
        }
    }
}
