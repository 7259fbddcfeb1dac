//! What `kubectl explain` says: the texts of `schema/descriptions.gz`, unpacked only while a document is printed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::Range;

use serde_json::Value;

/// Made by `cargo xtask descriptions`.
pub(super) static PACKED: &[u8] = include_bytes!("../../../../schema/descriptions.gz");

pub(super) struct Descriptions {
    lines: String,
    /// Where the lines of each definition are.
    places: BTreeMap<String, Range<usize>>,
}

/// The texts of one definition.
#[derive(Default)]
pub(super) struct Texts {
    pub own: Option<Value>,
    pub properties: BTreeMap<String, Value>,
}

impl Descriptions {
    /// Unpacks. The file is part of the program, so a failure leaves the documents without texts and no more.
    pub fn unpack() -> Descriptions {
        let mut lines = String::new();
        if flate2::read::GzDecoder::new(PACKED).read_to_string(&mut lines).is_err() {
            lines.clear();
        }
        let mut places: BTreeMap<String, Range<usize>> = BTreeMap::new();
        let mut current: Option<(&str, usize)> = None;
        let mut at = 0;
        for line in lines.split_inclusive('\n') {
            if !line.starts_with('\t') {
                places.extend(current.map(|(name, from)| (name.to_owned(), from..at)));
                current = Some((line.split('\t').next().unwrap_or_default(), at));
            }
            at += line.len();
        }
        places.extend(current.map(|(name, from)| (name.to_owned(), from..at)));
        Descriptions { lines, places }
    }

    pub fn of(&self, definition: &str) -> Texts {
        let mut texts = Texts::default();
        let Some(place) = self.places.get(definition) else { return texts };
        for line in self.lines[place.clone()].lines() {
            let mut parts = line.splitn(3, '\t');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(""), Some(property), Some(text)) => {
                    texts.properties.extend(serde_json::from_str(text).ok().map(|text| (property.to_owned(), text)));
                }
                (Some(_), Some(text), None) => texts.own = serde_json::from_str(text).ok(),
                _ => {}
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_a_definition() {
        let texts = Descriptions::unpack().of("io.k8s.api.apps.v1.StatefulSetOrdinals");
        let own = texts.own.and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
        assert!(own.starts_with("StatefulSetOrdinals describes"), "{own}");
        assert_eq!(texts.properties.keys().collect::<Vec<_>>(), ["start"]);
    }
}
