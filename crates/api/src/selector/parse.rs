//! The grammar of selector texts, with the error texts of Kubernetes' recursive-descent parser.

use super::term::{FieldTerm, Operator, Requirement, SelectorError};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Word,
    In,
    NotIn,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Comma,
    Open,
    Close,
    End,
    /// Never made: every special character is a token by itself.
    Unknown,
}

const SPECIAL: &str = "=!(),<>";
const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        "!" => Token::Not,
        "=" => Token::Equals,
        "==" => Token::DoubleEquals,
        "!=" => Token::NotEquals,
        ">" => Token::Greater,
        "<" => Token::Less,
        "," => Token::Comma,
        "(" => Token::Open,
        ")" => Token::Close,
        _ => return None,
    })
}

/// Cuts the text into tokens, the last being `End`.
fn tokens(text: &str) -> Vec<(Token, &str)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', '\r', '\n']);
    while let Some(first) = rest.chars().next() {
        let special = SPECIAL.contains(first);
        let end = rest.find(|c: char| SPECIAL.contains(c) != special || " \t\r\n".contains(c)).unwrap_or(rest.len());
        let (token, taken) = match special {
            false => match &rest[..end] {
                "in" => (Token::In, end),
                "notin" => (Token::NotIn, end),
                _ => (Token::Word, end),
            },
            true => longest_symbol(&rest[..end]),
        };
        found.push((token, &rest[..taken]));
        rest = rest[taken..].trim_start_matches([' ', '\t', '\r', '\n']);
    }
    found.push((Token::End, ""));
    found
}

/// The longest token that a run of special characters (one byte each) starts with; each alone is one.
fn longest_symbol(run: &str) -> (Token, usize) {
    let mut best = (Token::Unknown, 1);
    for end in 1..=run.len() {
        match symbol(&run[..end]) {
            Some(token) => best = (token, end),
            None => break,
        }
    }
    best
}

struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    next: usize,
}

pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    Parser { tokens: tokens(text), next: 0 }.requirements().map_err(SelectorError)
}

impl<'a> Parser<'a> {
    /// The token ahead; `in` and `notin` are words wherever no operator is due.
    fn peek(&self) -> (Token, &'a str) {
        match self.peek_operator() {
            (Token::In | Token::NotIn, text) => (Token::Word, text),
            other => other,
        }
    }

    fn peek_operator(&self) -> (Token, &'a str) {
        self.tokens.get(self.next).copied().unwrap_or((Token::End, ""))
    }

    fn take(&mut self) -> (Token, &'a str) {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut found = Vec::new();
        loop {
            match self.peek() {
                (Token::Word | Token::Not, _) => {
                    let requirement = self.requirement();
                    found.push(requirement.map_err(|why| format!("unable to parse requirement: {why}"))?);
                }
                (Token::End, _) => return Ok(found),
                (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
            }
            match self.take() {
                (Token::End, _) => return Ok(found),
                (Token::Comma, _) => match self.peek() {
                    (Token::Word | Token::Not, _) => {}
                    (_, text) => return Err(format!("found '{text}', expected: identifier after ','")),
                },
                (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.take();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.take();
        }
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let build = |operator, values| Requirement::new(key, operator, values).map_err(|error| error.0);
        if negated {
            return build(Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return build(Operator::Exists, Vec::new());
        }
        let (token, text) = self.peek_operator();
        self.next += 1;
        let operator = match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => return Err(format!("found '{text}', expected: {OPERATORS}")),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_list()?,
            _ => vec![self.exact_value()?],
        };
        build(operator, values)
    }

    fn exact_value(&mut self) -> Result<String, String> {
        match self.peek() {
            (Token::End | Token::Comma, _) => Ok(String::new()),
            (Token::Word, text) => {
                self.next += 1;
                Ok(text.to_owned())
            }
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    /// `(a, b)`; nothing between commas is the empty value.
    fn value_list(&mut self) -> Result<Vec<String>, String> {
        match self.take() {
            (Token::Open, _) => {}
            (_, text) => return Err(format!("found '{text}' expected: '('")),
        }
        let mut values = Vec::new();
        match self.peek() {
            (Token::Word | Token::Comma, _) => {}
            (Token::Close, _) => {
                self.next += 1;
                return Ok(values);
            }
            (_, text) => return Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
        loop {
            match self.peek() {
                (Token::Word, text) => {
                    self.next += 1;
                    values.push(text.to_owned());
                }
                _ => values.push(String::new()),
            }
            match self.take() {
                (Token::Comma, _) => {}
                (Token::Close, _) => return Ok(values),
                (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
            }
        }
    }
}

/// Terms between unescaped commas, sorted as Kubernetes sorts them.
pub(super) fn field_terms(text: &str) -> Result<Vec<FieldTerm>, SelectorError> {
    let mut parts = split_unescaped_commas(text);
    parts.sort_unstable();
    let mut terms = Vec::new();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        let (field, equal, value) = split_term(part)
            .ok_or_else(|| SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
        terms.push(FieldTerm { field: field.to_owned(), equal, value: unescape(value)? });
    }
    Ok(terms)
}

fn split_unescaped_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Cuts at the first operator: `!=`, `==` or `=`.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.char_indices().find(|(at, c)| *c == '=' || term[*at..].starts_with("!="))?.0;
    let (field, rest) = term.split_at(at);
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(value) = rest.strip_prefix(operator) {
            return Some((field, equal, value));
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => plain.push(next),
                next => {
                    let sequence = next.map_or("\\".to_owned(), |next| format!("\\{next}"));
                    return Err(SelectorError(format!("invalid field selector: invalid escape sequence: {sequence}")));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {c}")));
            }
            _ => plain.push(c),
        }
    }
    Ok(plain)
}
