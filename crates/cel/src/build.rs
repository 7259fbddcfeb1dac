//! Makes expressions: what the parser and the macros have in common.

use regex::Regex;

use crate::ast::{Call, Expr, How, Literal, Node, Select};
use crate::functions::{self, Function};
use crate::lexer::Fault;

pub(crate) fn expr(at: usize, node: Node) -> Expr {
    Expr::new(at, node)
}

/// A call of a known function by name.
pub(crate) fn call(at: usize, name: &str, is_member: bool, args: Vec<Expr>) -> Result<Expr, Fault> {
    let function = functions::find(name, is_member);
    let pattern = match (function, args.get(1).map(|arg| (arg.at, &arg.node))) {
        (Some(Function { is_pattern: true, .. }), Some((at, Node::Literal(Literal::String(text))))) => Some(Box::new(
            Regex::new(text).map_err(|_| (at, format!("invalid matches argument: error parsing regexp: `{text}`")))?,
        )),
        _ => None,
    };
    Ok(expr(at, Node::Call(Call { name: name.into(), function, is_member, args, pattern })))
}

/// `a.b.c` as text, when that is all an expression is.
pub(crate) fn dotted(expr: &Expr) -> Option<String> {
    match &expr.node {
        Node::Ident(name) => Some(name.clone()),
        Node::Select(Select { operand, field, how: How::Value }) => Some(format!("{}.{field}", dotted(operand)?)),
        _ => None,
    }
}
