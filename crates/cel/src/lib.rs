//! The Common Expression Language as Kubernetes uses it: rules of custom resources and admission policies.
//!
//! [`compile`] parses and checks an expression once; [`Program::evaluate`] runs it over parts of objects, which are looked into
//! where they are. Guarantees: evaluation ends (every step costs, and the cost has a limit), depends on its inputs alone, and
//! never panics. Start at `parser.rs`, `checker.rs`, `eval.rs`; what can be called stands in `functions.rs`.
//! Upstream: the CEL specification; k8s.io/apiserver/pkg/cel.

mod ast;
mod checker;
mod cost;
mod eval;
mod functions;
mod lexer;
mod macros;
mod names;
mod parser;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use stead_api::schema::Schema;

pub use cost::size_max;
pub use names::escape;
pub use value::{Asked, Key, Text, Value};

/// What one evaluation may cost.
pub const CALL_COST_MAX: u64 = 1_000_000;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A mistake that `||` and `&&` may still hide: `no such key: a`.
    Failed(String),
    /// The cost limit was reached.
    Limit,
}

impl Error {
    pub fn failed(why: impl Into<String>) -> Error {
        Error::Failed(why.into())
    }

    pub(crate) fn no_overload() -> Error {
        Error::failed("no such overload")
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Failed(why) => f.write_str(why),
            Error::Limit => f.write_str("operation cancelled: actual cost limit exceeded"),
        }
    }
}

impl std::error::Error for Error {}

/// What a name may stand for.
#[derive(Clone, Copy, Debug)]
pub enum Known<'s> {
    /// Anything: it is checked when it is used.
    Dyn,
    /// A value of this schema.
    Schema(&'s Schema),
    /// An optional of it.
    Optional(&'s Schema),
    Authorizer,
    /// An object with these members, which may be anything.
    Members(&'s [String]),
}

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
