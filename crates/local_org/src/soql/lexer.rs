use super::Refusal;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name, a keyword, a path, a number, a date or a moment: whatever stands without quotes.
    Word(String),
    /// The text between quotes, with its escapes.
    Text(String),
    /// One of `( ) , = != < <= > >=`.
    Sign(&'static str),
}

/// Tokens, and where each begins.
pub(super) fn tokens(query: &str) -> Result<Vec<(Token, usize)>, Refusal> {
    let mut tokens = Vec::new();
    let mut rest = query.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        if c.is_whitespace() {
            continue;
        }
        let two = |sign| query[at..].starts_with(sign);
        let sign = match c {
            '(' => "(",
            ')' => ")",
            ',' => ",",
            '=' => "=",
            '<' if two("<>") => "!=",
            '<' if two("<=") => "<=",
            '<' => "<",
            '>' if two(">=") => ">=",
            '>' => ">",
            '!' if two("!=") => "!=",
            '\'' => {
                let mut text = String::new();
                loop {
                    match rest.next() {
                        Some((_, '\'')) => break,
                        Some((_, '\\')) => {
                            let Some((_, escaped)) = rest.next() else { continue };
                            text.extend(['\\', escaped]);
                        }
                        Some((_, c)) => text.push(c),
                        None => {
                            let message = "unexpected token: '<EOF>'";
                            return Err(Refusal::new("MALFORMED_QUERY", message, at));
                        }
                    }
                }
                tokens.push((Token::Text(text), at));
                continue;
            }
            c if c.is_alphanumeric() || "_.:-+%&{}".contains(c) => {
                let mut word = String::from(c);
                while let Some((_, next)) =
                    rest.next_if(|(_, c)| c.is_alphanumeric() || "_.:-+%&{}".contains(*c))
                {
                    word.push(next);
                }
                tokens.push((Token::Word(word), at));
                continue;
            }
            other => {
                let message = format!("unexpected character '{other}'");
                return Err(Refusal::new("MALFORMED_QUERY", message, at));
            }
        };
        if sign.len() == 2 {
            rest.next();
        }
        tokens.push((Token::Sign(sign), at));
    }
    Ok(tokens)
}
