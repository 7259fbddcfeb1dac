//! Reviews: questions asked by POST whose answers are not stored (K-23, ID-05, ID-06).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};
use stead_api::token::{Bound, BoundTo};
use stead_api::{Errors, FieldPath, Object, Remarks, Request, Resource, Status, TokenClaims, User, Verb};
use stead_kinds::Kind;

use crate::access;
use crate::admission::node::restrict_token;
use crate::attempt::Attempt;
use crate::attributes::Attributes;
use crate::authenticate::{DEFAULT_AUDIENCE, authenticate};
use crate::halt::Halt;
use crate::reply::SignPlan;
use crate::{Head, Reply, unstored};

mod selectors;

const TOKEN_REQUEST: (&str, &str, &str) = ("authentication.k8s.io", "v1", "TokenRequest");
/// The shortest life of a token.
const EXPIRATION_SECONDS_MIN: i64 = 600;
const EXPIRATION_SECONDS_DEFAULT: i64 = 3600;
/// The life that projected volumes ask for; such tokens live a year, for clients that never read them again (ID-03).
const EXPIRATION_SECONDS_PROJECTED: i64 = 3607;
const EXPIRATION_SECONDS_EXTENDED: i64 = 24 * 365 * 3600;

pub(crate) fn serve(
    head: &Head,
    now: Timestamp,
    request: &Request,
    kind: &Kind,
    remarks: &mut Remarks,
) -> Result<Reply, Halt> {
    if request.verb != Verb::Create {
        return Err(Status::method_not_allowed().into());
    }
    if !unstored::is_concerned(&head.store.snapshot, request) {
        return Ok(answer(head, now, request, kind)?);
    }
    let is_token = request.resource().is_some_and(|resource| resource.subresource == "token");
    let asked = if is_token { TOKEN_REQUEST } else { (kind.group, kind.version, kind.kind) };
    let attempt = Attempt::of_subresource(request, *kind, "CREATE", (asked, request.body.clone()))?;
    let body = unstored::admit(head.place(), attempt, remarks)?;
    Ok(answer(head, now, &Request { body, ..request.clone() }, kind)?)
}

