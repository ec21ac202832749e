use super::lexer::{Token, tokens};
use super::{Condition, Literal, Operator, Order, Query, Refusal};
use crate::moment;

/// How deep conditions can be nested.
const DEEPEST: usize = 100;

/// Words that begin a part of SOQL which is not served.
const UNSERVED: [&str; 14] = [
    "GROUP", "HAVING", "FOR", "WITH", "USING", "TYPEOF", "UPDATE", "INCLUDES", "EXCLUDES",
    "FIELDS", "SCOPE", "TRACKING", "VIEWSTAT", "DISTANCE",
];

/// Words that stand for dates (SOQL and SOSL Reference, Date Literals).
const DATE_WORDS: [&str; 12] = [
    "TODAY",
    "YESTERDAY",
    "TOMORROW",
    "LAST_",
    "THIS_",
    "NEXT_",
    "N_DAYS",
    "N_WEEKS",
    "N_MONTHS",
    "N_YEARS",
    "N_QUARTERS",
    "N_FISCAL",
];

pub(crate) fn parse(query: &str) -> Result<Query, Refusal> {
    let mut parser = Parser { tokens: tokens(query)?, next: 0, end: query.len(), depth: 0 };
    let query = parser.query()?;
    match parser.peek() {
        None => Ok(query),
        Some(_) => Err(parser.unexpected()),
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    end: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(_, at)| *at)
    }

    fn unexpected(&self) -> Refusal {
        let shown = match self.peek() {
            Some(Token::Word(word)) => word.clone(),
            Some(Token::Text(text)) => format!("'{text}'"),
            Some(Token::Sign(sign)) => (*sign).to_owned(),
            None => "<EOF>".to_owned(),
        };
        if UNSERVED.iter().any(|word| shown.eq_ignore_ascii_case(word)) {
            return Refusal::unserved(&shown, self.at());
        }
        Refusal::new("MALFORMED_QUERY", format!("unexpected token: '{shown}'"), self.at())
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword))
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        self.next += usize::from(found);
        found
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(s)) if *s == sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, found: bool) -> Result<(), Refusal> {
        if found { Ok(()) } else { Err(self.unexpected()) }
    }

    fn query(&mut self) -> Result<Query, Refusal> {
        let found = self.keyword("SELECT");
        self.expect(found)?;
        let fields = self.fields()?;
        let found = self.keyword("FROM");
        self.expect(found)?;
        let object = self.name()?;
        // An alias, or a second object.
        if self.sign(",") {
            return Err(Refusal::unserved("several objects", self.at()));
        }
        if let Some(Token::Word(word)) = self.peek()
            && !["WHERE", "ORDER", "LIMIT", "OFFSET", "ALL"]
                .iter()
                .any(|k| word.eq_ignore_ascii_case(k))
        {
            if UNSERVED.iter().any(|w| word.eq_ignore_ascii_case(w)) {
                return Err(self.unexpected());
            }
            return Err(Refusal { unserved: Some("ALIAS".into()), ..self.unexpected() });
        }
        let condition = if self.keyword("WHERE") { Some(self.condition()?) } else { None };
        let mut order = Vec::new();
        if self.keyword("ORDER") {
            let found = self.keyword("BY");
            self.expect(found)?;
            order.push(self.order()?);
            while self.sign(",") {
                order.push(self.order()?);
            }
        }
        let limit = if self.keyword("LIMIT") { Some(self.count()?) } else { None };
        let at = self.at();
        let offset = if self.keyword("OFFSET") { self.count()? } else { 0 };
        if offset > 2000 {
            let message = "Maximum SOQL offset allowed is 2000";
            return Err(Refusal::new("NUMBER_OUTSIDE_VALID_RANGE", message, at));
        }
        let all_rows = self.keyword("ALL");
        if all_rows {
            let found = self.keyword("ROWS");
            self.expect(found)?;
        }
        Ok(Query { fields, object, condition, order, limit, offset, all_rows })
    }

    fn fields(&mut self) -> Result<Vec<Vec<String>>, Refusal> {
        let mut fields: Vec<Vec<String>> = Vec::new();
        loop {
            let at = self.at();
            if self.sign("(") {
                return Err(Refusal::unserved("(SELECT", at));
            }
            let path = self.path()?;
            if self.sign("(") {
                let function = path.join(".");
                if function.eq_ignore_ascii_case("count") && self.sign(")") && fields.is_empty() {
                    return Ok(fields);
                }
                return Err(Refusal::unserved(&format!("{function}("), at));
            }
            let same = |p: &Vec<String>| {
                p.len() == path.len() && p.iter().zip(&path).all(|(a, b)| a.eq_ignore_ascii_case(b))
            };
            if fields.iter().any(same) {
                let message = format!("duplicate field selected: {}", path.join("."));
                return Err(Refusal::new("MALFORMED_QUERY", message, at));
            }
            fields.push(path);
            if !self.sign(",") {
                return Ok(fields);
            }
        }
    }

    fn name(&mut self) -> Result<String, Refusal> {
        match self.peek() {
            Some(Token::Word(word)) if is_name(word) => {
                let word = word.clone();
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn path(&mut self) -> Result<Vec<String>, Refusal> {
        const KEYWORDS: [&str; 7] = ["SELECT", "FROM", "WHERE", "AND", "OR", "LIMIT", "TYPEOF"];
        match self.peek() {
            Some(Token::Word(word))
                if word.split('.').all(is_name)
                    && !KEYWORDS.iter().any(|k| word.eq_ignore_ascii_case(k)) =>
            {
                let path: Vec<String> = word.split('.').map(str::to_owned).collect();
                if path.len() > 6 {
                    let message =
                        "SOQL statements cannot query more than 5 levels of relationships";
                    return Err(Refusal::new("MALFORMED_QUERY", message, self.at()));
                }
                self.next += 1;
                Ok(path)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn count(&mut self) -> Result<usize, Refusal> {
        match self.peek() {
            Some(Token::Word(word)) => match word.parse() {
                Ok(count) => {
                    self.next += 1;
                    Ok(count)
                }
                Err(_) => Err(self.unexpected()),
            },
            _ => Err(self.unexpected()),
        }
    }

    fn order(&mut self) -> Result<Order, Refusal> {
        let path = self.path()?;
        let descending = self.keyword("DESC");
        if !descending {
            self.keyword("ASC");
        }
        // Nulls come first whichever way it goes (SOQL and SOSL Reference, ORDER BY).
        let mut nulls_last = false;
        if self.keyword("NULLS") {
            nulls_last = self.keyword("LAST");
            let found = nulls_last || self.keyword("FIRST");
            self.expect(found)?;
        }
        Ok(Order { path, descending, nulls_last })
    }

    /// AND and OR side by side without parentheses are refused, as a real org does.
    fn condition(&mut self) -> Result<Condition, Refusal> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = "Query is either selecting too many fields or the filter conditions are too complicated.";
            return Err(Refusal::new("QUERY_TOO_COMPLICATED", message, self.at()));
        }
        let first = self.simple()?;
        let condition = if self.is_keyword("AND") {
            let mut all = vec![first];
            while self.keyword("AND") {
                all.push(self.simple()?);
            }
            Condition::And(all)
        } else if self.is_keyword("OR") {
            let mut any = vec![first];
            while self.keyword("OR") {
                any.push(self.simple()?);
            }
            Condition::Or(any)
        } else {
            first
        };
        if self.is_keyword("AND") || self.is_keyword("OR") {
            return Err(self.unexpected());
        }
        self.depth -= 1;
        Ok(condition)
    }

    fn simple(&mut self) -> Result<Condition, Refusal> {
        if self.keyword("NOT") {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(self.unexpected());
            }
            let condition = self.simple()?;
            self.depth -= 1;
            return Ok(Condition::Not(Box::new(condition)));
        }
        if self.sign("(") {
            let condition = self.condition()?;
            let found = self.sign(")");
            self.expect(found)?;
            return Ok(condition);
        }
        let at = self.at();
        let path = self.path()?;
        if self.sign("(") {
            return Err(Refusal::unserved(&format!("{}(", path.join(".")), at));
        }
        let not = self.keyword("NOT");
        if self.keyword("IN") {
            return self.list(path, not);
        }
        if not {
            return Err(self.unexpected());
        }
        let operator = match self.peek() {
            Some(Token::Sign("=")) => Operator::Equal,
            Some(Token::Sign("!=")) => Operator::NotEqual,
            Some(Token::Sign("<")) => Operator::Less,
            Some(Token::Sign("<=")) => Operator::LessOrEqual,
            Some(Token::Sign(">")) => Operator::Greater,
            Some(Token::Sign(">=")) => Operator::GreaterOrEqual,
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("LIKE") => Operator::Like,
            _ => return Err(self.unexpected()),
        };
        self.next += 1;
        Ok(Condition::Compare { path, operator, literal: self.literal()? })
    }

    fn list(&mut self, path: Vec<String>, not: bool) -> Result<Condition, Refusal> {
        let found = self.sign("(");
        self.expect(found)?;
        if self.is_keyword("SELECT") {
            return Err(Refusal::unserved("IN (SELECT", self.at()));
        }
        let mut literals = vec![self.literal()?];
        while self.sign(",") {
            literals.push(self.literal()?);
        }
        let found = self.sign(")");
        self.expect(found)?;
        Ok(Condition::In { path, not, literals })
    }

    fn literal(&mut self) -> Result<Literal, Refusal> {
        let literal = match self.peek() {
            Some(Token::Text(text)) => {
                if super::like::unescape(text).is_none() {
                    let message = format!("Illegal string literal '{text}'");
                    return Err(Refusal::new("MALFORMED_QUERY", message, self.at()));
                }
                Literal::Text(text.clone())
            }
            Some(Token::Word(word)) => {
                let upper = word.to_uppercase();
                if DATE_WORDS.iter().any(|w| upper.starts_with(w)) {
                    return Err(Refusal::unserved(word, self.at()));
                }
                match word.to_lowercase().as_str() {
                    "null" => Literal::Null,
                    "true" => Literal::Boolean(true),
                    "false" => Literal::Boolean(false),
                    _ => number(word).ok_or_else(|| self.unexpected())?,
                }
            }
            _ => return Err(self.unexpected()),
        };
        self.next += 1;
        Ok(literal)
    }
}

fn number(word: &str) -> Option<Literal> {
    if let Some(at) = moment::moment(word, false) {
        return Some(Literal::Moment(moment::text(at)));
    }
    if moment::is_date(word) {
        return Some(Literal::Date(word.to_owned()));
    }
    let plain = word.bytes().all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c));
    word.parse().ok().filter(|n: &f64| plain && n.is_finite()).map(Literal::Number)
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> Vec<String> {
        name.split('.').map(str::to_owned).collect()
    }

    fn compare(name: &str, operator: Operator, literal: Literal) -> Condition {
        Condition::Compare { path: path(name), operator, literal }
    }

    #[test]
    fn a_query_is_taken_apart() {
        let query = parse(
            "select Id,Account.Name from Contact where (Name like 'a\\'%' or Age__c>=-1.5e3) and not Ok__c=true order by Name desc nulls last , Id limit 5 offset 2",
        );
        let wanted = Query {
            fields: vec![path("Id"), path("Account.Name")],
            object: "Contact".into(),
            condition: Some(Condition::And(vec![
                Condition::Or(vec![
                    compare("Name", Operator::Like, Literal::Text("a\\'%".into())),
                    compare("Age__c", Operator::GreaterOrEqual, Literal::Number(-1500.0)),
                ]),
                Condition::Not(Box::new(compare("Ok__c", Operator::Equal, Literal::Boolean(true)))),
            ])),
            order: vec![
                Order { path: path("Name"), descending: true, nulls_last: true },
                Order { path: path("Id"), descending: false, nulls_last: false },
            ],
            limit: Some(5),
            offset: 2,
            all_rows: false,
        };
        assert_eq!(query, Ok(wanted));
    }

    #[test]
    fn literals_have_their_kinds() {
        for (literal, wanted) in [
            ("null", Literal::Null),
            ("FALSE", Literal::Boolean(false)),
            ("5", Literal::Number(5.0)),
            ("'5'", Literal::Text("5".into())),
            ("2026-01-02", Literal::Date("2026-01-02".into())),
            ("2026-01-02T03:04:05Z", Literal::Moment("2026-01-02T03:04:05.000+0000".into())),
            ("2026-01-02T03:04:05.5-01:00", Literal::Moment("2026-01-02T04:04:05.500+0000".into())),
        ] {
            let query =
                parse(&format!("SELECT Id FROM A WHERE B = {literal}")).map(|q| q.condition);
            assert_eq!(query, Ok(Some(compare("B", Operator::Equal, wanted))));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (query, at) in [
            ("", 0),
            ("SELECT Id", 9),
            ("SELECT Id, FROM A", 11),
            ("SELECT Id FROM A WHERE", 22),
            ("SELECT Id FROM A WHERE B", 24),
            ("SELECT Id FROM A WHERE B = ", 27),
            ("SELECT Id FROM A WHERE B = c", 27),
            ("SELECT Id FROM A WHERE B = 'a\\q'", 27),
            ("SELECT Id FROM A WHERE B IN ()", 29),
            ("SELECT Id FROM A WHERE (B = 1", 29),
            ("SELECT Id FROM A LIMIT -1", 23),
            ("SELECT Id FROM A ORDER Name", 23),
            ("SELECT Id FROM A; DROP", 16),
            ("SELECT a.b.c.d.e.f.g FROM A", 7),
        ] {
            let refusal = parse(query).expect_err(query);
            assert_eq!((refusal.code, refusal.at), ("MALFORMED_QUERY", at), "{query}: {refusal:?}");
            assert_eq!(refusal.unserved, None, "{query}");
        }
        let deep = format!("SELECT Id FROM A WHERE {}B = 1{}", "(".repeat(5000), ")".repeat(5000));
        assert_eq!(parse(&deep).map_err(|r| r.code), Err("QUERY_TOO_COMPLICATED"));
        let deep = format!("SELECT Id FROM A WHERE {}B = 1", "NOT ".repeat(5000));
        assert!(parse(&deep).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_query_is_too_strange_to_be_refused(
            query in "(SELECT Id FROM A WHERE )?(.{0,40}|[a-zA-Z0-9_ .,()'\\\\=<>!:+-]{0,60})"
        ) {
            if let Err(refusal) = parse(&query) {
                let _ = refusal.text(&query);
            }
        }
    }
}
