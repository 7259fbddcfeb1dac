//! What names, label keys and label values may look like, with Kubernetes' texts for what they may not.
//!
//! Each check returns one message per broken rule, none when the text is fine; the caller adds the field path.

const LABEL_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";

pub const DNS1123_LABEL_MAX: usize = 63;
pub const DNS1123_SUBDOMAIN_MAX: usize = 253;
pub const LABEL_VALUE_MAX: usize = 63;
const QUALIFIED_NAME_MAX: usize = 63;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// `message (e.g. 'a',  or 'b', regex used for validation is 'r')`
pub fn regex_message(message: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

/// `[first]([inner]*[last])?` over ASCII, where first and last are the same set.
fn is_word(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => edge(*only),
        [first, middle @ .., last] => edge(*first) && edge(*last) && middle.iter().all(|byte| inner(*byte)),
    }
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label_1123(text: &str) -> bool {
    is_word(text, lower_or_digit, |byte| lower_or_digit(byte) || byte == b'-')
}

fn is_name_word(text: &str) -> bool {
    is_word(text, |byte| byte.is_ascii_alphanumeric(), |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.len() > DNS1123_LABEL_MAX {
        messages.push(too_long(DNS1123_LABEL_MAX));
    }
    if !is_label_1123(text) {
        let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
        messages.push(regex_message(message, LABEL_1123, &["my-name", "123-abc"]));
    }
    messages
}

pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.len() > DNS1123_SUBDOMAIN_MAX {
        messages.push(too_long(DNS1123_SUBDOMAIN_MAX));
    }
    if !text.split('.').all(is_label_1123) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        messages.push(regex_message(message, &format!("{LABEL_1123}(\\.{LABEL_1123})*"), &["example.com"]));
    }
    messages
}

pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.len() > DNS1123_LABEL_MAX {
        messages.push(too_long(DNS1123_LABEL_MAX));
    }
    if !is_label_1123(text) || !text.starts_with(|first: char| first.is_ascii_lowercase()) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        messages.push(regex_message(message, LABEL_1035, &["my-name", "abc-123"]));
    }
    messages
}

/// A label or annotation key: an optional DNS subdomain and `/`, then a name of at most 63 characters.
pub fn qualified_name(text: &str) -> Vec<String> {
    let regex = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut messages = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                messages.extend(dns1123_subdomain(prefix).iter().map(|message| format!("prefix part {message}")));
            }
            name
        }
        _ => {
            let message = regex_message(message, regex, &examples);
            return vec![format!(
                "a qualified name {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > QUALIFIED_NAME_MAX {
        messages.push(format!("name part {}", too_long(QUALIFIED_NAME_MAX)));
    }
    if !is_name_word(name) {
        messages.push(format!("name part {}", regex_message(message, regex, &examples)));
    }
    messages
}

pub fn label_value(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.len() > LABEL_VALUE_MAX {
        messages.push(too_long(LABEL_VALUE_MAX));
    }
    if !text.is_empty() && !is_name_word(text) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        messages.push(regex_message(
            message,
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        assert!(dns1123_label("web-0").is_empty() && dns1123_subdomain("a.b-c.9").is_empty());
        assert!(dns1035_label("web").is_empty() && qualified_name("apps.kubernetes.io/pod-index").is_empty());
        assert!(label_value("").is_empty() && label_value("A_b.c-1").is_empty());
    }

    #[test]
    fn messages_are_those_of_kubernetes() {
        assert_eq!(
            dns1123_label("Web"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns1123_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(dns1035_label("1a").len(), 1);
        assert_eq!(dns1123_subdomain("a..b").len(), 1);
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("").len(), 2);
        assert!(
            qualified_name("a/b/c")[0]
                .ends_with("with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")
        );
        assert_eq!(label_value("-a").len(), 1);
    }
}
