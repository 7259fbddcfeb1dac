//! CustomResourceDefinition: checked on the JSON value, since its schemas are data.

pub mod approval;
mod conversion;
mod defaults;
mod marks;
mod nested;
mod part;
mod selectable;
mod structural;
mod versions;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use stead_api::Errors;
use stead_api::names::{dns1035_label, dns1123_subdomain};
use stead_api::schema::formats::is_known;

use crate::check::{FIELD_IS_IMMUTABLE, name, one_of};
use crate::columns::{CREATED_AT_COLUMN, NAME_COLUMN};
use crate::fill::{each, object, object_or_new, set, set_text};
use crate::names::names;
use crate::path::Path;
use crate::{Behavior, Hooks, Kind, Subresource};
use part::{DEPTH_MAX, items, text};

pub const CUSTOMRESOURCEDEFINITION: Kind = Kind {
    short: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    has_generation: true,
    unconditional_update: false,
    subresources: &[Subresource::Status],
    columns: &[NAME_COLUMN, CREATED_AT_COLUMN],
    hooks: Hooks::of::<Definition>(),
    ..Kind::plain(
        "customresourcedefinitions.apiextensions.k8s.io",
        "apiextensions.k8s.io",
        "v1",
        names!("CustomResourceDefinition", "customresourcedefinition", "customresourcedefinitions"),
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    )
};

/// A definition, its schemas as they were written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Definition {
    pub metadata: Value,
    pub spec: Value,
    pub status: Value,
}

impl Behavior for Definition {
    fn default(new: &mut Value) {
        let Some(spec) = object_or_new(new, "spec") else { return };
        if let Some(names) = object(spec, "names") {
            let kind = text(names, "kind").to_owned();
            if !kind.is_empty() {
                set_text(names, "singular", &kind.to_lowercase());
                set_text(names, "listKind", &format!("{kind}List"));
            }
        }
        if let Some(conversion) = object_or_new(spec, "conversion") {
            conversion::default(conversion);
        }
        for version in each(spec, "versions") {
            set(version, "served", false);
            set(version, "storage", false);
        }
    }

    fn validate(&self, old: Option<&Self>, errors: &mut Errors) {
        let at = Path::root("spec");
        let spec = &self.spec;
        let (group, plural) = (text(spec, "group"), text(&spec["names"], "plural"));
        if text(&self.metadata, "name") != format!("{plural}.{group}") {
            let detail = "must be spec.names.plural+\".\"+spec.group";
            Path::root("metadata").child("name").invalid(errors, text(&self.metadata, "name"), detail);
        }
        approval::validate(group, &self.metadata, old.map(|old| &old.metadata), errors);
        match group {
            "" => at.child("group").required(errors, ""),
            _ => name(at.child("group"), group, dns1123_subdomain, errors),
        }
        if !group.is_empty() && !group.contains('.') {
            at.child("group").invalid(errors, group, "should be a domain with at least one dot");
        }
        one_of(at.child("scope"), text(spec, "scope"), &["Cluster", "Namespaced"], false, errors);
        versions::validate(at, spec, errors);
        conversion::validate(at.child("conversion"), &spec["conversion"], errors);
        if spec["preserveUnknownFields"] == true {
            let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
            at.child("preserveUnknownFields").invalid(errors, true, detail);
        }
        if let Some(old) = old {
            self.validate_update(old, errors);
        }
    }

    fn warn(&self, old: Option<&Self>) -> Vec<String> {
        let known = old.map(Definition::unknown_formats).unwrap_or_default();
        let new = self.unknown_formats().into_iter().filter(|format| !known.contains(format));
        new.map(|format| format!("unrecognized format {format:?}")).collect()
    }
}

impl Definition {
    /// The formats in schemas that mean nothing.
    fn unknown_formats(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for version in items(&self.spec, "versions") {
            unknown_formats(&version["schema"]["openAPIV3Schema"], 0, &mut found);
        }
        found
    }

    /// What names its objects cannot change.
    fn validate_update(&self, old: &Definition, errors: &mut Errors) {
        let at = Path::root("spec");
        for field in ["group", "scope"] {
            if text(&self.spec, field) != text(&old.spec, field) {
                at.child(field).invalid(errors, text(&self.spec, field), FIELD_IS_IMMUTABLE);
            }
        }
        for field in ["plural", "kind"] {
            let (new, old) = (text(&self.spec["names"], field), text(&old.spec["names"], field));
            if new != old {
                at.child("names").child(field).invalid(errors, new, FIELD_IS_IMMUTABLE);
            }
        }
        self.validate_stored(errors);
    }

