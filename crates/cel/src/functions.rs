//! Every function and operator that expressions may call: Kubernetes' own libraries beside the language's.
//!
//! One table says name, signatures (for the checker) and code; arguments are matched again when a call is made, since the types
//! of many values are known only then. Upstream: k8s.io/apiserver/pkg/cel/library and cel-go's ext package describe them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::types::Signature;
use crate::value::Value;
use crate::{Error, Result};

mod convert;
mod format;
mod kube;
mod lists;
pub(crate) mod network;
mod operators;
mod printf;
pub(crate) mod semver;
mod strings;
pub(crate) mod time;

pub(crate) type Code = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>>;

/// What a call costs beside its arguments, in the units of cost limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    One,
    /// A tenth for each character or element of the first argument.
    Scan,
    /// The same for all arguments.
    ScanAll,
    /// Text times pattern.
    Match,
    /// A question to the authorizer.
    Ask,
}

#[derive(Debug)]
pub(crate) struct Function {
    signatures: &'static [&'static str],
    parsed: OnceLock<Vec<Signature>>,
    pub code: Code,
    pub cost: Cost,
    /// Whether the second argument is a regular expression.
    pub is_pattern: bool,
}

impl Function {
    pub fn signatures(&self) -> &[Signature] {
        self.parsed.get_or_init(|| self.signatures.iter().map(|text| Signature::parse(text)).collect())
    }
}

/// The function of that name, as a member (`a.f(b)`) or not.
pub(crate) fn find(name: &str, is_member: bool) -> Option<&'static Function> {
    static INDEX: OnceLock<[BTreeMap<&'static str, Function>; 2]> = OnceLock::new();
    let index = INDEX.get_or_init(|| {
        let tables = [operators::TABLE, convert::TABLE, strings::TABLE, lists::TABLE, time::TABLE, kube::TABLE];
        let rows = tables.into_iter().chain([network::TABLE, semver::TABLE, format::TABLE]).flatten();
        let mut index = [BTreeMap::new(), BTreeMap::new()];
        for (name, signatures, code, cost) in rows {
            for is_member in [false, true] {
                let is_wanted = |text: &&'static str| is_member != text.starts_with('(');
                let own: Vec<&'static str> = signatures.iter().copied().filter(is_wanted).collect();
                if own.is_empty() {
                    continue;
                }
                let is_pattern = *cost == Cost::Match;
                let function =
                    Function { signatures: own.leak(), parsed: OnceLock::new(), code: *code, cost: *cost, is_pattern };
                index[usize::from(is_member)].insert(*name, function);
            }
        }
        index
    });
    index[usize::from(is_member)].get(name)
}

/// A row of a table.
type Row = (&'static str, &'static [&'static str], Code, Cost);

fn no_overload<'a>() -> Result<Value<'a>> {
    Err(Error::no_overload())
}

fn list<'a>(value: &Value<'a>) -> Result<Vec<Value<'a>>> {
    value.elements().ok_or_else(Error::no_overload)
}

fn text<'b>(value: &'b Value<'_>) -> Result<&'b str> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Error::no_overload()),
    }
}

fn int(value: &Value<'_>) -> Result<i64> {
    match value {
        Value::Int(value) => Ok(*value),
        _ => Err(Error::no_overload()),
    }
}

pub(crate) use lists::sorted;
pub(crate) use operators::insert;
pub(crate) use strings::with_pattern;
