//! Label and field selectors: parse, print, match.
//!
//! A [`LabelSelector`] is a conjunction of requirements, kept sorted by key; the empty one matches everything and
//! [`LabelSelector::Nothing`] (a null `selector` in an object) matches nothing. A [`FieldSelector`] is a conjunction
//! of `path=value` and `path!=value` terms. Parse errors carry Kubernetes' texts; the API answers them with 400.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use serde_json::Value;

mod parse;
mod term;

pub use term::{FieldTerm, Operator, Requirement, SelectorError};

/// Which objects a set of labels belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelSelector {
    /// A null selector: no object.
    Nothing,
    /// Every requirement holds; none given: every object.
    All(Vec<Requirement>),
}

impl LabelSelector {
    pub const EVERYTHING: LabelSelector = LabelSelector::All(Vec::new());

    /// The `labelSelector` query parameter: `app=web,tier in (a,b),!canary`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        parse::requirements(text).map(LabelSelector::of)
    }

    pub fn of(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector::All(requirements)
    }

    /// Exactly these labels, as a Service's `spec.selector` means it.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> LabelSelector {
        LabelSelector::of(labels.into_iter().map(equals).collect())
    }

    /// A `metav1.LabelSelector` of an object; absent is Nothing, empty is everything.
    pub fn from_typed(selector: Option<&TypedSelector>) -> Result<LabelSelector, SelectorError> {
        let Some(selector) = selector else {
            return Ok(LabelSelector::Nothing);
        };
        let mut requirements: Vec<Requirement> = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(LabelSelector::of(requirements))
    }

    /// The same from the JSON of the selector.
    pub fn from_value(selector: Option<&Value>) -> Result<LabelSelector, SelectorError> {
        match selector {
            None | Some(Value::Null) => Ok(LabelSelector::Nothing),
            Some(value) => {
                let typed: TypedSelector =
                    serde::Deserialize::deserialize(value).map_err(|error| SelectorError(error.to_string()))?;
                LabelSelector::from_typed(Some(&typed))
            }
        }
    }

    pub fn requirements(&self) -> &[Requirement] {
        match self {
            LabelSelector::Nothing => &[],
            LabelSelector::All(requirements) => requirements,
        }
    }

    /// True when no object is left out.
    pub fn is_everything(&self) -> bool {
        *self == LabelSelector::EVERYTHING
    }

    /// Matches labels found by `lookup`.
    pub fn matches_by<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            LabelSelector::Nothing => false,
            LabelSelector::All(requirements) => requirements.iter().all(|one| one.matches(lookup(&one.key))),
        }
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Matches the JSON object `metadata.labels`; absent means no labels.
    pub fn matches_value(&self, labels: Option<&Value>) -> bool {
        self.matches_by(|key| labels?.get(key)?.as_str())
    }
}

