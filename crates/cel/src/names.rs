//! Names of properties that are no identifiers, as expressions write them: `foo-bar` is `foo__dash__bar`.

const ESCAPES: &[(&str, &str)] = &[("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")];

/// Words of the language that cannot be selected by themselves.
const WORDS: &[&str] = &["true", "false", "null", "in"];

/// Words that are kept for other languages of the family.
pub(crate) const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

fn is_keyword(word: &str) -> bool {
    WORDS.contains(&word) || RESERVED.contains(&word)
}

/// The property that an escaped name means; None for a name without escapes.
pub(crate) fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    if let Some(word) = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && is_keyword(word)
    {
        return Some(word.to_owned());
    }
    let mut plain = String::new();
    let mut rest = name;
    while !rest.is_empty() {
        match ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape)) {
            Some((escape, text)) => {
                plain.push_str(text);
                rest = &rest[escape.len()..];
            }
            None => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                plain.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
    }
    Some(plain)
}

/// How expressions write a property's name; None when they cannot.
pub fn escape(name: &str) -> Option<String> {
    if is_keyword(name) {
        return Some(format!("__{name}__"));
    }
    let is_known = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if name.is_empty() || !name.chars().all(is_known) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let escaped = name.replace("__", "__underscores__");
    Some(escaped.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (plain, escaped) in [
            ("namespace", "__namespace__"),
            ("x-prop", "x__dash__prop"),
            ("redact__d", "redact__underscores__d"),
            ("a.b/c", "a__dot__b__slash__c"),
        ] {
            assert_eq!(escape(plain).as_deref(), Some(escaped));
            assert_eq!(unescape(escaped).as_deref(), Some(plain));
        }
        assert_eq!((escape("plain").as_deref(), unescape("plain")), (Some("plain"), None));
        assert_eq!(escape("a b"), None);
    }
}
