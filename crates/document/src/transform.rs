//! What happens to a field's value on its way.

use serde_json::Value;

use crate::name;

/// How a value is changed on its way from one side to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transform {
    /// Taken as it is.
    None,
    /// A transformation that sync_ext brings along, applied to the column the value comes from.
    Builtin(Builtin),
    /// A function of the user, applied to the column the value comes from.
    Function {
        /// The schema, if one was given.
        schema: Option<String>,
        /// The name of the function, case folding and quotes already dealt with.
        name: String,
    },
    /// A SQL expression over the columns of the side the value comes from.
    Expression(String),
}

/// The transformations that sync_ext brings along and serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// Without blanks at both ends.
    Trim,
    /// In lower case.
    Lower,
    /// In upper case.
    Upper,
    /// An e-mail address without blanks at its ends, in lower case.
    EmailNorm,
    /// A phone number in E.164; what is none stays as it is.
    FormatPhone,
    /// A moment as in ISO 8601, in UTC.
    Iso8601,
}

impl Builtin {
    const ALL: [(&'static str, Self); 6] = [
        ("trim", Self::Trim),
        ("lower", Self::Lower),
        ("upper", Self::Upper),
        ("email_norm", Self::EmailNorm),
        ("format_phone", Self::FormatPhone),
        ("iso8601", Self::Iso8601),
    ];
}

/// Words that look like the name of a function and are expressions of their own.
const KEYWORDS: [&str; 15] = [
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "false",
    "localtime",
    "localtimestamp",
    "null",
    "session_user",
    "system_user",
    "true",
    "user",
];

impl Transform {
    /// Reads a transformation; the grammar has made sure that it is a text and not empty.
    pub(crate) fn read(value: Option<&Value>) -> Self {
        let Some(text) = value.and_then(Value::as_str) else {
            return Self::None;
        };
        let Ok(table) = name::table(text) else {
            return Self::Expression(text.to_owned());
        };
        let quoted = text.contains('"');
        if table.schema.is_none() && !quoted {
            match table.name.as_str() {
                "none" => return Self::None,
                word if KEYWORDS.contains(&word) => return Self::Expression(text.to_owned()),
                word => {
                    let builtin = Builtin::ALL.iter().find(|(name, _)| *name == word);
                    if let Some((_, builtin)) = builtin {
                        return Self::Builtin(*builtin);
                    }
                }
            }
        }
        Self::Function { schema: table.schema, name: table.name }
    }

    /// Whether the value is taken as it is.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Transform {
        Transform::read(Some(&Value::from(text)))
    }

    fn function(schema: Option<&str>, name: &str) -> Transform {
        Transform::Function { schema: schema.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn names_are_told_from_expressions() {
        let cases = [
            ("none", Transform::None),
            ("NONE", Transform::None),
            ("trim", Transform::Builtin(Builtin::Trim)),
            (" Lower ", Transform::Builtin(Builtin::Lower)),
            ("upper", Transform::Builtin(Builtin::Upper)),
            ("\"trim\"", function(None, "trim")),
            ("portal.trim", function(Some("portal"), "trim")),
            ("Portal.Clean_Phone", function(Some("portal"), "clean_phone")),
            ("\"My Fn\"", function(None, "My Fn")),
            ("upper(name)", Transform::Expression("upper(name)".into())),
            ("first || ' ' || last", Transform::Expression("first || ' ' || last".into())),
            ("NULL", Transform::Expression("NULL".into())),
            ("current_date", Transform::Expression("current_date".into())),
            ("'x'", Transform::Expression("'x'".into())),
            ("1", Transform::Expression("1".into())),
            ("a.b.c", Transform::Expression("a.b.c".into())),
            ("a; drop table b", Transform::Expression("a; drop table b".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn built_ins_are_not_taken_for_functions_of_the_user() {
        for (name, builtin) in Builtin::ALL {
            assert_eq!(read(name), Transform::Builtin(builtin));
            assert_eq!(read(&format!("portal.{name}")), function(Some("portal"), name));
        }
        assert_eq!(read("\"format_phone\""), function(None, "format_phone"));
    }
}
