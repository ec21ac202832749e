use connector::{Column, Fault, FaultKind, Kind};

use crate::moment::Moment;
use crate::{id, parents, value};

/// The moment that a record was last touched, by people or by the system: the only clock of changes.
pub(crate) const VERSION: &str = "SystemModstamp";

/// Most records of a page: as many as one answer of a query holds.
pub(crate) const PAGE: usize = 2000;

/// Most bytes of a path with its query. Salesforce takes 16,384 bytes for it and all headers
/// (REST API guide, status codes 414 and 431).
pub(crate) const LONGEST_PATH: usize = 14_000;

/// A name of an object or a field; nothing else gets into a query or a path.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    let good = name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if good {
        return Ok(());
    }
    let mut shown: String = name.chars().take(100).collect();
    shown.retain(|c| !c.is_control());
    // Of this name alone: whatever else is asked for is asked all the same.
    Err(Fault::new(
        FaultKind::Schema,
        "INVALID_NAME",
        format!("\"{shown}\" can't be a name in Salesforce"),
    ))
}

/// The name of a field, of a parent too: `Account.Key__c`.
pub(crate) fn check_field(name: &str) -> Result<(), Fault> {
    match parents::parts(name) {
        Some((relationship, field)) => check_name(relationship).and_then(|()| check_name(field)),
        None => check_name(name),
    }
}

/// Is a field of a parent among them? A request for records by their ids takes only the object's own.
pub(crate) fn has_of_parents(columns: &[Column]) -> bool {
    columns.iter().any(|column| column.lookup.is_some())
}

/// How many ids a query of these columns can name; a fault where its path has no room for any.
pub(crate) fn most_ids(object: &str, columns: &[Column]) -> Result<usize, Fault> {
    /// `/services/data/v62.0/queryAll`, and what stands around the ids.
    const AROUND: usize = 80;
    /// In quotes, with a comma: `%27001000000000001AAA%27%2C`.
    const ID: usize = 27;
    let head = path("", &select(object, &["IsDeleted"], columns)?).len() + AROUND;
    let ids = LONGEST_PATH.saturating_sub(head) / ID;
    if ids > 0 {
        return Ok(ids.min(PAGE));
    }
    let message = "too many fields for a query that reads fields of parents too";
    Err(Fault::new(FaultKind::Configuration, "URI_TOO_LONG", message)
        .with_hint("Take fields out of the mapping, or the fields of parents."))
}

/// The query for these records.
pub(crate) fn by_ids(
    object: &str,
    more: &[&str],
    columns: &[Column],
    ids: &[String],
) -> Result<String, Fault> {
    let list: Vec<String> = ids.iter().map(|text| id(text)).collect::<Result<_, _>>()?;
    Ok(format!("{} WHERE Id IN ({})", select(object, more, columns)?, list.join(",")))
}

/// `SELECT Id, SystemModstamp, … FROM X`, with each field once.
pub(crate) fn select(object: &str, more: &[&str], columns: &[Column]) -> Result<String, Fault> {
    check_name(object)?;
    Ok(format!("SELECT {} FROM {object}", fields(more, columns)?.join(",")))
}

/// Id, version and the columns, each once.
pub(crate) fn fields<'a>(more: &[&'a str], columns: &'a [Column]) -> Result<Vec<&'a str>, Fault> {
    let mut fields = vec!["Id", VERSION];
    for name in more.iter().copied().chain(columns.iter().map(|column| column.name.as_str())) {
        check_field(name)?;
        if !fields.iter().any(|field| field.eq_ignore_ascii_case(name)) {
            fields.push(name);
        }
    }
    Ok(fields)
}

/// The path of a query: `/query?q=…`, or `/queryAll?q=…` for deleted records too.
pub(crate) fn path(base: &str, query: &str) -> String {
    format!(
        "{base}?{}",
        form_urlencoded::Serializer::new(String::new()).append_pair("q", query).finish()
    )
}

