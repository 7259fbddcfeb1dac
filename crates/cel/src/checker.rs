//! Types of an expression before it runs: every mistake with its place.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ast::{Bind, BindKind, Call, Expr, Fold, FoldKind, How, Literal, Node, Select};
use crate::lexer::Fault;
use crate::types::Known;
use crate::types::{self, Bound, Type, join};

/// Names that are types.
pub(crate) const TYPE_NAMES: &[&str] = &[
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "net.IP",
    "net.CIDR",
    "kubernetes.Quantity",
    "kubernetes.URL",
    "kubernetes.Semver",
];

pub(crate) fn check<'s>(expr: &Expr, known: &[(&str, Known<'s>)]) -> (Type<'s>, Vec<Fault>) {
    let named = |name: &str| Type::Named(format!("kubernetes.authorization.{name}").into());
    let scope = known.iter().map(|(name, known)| {
        let of = match known {
            Known::Dyn => Type::Dyn,
            Known::Schema(schema) => types::of_schema(schema).unwrap_or(Type::Dyn),
            Known::Optional(schema) => Type::Optional(Arc::new(types::of_schema(schema).unwrap_or(Type::Dyn))),
            Known::Whole(schema) => types::of_whole(schema),
            Known::Authorizer => named("Authorizer"),
            Known::Members(names) => Type::Members(names),
        };
        ((*name).to_owned(), of)
    });
    let mut checker = Checker { scope: scope.collect(), faults: Vec::new() };
    let found = checker.check(expr);
    let mut faults = checker.faults;
    faults.sort_by_key(|fault| fault.0);
    (found, faults)
}

/// The free names of an expression, more or less: names bound inside count, too.
pub(crate) fn idents(expr: &Expr, found: &mut BTreeSet<String>) {
    if let Node::Ident(name) = &expr.node {
        found.insert(name.clone());
    }
    expr.node.parts(&mut |part| idents(part, found));
}

struct Checker<'s> {
    scope: Vec<(String, Type<'s>)>,
    faults: Vec<Fault>,
}

