//! Formula fields: the part of the language of formulas that is served (Salesforce help, Formula Operators and
//! Functions): fields, also of parents, constants, arithmetic, `&`, comparisons, and a few functions. They are
//! computed when they are read, so a change of a parent moves no stamp of its children.

use crate::org::Org;
use crate::schema::{Field, FieldType, Object};
use crate::table::Row;
use serde_json::{Number, Value};

/// Most formulas that one may go through until it has its value.
const DEEPEST: u32 = 10;

/// What a formula says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Constant(Value),
    /// `Account.Name`: a field, behind the parents that lead to it.
    Path(Vec<String>),
    Negative(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Call(Function, Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Concatenate,
    Plus,
    Minus,
    Times,
    Divided,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    If,
    IsBlank,
    BlankValue,
    And,
    Or,
    Not,
    Text,
}

/// By how closely they bind; of two that start alike, the longer comes first.
const OPERATORS: [&[(&str, Operator)]; 5] = [
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("=", Operator::Equal),
        ("<>", Operator::NotEqual),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        ("<", Operator::Less),
        (">=", Operator::GreaterOrEqual),
        (">", Operator::Greater),
    ],
    &[("&", Operator::Concatenate), ("+", Operator::Plus), ("-", Operator::Minus)],
    &[("*", Operator::Times), ("/", Operator::Divided)],
];

impl Expression {
    /// Reads a formula; the error says what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text, depth: 0 };
        let expression = reader.binary(0)?;
        match reader.skip() {
            "" => Ok(expression),
            rest => Err(format!("Syntax error. Extra {}", first_word(rest))),
        }
    }

    /// The first name of each path, for finding out whether the object has it.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Self::Constant(_) => Vec::new(),
            Self::Path(path) => path.iter().take(1).map(String::as_str).collect(),
            Self::Negative(inner) => inner.names(),
            Self::Binary(_, left, right) => [left.names(), right.names()].concat(),
            Self::Call(_, arguments) => arguments.iter().flat_map(Self::names).collect(),
        }
    }

    /// Whether it is computed from the field of this name, by way of other formulas of the object or without.
    pub(crate) fn comes_back_to(&self, field: &str, object: &Object) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        let mut open = self.names();
        while let Some(name) = open.pop() {
            if name.eq_ignore_ascii_case(field) {
                return true;
            }
            if !seen.contains(&name) {
                seen.push(name);
                let inner = object.field(name).and_then(|f| f.expression.as_deref());
                open.extend(inner.into_iter().flat_map(Self::names));
            }
        }
        false
    }

    /// The value of a formula field; null where it would be an error, or is of another type than the field.
    pub(crate) fn value(&self, org: &Org, object: &Object, row: &Row, field: &Field) -> Value {
        let value = self.evaluate(org, object, row, DEEPEST);
        match (&value, field.kind) {
            (Value::Number(_), kind) if kind.is_number() => value,
            (Value::Bool(_), FieldType::Boolean) => value,
            (Value::Null, FieldType::Boolean) => Value::Bool(false),
            (Value::String(text), kind) if kind != FieldType::Boolean && !kind.is_number() => {
                if text.is_empty() {
                    Value::Null
                } else {
                    value
                }
            }
            _ => Value::Null,
        }
    }

    fn evaluate(&self, org: &Org, object: &Object, row: &Row, depth: u32) -> Value {
        let of = |inner: &Self| inner.evaluate(org, object, row, depth);
        match self {
            Self::Constant(value) => value.clone(),
            Self::Path(path) => follow(org, object, row, path, depth),
            Self::Negative(inner) => number(of(inner).as_f64().map(|n| -n)),
            Self::Binary(operator, left, right) => operator.apply(&of(left), &of(right)),
            Self::Call(function, arguments) => match (function, arguments.as_slice()) {
                (Function::If, [test, then, otherwise]) => {
                    of(if of(test) == true { then } else { otherwise })
                }
                (Function::IsBlank, [inner]) => is_blank(&of(inner)).into(),
                (Function::BlankValue, [inner, instead]) => match of(inner) {
                    value if is_blank(&value) => of(instead),
                    value => value,
                },
                (Function::And, list) => list.iter().all(|inner| of(inner) == true).into(),
                (Function::Or, list) => list.iter().any(|inner| of(inner) == true).into(),
                (Function::Not, [inner]) => (of(inner) != true).into(),
                (Function::Text, [inner]) => written(&of(inner)).into(),
                _ => Value::Null,
            },
        }
    }
}

