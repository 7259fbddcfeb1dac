//! `Policy`: an admission policy with its expressions compiled, once per version of the object.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use stead_api::{Errors, FieldPath};
use stead_cel::{Program, Wanted};

use crate::Behavior;
use crate::expressions::{self, Scope};

/// A policy of either kind and its programs.
#[derive(Debug)]
pub struct Policy<T> {
    pub policy: T,
    pub programs: Programs,
    /// Expressions that cannot work: field, expression, why.
    faults: Vec<(FieldPath, String, String)>,
}

/// The expressions of a policy, in the order in which they are written.
#[derive(Debug, Default)]
pub struct Programs {
    /// Name and program.
    pub conditions: Vec<(String, Program)>,
    pub variables: Vec<(String, Program)>,
    pub validations: Vec<Validation>,
    /// Key and program.
    pub annotations: Vec<(String, Program)>,
    pub mutations: Vec<Mutation>,
}

#[derive(Debug)]
pub struct Validation {
    pub program: Program,
    pub message: String,
    pub message_program: Option<Program>,
    /// A reason of `metav1.Status`; empty for the default.
    pub reason: String,
}

#[derive(Debug)]
pub enum Mutation {
    /// Comes to an object that is applied.
    Apply(Program),
    /// Comes to a list of JSON patch operations.
    JsonPatch(Program),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Policy<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Policy<T>, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let policy = T::deserialize(&value).map_err(serde::de::Error::custom)?;
        let mut compiler = Compiler {
            scope: Scope {
                has_namespace: true,
                has_params: value["spec"]["paramKind"].is_object(),
                variables: Some(Vec::new()),
            },
            faults: Vec::new(),
        };
        let programs = compiler.programs(&value["spec"]);
        Ok(Policy { policy, programs, faults: compiler.faults })
    }
}

impl<T: Behavior> Behavior for Policy<T> {
    fn default(new: &mut Value) {
        T::default(new);
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        self.policy.validate(old.map(|old| &old.policy), errors);
        for (at, expression, why) in &self.faults {
            errors.invalid(at, expression.as_str(), why.as_str());
        }
    }

    fn warn(&self, old: Option<&Self>) -> Vec<String> {
        self.policy.warn(old.map(|old| &old.policy))
    }
}

struct Compiler {
    scope: Scope,
    faults: Vec<(FieldPath, String, String)>,
}

impl Compiler {
    fn programs(&mut self, spec: &Value) -> Programs {
        let mut programs = Programs {
            conditions: self.named(spec, "matchConditions", ("name", "expression"), Wanted::Bool),
            variables: self.variables(spec),
            annotations: self.named(spec, "auditAnnotations", ("key", "valueExpression"), Wanted::StringOrNull),
            ..Programs::default()
        };
        for (at, one) in items(spec, "validations") {
            let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
            let program = self.compile(at.child("expression"), &one["expression"], Wanted::Bool);
            let message_program =
                self.compile(at.child("messageExpression"), &one["messageExpression"], Wanted::String);
            programs.validations.extend(program.map(|program| Validation {
                program,
                message: text("message"),
                message_program,
                reason: text("reason"),
            }));
        }
        for (at, one) in items(spec, "mutations") {
            let apply = (at.child("applyConfiguration").child("expression"), &one["applyConfiguration"]["expression"]);
            let patch = (at.child("jsonPatch").child("expression"), &one["jsonPatch"]["expression"]);
            let apply = self.compile(apply.0, apply.1, Wanted::Any).map(Mutation::Apply);
            let patch = self.compile(patch.0, patch.1, Wanted::Any).map(Mutation::JsonPatch);
            programs.mutations.extend(apply.or(patch));
        }
        programs
    }

    /// A variable sees those before it.
    fn variables(&mut self, spec: &Value) -> Vec<(String, Program)> {
        let mut found = Vec::new();
        for (at, one) in items(spec, "variables") {
            let name = one["name"].as_str().unwrap_or_default().to_owned();
            let program = self.compile(at.child("expression"), &one["expression"], Wanted::Any);
            self.scope.variables.get_or_insert_default().push(name.clone());
            found.extend(program.map(|program| (name, program)));
        }
        found
    }

    fn named(
        &mut self,
        spec: &Value,
        field: &str,
        (name, source): (&str, &str),
        wanted: Wanted,
    ) -> Vec<(String, Program)> {
        let mut found = Vec::new();
        for (at, one) in items(spec, field) {
            let program = self.compile(at.child(source), &one[source], wanted);
            found.extend(program.map(|program| (one[name].as_str().unwrap_or_default().to_owned(), program)));
        }
        found
    }

    fn compile(&mut self, at: FieldPath, source: &Value, wanted: Wanted) -> Option<Program> {
        let source = source.as_str().filter(|source| !source.trim().is_empty())?;
        match expressions::compile(source, &self.scope, wanted) {
            Ok(program) => Some(program),
            Err(why) => {
                self.faults.push((at, source.to_owned(), why));
                None
            }
        }
    }
}

/// The elements of a list of the spec, with their places.
fn items<'v>(spec: &'v Value, field: &'v str) -> impl Iterator<Item = (FieldPath, &'v Value)> {
    let list = spec[field].as_array().into_iter().flatten().enumerate();
    list.map(move |(index, one)| (FieldPath::new("spec").child(field).index(index), one))
}
