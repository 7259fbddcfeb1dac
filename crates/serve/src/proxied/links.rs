//! Links of a proxied server as its clients have to follow them.

/// Where links come from and where they lead.
pub struct Links {
    /// The server's own address.
    pub authority: String,
    /// The host that the client asked.
    pub host: String,
    /// The path under which the client sees the server's root.
    pub prefix: String,
}

impl Links {
    /// Leads a link to the server's own root back below the proxy; links to elsewhere and relative ones stay.
    pub fn rewrite(&self, link: &str) -> String {
        let (host, rest) = split(link);
        let is_elsewhere = host.is_some_and(|host| host != self.authority && host != self.host && !host.is_empty());
        let path = if rest.is_empty() && host.is_some() { "/" } else { rest };
        if is_elsewhere || !path.starts_with('/') {
            return link.to_owned();
        }
        let start = match host {
            Some(host) if host == self.host => &link[..link.len() - rest.len()],
            _ => "",
        };
        let is_below = path == self.prefix || path.starts_with(&format!("{}/", self.prefix));
        if is_below { format!("{start}{path}") } else { format!("{start}{}{path}", self.prefix) }
    }
}

/// The host of a link, if it names one, and what follows it.
fn split(link: &str) -> (Option<&str>, &str) {
    let scheme =
        link.find("://").filter(|at| link[..*at].chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)));
    let after = match scheme {
        Some(at) => &link[at + 3..],
        None => match link.strip_prefix("//") {
            Some(after) => after,
            None => return (None, link),
        },
    };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    (Some(&after[..end]), &after[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_its_root_lead_below_the_proxy() {
        let prefix = "/api/v1/namespaces/a/pods/p/proxy".to_owned();
        let links = Links { authority: "10.0.0.1:80".into(), host: "localhost:8001".into(), prefix };
        for (link, expected) in [
            ("/next?x=1#y", "/api/v1/namespaces/a/pods/p/proxy/next?x=1#y"),
            ("http://10.0.0.1:80/next/", "/api/v1/namespaces/a/pods/p/proxy/next/"),
            ("http://10.0.0.1:80", "/api/v1/namespaces/a/pods/p/proxy/"),
            ("http://localhost:8001/x", "http://localhost:8001/api/v1/namespaces/a/pods/p/proxy/x"),
            ("https://example.org/x", "https://example.org/x"),
            ("//example.org/x", "//example.org/x"),
            ("next", "next"),
            ("../up", "../up"),
            ("?page=2", "?page=2"),
            ("mailto:a@b", "mailto:a@b"),
            ("/api/v1/namespaces/a/pods/p/proxy/x", "/api/v1/namespaces/a/pods/p/proxy/x"),
            ("", ""),
        ] {
            assert_eq!(links.rewrite(link), expected, "{link}");
        }
    }
}