fn answer(head: &Head, now: Timestamp, request: &Request, kind: &Kind) -> Result<Reply, Status> {
    let resource = request.resource().ok_or_else(Status::no_such_path)?;
    if resource.subresource == "token" {
        return token_request(head, now, request, resource);
    }
    let status = match kind.kind {
        "SubjectAccessReview" => access_review(head, request, &reviewed_user(&request.body["spec"])?)?,
        "LocalSubjectAccessReview" => {
            let asked = request.body["spec"]["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
            if asked != resource.namespace {
                let why = "spec.resourceAttributes.namespace must match the namespace of the request";
                return Err(Status::bad_request(why));
            }
            access_review(head, request, &reviewed_user(&request.body["spec"])?)?
        }
        "SelfSubjectAccessReview" => access_review(head, request, &request.user)?,
        "SelfSubjectRulesReview" if text_of(&request.body["spec"]["namespace"]).is_empty() => {
            return Err(Status::bad_request("no namespace on request"));
        }
        "SelfSubjectRulesReview" => rules_review(head, request),
        "SelfSubjectReview" => json!({"userInfo": request.user.info()}),
        "TokenReview" if text_of(&request.body["spec"]["token"]).is_empty() => {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        "TokenReview" => token_review(head, now, request),
        _ => return Err(Status::no_such_path()),
    };
    let mut body = if request.body.is_object() { request.body.clone() } else { json!({}) };
    body["kind"] = json!(kind.kind);
    body["apiVersion"] = json!(kind.api_version());
    if kind.kind == "SelfSubjectReview" {
        body["metadata"]["creationTimestamp"] = json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    body["status"] = status;
    Ok(Reply::json(201, body.to_string()))
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

fn reviewed_user(spec: &Value) -> Result<User, Status> {
    let user = User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        extra: serde_json::from_value(spec["extra"].clone()).unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let mut errors = Errors::default();
        errors.invalid(&FieldPath::new("spec.user"), "", "at least one of user or group must be specified");
        return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", errors));
    }
    Ok(user)
}

fn access_review(head: &Head, request: &Request, user: &User) -> Result<Value, Status> {
    let spec = &request.body["spec"];
    let text = |value: &'_ Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (on_resource, on_path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if on_resource.is_object() == on_path.is_object() {
        let mut errors = Errors::default();
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(&FieldPath::new("spec.resourceAttributes"), Value::Null, why);
        return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", errors));
    }
    let mut errors = Errors::default();
    selectors::check(on_resource, &mut errors);
    if !errors.is_empty() {
        let kind = request.body["kind"].as_str().unwrap_or("SubjectAccessReview");
        return Err(Status::invalid("authorization.k8s.io", kind, "", errors));
    }
    let place = if on_path.is_object() { on_path } else { on_resource };
    let fields = ["verb", "group", "resource", "subresource", "namespace", "name", "path"].map(|f| text(place, f));
    let [verb, group, resource, subresource, namespace, name, path] = fields.each_ref().map(String::as_str);
    let narrowed = selectors::read(place);
    let wanted = match on_path.is_object() {
        true => Attributes { verb, path, ..Attributes::default() },
        false => Attributes {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            path: "",
            field_selector: &narrowed.field_selector,
        },
    };
    let (is_allowed, reason) = access::explain(&head.store.snapshot, user, &wanted);
    let mut status = json!({"allowed": is_allowed});
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    if !narrowed.faults.is_empty() {
        status["evaluationError"] = json!(narrowed.faults);
    }
    Ok(status)
}

fn rules_review(head: &Head, request: &Request) -> Value {
    let namespace = request.body["spec"]["namespace"].as_str().unwrap_or_default();
    let (mut on_resources, mut on_paths) = (Vec::new(), Vec::new());
    let mut add = |rule: &PolicyRule| {
        if rule.resources.as_ref().is_some_and(|list| !list.is_empty()) {
            let mut one = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if rule.resource_names.as_ref().is_some_and(|names| !names.is_empty()) {
                one["resourceNames"] = json!(rule.resource_names);
            }
            on_resources.push(one);
        }
        if rule.non_resource_urls.as_ref().is_some_and(|list| !list.is_empty()) {
            on_paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
        true
    };
    let mut missing = Vec::new();
    access::visit_rules(&head.store.snapshot, &request.user, namespace, &mut missing, &mut add);
    let mut status = json!({"resourceRules": on_resources, "nonResourceRules": on_paths, "incomplete": false});
    if !missing.is_empty() {
        status["evaluationError"] = json!(missing.join(", "));
    }
    status
}

fn token_review(head: &Head, now: Timestamp, request: &Request) -> Value {
    let failure = |why: String| json!({"user": {}, "error": why});
    let credential = match &request.reviewed {
        Some(Ok(credential)) => credential,
        Some(Err(why)) => return failure(why.clone()),
        None => return failure("invalid bearer token".into()),
    };
    let asked = texts(&request.body["spec"]["audiences"]);
    let asked = if asked.is_empty() { vec![DEFAULT_AUDIENCE.to_owned()] } else { asked };
    match authenticate(&head.store.snapshot, now, credential, &asked) {
        Ok((user, audiences)) => json!({"authenticated": true, "user": user.info(), "audiences": audiences}),
        Err(why) => failure(why),
    }
}

fn token_request(head: &Head, now: Timestamp, request: &Request, resource: &Resource) -> Result<Reply, Status> {
    let snapshot = &head.store.snapshot;
    let account = snapshot
        .find("serviceaccounts", &resource.namespace, &resource.name)
        .ok_or_else(|| Status::not_found("", "serviceaccounts", &resource.name))?;
    restrict_token(snapshot, request, resource)?;
    let spec = &request.body["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(EXPIRATION_SECONDS_DEFAULT);
    check_expiration(seconds, &resource.name)?;
    let asked = texts(&spec["audiences"]);
    let is_default_audience = asked.is_empty() || asked == [DEFAULT_AUDIENCE];
    let audiences = if asked.is_empty() { vec![DEFAULT_AUDIENCE.to_owned()] } else { asked };
    let issued = now.as_second();
    let mut bound = BoundTo {
        namespace: resource.namespace.clone(),
        serviceaccount: Bound { name: resource.name.clone(), uid: account.meta.uid.clone() },
        ..BoundTo::default()
    };
    bind_to(head, spec, resource, &mut bound)?;
    let is_extended = seconds == EXPIRATION_SECONDS_PROJECTED && is_default_audience && bound.pod.is_some();
    let lifetime = if is_extended { EXPIRATION_SECONDS_EXTENDED } else { seconds };
    bound.warnafter = is_extended.then_some(issued + seconds);
    let claims = TokenClaims {
        aud: audiences.clone(),
        exp: issued + lifetime,
        iat: issued,
        nbf: issued,
        sub: format!("system:serviceaccount:{}:{}", resource.namespace, resource.name),
        kubernetes: bound,
        ..TokenClaims::default()
    };
    let expires = Timestamp::from_second(issued + seconds).unwrap_or(now);
    let mut review = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": resource.name, "namespace": resource.namespace,
            "creationTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec["boundObjectRef"]},
        "status": {"token": "", "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}});
    if review["spec"]["boundObjectRef"].is_null() {
        review["spec"].as_object_mut().map(|spec| spec.remove("boundObjectRef"));
    }
    Ok(Reply::Sign(Box::new(SignPlan { claims, review, warnings: Vec::new() })))
}

fn check_expiration(seconds: i64, name: &str) -> Result<(), Status> {
    let mut errors = Errors::default();
    let at = FieldPath::new("spec.expirationSeconds");
    if seconds < EXPIRATION_SECONDS_MIN {
        errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, errors)) }
}

/// Fills in the pod, Secret or node that the token dies with.
fn bind_to(head: &Head, spec: &Value, resource: &Resource, bound: &mut BoundTo) -> Result<(), Status> {
    let reference = &spec["boundObjectRef"];
    if !reference.is_object() {
        return Ok(());
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (plural, namespace) = match (text("apiVersion"), kind) {
        ("v1", "Pod") => ("pods", resource.namespace.as_str()),
        ("v1", "Secret") => ("secrets", resource.namespace.as_str()),
        ("v1", "Node") => ("nodes", ""),
        (version, kind) => {
            let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(why));
        }
    };
    let snapshot = &head.store.snapshot;
    let object = snapshot.find(plural, namespace, name).ok_or_else(|| Status::not_found("", plural, name))?;
    if !uid.is_empty() && uid != object.meta.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", kind, name, &why));
    }
    let one = Bound { name: name.into(), uid: object.meta.uid.clone() };
    match plural {
        "secrets" => bound.secret = Some(one),
        "nodes" => bound.node = Some(one),
        _ => return bind_to_pod(head, object, resource, one, bound),
    }
    Ok(())
}

fn bind_to_pod(
    head: &Head,
    object: &Object,
    resource: &Resource,
    one: Bound,
    bound: &mut BoundTo,
) -> Result<(), Status> {
    let snapshot = &head.store.snapshot;
    let pod = object.view::<Pod>();
    let pod_spec = pod.spec.as_ref();
    let account = pod_spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
    if account != resource.name {
        let why = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            resource.name
        );
        return Err(Status::bad_request(why));
    }
    let node = pod_spec.and_then(|spec| spec.node_name.as_deref()).and_then(|node| snapshot.find("nodes", "", node));
    bound.node = node.map(|node| Bound { name: node.key.name.to_string(), uid: node.meta.uid.clone() });
    bound.pod = Some(one);
    Ok(())
}
