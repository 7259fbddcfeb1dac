//! `x-kubernetes-validations`: a schema's rules, compiled once and evaluated over custom resources.
//!
//! Guarantees: evaluation is bounded by a budget for the whole object; a rule about what did not change only warns (ratcheting),
//! unless it looks at the old value. Upstream: apiextensions-apiserver, pkg/apiserver/schema/cel.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stead_api::schema::{List, Rest, Schema, Shape};
use stead_api::status::FieldErrorKind;
use stead_api::{Errors, FieldPath};
use stead_cel::{CALL_COST_MAX, Error, Known, Program, Wanted};

use super::field_path;
use crate::path::Path;

/// What all rules may cost for one object.
const OBJECT_COST_MAX: u64 = 10_000_000;
/// What one rule may be estimated to cost, and all of one schema.
const RULE_COST_MAX: u64 = 10_000_000;
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// How many rules are blamed for the cost of all, and what a rule must cost to be blamed.
const EXPENSIVE_TOLD_MAX: usize = 4;
const EXPENSIVE_COST_MIN: u64 = SCHEMA_COST_MAX / 100;
/// The longest text that a messageExpression may come to.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// A request's body, which bounds how often a rule can be evaluated.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;

const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// The rules at one place of a schema and below it.
#[derive(Debug, Default)]
pub struct Rules {
    own: Vec<Rule>,
    items: Option<Box<Rules>>,
    named: BTreeMap<String, Rules>,
    values: Option<Box<Rules>>,
}

#[derive(Debug)]
struct Rule {
    program: Program,
    message: String,
    message_program: Option<Program>,
    reason: FieldErrorKind,
    /// Below the rule's place; empty when it is the place itself.
    path: String,
    optional_old: bool,
}

/// Compiles the rules of a schema; what is wrong with them is told below `at`.
pub(crate) fn compile(at: Path, json: &Value, schema: &Schema, errors: &mut Errors) -> Rules {
    let mut compiler = Compiler { errors, of_expressions: Errors::default(), total: 0, expensive: Vec::new() };
    let rules = compiler.node(at, json, schema, Place { cardinality: 1, uncorrelated: None });
    let (total, mut expensive) = (compiler.total, compiler.expensive);
    let found = compiler.of_expressions.0;
    errors.0.extend(found);
    if total > SCHEMA_COST_MAX {
        expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, at) in expensive.iter().take(EXPENSIVE_TOLD_MAX) {
            errors.forbidden(
                at,
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
            );
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        at.forbidden(errors, too_expensive(what, total, SCHEMA_COST_MAX));
    }
    rules
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength \
         where arrays, maps, and strings are declared)"
    )
}

/// A rule as error messages show it: by upstream's internal names.
fn shown(rule: &Value) -> Value {
    let text = |field: &str| rule[field].as_str().unwrap_or_default();
    json!({"Rule": text("rule"), "Message": text("message"), "MessageExpression": text("messageExpression"),
        "Reason": rule["reason"], "FieldPath": text("fieldPath"), "OptionalOldSelf": rule["optionalOldSelf"]})
}

/// Where in a schema the compiler is.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// How often a value can stand here in one object.
    cardinality: u64,
    /// The list or map whose elements have no old value.
    uncorrelated: Option<&'a Path<'a>>,
}

struct Compiler<'e> {
    errors: &'e mut Errors,
    /// What is wrong with expressions; they are compiled where all else is right, there and below.
    of_expressions: Errors,
    total: u64,
    expensive: Vec<(u64, FieldPath)>,
}

