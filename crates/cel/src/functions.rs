//! Every function and operator that expressions may call: Kubernetes' own libraries beside the language's.
//!
//! One table says name, signatures (for the checker) and code; arguments are matched again when a call is made, since the types
//! of many values are known only then. Upstream: k8s.io/apiserver/pkg/cel/library and cel-go's ext package describe them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::types::Signature;
use row::Code;

mod convert;
mod format;
mod kube;
mod lists;
mod network;
mod operators;
mod printf;
mod row;
mod semver;
mod strings;
mod time;

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

pub(crate) use lists::sorted;
pub(crate) use operators::insert;
pub(crate) use row::Cost;
pub(crate) use strings::with_pattern;
