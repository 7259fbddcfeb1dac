//! What is left of a terminating namespace, and the conditions that tell it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::status;

/// What was found, by the names of resources and finalizers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub remaining: BTreeMap<String, usize>,
    pub finalizers: BTreeMap<String, usize>,
    /// Group versions of extension API servers that did not tell what they have.
    pub unseen: Vec<String>,
    /// Why something could not be deleted or counted.
    pub failures: Vec<String>,
}

/// Type, status, reason and message.
type Condition = (&'static str, &'static str, &'static str, String);

/// A terminating namespace that nothing holds any more; None when that is said already.
pub fn finished(mut namespace: Value) -> Option<Value> {
    let list = namespace["spec"]["finalizers"].as_array_mut()?;
    let held = list.len();
    list.retain(|finalizer| finalizer != "kubernetes");
    (list.len() < held).then_some(namespace)
}

impl Content {
    /// Counts an object.
    pub fn add<'a>(&mut self, resource: &str, finalizers: impl Iterator<Item = &'a str>) {
        *self.remaining.entry(resource.to_owned()).or_insert(0) += 1;
        for finalizer in finalizers {
            *self.finalizers.entry(finalizer.to_owned()).or_insert(0) += 1;
        }
    }

    /// What was found here and there.
    #[must_use]
    pub fn with(mut self, other: Content) -> Content {
        for (into, from) in [(&mut self.remaining, other.remaining), (&mut self.finalizers, other.finalizers)] {
            for (name, count) in from {
                *into.entry(name).or_insert(0) += count;
            }
        }
        self.unseen.extend(other.unseen);
        self.failures.extend(other.failures);
        self
    }

    /// Whether nothing is left, as far as anybody can tell, and everybody could.
    pub fn is_empty(&self) -> bool {
        self.remaining.is_empty() && self.unseen.is_empty() && self.failures.is_empty()
    }

    /// Sets the conditions of a namespace; true when that is news.
    pub fn tell(&self, namespace: &mut Value, now: Timestamp) -> bool {
        let mut list = status::list(&namespace["status"]["conditions"]).to_vec();
        let mut changed = false;
        for (kind, status, reason, message) in self.conditions() {
            let condition = json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": status::time(now)});
            changed |= status::set_condition(&mut list, condition);
        }
        namespace["status"]["conditions"] = json!(list);
        changed
    }

    fn conditions(&self) -> [Condition; 5] {
        // Upstream prints `pods.` for the core group.
        let plural = |kind: &str| if kind.contains('.') { kind.to_owned() } else { format!("{kind}.") };
        let counts = self.remaining.iter().map(|(kind, n)| format!("{} has {n} resource instances", plural(kind)));
        let held = self.finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances"));
        [
            self.discovery(),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed".into(),
            ),
            self.deletion(),
            found(
                "NamespaceContentRemaining",
                ("SomeResourcesRemain", "Some resources are remaining: "),
                ("ContentRemoved", "All content successfully removed"),
                counts.collect(),
            ),
            found(
                "NamespaceFinalizersRemaining",
                ("SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "),
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
                held.collect(),
            ),
        ]
    }

    fn discovery(&self) -> Condition {
        let mut lines: Vec<String> =
            self.unseen.iter().map(|gv| format!("{gv}: stale GroupVersion discovery: {gv}")).collect();
        lines.sort();
        let intro = format!(
            "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: ",
            lines.len()
        );
        let fine = ("ResourcesDiscovered", "All resources successfully discovered");
        found("NamespaceDeletionDiscoveryFailure", ("DiscoveryFailed", &intro), fine, lines)
    }

    fn deletion(&self) -> Condition {
        let mut lines = self.failures.clone();
        lines.sort();
        let intro = format!("Failed to delete all resource types, {} remaining: ", lines.len());
        let fine = ("ContentDeleted", "All content successfully deleted, may be waiting on finalization");
        found("NamespaceDeletionContentFailure", ("ContentDeletionFailed", &intro), fine, lines)
    }
}

/// True with what was found, or false.
fn found(kind: &'static str, some: (&'static str, &str), none: (&'static str, &str), lines: Vec<String>) -> Condition {
    match lines.is_empty() {
        true => (kind, "False", none.0, none.1.to_owned()),
        false => (kind, "True", some.0, format!("{}{}", some.1, lines.join(", "))),
    }
}