impl Compiler<'_> {
    fn node(&mut self, at: Path, json: &Value, schema: &Schema, place: Place) -> Rules {
        let mut rules = Rules::default();
        let before = self.errors.0.len();
        let all = at.child("x-kubernetes-validations");
        let own = json["x-kubernetes-validations"].as_array().map_or(&[][..], Vec::as_slice);
        for (index, rule) in own.iter().enumerate() {
            self.texts(all.index(index), rule, schema);
        }
        let below =
            |size: u64, uncorrelated| Place { cardinality: place.cardinality.saturating_mul(size), uncorrelated };
        match &schema.shape {
            Shape::Array(items) if json["items"].is_object() => {
                let is_correlated = matches!(schema.list, List::Map(_));
                let uncorrelated = place.uncorrelated.or((!is_correlated).then_some(&at));
                let place = below(stead_cel::size_max(schema), uncorrelated);
                let found = self.node(at.child("items"), &json["items"], items, place);
                rules.items = found.is_needed().then(|| Box::new(found));
            }
            Shape::Object(fields) => {
                let uncorrelated = place.uncorrelated.or(schema.atomic.then_some(&at));
                for (name, property) in json["properties"].as_object().into_iter().flatten() {
                    let Some(known) = fields.get(name).filter(|known| !matches!(known.shape, Shape::Ref(_))) else {
                        continue;
                    };
                    let all = at.child("properties");
                    let found = self.node(all.key(name), property, known, below(1, uncorrelated));
                    if found.is_needed() {
                        rules.named.insert(name.clone(), found);
                    }
                }
                if let (Rest::Map(values), extra @ Value::Object(_)) = (&fields.rest, &json["additionalProperties"]) {
                    let place = below(stead_cel::size_max(schema), uncorrelated);
                    let found = self.node(at.child("additionalProperties"), extra, values, place);
                    rules.values = found.is_needed().then(|| Box::new(found));
                }
            }
            _ => {}
        }
        if self.errors.0.len() == before {
            let compiled =
                own.iter().enumerate().filter_map(|(index, rule)| self.rule(all.index(index), rule, schema, place));
            rules.own = compiled.collect();
        }
        rules
    }

    fn rule(&mut self, at: Path, json: &Value, schema: &Schema, place: Place) -> Option<Rule> {
        let text = |field: &str| json[field].as_str().unwrap_or_default();
        let source = text("rule");
        let optional_old = json["optionalOldSelf"] == true;
        let old = if optional_old { Known::Optional(schema) } else { Known::Schema(schema) };
        let known = [("self", Known::Schema(schema)), ("oldSelf", old)];
        let program = match stead_cel::compile(source, &known, Wanted::Bool) {
            Ok(program) => program,
            Err(why) => {
                at.child("rule").invalid(&mut self.of_expressions, shown(json), why);
                return None;
            }
        };
        if !program.uses("oldSelf") && optional_old {
            let detail = "may not be set if oldSelf is not used in rule";
            at.child("optionalOldSelf").invalid(&mut self.of_expressions, true, detail);
        }
        if let Some(place) = place.uncorrelated.filter(|_| program.uses("oldSelf")) {
            let place = place.field();
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {place}");
            at.child("rule").invalid(&mut self.of_expressions, source, detail);
        }
        self.price(at.child("rule"), "estimated rule cost", &program, place);
        let message_program = match text("messageExpression") {
            "" => None,
            source => match stead_cel::compile(source, &known, Wanted::String) {
                Ok(program) => {
                    self.price(at.child("messageExpression"), "estimated messageExpression cost", &program, place);
                    Some(program)
                }
                Err(why) => {
                    let why = why.replace("cel expression must evaluate", "must evaluate");
                    at.child("messageExpression").invalid(
                        &mut self.of_expressions,
                        shown(json),
                        format!("messageExpression {why}"),
                    );
                    None
                }
            },
        };
        let path = match text("fieldPath") {
            "" => String::new(),
            path => field_path::normalize(path, schema).unwrap_or_default(),
        };
        let reason = match text("reason") {
            "FieldValueForbidden" => FieldErrorKind::Forbidden,
            "FieldValueRequired" => FieldErrorKind::Required,
            "FieldValueDuplicate" => FieldErrorKind::Duplicate,
            _ => FieldErrorKind::Invalid,
        };
        Some(Rule { program, message: text("message").trim().to_owned(), message_program, reason, path, optional_old })
    }

    /// What is wrong with a rule besides its expressions.
    fn texts(&mut self, at: Path, json: &Value, schema: &Schema) {
        let text = |field: &str| json[field].as_str();
        if text("rule").is_none_or(|rule| rule.trim().is_empty()) {
            at.child("rule").required(self.errors, "rule is not specified");
        } else {
            self.message(at, json);
        }
        if text("messageExpression").is_some_and(|source| !source.is_empty() && source.trim().is_empty()) {
            let detail = "messageExpression must be non-empty if specified";
            at.child("messageExpression").required(self.errors, detail);
        }
        if let Some(reason) = text("reason").filter(|reason| !REASONS.contains(reason)) {
            at.child("reason").not_supported(self.errors, reason, REASONS);
        }
        if let Some(path) = text("fieldPath").filter(|path| !path.is_empty()) {
            if path.trim().is_empty() {
                at.child("fieldPath").invalid(self.errors, path, "must be non-empty if specified");
            } else if path.contains('\n') {
                at.child("fieldPath").invalid(self.errors, path, "must not contain line breaks");
            }
            if field_path::normalize(path, schema).is_err() {
                at.child("fieldPath").invalid(self.errors, path, "must be a valid path");
            }
        }
    }

    fn message(&mut self, at: Path, json: &Value) {
        let text = |field: &str| json[field].as_str();
        if let Some(message) = text("message").filter(|message| !message.is_empty()) {
            if message.trim().is_empty() {
                at.child("message").invalid(self.errors, message, "must be non-empty if specified");
            } else if message.trim().contains('\n') {
                at.child("message").invalid(self.errors, message, "must not contain line breaks");
            }
        } else if text("rule").is_some_and(|rule| rule.trim().contains('\n')) {
            at.child("message").required(self.errors, "message must be specified if rule contains line breaks");
        }
    }

    fn price(&mut self, at: Path, what: &str, program: &Program, place: Place) {
        // No more values than fit a request.
        let cost = program.cost_max().saturating_mul(place.cardinality.min(REQUEST_BYTES_MAX));
        self.total = self.total.saturating_add(cost);
        if cost >= EXPENSIVE_COST_MIN {
            self.expensive.push((cost, at.field()));
        }
        if cost > RULE_COST_MAX {
            at.forbidden(&mut self.of_expressions, too_expensive(what, cost, RULE_COST_MAX));
        }
    }
}

