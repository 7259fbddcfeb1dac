//! What a node's certificates must look like, in upstream's words.

use std::collections::BTreeSet;

use stead_kinds::certificate_request::CertificateRequest;

const CLIENT: [&str; 3] = ["client auth", "digital signature", "key encipherment"];
const SERVING: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

/// # Errors
/// Why this is no client certificate of a node.
pub fn check_client(request: &CertificateRequest, usages: &[String]) -> Result<(), String> {
    check_organization(request)?;
    let banned = [
        (!request.dns_names.is_empty(), "DNS"),
        (!request.emails.is_empty(), "Email"),
        (!request.addresses.is_empty(), "IP"),
        (!request.uris.is_empty(), "URI"),
    ];
    check_banned(&banned)?;
    check_name(request)?;
    check_usages(usages, CLIENT)
}

/// # Errors
/// Why this is no serving certificate of a node.
pub fn check_serving(request: &CertificateRequest, usages: &[String]) -> Result<(), String> {
    check_organization(request)?;
    if request.dns_names.is_empty() && request.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    check_banned(&[(!request.emails.is_empty(), "Email"), (!request.uris.is_empty(), "URI")])?;
    check_usages(usages, SERVING)?;
    check_name(request)
}

fn check_organization(request: &CertificateRequest) -> Result<(), String> {
    let is_node = request.organizations == ["system:nodes"];
    if is_node { Ok(()) } else { Err("subject organization is not system:nodes".into()) }
}

fn check_name(request: &CertificateRequest) -> Result<(), String> {
    let is_node = request.common_name.starts_with("system:node:");
    if is_node { Ok(()) } else { Err("subject common name does not begin with system:node:".into()) }
}

fn check_banned(banned: &[(bool, &str)]) -> Result<(), String> {
    match banned.iter().find(|(is_there, _)| *is_there) {
        Some((_, kind)) => Err(format!("{kind} subjectAltNames are not allowed")),
        None => Ok(()),
    }
}

/// Exactly these; keys that cannot encipher do without.
fn check_usages(usages: &[String], wanted: [&str; 3]) -> Result<(), String> {
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let wanted_set: BTreeSet<&str> = wanted.into_iter().collect();
    let without: BTreeSet<&str> = wanted.into_iter().filter(|one| *one != "key encipherment").collect();
    if given == wanted_set || given == without {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_certificates_name_the_node_and_nothing_else() {
        let node = CertificateRequest {
            common_name: "system:node:n1".into(),
            organizations: vec!["system:nodes".into()],
            ..CertificateRequest::default()
        };
        let usages = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let client = usages(&CLIENT);
        assert_eq!(check_client(&node, &client), Ok(()));
        assert_eq!(check_client(&node, &usages(&["client auth", "digital signature"])), Ok(()));
        let wrong = |change: &dyn Fn(&mut CertificateRequest)| {
            let mut one = node.clone();
            change(&mut one);
            check_client(&one, &client).unwrap_err()
        };
        assert_eq!(wrong(&|one| one.organizations.push("x".into())), "subject organization is not system:nodes");
        assert_eq!(wrong(&|one| one.common_name = "n1".into()), "subject common name does not begin with system:node:");
        assert_eq!(wrong(&|one| one.dns_names.push("x".into())), "DNS subjectAltNames are not allowed");
        assert_eq!(wrong(&|one| one.uris.push("x".into())), "URI subjectAltNames are not allowed");
        let more = usages(&["client auth", "server auth"]);
        let text = "usages did not match [client auth digital signature key encipherment]";
        assert_eq!(check_client(&node, &more).unwrap_err(), text);

        let serving = usages(&SERVING);
        assert_eq!(check_serving(&node, &serving).unwrap_err(), "DNS or IP subjectAltName is required");
        let named = CertificateRequest { dns_names: vec!["n1".into()], ..node.clone() };
        assert_eq!(check_serving(&named, &serving), Ok(()));
        let mailed = CertificateRequest { emails: vec!["a@b".into()], ..named };
        assert_eq!(check_serving(&mailed, &serving).unwrap_err(), "Email subjectAltNames are not allowed");
    }
}