/// A text as a literal (SOQL guide, quoted string escape sequences).
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\\' | '\'' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// An id as a literal.
pub(crate) fn id(text: &str) -> Result<String, Fault> {
    if id::is_id(text) {
        return Ok(quote(&id::long(text)));
    }
    Err(Fault::new(FaultKind::Defect, "MALFORMED_ID", "what should be the id of a record is none"))
}

/// A moment as a literal, which has no quotes.
pub(crate) fn moment(text: &str) -> Result<String, Fault> {
    let moment = Moment::parse(text).ok_or_else(|| {
        Fault::new(FaultKind::Defect, "MALFORMED_MARK", "what should be a moment is none")
    })?;
    Ok(moment.in_json())
}

/// A value as a literal of a field's type; `None` where no record can have it.
pub(crate) fn literal(column: Option<&Column>, text: &str) -> Option<String> {
    let kind = column.map_or(Kind::Text, |column| column.kind);
    let text = value::canonical(kind, text)?;
    match kind {
        Kind::Integer => text.parse::<i64>().ok().map(|n| n.to_string()),
        Kind::Number => crate::number::canonical(&text),
        Kind::Boolean => matches!(text.as_str(), "true" | "false").then_some(text),
        Kind::DateTime => Moment::parse(&text).map(Moment::in_json),
        Kind::Date => crate::moment::Day::parse(&text).map(crate::moment::Day::text),
        Kind::Time => crate::moment::Clock::parse(&text).map(crate::moment::Clock::in_json),
        Kind::Structure | Kind::Bytes | Kind::Choices => None,
        Kind::Id | Kind::Text | Kind::Choice => Some(quote(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        LONGEST_PATH, PAGE, by_ids, check_field, check_name, literal, most_ids, path, quote,
    };
    use connector::{Column, Kind};

    #[test]
    fn nothing_but_a_name_is_a_name() {
        for good in ["Account", "My_Object__c", "ns__Thing__c", "A1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "1A", "_a", "Account WHERE", "a.b", "a'b", "Akkünt", "a/../b", "a?b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_field_may_be_one_of_the_parents() {
        for good in ["Name", "Account.Key__c", "Team__r.Key__c"] {
            assert!(check_field(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a.b.c", "a .b", "a.b c", "a.b,c"] {
            assert!(check_field(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn as_many_ids_are_named_as_the_path_has_room_for() {
        let columns = |count: usize| -> Vec<Column> {
            let name = |n| format!("Account.Key{n:0>30}__c");
            (0..count).map(|n| Column { name: name(n), ..Column::default() }).collect()
        };
        for count in [1, 100, 250] {
            let most = most_ids("Contact", &columns(count)).expect("room");
            let ids = vec!["003000000000001AAA".to_owned(); most];
            let query = by_ids("Contact", &["IsDeleted"], &columns(count), &ids).expect("a query");
            let length = path("/services/data/v62.0/queryAll", &query).len();
            assert!(length <= LONGEST_PATH && most <= PAGE, "{count}: {length}");
            assert!(LONGEST_PATH - length < 120, "{count}: {length}");
        }
        assert!(most_ids("Contact", &columns(400)).is_err());
    }

    #[test]
    fn literals_cannot_break_out() {
        assert_eq!(quote("O'Neil \\ \n"), "'O\\'Neil \\\\ \\n'");
        let number = Column { name: "N__c".into(), kind: Kind::Number, ..Column::default() };
        assert_eq!(literal(Some(&number), "7.0").as_deref(), Some("7"));
        assert_eq!(literal(Some(&number), "1 OR Id != null"), None);
        assert_eq!(literal(None, " x ").as_deref(), Some("'x'"));
        assert_eq!(literal(None, " "), None);
    }

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(
            path("/q", "SELECT Id FROM A WHERE B > 'ü+&'"),
            "/q?q=SELECT+Id+FROM+A+WHERE+B+%3E+%27%C3%BC%2B%26%27"
        );
    }
}
