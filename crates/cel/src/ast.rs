//! What an expression is after parsing: macros are expanded to comprehensions, functions are looked up.

use regex::Regex;

use crate::functions::Function;

#[derive(Debug)]
pub(crate) struct Expr {
    /// Where it stands in the source, in characters.
    pub at: usize,
    /// How deep it is nested: walks recurse, so the parser limits it.
    pub height: u32,
    pub node: Node,
}

impl Expr {
    pub fn new(at: usize, node: Node) -> Expr {
        let mut height = 0;
        node.parts(&mut |part| height = height.max(part.height));
        Expr { at, height: height + 1, node }
    }
}

impl Node {
    /// Looks at every expression directly below.
    pub fn parts<'e>(&'e self, look: &mut dyn FnMut(&'e Expr)) {
        match self {
            Node::Literal(_) | Node::Ident(_) => {}
            Node::Select(select) => look(&select.operand),
            Node::Call(call) => call.args.iter().for_each(look),
            Node::List(list) => list.iter().for_each(|(one, _)| look(one)),
            Node::Map(map) => map.iter().for_each(|(key, value, _)| {
                look(key);
                look(value);
            }),
            Node::Struct(_, fields) => fields.iter().for_each(|(_, value, _)| look(value)),
            Node::Fold(fold) => {
                [Some(&fold.range), fold.filter.as_ref(), fold.body.as_ref()].into_iter().flatten().for_each(look);
            }
            Node::Bind(bind) => [&bind.value, &bind.body].into_iter().for_each(look),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Node {
    Literal(Literal),
    Ident(String),
    Select(Select),
    Call(Call),
    /// Elements; a marked one is left out when its optional is empty.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    /// `Object.spec{field: value}`: the type's name and its fields.
    Struct(String, Vec<(String, Expr, bool)>),
    Fold(Box<Fold>),
    /// `cel.bind(name, value, body)`, and `optMap` with an optional as its value.
    Bind(Box<Bind>),
}

#[derive(Clone, Debug)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Select {
    pub operand: Box<Expr>,
    pub field: String,
    pub how: How,
}

/// What a selection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// `a.b`
    Value,
    /// `has(a.b)`
    Presence,
    /// `a.?b`
    Optional,
}

#[derive(Debug)]
pub(crate) struct Call {
    /// As messages name it: `_+_`, `startsWith`.
    pub name: String,
    /// None when no function has this name.
    pub function: Option<&'static Function>,
    /// Whether the first argument stands before a dot.
    pub is_member: bool,
    pub args: Vec<Expr>,
    /// A constant pattern, compiled once.
    pub pattern: Option<Box<Regex>>,
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Debug)]
pub(crate) struct Fold {
    pub range: Expr,
    /// One name, or index and element, or key and value.
    pub names: Vec<String>,
    pub kind: FoldKind,
    pub filter: Option<Expr>,
    pub body: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// The body's values of the elements that the filter lets through.
    List,
    /// The elements themselves.
    Filter,
    /// The body's values under the same keys.
    Map,
    /// The entries of the body's maps.
    Entries,
    /// The elements in the order of the body's values.
    Sort,
}

#[derive(Debug)]
pub(crate) struct Bind {
    pub name: String,
    pub value: Expr,
    pub body: Expr,
    pub kind: BindKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindKind {
    Plain,
    /// The value is an optional; the result is an optional of the body.
    OptMap,
    /// The same, but the body is an optional already.
    OptFlatMap,
}