    /// No version may go that objects are stored in.
    fn validate_stored(&self, errors: &mut Errors) {
        let at = Path::root("status");
        let (at, stored) = (at.child("storedVersions"), items(&self.status, "storedVersions"));
        if stored.is_empty() {
            return at.invalid(errors, json!(stored), "must have at least one stored version");
        }
        let versions = items(&self.spec, "versions");
        for version in versions.iter().filter(|version| version["storage"] == true) {
            let name = text(version, "name");
            if !stored.iter().any(|one| one == name) {
                at.invalid(errors, json!(stored), format!("must have the storage version {name}"));
            }
        }
        for (index, version) in stored.iter().enumerate() {
            if !versions.iter().any(|one| one["name"] == *version) {
                at.index(index).invalid(errors, version.clone(), "must appear in spec.versions");
            }
        }
    }
}

fn unknown_formats(schema: &Value, depth: usize, found: &mut BTreeSet<String>) {
    let format = text(schema, "format");
    if !format.is_empty() && !is_known(format, text(schema, "type")) {
        found.insert(format.to_owned());
    }
    let named = schema["properties"].as_object().into_iter().flatten().map(|(_, property)| property);
    let branches = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|field| items(schema, field));
    let others = ["additionalProperties", "items", "not"].into_iter().map(|field| &schema[field]);
    for part in named.chain(branches).chain(others).filter(|part| part.is_object() && depth < DEPTH_MAX) {
        unknown_formats(part, depth + 1, found);
    }
}

