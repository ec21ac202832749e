use connector::{Column, Fault, FaultKind, Kind};

use crate::moment::Moment;
use crate::{id, value};

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
    Err(Fault::new(
        FaultKind::Configuration,
        "INVALID_NAME",
        format!("\"{shown}\" can't be a name in Salesforce"),
    ))
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
        check_name(name)?;
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
    use super::{check_name, literal, path, quote};
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
    fn literals_cannot_break_out() {
        assert_eq!(quote("O'Neil \\ \n"), "'O\\'Neil \\\\ \\n'");
        let number = Column { name: "N__c".into(), kind: Kind::Number, length: 0 };
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
