//! What reading a document can come to: an error, or a notice beside the configuration.

use std::fmt;

/// What is wrong with a document. Closed: each kind stands for one thing that the caller does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The document itself is wrong: unknown key, wrong type or value, contradiction, something missing.
    Malformed,
    /// The document is well formed, but names a connection or system that does not exist or is ambiguous.
    Unknown,
}

impl ErrorKind {
    /// The SQLSTATE under which the error is raised.
    pub const fn sqlstate(self) -> &'static str {
        match self {
            Self::Malformed => "22023",
            Self::Unknown => "42704",
        }
    }
}

/// Why a document is refused. The texts follow PostgreSQL's style, contain no NUL and never a credential's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The class of the error.
    pub kind: ErrorKind,
    /// Where in the document, such as `field_mappings[2].source`; `$` is the document as a whole.
    pub path: String,
    /// One line, starting in lower case, without full stop.
    pub message: String,
    /// Full sentences: what is there instead.
    pub detail: String,
    /// Full sentences: what to do about it.
    pub hint: String,
}

impl Error {
    pub(crate) fn malformed(
        path: impl fmt::Display,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(ErrorKind::Malformed, path, message, detail, hint)
    }

    pub(crate) fn unknown(
        path: impl fmt::Display,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(ErrorKind::Unknown, path, message, detail, hint)
    }

    pub(crate) fn new(
        kind: ErrorKind,
        path: impl fmt::Display,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            path: path.to_string(),
            message: message.into(),
            detail: detail.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// How loudly a [`Notice`] is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The document is taken as it is, but does something its writer may not expect.
    Notice,
    /// A part of the document has no effect.
    Warning,
}

/// Something to tell the writer of a document that is otherwise accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How loudly.
    pub severity: Severity,
    /// Where in the document.
    pub path: String,
    /// One line, starting in lower case, without full stop.
    pub message: String,
    /// Full sentences.
    pub detail: String,
    /// Full sentences; empty if there is nothing to do.
    pub hint: String,
}

impl Notice {
    pub(crate) fn new(
        path: impl fmt::Display,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let severity = Severity::Notice;
        Self {
            severity,
            path: path.to_string(),
            message: message.into(),
            detail: detail.into(),
            hint: hint.into(),
        }
    }
}
