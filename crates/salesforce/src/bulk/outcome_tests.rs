use super::{Results, Told, matched, refused, result, rows};
use crate::bulk::upload::Upload;
use connector::{Column, Done, Fault, FaultKind, Identity, Kind, Write, WriteBatch};
use proptest::prelude::*;

fn batch(writes: Vec<Write>) -> WriteBatch {
    let column = |name: &str| Column { name: name.into(), kind: Kind::Text, ..Column::default() };
    let columns = vec![column("Name"), column("Site"), column("Ext__c")];
    WriteBatch { object: "Account".into(), columns, read_before: false, writes }
}

fn insert(name: &str) -> Write {
    Write::Create { identity: None, fields: vec![(0, Some(name.to_owned()))] }
}

fn upsert(key: &str, name: &str) -> Write {
    let identity = Some(Identity { field: "Ext__c".into(), value: key.to_owned() });
    Write::Create { identity, fields: vec![(0, Some(name.to_owned()))] }
}

fn update(n: usize, field: usize, value: Option<&str>) -> Write {
    Write::Update { id: format!("001{n:012}AAA"), fields: vec![(field, value.map(str::to_owned))] }
}

fn upload(writes: Vec<Write>) -> Upload {
    Upload::new(&batch(writes)).expect("an upload")
}

fn cells(row: &[&str]) -> Vec<String> {
    row.iter().map(|cell| (*cell).to_owned()).collect()
}

#[test]
fn fields_that_are_not_named_are_left_empty_and_null_is_na() {
    let upload = upload(vec![update(1, 0, Some("a \"b\"")), update(2, 1, None)]);
    let text = String::from_utf8(upload.csv().expect("CSV")).expect("text");
    assert_eq!(
        text,
        "Id,Name,Site\n\"001000000000001AAA\",\"a \"\"b\"\"\",\"\"\n\"001000000000002AAA\",\"\",\"#N/A\"\n"
    );
}

#[test]
fn what_cannot_be_said_in_csv_is_refused_and_leaves_the_others_alone() {
    let upload = upload(vec![insert("#N/A"), insert("b"), update(1, 0, None)].drain(..2).collect());
    assert_eq!(
        upload.refused.iter().map(|(n, f)| (*n, f.kind)).collect::<Vec<_>>(),
        [(0, FaultKind::Refused)]
    );
    assert_eq!(upload.rows.len(), 1);
    let mixed = Upload::new(&batch(vec![insert("a"), update(1, 0, None)])).expect_err("mixed");
    assert_eq!(mixed.code, "MIXED_BATCH");
    let mut reading = batch(vec![insert("a")]);
    reading.read_before = true;
    assert_eq!(Upload::new(&reading).expect_err("reads").code, "READ_BEFORE");
}

#[test]
fn a_row_that_comes_back_in_another_form_is_known_by_its_key() {
    let upload = upload(vec![upsert("k", "a\nb"), upsert("l", "c")]);
    assert_eq!(upload.header, ["Ext__c", "Name"]);
    let refused = Told::Refused("X".into());
    let found = matched(
        &upload,
        vec![(cells(&["l", "c"]), Told::Unprocessed), (cells(&["k", "a\r\nb"]), refused.clone())],
    );
    assert_eq!(found, [Some(refused), Some(Told::Unprocessed)]);
}

#[test]
fn what_cannot_be_told_apart_is_not_guessed() {
    // An insert has no key: a row that is not the same is nobody's.
    let inserts = upload(vec![insert("a\nb")]);
    assert_eq!(matched(&inserts, vec![(cells(&["a\r\nb"]), Told::Unprocessed)]), [None]);
    // Two rows of one key that both come back changed.
    let twins = upload(vec![upsert("k", "a"), upsert("k", "b")]);
    let changed = |name| (cells(&["k", name]), Told::Unprocessed);
    assert_eq!(matched(&twins, vec![changed("A"), changed("B")]), [None, None]);
    // One key, said twice.
    let one = upload(vec![upsert("k", "a")]);
    assert_eq!(matched(&one, vec![changed("A"), changed("B")]), [None]);
    let fault = result(
        &batch(vec![]),
        &crate::plan::Verb::Create,
        &inserts.rows[0],
        None,
        &Fault::new(FaultKind::Transient, "X", "x"),
    );
    assert_eq!(fault.expect_err("unknown").kind, FaultKind::Ambiguous);
}

