//! Calls that are macros: `has`, the comprehensions over one and two variables, `cel.bind`, `optMap`.

use crate::ast::{Bind, BindKind, Expr, Fold, FoldKind, How, Node};
use crate::build::{call, dotted, expr};
use crate::functions;
use crate::lexer::Fault;

/// A call without a target.
pub(crate) fn global(at: usize, name: &str, mut args: Vec<Expr>) -> Result<Expr, Fault> {
    if name == "has" && args.len() == 1 {
        let arg = args.remove(0);
        return match arg.node {
            Node::Select(mut select) if select.how == How::Value => {
                select.how = How::Presence;
                Ok(expr(at, Node::Select(select)))
            }
            _ => Err((arg.at, "invalid argument to has() macro".into())),
        };
    }
    call(at, name, false, args)
}

/// A call with a target.
pub(crate) fn member(at: usize, target: Expr, name: &str, mut args: Vec<Expr>) -> Result<Expr, Fault> {
    if let Some(kind) = fold_kind(name, args.len()) {
        return fold(at, target, name, kind, args);
    }
    if dotted(&target).is_some_and(|namespace| namespace == "cel") && name == "bind" && args.len() == 3 {
        let (body, value) = (args.remove(2), args.remove(1));
        let name = variable(&args[0])?;
        return Ok(expr(at, Node::Bind(Box::new(Bind { name, value, body, kind: BindKind::Plain }))));
    }
    if let Some(kind) = match name {
        "optMap" => Some(BindKind::OptMap),
        "optFlatMap" => Some(BindKind::OptFlatMap),
        _ => None,
    } && args.len() == 2
    {
        let body = args.remove(1);
        let name = variable(&args[0])?;
        return Ok(expr(at, Node::Bind(Box::new(Bind { name, value: target, body, kind }))));
    }
    if let Some(namespace) = dotted(&target) {
        let qualified = format!("{namespace}.{name}");
        if functions::find(&qualified, false).is_some() {
            return call(at, &qualified, false, args);
        }
    }
    args.insert(0, target);
    call(at, name, true, args)
}

/// Which macro a name is, given the count of its arguments.
fn fold_kind(name: &str, count: usize) -> Option<FoldKind> {
    match (name, count) {
        ("all", 2 | 3) => Some(FoldKind::All),
        ("exists", 2 | 3) => Some(FoldKind::Exists),
        ("exists_one", 2) | ("existsOne", 2 | 3) => Some(FoldKind::ExistsOne),
        ("map", 2 | 3) | ("transformList", 3 | 4) => Some(FoldKind::List),
        ("filter", 2) => Some(FoldKind::Filter),
        ("transformMap", 3 | 4) => Some(FoldKind::Map),
        ("transformMapEntry", 3 | 4) => Some(FoldKind::Entries),
        ("sortBy", 2) => Some(FoldKind::Sort),
        _ => None,
    }
}

fn fold(at: usize, range: Expr, name: &str, kind: FoldKind, mut args: Vec<Expr>) -> Result<Expr, Fault> {
    let with_two = name.starts_with("transform")
        || (args.len() == 3 && matches!(kind, FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne));
    let count = if with_two { 2 } else { 1 };
    let names = args[..count].iter().map(variable).collect::<Result<Vec<_>, _>>()?;
    let mut rest = args.split_off(count);
    let last = rest.pop();
    let (filter, body) = match kind {
        FoldKind::Filter => (last, None),
        _ => (rest.pop(), last),
    };
    Ok(expr(at, Node::Fold(Box::new(Fold { range, names, kind, filter, body }))))
}

fn variable(arg: &Expr) -> Result<String, Fault> {
    match &arg.node {
        Node::Ident(name) => Ok(name.clone()),
        _ => Err((arg.at, "argument must be a simple name".into())),
    }
}
