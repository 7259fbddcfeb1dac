//! PodTemplate: a template that is stored for others to use.

use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::Value;
use stead_api::Errors;

use crate::columns::{self, NAME_COLUMN};
use crate::names::names;
use crate::path::Path;
use crate::template::defaults::default_template;
use crate::template::validate_template;
use crate::workload::{self, view};
use crate::{Behavior, Hooks, Kind};

pub const PODTEMPLATE: Kind = Kind {
    has_generation: true,
    columns: &[
        NAME_COLUMN,
        columns::text(
            "Containers",
            |object, _| workload::containers(view::<PodTemplate>(object).template.as_ref()).into(),
            "Names of the containers in the template.",
        ),
        columns::text(
            "Images",
            |object, _| workload::images(view::<PodTemplate>(object).template.as_ref()).into(),
            "Images of the containers in the template.",
        ),
        columns::text(
            "Pod Labels",
            |object, _| {
                let found = view::<PodTemplate>(object);
                let meta = found.template.as_ref().and_then(|template| template.metadata.as_ref());
                workload::map_text(meta.and_then(|meta| meta.labels.as_ref())).into()
            },
            "The labels for the pods.",
        ),
    ],
    hooks: Hooks::of::<PodTemplate>(),
    ..Kind::plain(
        "podtemplates",
        "",
        "v1",
        names!("PodTemplate", "podtemplate", "podtemplates"),
        "io.k8s.api.core.v1.PodTemplate",
    )
};

impl Behavior for PodTemplate {
    fn default(new: &mut Value) {
        default_template(new);
    }

    fn validate(&self, _old: Option<&Self>, errors: &mut Errors) {
        let template = self.template.clone().unwrap_or_default();
        validate_template(Path::root("template"), &template, &Default::default(), errors);
    }
}
