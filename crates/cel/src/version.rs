//! Semantic versions, as expressions hold them.

use std::cmp::Ordering;

/// A version; its build metadata does not matter.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    pub numbers: [u64; 3],
    pre: Vec<Identifier>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // A pre-release comes before its release.
        let release = self.pre.is_empty().cmp(&other.pre.is_empty());
        self.numbers.cmp(&other.numbers).then(release).then_with(|| self.pre.cmp(&other.pre))
    }
}

/// Without a `v`, with three numbers and no zeros before them.
pub fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let mut numbers: Vec<&str> = text[..end].split('.').collect();
    while numbers.len() < 3 {
        numbers.push("0");
    }
    let trimmed = numbers.iter().map(|number| match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0",
        rest => rest,
    });
    format!("{}{}", trimmed.collect::<Vec<_>>().join("."), &text[end..])
}

fn number(text: &str) -> Option<u64> {
    let is_plain =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

pub fn strict(text: &str) -> Option<Version> {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    if build.is_some_and(|build| !build.split('.').all(is_word)) {
        return None;
    }
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let numbers: Vec<u64> = core.split('.').map(number).collect::<Option<_>>()?;
    let pre = match pre {
        None => Vec::new(),
        Some(pre) => pre
            .split('.')
            .map(|word| match word.bytes().all(|b| b.is_ascii_digit()) {
                true => number(word).map(Identifier::Number),
                false => is_word(word).then(|| Identifier::Word(word.into())),
            })
            .collect::<Option<_>>()?,
    };
    Some(Version { numbers: numbers.try_into().ok()?, pre })
}
