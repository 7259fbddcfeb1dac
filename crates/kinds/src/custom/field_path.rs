//! Simple paths into an object, `.spec.list['a-b']`, checked against its schema.

use stead_api::schema::{Rest, Schema};

/// The path as error messages write it: `spec.list.a-b`, keys of maps in brackets.
///
/// # Errors
/// Why the path leads nowhere, in Kubernetes' words.
pub(crate) fn normalize(path: &str, schema: &Schema) -> Result<String, String> {
    find(path, schema).map(|(path, _)| path)
}

/// The same, with the schema of what the path leads to.
pub(crate) fn find<'s>(path: &str, schema: &'s Schema) -> Result<(String, &'s Schema), String> {
    let mut schema = schema;
    let mut out = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (name, after) = step(rest)?;
        let fields = schema.fields().ok_or("does not refer to a valid field")?;
        let is_map = fields.named.is_empty() && matches!(fields.rest, Rest::Map(_));
        schema = fields.get(&name).ok_or("does not refer to a valid field")?;
        match is_map {
            true => out.push_str(&format!("[{name}]")),
            false if out.is_empty() => out.push_str(&name),
            false => out.push_str(&format!(".{name}")),
        }
        rest = after;
    }
    Ok((out, schema))
}

/// One step of a path and what follows it.
fn step(path: &str) -> Result<(String, &str), String> {
    if let Some(rest) = path.strip_prefix('.') {
        let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        return match name {
            "" => Err("unexpected end of JSON path".into()),
            name => Ok((name.to_owned(), after)),
        };
    }
    let Some(quoted) = path.strip_prefix('[') else {
        let found: String = path.chars().take_while(|c| !".[]".contains(*c)).collect();
        return Err(format!("expected [ or . but got: {found}"));
    };
    let Some(quoted) = quoted.strip_prefix('\'') else {
        let found = quoted.split([']', '.']).next().unwrap_or_default();
        return Err(format!("expected single quoted string but got {found}"));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => {
                let after = &quoted[at + 1..];
                let after = after.strip_prefix(']').ok_or("unexpected end of JSON path")?;
                return Ok((name, after));
            }
            '\\' => match chars.next() {
                Some((_, c @ ('\'' | '\\'))) => name.push(c),
                Some((_, 'n')) => name.push('\n'),
                Some((_, 't')) => name.push('\t'),
                Some((_, 'r')) => name.push('\r'),
                Some((_, 'a')) => name.push('\u{7}'),
                Some((_, 'b')) => name.push('\u{8}'),
                Some((_, 'f')) => name.push('\u{c}'),
                Some((_, 'v')) => name.push('\u{b}'),
                Some((_, c)) => return Err(format!("invalid string literal: invalid escape char \\{c}")),
                None => break,
            },
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".into())
}