impl<'s> Checker<'s> {
    /// Notes a mistake; what is wrong may be anything further on.
    fn fault(&mut self, at: usize, why: impl Into<String>) -> Type<'s> {
        self.faults.push((at, why.into()));
        Type::Dyn
    }

    fn check(&mut self, expr: &Expr) -> Type<'s> {
        match &expr.node {
            Node::Literal(literal) => of_literal(literal),
            Node::Ident(name) => self.ident(expr.at, name),
            Node::Select(select) => self.select(expr.at, select),
            Node::Call(call) => self.call(expr.at, call),
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Struct(name, fields) => {
                for (_, value, _) in fields {
                    self.check(value);
                }
                let is_known = ["Object", "JSONPatch"]
                    .iter()
                    .any(|one| name == one || name.strip_prefix(one).is_some_and(|rest| rest.starts_with('.')));
                match is_known {
                    true => Type::Dyn,
                    false => self.fault(expr.at, format!("undeclared reference to '{name}' (in container '')")),
                }
            }
            Node::Fold(fold) => self.fold(fold),
            Node::Bind(bind) => self.bind(bind),
        }
    }

    fn ident(&mut self, at: usize, name: &str) -> Type<'s> {
        if let Some((_, of)) = self.scope.iter().rev().find(|(known, _)| known == name) {
            return of.clone();
        }
        if TYPE_NAMES.contains(&name) {
            return Type::Kind;
        }
        self.fault(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, at: usize, select: &Select) -> Type<'s> {
        let operand = self.check(&select.operand);
        let (is_optional, operand) = match operand {
            Type::Optional(inner) => (true, (*inner).clone()),
            other => (false, other),
        };
        let field = match &operand {
            Type::Dyn => Type::Dyn,
            Type::Map(_, values) => (**values).clone(),
            Type::Object(schema) => match types::field(schema, &select.field) {
                Some(found) => found,
                None => return self.fault(at, format!("undefined field '{}'", select.field)),
            },
            Type::Whole(schema) => match types::field_of_whole(schema, &select.field) {
                Some(found) => found,
                None => return self.fault(at, format!("undefined field '{}'", select.field)),
            },
            Type::Members(names) => match names.contains(&select.field) {
                true => Type::Dyn,
                false => return self.fault(at, format!("undefined field '{}'", select.field)),
            },
            Type::Metadata => match select.field.as_str() {
                "name" | "generateName" => Type::String,
                field => return self.fault(at, format!("undefined field '{field}'")),
            },
            Type::Named(name)
                if &**name == "kubernetes.authorization.Authorizer" && select.field == "requestResource" =>
            {
                Type::Named("kubernetes.authorization.ResourceCheck".into())
            }
            other => {
                let why = format!("type '{other}' does not support field selection");
                return self.fault(at, why);
            }
        };
        match select.how {
            How::Presence => Type::Bool,
            How::Optional => Type::Optional(Arc::new(field)),
            How::Value if is_optional => Type::Optional(Arc::new(field)),
            How::Value => field,
        }
    }

    fn call(&mut self, at: usize, call: &Call) -> Type<'s> {
        // Every part is looked at, also when the call itself cannot be.
        let args: Vec<Type<'s>> = match (call.name.as_str(), call.args.as_slice()) {
            // What is formatted may be of any types.
            ("format", [template, Expr { node: Node::List(elements), .. }]) => {
                let template = self.check(template);
                for (element, _) in elements {
                    self.check(element);
                }
                vec![template, Type::List(Arc::new(Type::Dyn))]
            }
            (_, args) => args.iter().map(|arg| self.check(arg)).collect(),
        };
        let Some(function) = call.function else {
            return self.fault(at, format!("undeclared reference to '{}' (in container '')", call.name));
        };
        if call.name == "_[_]"
            && let Type::Optional(_) = &args[0]
        {
            return Type::Dyn;
        }
        if matches!(call.name.as_str(), "_&&_" | "_||_") {
            if let Some(wrong) = args.iter().find(|arg| !matches!(arg, Type::Bool | Type::Dyn)) {
                let pair = if matches!(args[0], Type::Bool | Type::Dyn) {
                    format!("bool, {wrong}")
                } else {
                    format!("{wrong}, {}", args[1])
                };
                self.fault(at, format!("found no matching overload for '{}' applied to '({pair})'", call.name));
            }
            return Type::Bool;
        }
        let mut result: Option<Type<'s>> = None;
        for signature in function.signatures() {
            let mut bound = Bound::default();
            let params = &signature.params;
            if params.len() != args.len() || !params.iter().zip(&args).all(|(param, arg)| bound.accepts(param, arg)) {
                continue;
            }
            let found = bound.apply(&signature.result);
            result = Some(match result {
                None => found,
                // With arguments of any type, several may be meant.
                Some(earlier) if earlier.to_string() == found.to_string() => earlier,
                Some(_) => Type::Dyn,
            });
        }
        result.unwrap_or_else(|| {
            let shown = |args: &[Type<'s>]| args.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
            let applied = match call.is_member {
                true => format!("{}.({})", args[0], shown(&args[1..])),
                false => format!("({})", shown(&args)),
            };
            self.fault(at, format!("found no matching overload for '{}' applied to '{applied}'", call.name))
        })
    }

    fn list(&mut self, elements: &[(Expr, bool)]) -> Type<'s> {
        let mut items: Option<Type<'s>> = None;
        for (element, is_optional) in elements {
            let found = self.check(element);
            let found = self.unwrapped(element.at, found, *is_optional);
            items = Some(match items {
                None => found,
                Some(known) => self.joined(element.at, &known, &found),
            });
        }
        Type::List(Arc::new(items.unwrap_or(Type::Dyn)))
    }

    fn map(&mut self, entries: &[(Expr, Expr, bool)]) -> Type<'s> {
        let mut all: Option<(Type<'s>, Type<'s>)> = None;
        for (key, value, is_optional) in entries {
            let (keys, values) = (self.check(key), self.check(value));
            let values = self.unwrapped(value.at, values, *is_optional);
            all = Some(match all {
                None => (keys, values),
                Some((known_keys, known)) => {
                    (self.joined(key.at, &known_keys, &keys), self.joined(value.at, &known, &values))
                }
            });
        }
        let (keys, values) = all.unwrap_or((Type::Dyn, Type::Dyn));
        Type::Map(Arc::new(keys), Arc::new(values))
    }

    fn unwrapped(&mut self, at: usize, found: Type<'s>, is_optional: bool) -> Type<'s> {
        match (is_optional, found) {
            (false, found) | (true, found @ Type::Dyn) => found,
            (true, Type::Optional(inner)) => (*inner).clone(),
            (true, other) => self.fault(at, format!("expected type 'optional_type({other})' but found '{other}'")),
        }
    }

    /// Literals hold elements of one type.
    fn joined(&mut self, at: usize, known: &Type<'s>, found: &Type<'s>) -> Type<'s> {
        match join(known, found) {
            Some(joined) => joined,
            None => self.fault(at, format!("expected type '{known}' but found '{found}'")),
        }
    }

    fn bind(&mut self, bind: &Bind) -> Type<'s> {
        let value = self.check(&bind.value);
        let value = match (bind.kind, value) {
            (BindKind::Plain, value) => value,
            (_, Type::Optional(inner)) => (*inner).clone(),
            (_, Type::Dyn) => Type::Dyn,
            (_, other) => self.fault(bind.value.at, format!("expected type 'optional_type(dyn)' but found '{other}'")),
        };
        self.scope.push((bind.name.clone(), value));
        let body = self.check(&bind.body);
        self.scope.pop();
        match bind.kind {
            BindKind::OptMap => Type::Optional(Arc::new(body)),
            BindKind::Plain | BindKind::OptFlatMap => body,
        }
    }

    fn fold(&mut self, fold: &Fold) -> Type<'s> {
        let range = self.check(&fold.range);
        let with_two = fold.names.len() == 2;
        let (first, second) = match &range {
            Type::List(items) if with_two => (Type::Int, (**items).clone()),
            Type::List(items) => ((**items).clone(), Type::Dyn),
            Type::Map(keys, values) => ((**keys).clone(), (**values).clone()),
            Type::Dyn => (Type::Dyn, Type::Dyn),
            other => {
                let why = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fault(fold.range.at, why);
                (Type::Dyn, Type::Dyn)
            }
        };
        let before = self.scope.len();
        self.scope.extend(fold.names.iter().cloned().zip([first.clone(), second.clone()]));
        if let Some(filter) = &fold.filter {
            let found = self.check(filter);
            self.expect_bool(filter.at, &found);
        }
        let body = fold.body.as_ref().map(|body| (body.at, self.check(body)));
        self.scope.truncate(before);
        let (at, body) = body.unwrap_or((0, first.clone()));
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => {
                self.expect_bool(at, &body);
                Type::Bool
            }
            FoldKind::List | FoldKind::Filter => Type::List(Arc::new(body)),
            FoldKind::Sort => Type::List(Arc::new(first)),
            FoldKind::Map => Type::Map(Arc::new(first), Arc::new(body)),
            FoldKind::Entries => body,
        }
    }

    fn expect_bool(&mut self, at: usize, found: &Type<'s>) {
        if !matches!(found, Type::Bool | Type::Dyn) {
            self.fault(at, format!("expected type 'bool' but found '{found}'"));
        }
    }
}

fn of_literal<'s>(literal: &Literal) -> Type<'s> {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
