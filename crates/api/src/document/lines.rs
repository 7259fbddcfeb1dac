//! Prints JSON in lines, for people, from its text alone: a large answer takes no tree.

const INDENT: &[u8] = b"  ";

/// The same JSON, a member or an element a line, as Go's `MarshalIndent` and serde's `to_string_pretty` print it. What is not JSON
/// comes out as something that is none either.
pub fn print_lines(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + json.len() / 2);
    let mut depth = 0usize;
    let mut bytes = tokens(json).peekable();
    while let Some((byte, is_text)) = bytes.next() {
        match byte {
            _ if is_text => out.push(byte),
            b'{' | b'[' => {
                out.push(byte);
                let is_empty = bytes.peek().is_some_and(|(next, is_text)| !is_text && matches!(next, b'}' | b']'));
                if is_empty {
                    out.extend(bytes.next().map(|(next, _)| next));
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(byte),
        }
    }
    out
}

fn line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    (0..depth).for_each(|_| out.extend_from_slice(INDENT));
}

/// Each byte with whether it belongs to a string; blanks outside of strings are left out.
fn tokens(json: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let (mut in_string, mut is_escaped) = (false, false);
    json.iter().filter_map(move |byte| {
        let was_in_string = in_string;
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        let is_text = was_in_string || in_string;
        (is_text || !byte.is_ascii_whitespace()).then_some((*byte, is_text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    proptest! {
        #[test]
        fn lines_are_those_of_others_and_nothing_panics(text in "\\PC{0,40}", number in any::<i32>()) {
            let value = json!({"t": text, "e": {}, "l": [], "n": [number, [null], {"k\"\\": ["a,b", "{[:", true]}], "": 0.5});
            let expected = serde_json::to_string_pretty(&value).expect("JSON");
            prop_assert_eq!(String::from_utf8(print_lines(value.to_string().as_bytes())), Ok(expected.clone()));
            prop_assert_eq!(String::from_utf8(print_lines(expected.as_bytes())), Ok(expected), "blanks are no matter");
            let _ = print_lines(text.as_bytes());
        }
    }

    #[test]
    fn scalars_stay() {
        let lines = |value: Value| String::from_utf8(print_lines(value.to_string().as_bytes())).expect("text");
        assert_eq!(
            (lines(json!(1)), lines(json!("a b")), lines(json!({}))),
            ("1".into(), "\"a b\"".into(), "{}".into())
        );
    }
}
