//! Pages of a list: the continue token, resourceVersion semantics, and the objects of an older revision.
//!
//! Contract: every page of one list shows the same revision; a page whose revision is no longer kept is refused with 410 and a token
//! for the rest as it is now, for clients that would rather have that than begin again.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use stead_api::status::{Cause, FieldErrorKind};
use stead_api::{Errors, FieldPath, Key, Object, Options, Revision, Status};
use stead_kinds::Kind;
use stead_store::Expired;

use crate::Head;
use crate::listed::Objects;
use crate::select::Selection;

/// Where the next page begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The revision that all pages show; None for the rest of a list whose revision is no longer kept.
    #[serde(rename = "rv", default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The last key delivered.
    #[serde(rename = "ns")]
    pub namespace: String,
    #[serde(rename = "n")]
    pub name: String,
    /// How many objects follow, where that is told.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<usize>,
}

impl Token {
    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(crate) fn decode(text: &str) -> Result<Token, Status> {
        let invalid = |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| invalid(e.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))
    }
}

/// Which revision a read is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The newest we have.
    Head,
    Exactly(Revision),
}

/// What `resourceVersionMatch` may say of a list.
fn check_match(options: &Options) -> Result<(), Status> {
    let mut errors = Errors::default();
    let (version, rule) = (options.resource_version.as_str(), options.resource_version_match.as_str());
    let at = FieldPath::new("resourceVersionMatch");
    if options.send_initial_events.is_some() {
        errors.forbidden(&FieldPath::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
    }
    if !rule.is_empty() {
        if version.is_empty() {
            errors.forbidden(&at, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !options.continue_token.is_empty() {
            errors.forbidden(&at, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !matches!(rule, "Exact" | "NotOlderThan") {
            errors.not_supported(&at, rule, &["Exact", "NotOlderThan", ""]);
        }
        if (rule, version) == ("Exact", "0") {
            errors.forbidden(&at, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors)) }
}

/// What `resourceVersion` and `resourceVersionMatch` ask of a list.
pub(crate) fn revision_of(options: &Options, head: &Head) -> Result<At, Status> {
    check_match(options)?;
    let Some(revision) = parse_revision(&options.resource_version)? else { return Ok(At::Head) };
    not_in_the_future(revision, head)?;
    let rule = options.resource_version_match.as_str();
    let is_exact = rule == "Exact" || (rule.is_empty() && options.limit.is_some());
    Ok(if is_exact { At::Exactly(revision) } else { At::Head })
}

/// A resourceVersion parameter; None for "" and "0", which name no revision.
pub(crate) fn parse_revision(text: &str) -> Result<Option<Revision>, Status> {
    match text {
        "" | "0" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
            Status::bad_request(format!("resourceVersion: Invalid value: {text:?}: {why}"))
        }),
    }
}

pub(crate) fn not_in_the_future(revision: Revision, head: &Head) -> Result<(), Status> {
    let current = head.store.snapshot.revision();
    if revision <= current {
        return Ok(());
    }
    let message = format!("Timeout: Too large resource version: {revision}, current: {current}");
    let cause = Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    Err(Status::timeout(message).with_causes(vec![cause]).retry_after(1))
}

/// One page: the objects, what is known of the rest, and the token for it.
pub(crate) struct Page {
    pub revision: Revision,
    pub objects: Objects,
    pub next: Option<Token>,
}

/// The page that the options ask for.
pub(crate) fn page(head: &Head, kind: &Kind, selection: &Selection, options: &Options) -> Result<Page, Status> {
    let limit = options.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    if options.continue_token.is_empty() {
        let snapshot = &head.store.snapshot;
        return match revision_of(options, head)? {
            At::Head if selection.is_everything() && limit == usize::MAX => {
                let objects = Objects::All { snapshot: snapshot.clone(), namespace: selection.namespace.clone() };
                Ok(Page { revision: snapshot.revision(), objects, next: None })
            }
            At::Head => {
                let total = selection.is_everything().then(|| count(head, kind, selection));
                Ok(cut(selection.list(kind, snapshot), limit, total, snapshot.revision()))
            }
            At::Exactly(revision) => {
                let past = past(head, kind, revision).map_err(|_| gone())?;
                let objects = objects_at(head, kind, selection, None, past);
                Ok(cut(objects.iter(), limit, None, revision))
            }
        };
    }
    check_match(options)?;
    if !options.resource_version.is_empty() && options.resource_version != "0" {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let token = Token::decode(&options.continue_token)?;
    let revision = token.revision.unwrap_or(head.store.snapshot.revision());
    not_in_the_future(revision, head)?;
    let after = Key::new(kind.storage, &token.namespace, &token.name);
    let past = past(head, kind, revision).map_err(|_| gone_continue(&token))?;
    if past.is_empty() {
        let rest = head.store.snapshot.list_after(kind.storage, &selection.namespace, Some(&after));
        return Ok(cut(rest.filter(|o| selection.matches(o)), limit, token.remaining, revision));
    }
    let objects = objects_at(head, kind, selection, Some(&after), past);
    Ok(cut(objects.iter(), limit, token.remaining, revision))
}

fn count(head: &Head, kind: &Kind, selection: &Selection) -> usize {
    match selection.namespace.as_str() {
        "" => head.store.snapshot.count(kind.storage),
        namespace => head.store.snapshot.list(kind.storage, namespace).count(),
    }
}

fn cut<'a>(
    mut objects: impl Iterator<Item = &'a Arc<Object>>,
    limit: usize,
    total: Option<usize>,
    revision: Revision,
) -> Page {
    let taken: Vec<Arc<Object>> = objects.by_ref().take(limit).cloned().collect();
    let has_more = objects.next().is_some();
    let next = taken.last().filter(|_| has_more).map(|last| Token {
        revision: Some(revision),
        namespace: last.key.namespace.to_string(),
        name: last.key.name.to_string(),
        remaining: total.map(|total| total.saturating_sub(taken.len())),
    });
    Page { revision, objects: Objects::These(taken), next }
}

fn gone() -> Status {
    Status::expired("The resourceVersion for the provided list is too old.")
}

fn gone_continue(token: &Token) -> Status {
    let rest = Token { revision: None, remaining: None, ..token.clone() };
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
         continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing \
         with the provided token results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    )
    .with_continue_token(rest.encode())
}

type Past = OrdMap<Key, Option<Arc<Object>>>;

/// What has changed since a revision, by key.
fn past(head: &Head, kind: &Kind, revision: Revision) -> Result<Past, Expired> {
    head.store.history.undo(kind.storage, revision)
}

/// The selected objects after a key, as they were when `past` had not happened yet.
fn objects_at(head: &Head, kind: &Kind, selection: &Selection, after: Option<&Key>, past: Past) -> Vec<Arc<Object>> {
    let now = head.store.snapshot.list_after(kind.storage, &selection.namespace, after);
    let unchanged = now.filter(|object| !past.contains_key(&object.key)).cloned();
    let mut changed = past.iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
    let mut merged: Vec<Arc<Object>> = Vec::new();
    let mut waiting = changed.next();
    for object in unchanged {
        while let Some((key, then)) = waiting.filter(|(key, _)| **key < object.key) {
            debug_assert!(then.as_ref().is_none_or(|then| then.key == *key), "undo is by key");
            merged.extend(then.clone());
            waiting = changed.next();
        }
        merged.push(object);
    }
    while let Some((_, then)) = waiting {
        merged.extend(then.clone());
        waiting = changed.next();
    }
    merged.retain(|object| selection.matches(object));
    merged
}

/// 422 of one forbidden option.
pub(crate) fn forbidden_option(field: &str, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.push(FieldErrorKind::Forbidden, &FieldPath::new(field), serde_json::Value::Null, why);
    Status::invalid("meta.k8s.io", "ListOptions", "", errors)
}