#[test]
fn texts_of_results_are_read_under_their_own_headers_only() {
    let upload = upload(vec![insert("a")]);
    let good = b"\"sf__Id\",\"sf__Created\",Name\n\"001000000000001AAA\",\"true\",\"a\"\n";
    let told = rows(&upload, Results::Successful, good).expect("rows");
    assert_eq!(
        told,
        [(cells(&["a"]), Told::Done { id: "001000000000001AAA".into(), created: true })]
    );
    for (of, wrong) in [
        (Results::Failed, &good[..]),
        (Results::Unprocessed, &good[..]),
        (Results::Successful, b"\"sf__Id\",\"sf__Created\",Site\n"),
        (Results::Successful, b"\"sf__Id\",\"sf__Created\",Name\n\"x\",\"maybe\",\"a\"\n"),
    ] {
        assert!(rows(&upload, of, wrong).is_err());
    }
}

#[test]
fn a_success_has_to_fit_the_record() {
    let batch = batch(vec![update(1, 0, Some("a"))]);
    let upload = Upload::new(&batch).expect("an upload");
    let verb = upload.verb.clone().expect("a verb");
    let none = Fault::new(FaultKind::Transient, "X", "x");
    let said = |id: &str, created| {
        let told = Told::Done { id: id.to_owned(), created };
        result(&batch, &verb, &upload.rows[0], Some(told), &none)
    };
    let id = "001000000000001AAA".to_owned();
    assert_eq!(said(&id, false), Ok(Done::Updated { id: id.clone() }));
    for (other, created) in [(id.as_str(), true), ("001000000000002AAA", false), ("", false)] {
        assert_eq!(said(other, created).expect_err("another").kind, FaultKind::Ambiguous);
    }
}

#[test]
fn errors_are_read_by_their_grammar() {
    for (text, code, message, fields) in [
        (
            "REQUIRED_FIELD_MISSING:Required fields are missing: [Name]:Name --",
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [Name]",
            vec!["Name"],
        ),
        (
            "UNABLE_TO_LOCK_ROW:unable to obtain: it:--",
            "UNABLE_TO_LOCK_ROW",
            "unable to obtain: it",
            vec![],
        ),
        (
            "INVALID_FIELD:Foreign key external ID: b not found for field E__c in entity A:--",
            "INVALID_FIELD",
            "Foreign key external ID: b not found for field E__c in entity A",
            vec![],
        ),
        ("INVALID_FIELD:why:A__c,B__c --", "INVALID_FIELD", "why", vec!["A__c", "B__c"]),
        ("X:a: not a field --", "X", "a: not a field --", vec![]),
        ("", "UNKNOWN_ERROR", "the org gives no reason", vec![]),
    ] {
        let fault = refused(text);
        assert_eq!((fault.code.as_str(), fault.message.as_str()), (code, message), "{text}");
        assert_eq!(fault.about.fields, fields, "{text}");
    }
    assert_eq!(
        refused("INVALID_FIELD:Foreign key external ID: b not found:--").kind,
        FaultKind::Dependency
    );
}

proptest! {
    /// However the rows are ordered and split over the texts, each record gets what was said of a row like it.
    #[test]
    fn results_find_their_records_in_any_order(
        (names, order) in prop::collection::vec("[ab]{0,2}", 1..12)
            .prop_flat_map(|names| {
                let places: Vec<usize> = (0..names.len()).collect();
                (Just(names), Just(places).prop_shuffle())
            }),
    ) {
        // An empty name is null and stays so.
        let upload = upload(names.iter().map(|name| insert(name)).collect());
        let said = |place: usize| Told::Refused(upload.rows[place].cells[0].clone());
        let found = matched(&upload, order.iter().map(|&place| (upload.rows[place].cells.clone(), said(place))).collect());
        for (place, told) in found.into_iter().enumerate() {
            prop_assert_eq!(told, Some(said(place)));
        }
    }

    #[test]
    fn no_text_of_results_makes_it_panic(text in ".*|(\"sf__Id\",\"sf__Error\",Name\n)?[a\",\n:-]{0,40}") {
        let upload = upload(vec![insert("a")]);
        for of in [Results::Successful, Results::Failed, Results::Unprocessed] {
            if let Ok(rows) = rows(&upload, of, text.as_bytes()) {
                let _ = matched(&upload, rows);
            }
        }
        let _ = refused(&text);
    }
}