fn validate_names(at: Path, names: &Value, errors: &mut Errors) {
    let kind = text(names, "kind");
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(names, field).is_empty() {
            at.child(field).required(errors, "");
        }
    }
    for (field, value) in [("plural", text(names, "plural")), ("singular", text(names, "singular"))] {
        name(at.child(field), value, dns1035_label, errors);
    }
    for (field, value) in [("kind", kind), ("listKind", text(names, "listKind"))] {
        if value.is_empty() {
            continue;
        }
        for message in dns1035_label(&value.to_lowercase()) {
            at.child(field).invalid(
                errors,
                value,
                format!("may have mixed case, but should otherwise match: {message}"),
            );
        }
    }
    if !kind.is_empty() && kind == text(names, "listKind") {
        at.child("listKind").invalid(errors, kind, "kind and listKind may not be the same");
    }
    for field in ["shortNames", "categories"] {
        for (index, word) in items(names, field).iter().enumerate() {
            let word = word.as_str().unwrap_or("");
            for message in dns1035_label(word) {
                at.child(field).index(index).invalid(errors, word, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_api::{Key, Object};

    fn definition() -> Value {
        let mut value = json!({"metadata": {"name": "crons.example.com", "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "crons", "kind": "Cron"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                    "properties": {"spec": {"type": "object", "properties": {"n": {"x-kubernetes-int-or-string": true}}}}}}}]}});
        (CUSTOMRESOURCEDEFINITION.hooks.default)(&mut value);
        value["status"] = json!({"storedVersions": ["v1"]});
        value
    }

    fn errors(value: &Value, old: Option<&Object>) -> Vec<String> {
        let checked = CUSTOMRESOURCEDEFINITION.check(value, old).expect("decodes");
        checked.errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_definition_passes() {
        let value = definition();
        assert_eq!(errors(&value, None), Vec::<String>::new());
        assert_eq!(value["spec"]["names"]["listKind"], "CronList");
        assert_eq!(value["spec"]["names"]["singular"], "cron");
        assert_eq!(value["spec"]["conversion"], json!({"strategy": "None"}));
    }

    #[test]
    fn mistakes_are_named() {
        let mut bad = definition();
        bad["metadata"]["name"] = "other".into();
        bad["spec"]["scope"] = "Galaxy".into();
        bad["spec"]["names"]["kind"] = "Cron!".into();
        bad["spec"]["versions"][0]["storage"] = false.into();
        bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"properties": {"a": {}}, "$ref": "x"});
        bad["spec"]["versions"][0]["subresources"] = json!({"scale": {"specReplicasPath": ".status.x"}});
        let found = errors(&bad, None);
        for text in [
            "metadata.name: Invalid value: \"other\": must be spec.names.plural+\".\"+spec.group",
            "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
            "spec.versions: Invalid value: [\"v1\"]: must have exactly one version marked as storage version",
            "spec.validation.openAPIV3Schema.$ref: Forbidden: $ref is not supported",
            "spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root",
            "spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields",
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
            "spec.subresources.scale.statusReplicasPath: Required value",
        ] {
            assert!(found.iter().any(|error| error == text), "{text} is missing in {found:#?}");
        }
    }

    #[test]
    fn schemas_that_are_not_structural_are_told_in_kubernetes_words() {
        let mut bad = definition();
        let version = &mut bad["spec"]["versions"][0];
        version["schema"]["openAPIV3Schema"] = json!({"type": "object", "nullable": true, "properties": {
            "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
            "spec": {"type": "object", "properties": {
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}},
                "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                    "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "keyed": {"type": "array", "x-kubernetes-list-map-keys": ["a"], "items": {"type": "string"}},
                "raw": {"type": "object", "x-kubernetes-embedded-resource": true},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "size": {"anyOf": [{"type": "integer", "minimum": 1}], "type": "integer"}}}},
            "anyOf": [{"properties": {"spec": {"properties": {"gone": {"minimum": 1}}}}}, {"required": ["spec"]}]});
        version["selectableFields"] = json!([{"jsonPath": ".spec.size"}]);
        version["additionalPrinterColumns"] = json!([{"name": "A", "type": "text", "jsonPath": "spec"}]);
        let found = errors(&bad, None);
        let at = "spec.validation.openAPIV3Schema";
        for text in [
            format!("{at}.nullable: Forbidden: nullable cannot be true at the root"),
            format!("{at}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"),
            format!("{at}.properties[spec].properties[set].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"),
            format!("{at}.properties[spec].properties[map].x-kubernetes-list-map-keys: Invalid value: [\"a\",\"b\"]: entries must all be names of item properties"),
            format!("{at}.properties[spec].properties[map].items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"),
            format!("{at}.properties[spec].properties[keyed].x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty"),
            format!("{at}.properties[spec].properties[raw].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"),
            format!("{at}.properties[spec].properties[size].anyOf[0].type: Forbidden: must be empty to be structural"),
            format!("{at}.properties[spec].properties[gone]: Required value: because it is defined in {at}.anyOf[0].properties[spec].properties[gone]"),
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string".into(),
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting with .".into(),
        ] {
            assert!(found.contains(&text), "{text} is missing in {found:#?}");
        }
        assert_eq!(found.len(), 11, "{found:#?}");
    }

    #[test]
    fn defaults_and_selectable_fields_must_fit_the_schema() {
        let mut bad = definition();
        let version = &mut bad["spec"]["versions"][0];
        version["schema"]["openAPIV3Schema"] = json!({"type": "object", "properties": {"spec": {"type": "object",
            "default": {"x": 1}, "properties": {"n": {"type": "integer", "minimum": 3, "default": 2}, "o": {"type": "object",
            "properties": {"p": {"type": "string"}}}}}}});
        version["selectableFields"] = json!([{"jsonPath": ".spec.o"}, {"jsonPath": ".spec.o.p"}, {"jsonPath": ".spec.o.p"}, {"jsonPath": ".spec.none"}, {"jsonPath": ".spec['n']"}]);
        let at = "spec";
        let schema = "validation.openAPIV3Schema.properties[spec]";
        assert_eq!(
            errors(&bad, None),
            [
                format!("{at}.{schema}.default: Invalid value: {{\"x\":1}}: must not have unknown fields"),
                format!(
                    "{at}.{schema}.properties[n].default: Invalid value: 2: in body should be greater than or equal to 3"
                ),
                format!(
                    "{at}.selectableFields[0].jsonPath: Invalid value: \".spec.o\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."
                ),
                format!("{at}.selectableFields[2].jsonPath: Duplicate value: \".spec.o.p\""),
                format!(
                    "{at}.selectableFields[3].jsonPath: Invalid value: \".spec.none\": is an invalid path: does not refer to a valid field"
                ),
                format!(
                    "{at}.selectableFields[4].jsonPath: Invalid value: \".spec['n']\": is an invalid path: array notation is not allowed"
                ),
            ]
        );
    }

    #[test]
    fn formats_that_mean_nothing_are_told_when_they_come() {
        let mut value = definition();
        let schema = json!({"type": "object", "format": "date-time", "properties": {
            "a": {"type": "string", "format": "date-time"}, "b": {"type": "integer", "format": "int16"}}});
        value["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
        let of = |value: &Value| Definition { spec: value["spec"].clone(), ..Default::default() };
        let told = ["unrecognized format \"date-time\"", "unrecognized format \"int16\""];
        assert_eq!(of(&value).warn(None), told);
        assert_eq!(of(&value).warn(Some(&of(&value))), Vec::<String>::new());
    }

    #[test]
    fn names_and_stored_versions_stay() {
        let old = definition();
        let key = Key::new(CUSTOMRESOURCEDEFINITION.storage, "", "crons.example.com");
        let object = Object::of_value(key, &old, &CUSTOMRESOURCEDEFINITION.stored_fields()).expect("an object");
        let mut new = old.clone();
        new["spec"]["scope"] = "Cluster".into();
        new["spec"]["versions"][0]["name"] = "v2".into();
        assert_eq!(
            errors(&new, Some(&object)),
            [
                "spec.scope: Invalid value: \"Cluster\": field is immutable",
                "status.storedVersions: Invalid value: [\"v1\"]: must have the storage version v2",
                "status.storedVersions[0]: Invalid value: \"v1\": must appear in spec.versions",
            ]
        );
    }
}