impl Rules {
    /// Whether there is any rule.
    pub fn is_needed(&self) -> bool {
        let has_below = self.items.is_some() || self.values.is_some();
        has_below || !self.own.is_empty() || !self.named.is_empty()
    }

    /// Evaluates all rules; `old` is the stored object on updates.
    pub fn check(
        &self,
        schema: &Schema,
        new: &Value,
        old: Option<&Value>,
        errors: &mut Errors,
        warnings: &mut Vec<String>,
    ) {
        let mut run = Run { budget: OBJECT_COST_MAX, errors, warnings };
        // What stops the run is among the errors.
        let _ = run.node(self, schema, Pair { new, old, is_same: false }, Path::root(""));
    }
}

/// A value and what it was before.
#[derive(Clone, Copy)]
struct Pair<'v> {
    new: &'v Value,
    old: Option<&'v Value>,
    /// Whether the nearest part above that has an old value is the same as before.
    is_same: bool,
}

impl<'v> Pair<'v> {
    fn below(self, new: &'v Value, old: Option<&'v Value>) -> Pair<'v> {
        let is_same = match old {
            Some(old) => new == old,
            None => self.is_same,
        };
        Pair { new, old, is_same }
    }
}

/// The rest is not evaluated.
struct Stop;

struct Run<'e> {
    budget: u64,
    errors: &'e mut Errors,
    warnings: &'e mut Vec<String>,
}

