//! Types that the checker tells apart.

use std::fmt;
use std::sync::Arc;

use stead_api::schema::{Rest, Schema, Shape};

use crate::names::unescape;

#[derive(Clone, Debug)]
pub(crate) enum Type<'s> {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// A type as a value.
    Kind,
    List(Arc<Type<'s>>),
    Map(Arc<Type<'s>>, Arc<Type<'s>>),
    Optional(Arc<Type<'s>>),
    /// An object of a custom resource.
    Object(&'s Schema),
    /// An object of any kind, of which everything may be seen.
    Whole(&'s Schema),
    /// An object with these members.
    Members(&'s [String]),
    /// metadata of a custom resource: name and generateName are all that rules may see of it.
    Metadata,
    /// Any other, by its name: `kubernetes.Quantity`.
    Named(Arc<str>),
    /// Stands for any type in a function's signature.
    Param(char),
}

impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::Kind => f.write_str("type"),
            Type::List(items) => write!(f, "list({items})"),
            Type::Map(keys, values) => write!(f, "map({keys}, {values})"),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Object(_) | Type::Whole(_) | Type::Members(_) | Type::Metadata => f.write_str("object"),
            Type::Named(name) => f.write_str(name),
            Type::Param(name) => write!(f, "{name}"),
        }
    }
}

/// The type of values of a schema; None for what rules cannot see.
pub(crate) fn of_schema(schema: &Schema) -> Option<Type<'_>> {
    let format = schema.rules.as_ref().map_or("", |rules| rules.format.as_str());
    Some(match &schema.shape {
        Shape::Any => return None,
        Shape::String => match format {
            "byte" => Type::Bytes,
            "date" | "date-time" => Type::Timestamp,
            "duration" => Type::Duration,
            _ => Type::String,
        },
        Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Quantity => Type::String,
        Shape::IntOrString => Type::Dyn,
        Shape::Int32 | Shape::Int64 => Type::Int,
        Shape::Number => Type::Double,
        Shape::Boolean => Type::Bool,
        Shape::Array(items) => Type::List(Arc::new(of_schema(items)?)),
        Shape::Ref(_) => Type::Metadata,
        Shape::Object(fields) => match &fields.rest {
            Rest::Map(values) if fields.named.is_empty() => {
                Type::Map(Arc::new(Type::String), Arc::new(of_schema(values)?))
            }
            _ => Type::Object(schema),
        },
    })
}

/// The type of values of a schema of which everything may be seen; what is text or something else, by its format, is not told apart.
pub(crate) fn of_whole(schema: &Schema) -> Type<'_> {
    let schema = schema.resolved();
    let has_format = schema.rules.as_ref().is_some_and(|rules| !rules.format.is_empty());
    match &schema.shape {
        Shape::String if !has_format => Type::String,
        Shape::Int32 | Shape::Int64 => Type::Int,
        Shape::Number => Type::Double,
        Shape::Boolean => Type::Bool,
        Shape::Array(items) => Type::List(Arc::new(of_whole(items))),
        Shape::Object(fields) => match &fields.rest {
            Rest::Map(values) if fields.named.is_empty() => {
                Type::Map(Arc::new(Type::String), Arc::new(of_whole(values)))
            }
            Rest::Closed if !fields.named.is_empty() => Type::Whole(schema),
            _ => Type::Dyn,
        },
        _ => Type::Dyn,
    }
}

/// The type of a member of such an object.
pub(crate) fn field_of_whole<'s>(schema: &'s Schema, name: &str) -> Option<Type<'s>> {
    unescape(name).and_then(|plain| schema.field(&plain)).or_else(|| schema.field(name)).map(of_whole)
}

/// The type of a member of an object, by the name expressions use for it.
pub(crate) fn field<'s>(schema: &'s Schema, name: &str) -> Option<Type<'s>> {
    let member = match unescape(name) {
        Some(plain) => schema.field(&plain),
        None => schema.field(name),
    };
    of_schema(member?)
}

/// What stands for the parameters of one signature while a call is matched.
#[derive(Clone, Default)]
pub(crate) struct Bound<'s>(Vec<(char, Type<'s>)>);

impl<'s> Bound<'s> {
    /// Replaces parameters by what they stand for.
    pub fn apply(&self, of: &Type<'s>) -> Type<'s> {
        match of {
            Type::Param(name) => self.get(*name).cloned().unwrap_or(Type::Dyn),
            Type::List(items) => Type::List(Arc::new(self.apply(items))),
            Type::Map(keys, values) => Type::Map(Arc::new(self.apply(keys)), Arc::new(self.apply(values))),
            Type::Optional(inner) => Type::Optional(Arc::new(self.apply(inner))),
            other => other.clone(),
        }
    }

    fn get(&self, name: char) -> Option<&Type<'s>> {
        self.0.iter().find(|(one, _)| *one == name).map(|(_, found)| found)
    }

