//! What the audit log is told of webhooks: their own annotations, who changed an object and how, and whose failure was passed over.
//!
//! Upstream: `webhookAnnotator` of `plugin/webhook/mutating/dispatcher.go`.

use serde_json::{Value, json};
use stead_api::Remarks;
use stead_kinds::webhook::Hook;

use super::answer::Verdict;

/// A mutating webhook in its turn.
pub(super) struct Turn<'a> {
    /// The key of its configuration, as text.
    pub key: &'a str,
    pub hook: &'a Hook,
    /// 1 when it looks again.
    pub round: usize,
    /// Its place among all mutating webhooks.
    pub index: usize,
}

impl Turn<'_> {
    fn place(&self, of: &str) -> String {
        format!("{of}.admission.k8s.io/round_{}_index_{}", self.round, self.index)
    }

    fn named(&self) -> Value {
        let configuration = self.key.rsplit('/').next().unwrap_or_default();
        json!({"configuration": configuration, "webhook": self.hook.name})
    }

    pub(super) fn mutated(&self, remarks: &mut Remarks, is_changed: bool) {
        remarks.note(|| {
            let mut value = self.named();
            value["mutated"] = json!(is_changed);
            (self.place("mutation.webhook"), value.to_string())
        });
    }

    pub(super) fn patched(&self, remarks: &mut Remarks, patch: &Value) {
        remarks.note_patch(|| {
            let mut value = self.named();
            value["patch"] = patch.clone();
            value["patchType"] = json!("JSONPatch");
            (self.place("patch.webhook"), value.to_string())
        });
    }

    pub(super) fn failed_open(&self, remarks: &mut Remarks) {
        remarks.note(|| (self.place("failed-open.mutating.webhook"), self.hook.name.clone()));
    }
}

/// The same of a validating webhook; `index` counts those that are concerned.
pub(super) fn failed_open(remarks: &mut Remarks, hook: &Hook, index: usize) {
    let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
    remarks.note(|| (key, hook.name.clone()));
}

/// What a webhook itself wants to be known.
pub(super) fn told(remarks: &mut Remarks, hook: &Hook, verdict: &Verdict) {
    remarks.warn_once(&verdict.warnings);
    for (key, value) in &verdict.annotations {
        remarks.note(|| (format!("{}/{key}", hook.name), value.clone()));
    }
}
