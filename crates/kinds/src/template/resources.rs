//! Checks of compute resources: requests and limits.

use k8s_openapi::api::core::v1::ResourceRequirements;
use stead_api::Errors;
use stead_api::names::qualified_name;

use crate::check::{NOT_NEGATIVE, quantity};
use crate::path::Path;

/// Names without a domain that containers may ask for.
const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.starts_with("kubernetes.io/") && !name.contains("kubernetes.io/")
}

pub fn validate(at: Path, resources: &ResourceRequirements, errors: &mut Errors) {
    let limits = resources.limits.as_ref();
    for (field, map) in [("limits", limits), ("requests", resources.requests.as_ref())] {
        let at = at.child(field);
        for (name, amount) in map.into_iter().flatten() {
            validate_name(at, name, errors);
            let Some(found) = quantity(at.key(name), amount, errors) else { continue };
            if found.sign() < 0 {
                at.key(name).invalid(errors, amount.0.as_str(), NOT_NEGATIVE);
            }
            let must_be_whole = is_extended(name) || name.starts_with("hugepages-");
            if must_be_whole && found.milli_value() % 1000 != 0 {
                at.key(name).invalid(errors, amount.0.as_str(), "must be an integer");
            }
        }
    }
    let at = at.child("requests");
    for (name, request) in resources.requests.iter().flatten() {
        let limit = limits.and_then(|limits| limits.get(name));
        let exact = is_extended(name) || name.starts_with("hugepages-");
        let Some(limit) = limit else {
            if exact {
                at.key(name).required(errors, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        let (Ok(asked), Ok(allowed)) =
            (request.0.parse::<stead_api::Quantity>(), limit.0.parse::<stead_api::Quantity>())
        else {
            continue;
        };
        if exact && asked != allowed {
            at.invalid(errors, request.0.as_str(), format!("must be equal to {name} limit of {}", limit.0));
        } else if asked > allowed {
            at.invalid(
                errors,
                request.0.as_str(),
                format!("must be less than or equal to {name} limit of {}", limit.0),
            );
        }
    }
}

fn validate_name(at: Path, name: &str, errors: &mut Errors) {
    for message in qualified_name(name) {
        at.key(name).invalid(errors, name, message);
    }
    if name.contains('/') {
        return;
    }
    let known = STANDARD.contains(&name) || name.starts_with("hugepages-");
    if !known {
        at.key(name).invalid(errors, name, "must be a standard resource type or fully qualified");
        at.key(name).invalid(errors, name, "must be a standard resource for containers");
    }
}
