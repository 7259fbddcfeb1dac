//! Reviews: created, answered, never stored.

use crate::names::{self, names};
use crate::{Kind, Names, Verbs};

const fn review(
    storage: &'static str,
    group: &'static str,
    namespaced: bool,
    names: Names,
    definition: &'static str,
) -> Kind {
    Kind {
        namespaced,
        name_rule: names::any,
        verbs: Verbs::CreateOnly,
        ..Kind::plain(storage, group, "v1", names, definition)
    }
}

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

pub const SUBJECTACCESSREVIEW: Kind = review(
    "subjectaccessreviews.authorization.k8s.io",
    AUTHORIZATION,
    false,
    names!("SubjectAccessReview", "subjectaccessreview", "subjectaccessreviews"),
    "io.k8s.api.authorization.v1.SubjectAccessReview",
);

pub const SELFSUBJECTACCESSREVIEW: Kind = review(
    "selfsubjectaccessreviews.authorization.k8s.io",
    AUTHORIZATION,
    false,
    names!("SelfSubjectAccessReview", "selfsubjectaccessreview", "selfsubjectaccessreviews"),
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
);

pub const LOCALSUBJECTACCESSREVIEW: Kind = review(
    "localsubjectaccessreviews.authorization.k8s.io",
    AUTHORIZATION,
    true,
    names!("LocalSubjectAccessReview", "localsubjectaccessreview", "localsubjectaccessreviews"),
    "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
);

pub const SELFSUBJECTRULESREVIEW: Kind = review(
    "selfsubjectrulesreviews.authorization.k8s.io",
    AUTHORIZATION,
    false,
    names!("SelfSubjectRulesReview", "selfsubjectrulesreview", "selfsubjectrulesreviews"),
    "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
);

pub const SELFSUBJECTREVIEW: Kind = review(
    "selfsubjectreviews.authentication.k8s.io",
    AUTHENTICATION,
    false,
    names!("SelfSubjectReview", "selfsubjectreview", "selfsubjectreviews"),
    "io.k8s.api.authentication.v1.SelfSubjectReview",
);

pub const TOKENREVIEW: Kind = review(
    "tokenreviews.authentication.k8s.io",
    AUTHENTICATION,
    false,
    names!("TokenReview", "tokenreview", "tokenreviews"),
    "io.k8s.api.authentication.v1.TokenReview",
);
