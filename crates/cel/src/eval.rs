//! Evaluation: a walk over the expression, paid for step by step.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ast::{Bind, BindKind, Call, Expr, Fold, FoldKind, How, Literal, Node, Select};
use crate::error::{Error, Result};
use crate::functions::{self, Cost};
use crate::value::{Text, Value};

/// Prices of what makes values.
const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;
const STRUCT_COST: u64 = 40;
const ASK_COST: u64 = 350_000;

pub(crate) fn evaluate<'a>(expr: &'a Expr, vars: &[(&'a str, Value<'a>)], limit: u64) -> (Result<Value<'a>>, u64) {
    let mut run = Run { scope: vars.to_vec(), spent: 0, limit };
    let result = run.eval(expr);
    (result, run.spent)
}

struct Run<'a> {
    /// What names stand for; later ones hide earlier ones.
    scope: Vec<(&'a str, Value<'a>)>,
    spent: u64,
    limit: u64,
}

impl<'a> Run<'a> {
    fn pay(&mut self, cost: u64) -> Result<()> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(Error::Limit) } else { Ok(()) }
    }

    fn eval(&mut self, expr: &'a Expr) -> Result<Value<'a>> {
        match &expr.node {
            Node::Literal(literal) => Ok(constant(literal)),
            Node::Ident(name) => {
                self.pay(1)?;
                self.ident(name)
            }
            Node::Select(select) => self.select(select),
            Node::Call(call) => self.call(call),
            Node::List(elements) => {
                self.pay(LIST_COST)?;
                let mut list = Vec::with_capacity(elements.len());
                for (element, is_optional) in elements {
                    list.extend(held(self.eval(element)?, *is_optional)?);
                }
                Ok(list.into())
            }
            Node::Map(entries) => {
                self.pay(MAP_COST)?;
                let mut map = BTreeMap::new();
                for (key, value, is_optional) in entries {
                    let key = self.eval(key)?;
                    if let Some(value) = held(self.eval(value)?, *is_optional)? {
                        insert(&mut map, key, value)?;
                    }
                }
                Ok(Value::Map(Rc::new(map)))
            }
            Node::Struct(name, fields) => {
                self.pay(STRUCT_COST)?;
                let mut made = BTreeMap::new();
                for (field, value, is_optional) in fields {
                    if let Some(value) = held(self.eval(value)?, *is_optional)? {
                        made.insert(field.clone(), value);
                    }
                }
                Ok(Value::Struct(Rc::new((name.clone(), made))))
            }
            Node::Fold(fold) => self.fold(fold),
            Node::Bind(bind) => self.bind(bind),
        }
    }

    fn ident(&self, name: &'a str) -> Result<Value<'a>> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        if crate::checker::TYPE_NAMES.contains(&name) {
            return Ok(Value::Type(name.into()));
        }
        Err(Error::failed(format!("no such attribute(s): {name}")))
    }

    fn select(&mut self, select: &'a Select) -> Result<Value<'a>> {
        let operand = self.eval(&select.operand)?;
        self.pay(1)?;
        let (is_optional, operand) = match operand {
            Value::Optional(None) if select.how == How::Presence => return Ok(false.into()),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (true, (*inner).clone()),
            other => (false, other),
        };
        let found = member(&operand, &select.field)?;
        match select.how {
            How::Presence => Ok(found.is_some().into()),
            How::Optional => Ok(Value::Optional(found.map(Rc::new))),
            How::Value if is_optional => Ok(Value::Optional(found.map(Rc::new))),
            How::Value => match (found, &operand) {
                (Some(found), _) => Ok(found),
                (None, Value::Struct(_)) => Ok(Value::Null),
                (None, _) => Err(Error::failed(format!("no such key: {}", select.field))),
            },
        }
    }

    fn call(&mut self, call: &'a Call) -> Result<Value<'a>> {
        match call.name.as_str() {
            "_||_" => return self.either(&call.args, true),
            "_&&_" => return self.either(&call.args, false),
            "_?_:_" => {
                let Value::Bool(condition) = self.eval(&call.args[0])? else { return Err(Error::no_overload()) };
                return self.eval(&call.args[if condition { 1 } else { 2 }]);
            }
            _ => {}
        }
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.eval(arg)?);
        }
        let Some(function) = call.function else {
            return Err(Error::failed(format!("no such overload: {}", call.name)));
        };
        self.pay(price(function.cost, &args))?;
        if let Some(Value::Asked(target)) = args.first().filter(|_| call.is_member) {
            let asked = target.call(&call.name, &args[1..]);
            return asked.unwrap_or_else(|| Err(Error::failed(format!("no such overload: {}", call.name))));
        }
        if !function.signatures().iter().any(|signature| signature.params.len() == args.len()) {
            return Err(Error::no_overload());
        }
        match &call.pattern {
            Some(pattern) => functions::with_pattern(&call.name, &args, pattern),
            None => (function.code)(&args),
        }
    }

    /// `||` (decided by true) and `&&` (decided by false): one side that decides hides an error of the other.
    fn either(&mut self, sides: &'a [Expr], decisive: bool) -> Result<Value<'a>> {
        let mut failure = None;
        for side in sides {
            match self.eval(side) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(value.into()),
                Ok(Value::Bool(_)) => {}
                Err(Error::Limit) => return Err(Error::Limit),
                Ok(_) => failure = failure.or(Some(Error::no_overload())),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn bind(&mut self, bind: &'a Bind) -> Result<Value<'a>> {
        let value = self.eval(&bind.value)?;
        self.pay(1)?;
        let value = match (bind.kind, value) {
            (BindKind::Plain, value) => value,
            (_, Value::Optional(None)) => return Ok(Value::Optional(None)),
            (_, Value::Optional(Some(inner))) => (*inner).clone(),
            _ => return Err(Error::no_overload()),
        };
        self.scope.push((&bind.name, value));
        let result = self.eval(&bind.body);
        self.scope.pop();
        match bind.kind {
            BindKind::OptMap => result.map(Value::some),
            BindKind::Plain | BindKind::OptFlatMap => result,
        }
    }

    fn fold(&mut self, fold: &'a Fold) -> Result<Value<'a>> {
        let range = self.eval(&fold.range)?;
        let range = match range {
            Value::Optional(_) => return Err(Error::no_overload()),
            other => other,
        };
        let steps = steps(&range, fold.names.len() == 2)?;
        let mut made = Made::default();
        for (first, second) in steps {
            self.pay(1)?;
            let names = [Some(first), second].into_iter().flatten();
            let before = self.scope.len();
            self.scope.extend(fold.names.iter().map(String::as_str).zip(names));
            let step = self.step(fold, &mut made);
            let is_done = step.as_ref().is_ok_and(|done| *done);
            self.scope.truncate(before);
            step?;
            if is_done {
                break;
            }
        }
        made.finish(fold.kind)
    }

    /// One element; true when the result is known.
    fn step(&mut self, fold: &'a Fold, made: &mut Made<'a>) -> Result<bool> {
        if let Some(filter) = &fold.filter {
            match self.eval(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(false),
                _ => return Err(Error::no_overload()),
            }
        }
        let value = match &fold.body {
            Some(body) => self.eval(body),
            None => Ok(self.scope.last().map_or(Value::Null, |(_, value)| value.clone())),
        };
        let first = || self.scope[self.scope.len() - fold.names.len()].1.clone();
        match fold.kind {
            FoldKind::All | FoldKind::Exists => match value {
                Ok(Value::Bool(found)) => {
                    made.holds = found == (fold.kind == FoldKind::Exists);
                    return Ok(made.holds);
                }
                Err(Error::Limit) => return Err(Error::Limit),
                Ok(_) => made.failure = made.failure.take().or(Some(Error::no_overload())),
                Err(error) => made.failure = made.failure.take().or(Some(error)),
            },
            FoldKind::ExistsOne => match value? {
                Value::Bool(found) => made.count += usize::from(found),
                _ => return Err(Error::no_overload()),
            },
            FoldKind::List | FoldKind::Filter => {
                made.list.push(value?);
                self.pay(LIST_COST)?;
            }
            FoldKind::Sort => made.pairs.push((value?, first())),
            FoldKind::Map => {
                made.map.insert(crate::Key::of(&first())?, value?);
                self.pay(MAP_COST)?;
            }
            FoldKind::Entries => {
                for (key, value) in value?.entries().ok_or_else(Error::no_overload)? {
                    insert(&mut made.map, key.value(), value)?;
                }
                self.pay(MAP_COST)?;
            }
        }
        Ok(false)
    }
}

/// What a comprehension has gathered.
#[derive(Default)]
struct Made<'a> {
    /// Whether an element decided.
    holds: bool,
    failure: Option<Error>,
    count: usize,
    list: Vec<Value<'a>>,
    pairs: Vec<(Value<'a>, Value<'a>)>,
    map: BTreeMap<crate::Key<'a>, Value<'a>>,
}

impl<'a> Made<'a> {
    fn finish(self, kind: FoldKind) -> Result<Value<'a>> {
        match kind {
            FoldKind::All | FoldKind::Exists if self.holds => Ok(Value::Bool(kind == FoldKind::Exists)),
            FoldKind::All | FoldKind::Exists => self.failure.map_or(Ok(Value::Bool(kind == FoldKind::All)), Err),
            FoldKind::ExistsOne => Ok(Value::Bool(self.count == 1)),
            FoldKind::List | FoldKind::Filter => Ok(self.list.into()),
            FoldKind::Sort => functions::sorted(self.pairs),
            FoldKind::Map | FoldKind::Entries => Ok(Value::Map(Rc::new(self.map))),
        }
    }
}

fn insert<'a>(map: &mut BTreeMap<crate::Key<'a>, Value<'a>>, key: Value<'a>, value: Value<'a>) -> Result<()> {
    functions::insert(map, key, value)
}

fn constant<'a>(literal: &'a Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Borrowed(text)),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}

