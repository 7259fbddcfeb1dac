//! Selectors of an access review: what a list or watch, whose rights are asked for, is narrowed to.

use serde_json::Value;
use stead_api::names::{label_value, qualified_name};
use stead_api::selector::{FieldTerm, Operator, Requirement, SelectorError};
use stead_api::{Errors, FieldPath, FieldSelector, LabelSelector};

const AT: &str = "spec.resourceAttributes";
const SELECTORS: [&str; 2] = ["fieldSelector", "labelSelector"];

/// What could be read of a review's selectors, and what could not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Narrowed {
    pub field_selector: String,
    /// What was passed over: the right is then asked for more than is needed, never for less.
    pub faults: String,
}

/// A selector is raw or in parts; operators that are not known are passed over, for the sake of newer clients.
pub(super) fn check(attributes: &Value, errors: &mut Errors) {
    for field in SELECTORS {
        let selector = &attributes[field];
        if !selector.is_object() {
            continue;
        }
        let at = FieldPath::new(AT).child(field);
        let raw = text(&selector["rawSelector"]);
        let requirements = list(&selector["requirements"]);
        match (raw, requirements.is_empty()) {
            ("", true) => {
                let why = format!("when {at} is specified, requirements or rawSelector is required");
                errors.required(&at.child("requirements"), why);
            }
            ("", false) | (_, true) => {}
            (raw, false) => {
                errors.invalid(&at.child("rawSelector"), raw, "may not specified at the same time as requirements");
            }
        }
        for (index, requirement) in requirements.iter().enumerate() {
            check_requirement(&at.child("requirements").index(index), field, requirement, errors);
        }
    }
}

fn check_requirement(at: &FieldPath, field: &str, requirement: &Value, errors: &mut Errors) {
    let is_label = field == "labelSelector";
    let (key, values) = (text(&requirement["key"]), list(&requirement["values"]));
    if !is_label && key.is_empty() {
        errors.required(&at.child("key"), "must be specified");
    }
    match text(&requirement["operator"]) {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&at.child("values"), why);
        }
        _ => {}
    }
    if is_label {
        for message in qualified_name(key) {
            errors.invalid(&at.child("key"), key, message);
        }
        for (index, value) in values.iter().map(text).enumerate() {
            for message in label_value(value) {
                errors.invalid(&at.child("values").index(index), value, message);
            }
        }
    }
}

/// The selectors as authorizers see them.
pub(super) fn read(attributes: &Value) -> Narrowed {
    let mut faults = Vec::new();
    let (terms, wrong) = fields(&attributes["fieldSelector"]);
    explain("fieldSelector", terms.is_empty(), &wrong, &mut faults);
    // No authorizer asks for labels; what is wrong with them is told.
    let (count, wrong) = labels(&attributes["labelSelector"]);
    explain("labelSelector", count == 0, &wrong, &mut faults);
    Narrowed { field_selector: FieldSelector { terms }.to_string(), faults: faults.join("; ") }
}