fn follow(org: &Org, object: &Object, row: &Row, path: &[String], depth: u32) -> Value {
    let Some((name, above)) = path.split_first() else { return Value::Null };
    if above.is_empty() {
        let Some(field) = object.field(name) else { return Value::Null };
        return match &field.expression {
            Some(_) if depth == 0 => Value::Null,
            Some(inner) => inner.evaluate(org, object, row, depth - 1),
            None => org.value(object, row, field),
        };
    }
    let reference = object.relationship(name).map(|field| row.text(&field.name));
    let parent = reference.and_then(|id| org.row(id)).filter(|row| !row.deleted);
    let target = parent.and_then(|row| org.object_of(&row.id));
    match (parent, target) {
        (Some(row), Some(object)) => follow(org, object, row, above, depth),
        _ => Value::Null,
    }
}

impl Operator {
    /// Nothing is made of nothing, except by `&`, which takes it for an empty text.
    fn apply(self, left: &Value, right: &Value) -> Value {
        let numbers = left.as_f64().zip(right.as_f64());
        let texts = left.as_str().zip(right.as_str());
        let order = match (numbers, texts) {
            (Some((a, b)), _) => a.partial_cmp(&b),
            (_, Some((a, b))) => Some(a.cmp(b)),
            _ => None,
        };
        let calculated = |f: fn(f64, f64) -> f64| number(numbers.map(|(a, b)| f(a, b)));
        let equal = if numbers.is_some() {
            order.is_some_and(|order| order.is_eq())
        } else {
            left == right || is_blank(left) && is_blank(right)
        };
        match self {
            Self::Or => (*left == true || *right == true).into(),
            Self::And => (*left == true && *right == true).into(),
            Self::Equal => equal.into(),
            Self::NotEqual => (!equal).into(),
            Self::Less => order.is_some_and(|order| order.is_lt()).into(),
            Self::LessOrEqual => order.is_some_and(|order| order.is_le()).into(),
            Self::Greater => order.is_some_and(|order| order.is_gt()).into(),
            Self::GreaterOrEqual => order.is_some_and(|order| order.is_ge()).into(),
            Self::Concatenate => (written(left) + &written(right)).into(),
            // It joins texts too.
            Self::Plus if left.is_string() || right.is_string() => {
                (written(left) + &written(right)).into()
            }
            Self::Plus => calculated(|a, b| a + b),
            Self::Minus => calculated(|a, b| a - b),
            Self::Times => calculated(|a, b| a * b),
            Self::Divided => calculated(|a, b| a / b),
        }
    }
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Null for what is no number, as what a division by zero gives.
fn number(number: Option<f64>) -> Value {
    number.and_then(|n| Number::from_f64(n + 0.0)).map_or(Value::Null, Value::Number)
}

/// As `TEXT` writes it: whole numbers without a point.
fn written(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(n) => n.as_f64().map(|n| n.to_string()).unwrap_or_default(),
        other => other.to_string(),
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("end")
}

struct Reader<'a> {
    rest: &'a str,
    /// Brackets that are open; a formula that nests too deep would overflow the stack.
    depth: u32,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.skip().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("Syntax error. Missing '{token}'")) }
    }

    /// Operators of this level, and those that bind closer, from left to right.
    fn binary(&mut self, level: usize) -> Result<Expression, String> {
        let Some(operators) = OPERATORS.get(level) else { return self.single() };
        let mut left = self.binary(level + 1)?;
        loop {
            let rest = self.skip();
            let found = operators.iter().find(|(sign, _)| rest.starts_with(sign));
            // `&&` begins like `&`, and binds less.
            let found = found.filter(|(sign, _)| *sign != "&" || !rest.starts_with("&&"));
            let Some((sign, operator)) = found else { return Ok(left) };
            self.take(sign);
            let right = self.binary(level + 1)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
        }
    }

    fn single(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > 100 {
            return Err("Formula is too complex".into());
        }
        let expression = self.operand();
        self.depth -= 1;
        expression
    }

    fn operand(&mut self) -> Result<Expression, String> {
        let rest = self.skip();
        if self.take("-") {
            return Ok(Expression::Negative(Box::new(self.single()?)));
        }
        if self.take("(") {
            let inner = self.binary(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if rest.starts_with(['"', '\'']) {
            return self.text();
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        if word.is_empty() {
            return Err(format!("Syntax error. Found {}", first_word(rest)));
        }
        self.rest = behind;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let constant = word.parse::<f64>().ok().map(|n| number(Some(n)));
            let constant = constant.ok_or_else(|| format!("Syntax error. Found {word}"))?;
            return Ok(Expression::Constant(constant));
        }
        if self.take("(") {
            return self.call(word);
        }
        match word.to_ascii_uppercase().as_str() {
            "TRUE" => Ok(Expression::Constant(true.into())),
            "FALSE" => Ok(Expression::Constant(false.into())),
            "NULL" => Ok(Expression::Constant(Value::Null)),
            _ => Ok(Expression::Path(word.split('.').map(str::to_owned).collect())),
        }
    }

    /// Behind the bracket that opens.
    fn call(&mut self, name: &str) -> Result<Expression, String> {
        let (function, wanted) = match name.to_ascii_uppercase().as_str() {
            "IF" => (Function::If, 3..=3),
            "ISBLANK" | "ISNULL" => (Function::IsBlank, 1..=1),
            "BLANKVALUE" | "NULLVALUE" => (Function::BlankValue, 2..=2),
            "AND" => (Function::And, 1..=usize::MAX),
            "OR" => (Function::Or, 1..=usize::MAX),
            "NOT" => (Function::Not, 1..=1),
            "TEXT" => (Function::Text, 1..=1),
            _ => return Err(format!("Unknown function {name}. Check spelling.")),
        };
        let mut arguments = vec![self.binary(0)?];
        while self.take(",") {
            arguments.push(self.binary(0)?);
        }
        self.expect(")")?;
        if !wanted.contains(&arguments.len()) {
            let (want, got) = (wanted.start(), arguments.len());
            return Err(format!(
                "Incorrect number of parameters for function '{name}()'. Expected {want}, received {got}"
            ));
        }
        Ok(Expression::Call(function, arguments))
    }

    /// Between quotes of one kind; a backslash takes the next character as it is.
    fn text(&mut self) -> Result<Expression, String> {
        let mut characters = self.rest.char_indices();
        let quote = characters.next().map(|(_, c)| c);
        let mut text = String::new();
        while let Some((at, c)) = characters.next() {
            if Some(c) == quote {
                self.rest = &self.rest[at + c.len_utf8()..];
                return Ok(Expression::Constant(text.into()));
            }
            let c = if c == '\\' { characters.next().map(|(_, c)| c) } else { Some(c) };
            text.extend(c);
        }
        Err("Syntax error. Missing quote".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_refused_with_a_reason() {
        for (formula, reason) in [
            ("", "Syntax error. Found end"),
            ("1 +", "Syntax error. Found end"),
            ("(1", "Syntax error. Missing ')'"),
            ("1 2", "Syntax error. Extra 2"),
            ("\"a", "Syntax error. Missing quote"),
            ("SIN(1)", "Unknown function SIN. Check spelling."),
            (
                "IF(1, 2)",
                "Incorrect number of parameters for function 'IF()'. Expected 3, received 2",
            ),
            ("1.2.3", "Syntax error. Found 1.2.3"),
        ] {
            assert_eq!(Expression::parse(formula), Err(reason.to_owned()), "{formula}");
        }
        assert!(Expression::parse(&"(".repeat(10_000)).is_err());
        assert!(Expression::parse(&"-".repeat(10_000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange_to_be_refused(text in "[A-Z(),.\"'&|=<>+*/ 0-9é\\\\-]{0,40}") {
            let _ = Expression::parse(&text);
        }
    }
}