    /// Whether a value of type `given` may stand where `wanted` is expected.
    pub fn accepts(&mut self, wanted: &Type<'s>, given: &Type<'s>) -> bool {
        match (wanted, given) {
            (Type::Param(name), _) => match self.get(*name).cloned() {
                None => {
                    self.0.push((*name, given.clone()));
                    true
                }
                Some(known) => {
                    let is_wider = matches!(known, Type::Null | Type::Dyn) && !matches!(given, Type::Null | Type::Dyn);
                    let fits = self.accepts(&known, given) || self.accepts(given, &known);
                    if fits && is_wider {
                        self.0.retain(|(one, _)| one != name);
                        self.0.push((*name, given.clone()));
                    }
                    fits
                }
            },
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.accepts(a, b),
            (Type::Map(ak, av), Type::Map(bk, bv)) => self.accepts(ak, bk) && self.accepts(av, bv),
            (
                Type::Object(_)
                | Type::Whole(_)
                | Type::Members(_)
                | Type::Metadata
                | Type::Timestamp
                | Type::Duration
                | Type::Named(_),
                Type::Null,
            ) => true,
            (Type::Object(a), Type::Object(b)) | (Type::Whole(a), Type::Whole(b)) => std::ptr::eq(*a, *b),
            (Type::Named(a), Type::Named(b)) => a == b,
            (wanted, given) => {
                std::mem::discriminant(wanted) == std::mem::discriminant(given)
                    && !matches!(wanted, Type::List(_) | Type::Map(..) | Type::Optional(_))
            }
        }
    }
}

/// One type of two branches.
pub(crate) fn join<'s>(a: &Type<'s>, b: &Type<'s>) -> Option<Type<'s>> {
    let mut bound = Bound::default();
    if bound.accepts(a, b) {
        // An empty list or a null takes the other's type.
        return Some(if matches!(a, Type::Dyn | Type::Null) || is_empty(a) { b.clone() } else { a.clone() });
    }
    bound.accepts(b, a).then(|| b.clone())
}

fn is_empty(of: &Type<'_>) -> bool {
    match of {
        Type::List(items) => matches!(**items, Type::Dyn),
        Type::Map(_, values) => matches!(**values, Type::Dyn),
        Type::Optional(inner) => matches!(**inner, Type::Dyn),
        _ => false,
    }
}

/// A signature of a function: `string.(int) bool` for members, `(string) bool` for others.
#[derive(Debug)]
pub(crate) struct Signature {
    pub params: Vec<Type<'static>>,
    pub result: Type<'static>,
}

impl Signature {
    /// Reads the notation of the function table, which is fixed: a wrong one is a mistake in it.
    pub fn parse(text: &str) -> Signature {
        let (target, rest) = text.split_once('(').expect("a signature has parameters");
        let (params, result) = rest.rsplit_once(')').expect("parameters end");
        let mut all = Vec::new();
        if let Some(target) = target.strip_suffix('.') {
            all.push(parse_type(target));
        }
        all.extend(split(params).into_iter().map(parse_type));
        Signature { params: all, result: parse_type(result.trim()) }
    }
}

/// Splits at commas outside of angle brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn parse_type(text: &str) -> Type<'static> {
    let text = text.trim();
    if let Some((name, inner)) = text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        let mut inner = split(inner).into_iter().map(parse_type);
        let mut next = || Arc::new(inner.next().expect("a type's parameter"));
        return match name {
            "list" => Type::List(next()),
            "map" => Type::Map(next(), next()),
            _ => Type::Optional(next()),
        };
    }
    match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Kind,
        "A" => Type::Param('A'),
        "B" => Type::Param('B'),
        "quantity" => Type::Named("kubernetes.Quantity".into()),
        "url" => Type::Named("kubernetes.URL".into()),
        "ip" => Type::Named("net.IP".into()),
        "cidr" => Type::Named("net.CIDR".into()),
        "semver" => Type::Named("kubernetes.Semver".into()),
        "format" => Type::Named("kubernetes.NamedFormat".into()),
        name => Type::Named(format!("kubernetes.authorization.{name}").into()),
    }
}

/// What a name may stand for.
#[derive(Clone, Copy, Debug)]
pub enum Known<'s> {
    /// Anything: it is checked when it is used.
    Dyn,
    /// A value of this schema.
    Schema(&'s Schema),
    /// An optional of it.
    Optional(&'s Schema),
    /// A whole object of this schema, its metadata included.
    Whole(&'s Schema),
    Authorizer,
    /// An object with these members, which may be anything.
    Members(&'s [String]),
}