fn explain(field: &str, is_nothing_left: bool, wrong: &[String], faults: &mut Vec<String>) {
    let why = match wrong {
        [] => return,
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let partially = if is_nothing_left { "" } else { "partially " };
    faults.push(format!("{AT}.{field} {partially}ignored due to parse error: {why}"));
}

fn fields(selector: &Value) -> (Vec<FieldTerm>, Vec<String>) {
    match FieldSelector::parse(text(&selector["rawSelector"])) {
        Ok(found) if list(&selector["requirements"]).is_empty() => (found.terms, Vec::new()),
        Err(SelectorError(why)) if list(&selector["requirements"]).is_empty() => (Vec::new(), vec![why]),
        _ => {
            let (mut terms, mut wrong) = (Vec::new(), Vec::new());
            for requirement in list(&selector["requirements"]) {
                match field_term(requirement) {
                    Ok(term) => terms.push(term),
                    Err(why) => wrong.push(why),
                }
            }
            (terms, wrong)
        }
    }
}

/// Field selectors compare with one value.
fn field_term(requirement: &Value) -> Result<FieldTerm, String> {
    let values = list(&requirement["values"]);
    let (operator, key) = (text(&requirement["operator"]), text(&requirement["key"]));
    let one = |which: &str| match values {
        [value] => Ok(text(value).to_owned()),
        _ => Err(format!("fieldSelectors {which} must have one value")),
    };
    if values.len() > 1 {
        return Err("fieldSelectors do not yet support multiple values".into());
    }
    match operator {
        "In" => Ok(FieldTerm { field: key.into(), equal: true, value: one("in")? }),
        "NotIn" => Ok(FieldTerm { field: key.into(), equal: false, value: one("not in")? }),
        "Exists" | "DoesNotExist" => Err(format!("fieldSelectors do not yet support {operator}")),
        _ => Err(format!("{operator:?} is not a valid field selector operator")),
    }
}

/// How many requirements could be read, and what is wrong with the others.
fn labels(selector: &Value) -> (usize, Vec<String>) {
    let requirements = list(&selector["requirements"]);
    if requirements.is_empty() {
        return match LabelSelector::parse(text(&selector["rawSelector"])) {
            Ok(found) => (found.requirements().len(), Vec::new()),
            Err(SelectorError(why)) => (0, vec![why]),
        };
    }
    let mut wrong = Vec::new();
    for requirement in requirements {
        let operator = match text(&requirement["operator"]) {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                wrong.push(format!("{other:?} is not a valid label selector operator"));
                continue;
            }
        };
        let values = list(&requirement["values"]).iter().map(|value| text(value).to_owned()).collect();
        if let Err(SelectorError(why)) = Requirement::new(text(&requirement["key"]), operator, values) {
            wrong.push(why);
        }
    }
    (requirements.len() - wrong.len(), wrong)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requirements_are_checked_but_for_operators_of_newer_clients() {
        let attributes = json!({
            "fieldSelector": {"requirements": [{"operator": "In", "key": "a"}, {"operator": "Exists", "values": ["x"]},
                {"key": "a", "operator": "Like", "values": ["x"]}]},
            "labelSelector": {"requirements": [{"key": "a", "operator": "NotIn", "values": []},
                {"key": "a", "operator": "Like", "values": ["x"]}, {"key": "a", "operator": "Exists"}]}});
        let mut errors = Errors::default();
        check(&attributes, &mut errors);
        let (field, label) = (format!("{AT}.fieldSelector.requirements"), format!("{AT}.labelSelector.requirements"));
        assert_eq!(
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                format!("{field}[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
                format!("{field}[1].key: Required value: must be specified"),
                format!(
                    "{field}[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                ),
                format!("{label}[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_passed_over_and_told() {
        let read = |field: Value, label: Value| read(&json!({"fieldSelector": field, "labelSelector": label}));
        let one =
            |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        let clean = read(
            json!({"requirements": [one("spec.nodeName", "In", &["n1"]), one("a", "NotIn", &["b"])]}),
            json!({"requirements": [one("a", "Exists", &[])]}),
        );
        assert_eq!(clean, Narrowed { field_selector: "spec.nodeName=n1,a!=b".into(), faults: String::new() });
        let raw = read(json!({"rawSelector": "spec.nodeName=n1"}), Value::Null);
        assert_eq!(raw, Narrowed { field_selector: "spec.nodeName=n1".into(), faults: String::new() });
        let partly = read(
            json!({"requirements": [one("a", "In", &["b"]), one("a", "In", &["b", "c"]), one("a", "Exists", &[])]}),
            json!({"rawSelector": "a=b c"}),
        );
        assert_eq!(partly.field_selector, "a=b");
        assert_eq!(
            partly.faults,
            "spec.resourceAttributes.fieldSelector partially ignored due to parse error: [fieldSelectors do not yet support \
             multiple values, fieldSelectors do not yet support Exists]; spec.resourceAttributes.labelSelector ignored due \
             to parse error: found 'c', expected: ',' or 'end of string'"
        );
        let unknown = read(json!({"requirements": [one("a", "Like", &["b"])]}), Value::Null);
        assert_eq!(
            unknown.faults,
            "spec.resourceAttributes.fieldSelector ignored due to parse error: \"Like\" is not a valid field selector operator"
        );
    }
}
