//! Where to look for the records that a condition can hold for, so that large objects are asked quickly.

use super::Operator;
use super::evaluate::{Operand, Test};

#[derive(Debug, PartialEq)]
pub(super) enum Scan {
    /// All records, by id.
    All,
    /// These, by id.
    Ids(Vec<String>),
    /// Those whose field has one of these values, by id.
    Key(String, Vec<String>),
    /// By id, from this one on.
    FromId(String),
    /// By stamp and id, from this stamp on.
    FromStamp(String),
}

impl Scan {
    pub(super) fn is_ordered_by(&self, order: &[&str]) -> bool {
        match self {
            Self::FromStamp(_) => {
                matches!(order, [] | ["SystemModstamp"] | ["SystemModstamp", "Id"])
            }
            _ => matches!(order, [] | ["Id"]),
        }
    }
}

pub(super) fn scan(test: Option<&Test>, order: &[&str]) -> Scan {
    if let Some(scan) = test.and_then(narrow) {
        return scan;
    }
    if let Some(stamp) = test.and_then(|test| floor(test, "SystemModstamp")) {
        return Scan::FromStamp(stamp);
    }
    if order.first() == Some(&"SystemModstamp") {
        return Scan::FromStamp(String::new());
    }
    match test.and_then(|test| floor(test, "Id")) {
        Some(id) => Scan::FromId(id),
        None => Scan::All,
    }
}

/// A condition that only few records can meet.
fn narrow(test: &Test) -> Option<Scan> {
    let (path, texts) = match test {
        Test::And(tests) => return tests.iter().find_map(narrow),
        Test::Compare { path, operator: Operator::Equal, operand: Operand::Text(text) } => {
            (path, vec![text.clone()])
        }
        Test::In { path, not: false, null: false, texts, .. } => (path, texts.clone()),
        _ => return None,
    };
    if path.is("Id") {
        let mut ids = texts;
        ids.sort_unstable();
        ids.dedup();
        return Some(Scan::Ids(ids));
    }
    (path.field.indexed() && path.is(&path.field.name))
        .then(|| Scan::Key(path.field.name.clone(), texts))
}

/// The least value of a field that a record needs for the test to hold.
fn floor(test: &Test, field: &str) -> Option<String> {
    match test {
        Test::And(tests) => tests.iter().filter_map(|test| floor(test, field)).max(),
        Test::Or(tests) => {
            let floors: Option<Vec<String>> = tests.iter().map(|test| floor(test, field)).collect();
            floors?.into_iter().min()
        }
        Test::Compare {
            path,
            operator: Operator::Equal | Operator::Greater | Operator::GreaterOrEqual,
            operand: Operand::Text(text),
        } if path.is(field) => Some(text.clone()),
        _ => None,
    }
}
