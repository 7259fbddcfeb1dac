//! `authorizer`: what expressions may ask about the rights of whoever makes a request.

use std::rc::Rc;

use stead_api::User;
use stead_cel::{Asked, Error, Result, Value};
use stead_store::Snapshot;

use crate::access;
use crate::attempt::Attempt;
use crate::attributes::Attributes;

/// One step of a question: `authorizer.group('apps').resource('deployments').check('get').allowed()`.
#[derive(Clone)]
pub(super) struct Question<'a> {
    snapshot: &'a Snapshot,
    user: Rc<User>,
    asked: About,
    /// What `requestResource` is.
    request: Wanted,
}

#[derive(Clone, Default)]
struct Wanted {
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Clone)]
enum About {
    Nothing,
    Path(String),
    Group(String),
    Resource(Wanted),
    Decision(std::result::Result<(), String>),
}

pub(super) fn of<'a>(snapshot: &'a Snapshot, attempt: &Attempt) -> Question<'a> {
    let request = Wanted {
        group: attempt.kind.group.into(),
        resource: attempt.kind.plural.into(),
        subresource: attempt.subresource.into(),
        namespace: attempt.namespace.into(),
        name: attempt.name.into(),
    };
    Question { snapshot, user: Rc::new((*attempt.request.user).clone()), asked: About::Nothing, request }
}

impl<'a> Question<'a> {
    fn next(&self, asked: About) -> Value<'a> {
        Value::Asked(Rc::new(Question { asked, ..self.clone() }))
    }

    fn check(&self, verb: &str) -> Option<Value<'a>> {
        let wanted = match &self.asked {
            About::Path(path) => Attributes { verb, path, ..Attributes::default() },
            About::Resource(wanted) => Attributes {
                verb,
                group: &wanted.group,
                resource: &wanted.resource,
                subresource: &wanted.subresource,
                namespace: &wanted.namespace,
                name: &wanted.name,
                path: "",
                field_selector: "",
            },
            _ => return None,
        };
        Some(self.next(About::Decision(access::allowed(self.snapshot, &self.user, &wanted))))
    }

    fn with(&self, change: impl FnOnce(&mut Wanted)) -> Option<Value<'a>> {
        let mut wanted = match &self.asked {
            About::Resource(wanted) => wanted.clone(),
            About::Group(group) => Wanted { group: group.clone(), ..Wanted::default() },
            _ => return None,
        };
        change(&mut wanted);
        Some(self.next(About::Resource(wanted)))
    }

    fn answer(&self, function: &str, args: &[&str]) -> Option<Value<'a>> {
        let owned = |text: &str| text.to_owned();
        match (function, args, &self.asked) {
            ("path", [path], About::Nothing) => Some(self.next(About::Path(owned(path)))),
            ("group", [group], About::Nothing) => Some(self.next(About::Group(owned(group)))),
            ("serviceAccount", [namespace, name], About::Nothing) => {
                let groups = [
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".into(),
                ];
                let name = format!("system:serviceaccount:{namespace}:{name}");
                let user = User { name, groups: groups.into(), ..User::default() };
                Some(Value::Asked(Rc::new(Question { user: Rc::new(user), ..self.clone() })))
            }
            ("resource", [resource], About::Group(_)) => self.with(|wanted| wanted.resource = owned(resource)),
            ("subresource", [name], About::Resource(_)) => self.with(|wanted| wanted.subresource = owned(name)),
            ("namespace", [name], About::Resource(_)) => self.with(|wanted| wanted.namespace = owned(name)),
            ("name", [name], About::Resource(_)) => self.with(|wanted| wanted.name = owned(name)),
            // RBAC does not look at selectors.
            ("fieldSelector" | "labelSelector", [_], About::Resource(_)) => self.with(|_| {}),
            ("check", [verb], _) => self.check(verb),
            ("allowed", [], About::Decision(decision)) => Some(decision.is_ok().into()),
            ("reason", [], About::Decision(decision)) => Some(decision.clone().err().unwrap_or_default().into()),
            ("errored", [], About::Decision(_)) => Some(false.into()),
            ("error", [], About::Decision(_)) => Some(String::new().into()),
            _ => None,
        }
    }
}

impl<'a> Asked<'a> for Question<'a> {
    fn call(&self, function: &str, args: &[Value<'a>]) -> Option<Result<Value<'a>>> {
        let mut texts = Vec::with_capacity(args.len());
        for arg in args {
            match arg {
                Value::String(text) => texts.push(&**text),
                _ => return Some(Err(Error::failed("no such overload"))),
            }
        }
        self.answer(function, &texts).map(Ok)
    }

    fn field(&self, name: &str) -> Option<Result<Value<'a>>> {
        let is_known = name == "requestResource" && matches!(self.asked, About::Nothing);
        is_known.then(|| Ok(self.next(About::Resource(self.request.clone()))))
    }
}
