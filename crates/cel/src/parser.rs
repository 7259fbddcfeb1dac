//! Tokens to expressions.

use crate::ast::{Call, Expr, How, Literal, Node, Select};
use crate::build::{call, dotted, expr};
use crate::checker::TYPE_NAMES;
use crate::lexer::{Fault, Token, lex};
use crate::macros;
use crate::names::RESERVED;

/// Deeper nesting is refused: every walk over an expression recurses.
const DEPTH_MAX: usize = 100;
/// How many parts of one `&&` or `||` stay one call.
const CHAIN_MAX: usize = 10_000;
/// Longer expressions are refused.
pub(crate) const SOURCE_CHARS_MAX: usize = 100_000;

const START: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
/// Binary operators, loosest first; all associate to the left.
const LEVELS: &[&[(&str, &str)]] = &[
    &[("||", "_||_")],
    &[("&&", "_&&_")],
    &[("<", "_<_"), ("<=", "_<=_"), (">=", "_>=_"), (">", "_>_"), ("==", "_==_"), ("!=", "_!=_"), ("in", "@in")],
    &[("+", "_+_"), ("-", "_-_")],
    &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
];

pub(crate) fn parse(source: &str) -> Result<Expr, Fault> {
    if source.chars().count() > SOURCE_CHARS_MAX {
        return Err((
            0,
            format!(
                "expression code point size exceeds limit: size: {}, limit {SOURCE_CHARS_MAX}",
                source.chars().count()
            ),
        ));
    }
    let mut parser = Parser { tokens: lex(source)?, next: 0, depth: 0 };
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expr),
        other => Err(parser.unexpected(format!("mismatched input '{}' expecting <EOF>", other.text()))),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    fn is_sign(&self, sign: &str) -> bool {
        match self.peek() {
            Token::Sign(found) => *found == sign,
            Token::Ident(word) => word == "in" && sign == "in",
            _ => false,
        }
    }

    fn take(&mut self) -> Token {
        let token = self.tokens[self.next].1.clone();
        // The last token is the end, which is never passed.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.accept(sign) {
            return Ok(());
        }
        Err(self.unexpected(format!("mismatched input '{}' expecting '{sign}'", self.peek().text())))
    }

    fn unexpected(&self, why: String) -> Fault {
        (self.at(), format!("Syntax error: {why}"))
    }

    fn expression(&mut self) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err((self.at(), format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        let condition = self.binary(0)?;
        let at = self.at();
        let whole = if self.accept("?") {
            let then = self.binary(0)?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            call(at, "_?_:_", false, vec![condition, then, otherwise])?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(whole)
    }

    /// A chain of operators of this level or tighter ones.
    fn binary(&mut self, level: usize) -> Result<Expr, Fault> {
        let mut left = self.unary()?;
        loop {
            let found = LEVELS.iter().enumerate().skip(level).find_map(|(own, operators)| {
                operators.iter().find(|(sign, _)| self.is_sign(sign)).map(|(sign, name)| (own, *sign, *name))
            });
            let Some((own, sign, name)) = found else { return Ok(left) };
            let at = self.at();
            self.accept(sign);
            let right = self.binary(own + 1)?;
            left = match left.node {
                // Long chains of these are common: one call takes all their parts.
                Node::Call(Call { name: known, function, is_member, mut args, pattern })
                    if known == name && own < 2 && args.len() < CHAIN_MAX =>
                {
                    args.push(right);
                    expr(left.at, Node::Call(Call { name: known, function, is_member, args, pattern }))
                }
                node => call(at, name, false, vec![Expr { node, ..left }, right])?,
            };
            self.limit(&left)?;
        }
    }

    fn limit(&self, expr: &Expr) -> Result<(), Fault> {
        if expr.height as usize > DEPTH_MAX {
            return Err((expr.at, format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        Ok(())
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        for (sign, name) in [("!", "!_"), ("-", "-_")] {
            let mut count = 0;
            while self.is_sign(sign) {
                self.take();
                count += 1;
            }
            if count == 0 {
                continue;
            }
            if sign == "-" && count == 1 && matches!(self.peek(), Token::Int(_) | Token::Double(_)) {
                let negated = match self.take() {
                    Token::Int(text) => Literal::Int(whole(&text, true).ok_or((at, "invalid int literal".to_owned()))?),
                    Token::Double(text) => Literal::Double(-text.parse::<f64>().unwrap_or(f64::NAN)),
                    _ => Literal::Null,
                };
                let literal = expr(at, Node::Literal(negated));
                return self.members(literal);
            }
            let operand = self.member()?;
            return if count % 2 == 0 { Ok(operand) } else { call(at, name, false, vec![operand]) };
        }
        self.member()
    }

    fn member(&mut self) -> Result<Expr, Fault> {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut operand: Expr) -> Result<Expr, Fault> {
        loop {
            self.limit(&operand)?;
            let at = self.at();
            if self.accept(".") {
                let how = if self.accept("?") { How::Optional } else { How::Value };
                let field = match self.take() {
                    Token::Ident(name) | Token::Quoted(name) => name,
                    other => {
                        self.next = self.next.saturating_sub(usize::from(other != Token::End));
                        return Err(self.unexpected(format!("no viable alternative at input '.{}'", other.text())));
                    }
                };
                let open = self.at();
                if how == How::Value && self.accept("(") {
                    let args = self.list(")")?;
                    operand = macros::member(open, operand, &field, args)?;
                } else {
                    operand = expr(at, Node::Select(Select { operand: Box::new(operand), field, how }));
                    if let Some(name) = dotted(&operand).filter(|name| TYPE_NAMES.contains(&name.as_str())) {
                        operand = expr(at, Node::Ident(name));
                    }
                }
            } else if self.accept("[") {
                let name = if self.accept("?") { "_[?_]" } else { "_[_]" };
                let index = self.expression()?;
                self.expect("]")?;
                operand = call(at, name, false, vec![operand, index])?;
            } else if self.is_sign("{")
                && let Some(name) = dotted(&operand)
            {
                self.take();
                operand = expr(at, Node::Struct(name, self.struct_fields()?));
            } else {
                return Ok(operand);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        let literal = |literal| Ok(expr(at, Node::Literal(literal)));
        match self.take() {
            Token::Int(text) => {
                literal(Literal::Int(whole(&text, false).ok_or((at, "invalid int literal".to_owned()))?))
            }
            Token::Uint(text) => {
                let value = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
                    Some(hex) => u64::from_str_radix(hex, 16).ok(),
                    None => text.parse().ok(),
                };
                literal(Literal::Uint(value.ok_or((at, "invalid uint literal".to_owned()))?))
            }
            Token::Double(text) => literal(Literal::Double(text.parse().unwrap_or(f64::NAN))),
            Token::String(text) => literal(Literal::String(text)),
            Token::Bytes(bytes) => literal(Literal::Bytes(bytes)),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.elements(at),
            Token::Sign("{") => self.entries(at),
            Token::Sign(".") => match self.take() {
                Token::Ident(name) => self.named(at, name),
                other => Err((at, format!("Syntax error: mismatched input '{}' expecting IDENTIFIER", other.text()))),
            },
            Token::Ident(word) => match word.as_str() {
                "true" => literal(Literal::Bool(true)),
                "false" => literal(Literal::Bool(false)),
                "null" => literal(Literal::Null),
                word if RESERVED.contains(&word) => Err((at, format!("reserved identifier: {word}"))),
                _ => self.named(at, word),
            },
            other => Err((at, format!("Syntax error: mismatched input '{}' expecting {START}", other.text()))),
        }
    }

    fn named(&mut self, at: usize, name: String) -> Result<Expr, Fault> {
        let open = self.at();
        if self.accept("(") {
            let args = self.list(")")?;
            return macros::global(open, &name, args);
        }
        Ok(expr(at, Node::Ident(name)))
    }

    /// Expressions up to a closing sign.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, Fault> {
        let mut list = Vec::new();
        while !self.accept(close) {
            list.push(self.expression()?);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(list)
    }

    fn elements(&mut self, at: usize) -> Result<Expr, Fault> {
        let mut list = Vec::new();
        while !self.accept("]") {
            let is_optional = self.accept("?");
            list.push((self.expression()?, is_optional));
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(expr(at, Node::List(list)))
    }

    fn entries(&mut self, at: usize) -> Result<Expr, Fault> {
        let mut entries = Vec::new();
        while !self.accept("}") {
            let is_optional = self.accept("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, is_optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(expr(at, Node::Map(entries)))
    }

    fn struct_fields(&mut self) -> Result<Vec<(String, Expr, bool)>, Fault> {
        let mut fields = Vec::new();
        while !self.accept("}") {
            let is_optional = self.accept("?");
            let name = match self.take() {
                Token::Ident(name) | Token::Quoted(name) => name,
                other => {
                    return Err(self.unexpected(format!("mismatched input '{}' expecting IDENTIFIER", other.text())));
                }
            };
            self.expect(":")?;
            fields.push((name, self.expression()?, is_optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }
}

fn whole(text: &str, is_negative: bool) -> Option<i64> {
    let magnitude = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None => text.parse::<i128>().ok()?,
    };
    i64::try_from(if is_negative { -magnitude } else { magnitude }).ok()
}
