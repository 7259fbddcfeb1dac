//! The links of an HTML page, rewritten as it passes by: tags are looked at whole, everything else goes on as it is.

use super::links::Links;

/// A tag that is longer is no tag.
const TAG_BYTES_MAX: usize = 64 << 10;
/// Which attributes are links, by tag.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

pub struct Rewriter {
    links: Links,
    /// A tag that has not ended yet.
    held: Vec<u8>,
}

impl Rewriter {
    pub fn new(links: Links) -> Rewriter {
        Rewriter { links, held: Vec::new() }
    }

    /// What can be sent after one more piece of the page.
    pub fn next(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len());
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
            out.extend_from_slice(&rest[..start]);
            rest = &rest[start..];
            match end_of_tag(rest) {
                Some(end) => {
                    out.extend_from_slice(&self.tag(&rest[..end]));
                    rest = &rest[end..];
                }
                None if rest.len() <= TAG_BYTES_MAX => {
                    self.held = rest.to_vec();
                    return out;
                }
                None => break,
            }
        }
        out.extend_from_slice(rest);
        out
    }

    /// What is left when the page is over.
    pub fn end(self) -> Vec<u8> {
        self.held
    }

    fn tag(&self, tag: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(tag) else { return tag.to_vec() };
        let name_end = text[1..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(text.len(), |at| at + 1);
        let name = text[1..name_end].to_ascii_lowercase();
        let Some((_, links)) = LINKS.iter().find(|(known, _)| *known == name) else { return tag.to_vec() };
        let mut out = text[..name_end].to_owned();
        let mut rest = &text[name_end..];
        while let Some((attribute, value, next)) = attribute(rest) {
            let (before, after) = (&rest[..value.start], &rest[value.end..next]);
            out.push_str(before);
            let is_link = links.iter().any(|link| attribute.eq_ignore_ascii_case(link));
            match is_link {
                true => out.push_str(&self.links.rewrite(&rest[value])),
                false => out.push_str(&rest[value]),
            }
            out.push_str(after);
            rest = &rest[next..];
        }
        out.push_str(rest);
        out.into_bytes()
    }
}

/// Where a tag ends, its closing bracket included; brackets in quotes are part of it.
fn end_of_tag(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut after_equals = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match (quote, byte) {
            (Some(open), close) if open == *close => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') if after_equals => quote = Some(*byte),
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            after_equals = *byte == b'=';
        }
    }
    None
}

/// The next attribute with a value: its name, where the value is, and where what follows begins.
fn attribute(text: &str) -> Option<(&str, std::ops::Range<usize>, usize)> {
    let equals = text.find('=')?;
    let name = text[..equals].trim_end().rsplit(|c: char| c.is_ascii_whitespace() || c == '/').next()?;
    let start = equals + 1 + text[equals + 1..].find(|c: char| !c.is_ascii_whitespace())?;
    let quote = text[start..].chars().next()?;
    if quote == '"' || quote == '\'' {
        let end = start + 1 + text[start + 1..].find(quote)?;
        return Some((name, start + 1..end, end + 1));
    }
    let length = text[start..].find(|c: char| c.is_ascii_whitespace() || c == '>')?;
    Some((name, start..start + length, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<!doctype html><A class='x' HREF=\"/a>b\">x = <b</A> <img src=/i.png alt='/no'>\
        <a href='rel'>r</a><form action = '/f'><a href=\"http://10.0.0.1:80/z\"><p title=\"/t\">a < b <a href=/end";

    fn rewriter() -> Rewriter {
        Rewriter::new(Links { authority: "10.0.0.1:80".into(), host: "h".into(), prefix: "/p/proxy".into() })
    }

    #[test]
    fn links_are_rewritten_wherever_the_page_is_cut() {
        let expected = "<!doctype html><A class='x' HREF=\"/p/proxy/a>b\">x = <b</A> <img src=/p/proxy/i.png alt='/no'>\
            <a href='rel'>r</a><form action = '/p/proxy/f'><a href=\"/p/proxy/z\"><p title=\"/t\">a < b <a href=/end";
        for size in [1, 2, 3, 7, 50, 1000] {
            let mut rewriter = rewriter();
            let mut made: Vec<u8> = PAGE.as_bytes().chunks(size).flat_map(|piece| rewriter.next(piece)).collect();
            made.extend(rewriter.end());
            assert_eq!(String::from_utf8(made).unwrap(), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_never_ends_is_no_tag() {
        let mut rewriter = rewriter();
        let long = format!("<a {}", "x".repeat(TAG_BYTES_MAX));
        assert_eq!(rewriter.next(long.as_bytes()).len(), long.len());
    }
}
