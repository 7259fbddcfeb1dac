//! The terms that selectors are made of: a requirement on a label, a comparison of a field.

use std::fmt;

use crate::names;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How a requirement compares a label with its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label. Built by [`Requirement::new`], which checks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub(super) key: String,
    pub(super) operator: Operator,
    pub(super) values: Vec<String>,
}

impl Requirement {
    /// Checks the key, the number of values and each value, as Kubernetes' `labels.NewRequirement`.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Requirement, SelectorError> {
        let mut errors: Vec<String> = invalid("key", key, names::qualified_name(key));
        let shown = || format!("[{}]", values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(","));
        let count_rule = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(rule) = count_rule {
            errors.push(format!("values: Invalid value: {}: {rule}", shown()));
        }
        for (index, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
                let rule = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(format!("values[{index}]: Invalid value: {value:?}: {rule}"));
            }
            errors.extend(invalid(&format!("values[{index}][{key}]"), value, names::label_value(value)));
        }
        match errors.len() {
            0 => {
                values.sort();
                values.dedup();
                Ok(Requirement { key: key.to_owned(), operator, values })
            }
            1 => Err(SelectorError(errors.remove(0))),
            _ => Err(SelectorError(format!("[{}]", errors.join(", ")))),
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// A missing label satisfies the negative operators only.
    pub fn matches(&self, label: Option<&str>) -> bool {
        let listed = |label: &str| self.values.iter().any(|value| value == label);
        let compared = |label: &str, holds: fn(&i64, &i64) -> bool| {
            let bound = self.values.first().and_then(|value| value.parse().ok());
            matches!((label.parse(), bound), (Ok(label), Some(bound)) if holds(&label, &bound))
        };
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => label.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => label.is_some_and(|label| compared(label, i64::gt)),
            Operator::LessThan => label.is_some_and(|label| compared(label, i64::lt)),
        }
    }
}

fn invalid(path: &str, value: &str, messages: Vec<String>) -> Vec<String> {
    match messages.is_empty() {
        true => Vec::new(),
        false => vec![format!("{path}: Invalid value: {value:?}: {}", messages.join("; "))],
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.join(",");
        match self.operator {
            Operator::Equals => write!(out, "{}={values}", self.key),
            Operator::DoubleEquals => write!(out, "{}=={values}", self.key),
            Operator::NotEquals => write!(out, "{}!={values}", self.key),
            Operator::In => write!(out, "{} in ({values})", self.key),
            Operator::NotIn => write!(out, "{} notin ({values})", self.key),
            Operator::Exists => write!(out, "{}", self.key),
            Operator::DoesNotExist => write!(out, "!{}", self.key),
            Operator::GreaterThan => write!(out, "{}>{values}", self.key),
            Operator::LessThan => write!(out, "{}<{values}", self.key),
        }
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldTerm {
    pub field: String,
    pub equal: bool,
    pub value: String,
}