impl Run<'_> {
    fn node(&mut self, rules: &Rules, schema: &Schema, pair: Pair, at: Path) -> Result<(), Stop> {
        if pair.new.is_null() {
            return Ok(());
        }
        for rule in &rules.own {
            self.rule(rule, schema, pair, at)?;
        }
        match (pair.new, &schema.shape) {
            (Value::Array(list), Shape::Array(items)) => {
                let Some(below) = &rules.items else { return Ok(()) };
                for (index, new) in list.iter().enumerate() {
                    let old = pair.old.and_then(|old| schema.same_element(new, old));
                    self.node(below, items, pair.below(new, old), at.index(index))?;
                }
            }
            (Value::Object(map), Shape::Object(fields)) => {
                for (name, new) in map {
                    let old = pair.old.and_then(|old| old.get(name)).filter(|_| !schema.atomic);
                    let below = pair.below(new, old);
                    let known = fields.get(name);
                    match (rules.named.get(name), &rules.values, known) {
                        (Some(rules), _, Some(schema)) => self.node(rules, schema, below, at.child(name))?,
                        (None, Some(rules), Some(schema)) => self.node(rules, schema, below, at.key(name))?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rule(&mut self, rule: &Rule, schema: &Schema, pair: Pair, at: Path) -> Result<(), Stop> {
        let uses_old = rule.program.uses("oldSelf");
        if uses_old && pair.old.is_none() && !rule.optional_old {
            return Ok(());
        }
        let own = |errors: &mut Errors, detail: String| push(errors, FieldErrorKind::Invalid, &at, "", schema, detail);
        let out_of_budget =
            "validation failed due to running out of cost budget, no further validation rules will be run";
        if self.budget == 0 {
            own(self.errors, out_of_budget.into());
            return Err(Stop);
        }
        let shown = if rule.message.is_empty() { rule.program.source().trim() } else { &rule.message };
        let (result, cost) = evaluate(&rule.program, rule, schema, pair);
        if cost > self.budget {
            own(self.errors, out_of_budget.into());
            return Err(Stop);
        }
        self.budget -= cost;
        match result {
            Ok(stead_cel::Value::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(Error::Limit) => {
                let why = "no further validation rules will be run due to call cost exceeds limit for rule";
                own(self.errors, format!("'{}': {why}: {shown}", Error::Limit));
                return Err(Stop);
            }
            Err(error) if error.to_string().starts_with("no such overload") => {
                let why = "call arguments did not match a supported operator, function or macro signature for rule";
                own(self.errors, format!("'{error}': {why}: {shown}"));
                return Ok(());
            }
            Err(error) => {
                own(self.errors, format!("{error} evaluating rule: {shown}"));
                return Ok(());
            }
        }
        let detail = self.message(rule, schema, pair).unwrap_or_else(|| match rule.message.as_str() {
            "" => format!("failed rule: {shown}"),
            message => message.to_owned(),
        });
        let mut found = Errors::default();
        push(&mut found, rule.reason, &at, &rule.path, schema, detail);
        for error in &mut found.0 {
            error.is_value_omitted = pair.new.is_object() || pair.new.is_array();
            error.value = pair.new.clone();
        }
        if !uses_old && pair.is_same {
            self.warnings.extend(found.0.iter().map(ToString::to_string));
        } else {
            self.errors.0.extend(found.0);
        }
        Ok(())
    }

    /// What the messageExpression says, if there is one and it says something fit to be shown.
    fn message(&mut self, rule: &Rule, schema: &Schema, pair: Pair) -> Option<String> {
        let (result, cost) = evaluate(rule.message_program.as_ref()?, rule, schema, pair);
        self.budget = self.budget.saturating_sub(cost);
        let Ok(stead_cel::Value::String(text)) = result else { return None };
        let text = text.trim();
        let is_fit = !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
        is_fit.then(|| text.to_owned())
    }
}

fn evaluate<'v>(
    program: &'v Program,
    rule: &Rule,
    schema: &'v Schema,
    pair: Pair<'v>,
) -> (Result<stead_cel::Value<'v>, Error>, u64) {
    let value = |json| stead_cel::Value::of(json, Some(schema));
    let mut vars = vec![("self", value(pair.new))];
    match (pair.old, rule.optional_old) {
        (old, true) => vars.push(("oldSelf", stead_cel::Value::Optional(old.map(|old| value(old).into())))),
        (Some(old), false) => vars.push(("oldSelf", value(old))),
        (None, false) => {}
    }
    program.evaluate(&vars, CALL_COST_MAX)
}

/// A mistake at a rule's place or below it; the root's name is that of a path to nowhere.
fn push(errors: &mut Errors, kind: FieldErrorKind, at: &Path, below: &str, schema: &Schema, detail: String) {
    let at = match below {
        "" => at.field(),
        below => at.field().child(below),
    };
    let type_name = schema.rules.as_ref().map_or("", |rules| rules.type_name.as_str());
    let detail = if kind == FieldErrorKind::Duplicate { String::new() } else { detail };
    errors.push(kind, &at, type_name, detail);
    if let Some(last) = errors.0.last_mut().filter(|last| last.field.is_empty()) {
        last.field = "<nil>".into();
    }
}