fn equals((key, value): (&String, &String)) -> Requirement {
    Requirement { key: key.clone(), operator: Operator::Equals, values: vec![value.clone()] }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

/// `metadata.name=web-0,status.phase!=Running`; which fields a kind allows is the kind's business.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        parse::field_terms(text).map(|terms| FieldSelector { terms })
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Matches fields found by `lookup`; a field that is not set is the empty string.
    pub fn matches_by<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (lookup(&term.field).unwrap_or("") == term.value) == term.equal)
    }

    pub fn matches(&self, fields: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| fields.get(key).map(String::as_str))
    }

    /// The value a field must have exactly, if the selector says so (`metadata.name=x` makes a list a get).
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(out, "{comma}{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    /// Prints the parsed selector, or the error.
    fn check(text: &str, expected: &str) {
        let shown = match LabelSelector::parse(text) {
            Ok(selector) => selector.to_string(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn label_selectors_print_canonically() {
        for (text, expected) in [
            ("", ""),
            ("b=1,a = 2", "a=2,b=1"),
            ("a==b", "a==b"),
            ("a!=b", "a!=b"),
            ("a=", "a="),
            ("a=,b=c", "a=,b=c"),
            ("x in (b, a,b)", "x in (a,b)"),
            ("x notin (in,notin)", "x notin (in,notin)"),
            ("x in (,a)", "x in (,a)"),
            ("!x", "!x"),
            ("x, !y", "x,!y"),
            ("in=notin", "in=notin"),
            ("n > 5,n<7", "n>5,n<7"),
            ("apps.kubernetes.io/pod-index=0", "apps.kubernetes.io/pod-index=0"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn label_selector_errors_are_those_of_kubernetes() {
        for (text, expected) in [
            ("a,", "error: found '', expected: identifier after ','"),
            (",a", "error: found ',', expected: !, identifier, or 'end of string'"),
            ("a b", "error: unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b c", "error: found 'c', expected: ',' or 'end of string'"),
            ("a==!b", "error: unable to parse requirement: found '!', expected: identifier"),
            ("a in b", "error: unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "error: unable to parse requirement: found '', expected: ',' or ')'"),
            (
                "a in ()",
                "error: unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ),
            (
                "n>x",
                "error: unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            check(text, expected);
        }
        let error = LabelSelector::parse("a/b/c=1").expect_err("a key with two slashes");
        assert!(
            error.0.starts_with("unable to parse requirement: key: Invalid value: \"a/b/c\": a qualified name must"),
            "{error}"
        );
    }

    #[test]
    fn requirements_match_as_documented() {
        let web = labels(&[("app", "web"), ("n", "6")]);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app!=web", false),
            ("tier!=x", true),
            ("tier notin (x)", true),
            ("tier", false),
            ("!tier", true),
            ("app in (api,web),n>5,n<7", true),
            ("app>1", false),
        ] {
            let selector = LabelSelector::parse(text).expect(text);
            assert_eq!(selector.matches(&web), expected, "{text}");
            assert_eq!(selector.matches_value(Some(&json!(web))), expected, "{text}");
        }
    }

    #[test]
    fn object_selectors() {
        let parse = |value: Value| LabelSelector::from_value(Some(&value)).map(|selector| selector.to_string());
        assert_eq!(LabelSelector::from_value(None), Ok(LabelSelector::Nothing));
        assert!(!LabelSelector::Nothing.matches(&labels(&[])) && LabelSelector::EVERYTHING.matches(&labels(&[])));
        assert_eq!(parse(json!({})), Ok(String::new()));
        let both = json!({"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]});
        assert_eq!(parse(both), Ok("a in (x,y),b=1".into()));
        let unknown = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
        assert_eq!(parse(unknown), Err(SelectorError("\"Like\" is not a valid label selector operator".into())));
    }

    #[test]
    fn field_selectors() {
        let selector = FieldSelector::parse("status.phase!=Running,metadata.name==web-0").expect("a selector");
        assert_eq!(selector.to_string(), "metadata.name=web-0,status.phase!=Running");
        assert_eq!(selector.required_value("metadata.name"), Some("web-0"));
        assert!(selector.matches(&labels(&[("metadata.name", "web-0")])));
        assert!(!selector.matches(&labels(&[("metadata.name", "web-0"), ("status.phase", "Running")])));
        assert_eq!(FieldSelector::parse(r"a=b\,c\=d\\").expect("escapes").terms[0].value, r"b,c=d\");
        for (text, error) in [
            ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
            (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
            ("a=b=c", "invalid field selector: unescaped character in value: ="),
        ] {
            assert_eq!(FieldSelector::parse(text), Err(SelectorError(error.into())));
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(text in "[a-c!=<>(),. ]{0,24}|[a-c]{1,2} (in|notin) \\([a-c,]{0,5}\\)") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let printed = selector.to_string();
                // A set of just the empty value prints as `()`, which upstream does not read back either.
                prop_assume!(!printed.contains("()"));
                prop_assert_eq!(LabelSelector::parse(&printed).map(|again| again.to_string()), Ok(printed));
            }
            if let Ok(selector) = FieldSelector::parse(&text) {
                prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = (LabelSelector::parse(&text), FieldSelector::parse(&text));
        }
    }
}
