//! What reading a text gives, whichever its notation: the value and its duplicate keys, or what is wrong with it.

use serde_json::Value;

/// Duplicates beyond this many are not told.
pub(super) const DUPLICATES_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

/// A body's value, and the keys that were given again.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Document {
    pub value: Value,
    pub duplicates: Duplicates,
}

/// Keys that were given again, as each notation tells of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Duplicates {
    /// Of JSON: where they are, `spec.containers[0].name`.
    Paths(Vec<String>),
    /// Of YAML: `line 3: key "name" already set in map`.
    Lines(Vec<String>),
}

impl Default for Duplicates {
    fn default() -> Duplicates {
        Duplicates::Paths(Vec::new())
    }
}

/// What stands before the lines of a YAML text that are told together.
const YAML_PROBLEMS: &str = "yaml: unmarshal errors:\n";

impl Duplicates {
    /// One text a problem, as the error of a strict request has them: all lines of a YAML text are one.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Duplicates::Paths(paths) => paths.iter().map(|path| format!("duplicate field \"{path}\"")).collect(),
            Duplicates::Lines(lines) if lines.is_empty() => Vec::new(),
            Duplicates::Lines(lines) => vec![format!("{YAML_PROBLEMS}  {}", lines.join("\n  "))],
        }
    }
}

/// A problem as warnings: one for each line of a YAML text.
pub fn warnings(problem: &str) -> impl Iterator<Item = String> {
    problem.strip_prefix(YAML_PROBLEMS).unwrap_or(problem).lines().map(|line| line.trim().to_owned())
}
