//! The part of SOQL that is served: one object with parents of its records, conditions, order and
//! limits (SOQL and SOSL Reference, SELECT). All else is an error, and counted where a real org would
//! have an answer.

mod evaluate;
mod lexer;
mod like;
mod parser;
mod plan;

pub(crate) use evaluate::{Answered, answer, render, selected};
pub(crate) use parser::parse;

/// A query that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    /// Paths of names; empty for `count()`.
    pub(crate) fields: Vec<Vec<String>>,
    pub(crate) object: String,
    pub(crate) condition: Option<Condition>,
    pub(crate) order: Vec<Order>,
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
    pub(crate) all_rows: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Compare { path: Vec<String>, operator: Operator, literal: Literal },
    In { path: Vec<String>, not: bool, literals: Vec<Literal> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Boolean(bool),
    Number(f64),
    /// As it is between the quotes, with its escapes.
    Text(String),
    Date(String),
    /// In the form in which moments are stored.
    Moment(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) path: Vec<String>,
    pub(crate) descending: bool,
    pub(crate) nulls_last: bool,
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Where in the query, in bytes.
    pub(crate) at: usize,
    /// A real org would answer: the name of what is missing here.
    pub(crate) unserved: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>, at: usize) -> Self {
        Self { code, message: message.into(), at, unserved: None }
    }

    pub(crate) fn unserved(what: &str, at: usize) -> Self {
        let message = format!("unexpected token: '{what}'");
        Self { unserved: Some(what.to_uppercase()), ..Self::new("MALFORMED_QUERY", message, at) }
    }

    /// The message with the window of the query that real ones have.
    pub(crate) fn text(&self, query: &str) -> String {
        let characters: Vec<char> = query.chars().collect();
        let named = || query.find(self.message.split('\'').nth(1)?);
        let at = if self.at == 0 { named().unwrap_or(0) } else { self.at };
        let at = query.get(..at).map_or(characters.len(), |before| before.chars().count());
        let from = at.saturating_sub(36);
        let to = (at + 24).min(characters.len());
        let window: String = characters[from..to].iter().collect();
        let blanks = " ".repeat(at - from);
        let column = at + 1;
        format!("\n{window}\n{blanks}^\nERROR at Row:1:Column:{column}\n{}", self.message)
    }
}
