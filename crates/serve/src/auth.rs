//! Who is asking: client certificates, service account tokens, nobody; and the tokens we sign.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use stead_api::token::Credential;
use stead_api::{Request, Status, TokenClaims, User};
use stead_apiserver::{Impersonation, Reply, SignPlan};

use crate::Server;
use crate::token::ISSUER;

/// Who sent a request, and as whom it is judged: the same, or whom that one may impersonate.
///
/// # Errors
/// 401 for a token that is not (or no longer) valid, 403 for an impersonation that is not allowed.
pub fn users(server: &Server, peer: Option<Arc<User>>, headers: &HeaderMap) -> Result<(Arc<User>, Arc<User>), Status> {
    let asker = authenticated(server, peer, headers)?;
    let wanted = impersonation(headers);
    if !wanted.is_asked_for() {
        return Ok((Arc::clone(&asker), asker));
    }
    let head = server.plane.head();
    let user = stead_apiserver::impersonate(&head.store.snapshot, &asker, &wanted).map(Arc::new)?;
    Ok((asker, user))
}

/// What the `Impersonate-*` headers say.
fn impersonation(headers: &HeaderMap) -> Impersonation {
    let mut wanted = Impersonation::default();
    for (name, value) in headers {
        let Some(field) = name.as_str().strip_prefix("impersonate-") else { continue };
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match field {
            "user" => wanted.user = value,
            "uid" => wanted.uid = value,
            "group" => wanted.groups.push(value),
            field => {
                if let Some(key) = field.strip_prefix("extra-") {
                    wanted.extra.entry(stead_api::request::decode(key)).or_default().push(value);
                }
            }
        }
    }
    wanted
}

/// The sender: a bearer token wins over the connection's certificate.
fn authenticated(server: &Server, peer: Option<Arc<User>>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    if let Some(token) = bearer(headers) {
        let credential = credential(server, token).map_err(|_| Status::unauthorized())?;
        let head = server.plane.head();
        let audiences = [ISSUER.to_owned()];
        let (snapshot, now) = (&head.store.snapshot, crate::clock::now());
        let user = stead_apiserver::authenticate(snapshot, now, &credential, &audiences);
        let (user, _) = user.map_err(|_| Status::unauthorized())?;
        if let Some(note) = stead_apiserver::note_use(snapshot, now, &credential) {
            server.plane.ask(note, Box::new(drop));
        }
        return Ok(Arc::new(user));
    }
    Ok(peer.unwrap_or_else(|| Arc::clone(&server.anonymous)))
}

fn credential(server: &Server, token: &str) -> Result<Credential, String> {
    server.signer.credential(token).ok_or_else(|| "invalid bearer token".to_owned())
}

/// Attaches what a token under review says, so that the answer needs no key.
pub fn review(server: &Server, request: &mut Request) {
    let asks = request.resource().is_some_and(|r| r.group == "authentication.k8s.io" && r.plural == "tokenreviews");
    if asks {
        let token = request.body["spec"]["token"].as_str().unwrap_or_default();
        request.reviewed = Some(credential(server, token).map(Arc::new));
    }
}

/// Signs a granted TokenRequest.
pub fn sign(server: &Server, mut plan: SignPlan) -> Result<Reply, Status> {
    let token = sign_claims(server, &mut plan.claims)?;
    Ok(plan.signed(&token))
}

/// The token of these claims.
pub fn sign_claims(server: &Server, claims: &mut TokenClaims) -> Result<String, Status> {
    claims.iss = ISSUER.into();
    claims.jti = server.signer.fresh_id().map_err(|e| Status::internal(e.to_string()))?;
    let claims = serde_json::to_value(claims).map_err(|e| Status::internal(e.to_string()))?;
    server.signer.sign(&claims).map_err(|e| Status::internal(e.to_string()))
}

/// What precedes a token among the subprotocols that a browser asks for: its WebSockets can send no other header.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Moves a token that came as a WebSocket subprotocol to where tokens belong, so that nobody behind sees it there.
///
/// # Errors
/// 401 for more than one token, one that is no text, or one without another subprotocol beside it, which the answer must name.
pub fn take_protocol_token(headers: &mut HeaderMap) -> Result<(), Status> {
    let named =
        |line: &HeaderValue| line.to_str().unwrap_or_default().split(',').map(|one| one.trim().to_owned()).collect();
    let asked: Vec<String> =
        headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(|line| -> Vec<String> { named(line) }).collect();
    let (tokens, others): (Vec<String>, Vec<String>) =
        asked.into_iter().partition(|one| one.starts_with(TOKEN_PROTOCOL));
    let token = match tokens.as_slice() {
        [] => return Ok(()),
        [token] => URL_SAFE_NO_PAD.decode(&token[TOKEN_PROTOCOL.len()..]).ok(),
        _ => None,
    };
    let header = token.and_then(|token| HeaderValue::from_bytes(&[b"Bearer ", token.as_slice()].concat()).ok());
    let (Some(header), Ok(others)) = (header, HeaderValue::from_str(&others.join(", "))) else {
        return Err(Status::unauthorized());
    };
    if others.is_empty() {
        return Err(Status::unauthorized());
    }
    headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    headers.entry(AUTHORIZATION).or_insert(header);
    Ok(())
}

/// The bearer token of a request, if it has one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(protocols: &[&str]) -> Result<(Option<String>, Option<String>), u16> {
        let mut headers = HeaderMap::new();
        for line in protocols {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(line).unwrap());
        }
        take_protocol_token(&mut headers).map_err(|status| status.code)?;
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        Ok((text(AUTHORIZATION), text(SEC_WEBSOCKET_PROTOCOL)))
    }

    #[test]
    fn a_browsers_token_comes_as_a_subprotocol_and_nobody_behind_sees_it_there() {
        let token = format!("{TOKEN_PROTOCOL}{}", URL_SAFE_NO_PAD.encode("abc.def"));
        let expected = (Some("Bearer abc.def".to_owned()), Some("binary.k8s.io".to_owned()));
        assert_eq!(taken(&[&token, "binary.k8s.io"]), Ok(expected.clone()));
        assert_eq!(taken(&[&format!("binary.k8s.io, {token}")]), Ok(expected));
        assert_eq!(taken(&["v5.channel.k8s.io"]), Ok((None, Some("v5.channel.k8s.io".to_owned()))));
        assert_eq!(taken(&[&token]), Err(401));
        assert_eq!(taken(&[&token, &token, "binary.k8s.io"]), Err(401));
        assert_eq!(taken(&[&format!("{TOKEN_PROTOCOL}%%"), "binary.k8s.io"]), Err(401));
    }
}
