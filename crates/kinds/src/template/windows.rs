//! Checks of what a security context says to Windows. No node of ours runs it; the objects are kept for those that do.

use k8s_openapi::api::core::v1::WindowsSecurityContextOptions;
use stead_api::Errors;
use stead_api::names::dns1123_subdomain;

use crate::path::Path;

const CREDENTIAL_SPEC_KIB_MAX: usize = 64;
const DOMAIN_MAX: usize = 256;
const USER_MAX: usize = 104;
const NETBIOS_MAX: usize = 15;
const LABEL_MAX: usize = 63;

pub fn validate(at: Path, options: &WindowsSecurityContextOptions, errors: &mut Errors) {
    if let Some(name) = &options.gmsa_credential_spec_name {
        for message in dns1123_subdomain(name) {
            at.child("gmsaCredentialSpecName").invalid(errors, name.as_str(), message);
        }
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let at = at.child("gmsaCredentialSpec");
        if spec.is_empty() {
            at.invalid(errors, "", "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > CREDENTIAL_SPEC_KIB_MAX * 1024 {
            let detail = format!("gmsaCredentialSpec size must be under {CREDENTIAL_SPEC_KIB_MAX} KiB");
            at.invalid(errors, spec.as_str(), detail);
        }
    }
    if let Some(name) = &options.run_as_user_name {
        for fault in faults_of_user(name) {
            at.child("runAsUserName").invalid(errors, name.as_str(), fault);
        }
    }
}

/// What is wrong with `DOMAIN\USER`, whose domain may be left out.
fn faults_of_user(name: &str) -> Vec<String> {
    let one = |fault: &str| vec![fault.to_owned()];
    if name.is_empty() {
        return one("runAsUserName cannot be an empty string");
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return one("runAsUserName cannot contain control characters");
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return one("runAsUserName cannot contain more than one backslash"),
    };
    let is_unnamed = |domain: &str| !is_netbios(domain) && !is_dns(domain);
    let faults = [
        (
            domain.is_some_and(|domain| domain.len() >= DOMAIN_MAX),
            format!("runAsUserName's Domain length must be under {DOMAIN_MAX} characters"),
        ),
        (
            domain.is_some_and(is_unnamed),
            "runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned(),
        ),
        (user.is_empty(), "runAsUserName's User cannot be empty".to_owned()),
        (user.len() > USER_MAX, format!("runAsUserName's User length must not be longer than {USER_MAX} characters")),
        (
            !user.is_empty() && user.chars().all(|c| c == '.' || c == ' '),
            "runAsUserName's User cannot contain only periods or spaces".to_owned(),
        ),
        (
            user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)),
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".to_owned(),
        ),
    ];
    faults.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, fault)| fault).collect()
}

fn is_netbios(domain: &str) -> bool {
    let count = domain.chars().count();
    (1..=NETBIOS_MAX).contains(&count) && !domain.starts_with('.') && !domain.contains(|c| "\\/:*?\"<>|".contains(c))
}

fn is_dns(domain: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    domain.split('.').all(|part| {
        part.len() <= LABEL_MAX
            && is_edge(part.chars().next())
            && is_edge(part.chars().last())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_a_name_and_perhaps_a_domain() {
        let domain = "runAsUserName's Domain doesn't match the NetBios nor the DNS format";
        let long = "a".repeat(USER_MAX + 1);
        for (name, expected) in [
            ("Container User", &[][..]),
            ("fOo_bar\\user", &[]),
            ("192.168.0.1.example.com\\user", &[]),
            ("", &["runAsUserName cannot be an empty string"]),
            ("Container\tUser", &["runAsUserName cannot contain control characters"]),
            ("a\\b\\c", &["runAsUserName cannot contain more than one backslash"]),
            ("\\User", &[domain]),
            ("NetBios aaaaaaaa\\user", &[domain]),
            (".FooLish\\User", &[domain]),
            ("Container\\", &["runAsUserName's User cannot be empty"]),
            (&long, &["runAsUserName's User length must not be longer than 104 characters"]),
            ("... ...", &["runAsUserName's User cannot contain only periods or spaces"]),
            ("a/b", &["runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"]),
        ] {
            assert_eq!(faults_of_user(name), expected, "{name}");
        }
    }
}
