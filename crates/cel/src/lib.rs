//! The Common Expression Language as Kubernetes uses it: rules of custom resources and admission policies.
//!
//! [`compile`] parses and checks an expression once; [`Program::evaluate`] runs it over parts of objects, which are looked into
//! where they are. Guarantees: evaluation ends (every step costs, and the cost has a limit), depends on its inputs alone, and
//! never panics. Start at `parser.rs`, `checker.rs`, `eval.rs`; what can be called stands in `functions.rs`.
//! Upstream: the CEL specification; k8s.io/apiserver/pkg/cel.

mod address;
mod ast;
mod build;
mod checker;
mod cost;
mod duration;
mod error;
mod eval;
mod functions;
mod lexer;
mod macros;
mod names;
mod parser;
mod types;
mod value;
mod version;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use cost::size_max;
pub use error::{Error, Result};
pub use names::escape;
pub use types::Known;
pub use value::{Asked, Key, Text, Value};

/// What one evaluation may cost.
pub const CALL_COST_MAX: u64 = 1_000_000;

/// What an expression must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Any,
    Bool,
    String,
    /// Text, or null for nothing.
    StringOrNull,
}

/// A parsed and checked expression.
#[derive(Debug)]
pub struct Program {
    expr: ast::Expr,
    source: String,
    idents: BTreeSet<String>,
    cost_max: u64,
}

/// Parses and checks `source`, in which these names are known.
///
/// # Errors
/// All mistakes, each with its place, as `ERROR: <input>:1:5: …` over the line in question; or what the result should have been.
pub fn compile(source: &str, known: &[(&str, Known)], wanted: Wanted) -> std::result::Result<Program, String> {
    let shown = |faults: &[lexer::Fault]| {
        let faults = faults.iter().map(|fault| display(source, fault)).collect::<Vec<_>>();
        format!("compilation failed: {}", faults.join("\n"))
    };
    let expr = parser::parse(source).map_err(|fault| shown(&[fault]))?;
    let (found, faults) = checker::check(&expr, known);
    if !faults.is_empty() {
        return Err(shown(&faults));
    }
    let fits = match wanted {
        Wanted::Any => true,
        Wanted::Bool => matches!(found, types::Type::Bool | types::Type::Dyn),
        Wanted::String => matches!(found, types::Type::String | types::Type::Dyn),
        Wanted::StringOrNull => matches!(found, types::Type::String | types::Type::Null | types::Type::Dyn),
    };
    if !fits {
        return Err(match wanted {
            Wanted::Bool => "cel expression must evaluate to a bool",
            Wanted::String => "cel expression must evaluate to a string",
            _ => "must evaluate to one of [string null_type]",
        }
        .into());
    }
    let mut idents = BTreeSet::new();
    checker::idents(&expr, &mut idents);
    let cost_max = cost::estimate(&expr, known);
    Ok(Program { expr, source: source.into(), idents, cost_max })
}

/// A mistake with its line and a mark under the place.
fn display(source: &str, (at, why): &lexer::Fault) -> String {
    let before: String = source.chars().take(*at).collect();
    let line_number = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let line = source.split('\n').nth(line_number).unwrap_or_default().replace('\t', " ");
    format!("ERROR: <input>:{}:{}: {why}\n | {line}\n | {}^", line_number + 1, column + 1, ".".repeat(column))
}

impl Program {
    /// Runs with these values, at the price of at most `limit`; returns what it cost, too.
    pub fn evaluate<'a>(&'a self, vars: &[(&'a str, Value<'a>)], limit: u64) -> (Result<Value<'a>>, u64) {
        eval::evaluate(&self.expr, vars, limit)
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the expression mentions a name.
    pub fn uses(&self, name: &str) -> bool {
        self.idents.contains(name)
    }

    /// What one evaluation can cost at most, by the sizes that schemas allow.
    pub fn cost_max(&self) -> u64 {
        self.cost_max
    }
}
