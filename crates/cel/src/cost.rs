//! What an expression can cost at most, from the sizes that a schema allows: told before anything is stored.
//!
//! Upstream: cel-go's checker/cost.go, and `estimateMax…` in k8s.io/apiserver/pkg/cel/common/schemas.go.

use stead_api::schema::{Rest, Schema, Shape};

use crate::ast::{Call, Expr, Fold, FoldKind, Literal, Node, Select};
use crate::functions::Cost;
use crate::types::Known;

/// A request's body holds no more bytes than this.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
const ASK_COST: u64 = 350_000;

/// How large a value can be, and what it is.
#[derive(Clone, Copy)]
struct Sized<'s> {
    schema: Option<&'s Schema>,
    size: u64,
}

pub(crate) fn estimate(expr: &Expr, known: &[(&str, Known<'_>)]) -> u64 {
    let scope = known.iter().map(|(name, known)| {
        let sized = match known {
            Known::Schema(schema) | Known::Optional(schema) => of_schema(schema),
            // Objects of any shape are limited when they are evaluated.
            Known::Dyn | Known::Whole(_) | Known::Authorizer | Known::Members(_) => Sized { schema: None, size: 0 },
        };
        (*name, sized)
    });
    let mut estimate = Estimate { scope: scope.collect(), spent: 0 };
    estimate.walk(expr);
    estimate.spent
}

fn of_schema(schema: &Schema) -> Sized<'_> {
    Sized { schema: Some(schema), size: size_max(schema) }
}

/// The most elements, entries or bytes that a value of a schema can have.
pub fn size_max(schema: &Schema) -> u64 {
    let rules = schema.rules.as_deref();
    let room = REQUEST_BYTES_MAX - 2;
    match &schema.shape {
        Shape::Array(items) => rules.and_then(|rules| rules.max_items).unwrap_or_else(|| room / (size_min(items) + 1)),
        Shape::Object(fields) => match &fields.rest {
            // A key is at least two quotes and a colon.
            Rest::Map(values) => {
                rules.and_then(|rules| rules.max_properties).unwrap_or_else(|| room / (size_min(values) + 4))
            }
            _ => fields.named.len() as u64,
        },
        Shape::String | Shape::IntOrString | Shape::Any => {
            let longest = rules.map(|rules| {
                let options = rules.options.iter().filter_map(|one| one.as_str()).map(str::len).max();
                // A character takes up to four bytes.
                options.map(|size| size as u64).or(rules.max_length.map(|length| length.saturating_mul(4)))
            });
            longest.flatten().unwrap_or(match rules.map_or("", |rules| rules.format.as_str()) {
                "date" => 10,
                "date-time" => 24,
                "duration" => 32,
                _ => room,
            })
        }
        _ => 1,
    }
}

/// The fewest bytes that a value takes in JSON.
fn size_min(schema: &Schema) -> u64 {
    match &schema.shape {
        Shape::Array(_) | Shape::String => 2,
        Shape::Boolean => 4,
        Shape::Object(fields) => {
            let needed = |(name, field): &(String, Schema)| {
                let is_needed = schema.required.contains(name) && field.default.is_none();
                is_needed.then(|| name.len() as u64 + size_min(field) + 4)
            };
            2 + fields.named.iter().filter_map(needed).sum::<u64>()
        }
        _ => 1,
    }
}

struct Estimate<'s, 'n> {
    scope: Vec<(&'n str, Sized<'s>)>,
    spent: u64,
}

impl<'s, 'n> Estimate<'s, 'n> {
    fn pay(&mut self, cost: u64) {
        self.spent = self.spent.saturating_add(cost);
    }

    fn walk(&mut self, expr: &'n Expr) -> Sized<'s> {
        let unknown = Sized { schema: None, size: 1 };
        match &expr.node {
            Node::Literal(Literal::String(text)) => Sized { size: text.len() as u64, ..unknown },
            Node::Literal(_) => unknown,
            Node::Ident(name) => {
                self.pay(1);
                self.scope.iter().rev().find(|(known, _)| known == name).map_or(unknown, |(_, sized)| *sized)
            }
            Node::Select(select) => self.select(select),
            Node::Call(call) => self.call(call),
            Node::List(elements) => {
                self.pay(10);
                for (element, _) in elements {
                    self.walk(element);
                }
                Sized { size: elements.len() as u64, schema: None }
            }
            Node::Map(entries) => {
                self.pay(30);
                for (key, value, _) in entries {
                    self.walk(key);
                    self.walk(value);
                }
                Sized { size: entries.len() as u64, schema: None }
            }
            Node::Struct(_, fields) => {
                self.pay(40);
                for (_, value, _) in fields {
                    self.walk(value);
                }
                unknown
            }
            Node::Fold(fold) => self.fold(fold),
            Node::Bind(bind) => {
                let value = self.walk(&bind.value);
                self.pay(1);
                self.scope.push((&bind.name, value));
                let body = self.walk(&bind.body);
                self.scope.pop();
                body
            }
        }
    }

    fn select(&mut self, select: &'n Select) -> Sized<'s> {
        let operand = self.walk(&select.operand);
        self.pay(1);
        let plain = crate::names::unescape(&select.field);
        let name = plain.as_deref().unwrap_or(&select.field);
        let found = operand.schema.and_then(|schema| schema.resolved().field(name));
        found.map_or(Sized { schema: None, size: operand.size.min(1) }, of_schema)
    }

    /// The elements of a list or the values of a map.
    fn items(of: Sized<'s>) -> Sized<'s> {
        let schema = of.schema.map(Schema::resolved);
        let items = schema.and_then(|schema| match &schema.shape {
            Shape::Array(items) => Some(&**items),
            Shape::Object(fields) => match &fields.rest {
                Rest::Map(values) => Some(&**values),
                _ => None,
            },
            _ => None,
        });
        items.map_or(Sized { schema: None, size: 1 }, of_schema)
    }

    fn call(&mut self, call: &'n Call) -> Sized<'s> {
        if call.name == "_?_:_" {
            self.walk(&call.args[0]);
            let start = self.spent;
            let then = self.walk(&call.args[1]);
            let after_then = std::mem::replace(&mut self.spent, start);
            let otherwise = self.walk(&call.args[2]);
            self.spent = self.spent.max(after_then);
            return if then.size >= otherwise.size { then } else { otherwise };
        }
        let args: Vec<Sized<'s>> = call.args.iter().map(|arg| self.walk(arg)).collect();
        let size = |index: usize| args.get(index).map_or(0, |arg| arg.size);
        let tenth = |size: u64| size.div_ceil(10);
        let cost = match (call.name.as_str(), call.function.map(|function| function.cost)) {
            ("_||_" | "_&&_", _) => 0,
            // A look at every element.
            ("@in", _) => size(1),
            // The shorter side decides.
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", _) => tenth(size(0).min(size(1))).max(1),
            (_, Some(Cost::Scan)) => 1u64.saturating_add(tenth(size(0))),
            (_, Some(Cost::ScanAll)) => 1u64.saturating_add(tenth(size(0).saturating_add(size(1)))),
            (_, Some(Cost::Match)) => {
                tenth(size(0).saturating_add(1)).saturating_mul(size(1).div_ceil(4)).saturating_add(1)
            }
            (_, Some(Cost::Ask)) => ASK_COST,
            _ => 1,
        };
        self.pay(cost);
        match call.name.as_str() {
            "_[_]" | "_[?_]" => args.first().map_or(Sized { schema: None, size: 1 }, |of| Self::items(*of)),
            "_+_" => Sized { schema: args[0].schema, size: size(0).saturating_add(size(1)) },
            "orValue" | "or" => {
                if size(0) >= size(1) {
                    args[0]
                } else {
                    args[1]
                }
            }
            "value" | "optional.of" | "dyn" | "string" | "lowerAscii" | "upperAscii" | "trim" | "substring"
            | "split" | "replace" | "findAll" | "find" | "distinct" | "sort" | "reverse" => {
                args.first().copied().unwrap_or(Sized { schema: None, size: 1 })
            }
            "join" => {
                Sized { schema: None, size: size(0).saturating_mul(args.first().map_or(1, |of| Self::items(*of).size)) }
            }
            _ => Sized { schema: None, size: 1 },
        }
    }

    fn fold(&mut self, fold: &'n Fold) -> Sized<'s> {
        let range = self.walk(&fold.range);
        let items = Self::items(range);
        let is_map = range.schema.is_some_and(|schema| matches!(schema.resolved().shape, Shape::Object(_)));
        let key = Sized { schema: None, size: if is_map { REQUEST_BYTES_MAX / range.size.max(1) } else { 1 } };
        let (first, second) = match (fold.names.len(), is_map) {
            (2, _) | (1, true) => (key, items),
            _ => (items, items),
        };
        let before = self.scope.len();
        self.scope.extend(fold.names.iter().map(String::as_str).zip([first, second]));
        let outer = std::mem::take(&mut self.spent);
        if let Some(filter) = &fold.filter {
            self.walk(filter);
        }
        if let Some(body) = &fold.body {
            self.walk(body);
        }
        self.scope.truncate(before);
        let own = match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => 3,
            FoldKind::List | FoldKind::Filter | FoldKind::Sort => 12,
            FoldKind::Map | FoldKind::Entries => 32,
        };
        let each = self.spent.saturating_add(own);
        self.spent = outer.saturating_add(each.saturating_mul(range.size)).saturating_add(1);
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Sized { schema: None, size: 1 },
            FoldKind::Filter | FoldKind::Sort => range,
            _ => Sized { schema: None, size: range.size },
        }
    }
}
