//! Source text to tokens, with their places for messages.

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// A name in backquotes, which may stand after a dot only.
    Quoted(String),
    Int(String),
    Uint(String),
    Double(String),
    String(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
    End,
}

impl Token {
    /// As messages quote it.
    pub fn text(&self) -> String {
        match self {
            Token::Ident(text) | Token::Quoted(text) | Token::Int(text) | Token::Double(text) => text.clone(),
            Token::Uint(text) => format!("{text}u"),
            Token::String(text) => format!("{text:?}"),
            Token::Bytes(_) => "b\"…\"".into(),
            Token::Sign(sign) => (*sign).into(),
            Token::End => "<EOF>".into(),
        }
    }
}

/// A mistake in the source, and where.
pub(crate) type Fault = (usize, String);

const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", ".", ",", "(", ")", "[", "]", "{", "}", "?", ":", "+", "-", "*", "/", "%", "!",
    "<", ">",
];

pub(crate) fn lex(source: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push((start, token));
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip_blanks(&mut self) {
        loop {
            if self.peek(0).is_whitespace() {
                self.at += 1;
            } else if self.peek(0) == '/' && self.peek(1) == '/' {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        let first = self.peek(0);
        if let Some(token) = self.string()? {
            return Ok(token);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let start = self.at;
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
                self.at += 1;
            }
            return Ok(Token::Ident(self.chars[start..self.at].iter().collect()));
        }
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            return Ok(self.number());
        }
        if first == '`' {
            let start = self.at + 1;
            let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-/ ".contains(c);
            self.at += 1;
            while is_name(self.peek(0)) {
                self.at += 1;
            }
            if self.peek(0) != '`' {
                return Err((start - 1, "Syntax error: token recognition error at: '`'".into()));
            }
            self.at += 1;
            return Ok(Token::Quoted(self.chars[start..self.at - 1].iter().collect()));
        }
        for sign in SIGNS {
            if sign.chars().enumerate().all(|(index, c)| self.peek(index) == c) {
                self.at += sign.len();
                return Ok(Token::Sign(sign));
            }
        }
        Err((self.at, format!("Syntax error: token recognition error at: '{first}'")))
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        let text = |lexer: &Lexer| -> String { lexer.chars[start..lexer.at].iter().collect() };
        if self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            return self.whole(text(self));
        }
        let digits = |lexer: &mut Lexer| {
            while lexer.peek(0).is_ascii_digit() {
                lexer.at += 1;
            }
        };
        digits(self);
        let mut is_double = false;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            is_double = true;
            self.at += 1;
            digits(self);
        }
        let signed = matches!(self.peek(1), '+' | '-') as usize;
        if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + signed).is_ascii_digit() {
            is_double = true;
            self.at += 1 + signed;
            digits(self);
        }
        if is_double { Token::Double(text(self)) } else { self.whole(text(self)) }
    }

    fn whole(&mut self, text: String) -> Token {
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            return Token::Uint(text);
        }
        Token::Int(text)
    }

    /// A string or bytes, if one begins here: prefixes `r` and `b`, one or three quotes of either kind.
    fn string(&mut self) -> Result<Option<Token>, Fault> {
        let start = self.at;
        let (mut is_raw, mut is_bytes, mut skip) = (false, false, 0);
        while matches!(self.peek(skip), 'r' | 'R' | 'b' | 'B') && skip < 2 {
            is_raw |= matches!(self.peek(skip), 'r' | 'R');
            is_bytes |= matches!(self.peek(skip), 'b' | 'B');
            skip += 1;
        }
        let quote = self.peek(skip);
        if !matches!(quote, '"' | '\'') {
            return Ok(None);
        }
        self.at += skip;
        let is_triple = self.peek(1) == quote && self.peek(2) == quote;
        self.at += if is_triple { 3 } else { 1 };
        let mut text = String::new();
        let mut bytes = Vec::new();
        loop {
            if self.at >= self.chars.len() || (!is_triple && self.peek(0) == '\n') {
                return Err((start, format!("Syntax error: token recognition error at: '{quote}'")));
            }
            let ends = self.peek(0) == quote && (!is_triple || (self.peek(1) == quote && self.peek(2) == quote));
            if ends {
                self.at += if is_triple { 3 } else { 1 };
                break;
            }
            let c = self.peek(0);
            self.at += 1;
            if c == '\\' && !is_raw {
                self.escape(is_bytes, &mut text, &mut bytes).ok_or((start, "unable to unescape string".to_owned()))?;
            } else if is_bytes {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        Ok(Some(if is_bytes { Token::Bytes(bytes) } else { Token::String(text) }))
    }

    /// What follows a backslash. In bytes, `\x` and octal escapes are bytes, not characters.
    fn escape(&mut self, is_bytes: bool, text: &mut String, bytes: &mut Vec<u8>) -> Option<()> {
        let c = self.peek(0);
        self.at += 1;
        let code = |lexer: &mut Lexer, from: usize, length: usize, radix: u32| -> Option<u32> {
            let digits: String = lexer.chars.get(from..from + length)?.iter().collect();
            lexer.at = from + length;
            u32::from_str_radix(&digits, radix).ok()
        };
        let (number, is_byte) = match c {
            'a' => (7, false),
            'b' => (8, false),
            'f' => (12, false),
            'n' => (10, false),
            'r' => (13, false),
            't' => (9, false),
            'v' => (11, false),
            '\\' | '\'' | '"' | '`' | '?' => (c as u32, false),
            'x' | 'X' => (code(self, self.at, 2, 16)?, true),
            'u' if !is_bytes => (code(self, self.at, 4, 16)?, false),
            'U' if !is_bytes => (code(self, self.at, 8, 16)?, false),
            '0'..='3' => (code(self, self.at - 1, 3, 8)?, true),
            _ => return None,
        };
        match (is_bytes, is_byte) {
            (true, _) => bytes.push(u8::try_from(number).ok()?),
            (false, _) => text.push(char::from_u32(number)?),
        }
        Some(())
    }
}