/// An element of a literal: nothing, when it is an empty optional marked with `?`.
fn held<'a>(value: Value<'a>, is_optional: bool) -> Result<Option<Value<'a>>> {
    match (is_optional, value) {
        (false, value) => Ok(Some(value)),
        (true, Value::Optional(inner)) => Ok(inner.map(|inner| (*inner).clone())),
        (true, _) => Err(Error::no_overload()),
    }
}

fn member<'a>(operand: &Value<'a>, name: &str) -> Result<Option<Value<'a>>> {
    match operand {
        Value::Object(..) | Value::Map(_) | Value::Struct(_) => Ok(operand.field(name)),
        Value::Asked(asked) => asked.field(name).transpose(),
        _ => Err(Error::no_overload()),
    }
}

/// The values of a comprehension's one or two variables, element by element.
fn steps<'a>(range: &Value<'a>, with_two: bool) -> Result<Vec<(Value<'a>, Option<Value<'a>>)>> {
    if let Some(list) = range.elements() {
        let indexed = list.into_iter().enumerate();
        return Ok(indexed
            .map(|(index, one)| if with_two { (Value::Int(index as i64), Some(one)) } else { (one, None) })
            .collect());
    }
    let entries = range.entries().ok_or_else(Error::no_overload)?;
    Ok(entries.into_iter().map(|(key, value)| (key.value(), with_two.then_some(value))).collect())
}

/// A tenth of what is looked at, and one for the call.
fn price(cost: Cost, args: &[Value<'_>]) -> u64 {
    let size = |value: Option<&Value<'_>>| match value {
        Some(Value::String(text)) => text.len() as u64,
        Some(other) => other.size().unwrap_or(1) as u64,
        None => 0,
    };
    match cost {
        Cost::One => 1,
        Cost::Scan => 1 + size(args.first()).div_ceil(10),
        Cost::ScanAll => 1 + args.iter().map(|arg| size(Some(arg))).sum::<u64>().div_ceil(10),
        Cost::Match => 1 + size(args.first()).div_ceil(10) * size(args.get(1)).div_ceil(4),
        Cost::Ask => ASK_COST,
    }
}
