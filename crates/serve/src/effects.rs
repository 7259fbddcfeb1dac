//! What the control plane asks of us because we hold the keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use stead_api::Request;
use stead_control::{Effect, Work};

use crate::issue::Authority;
use crate::say::say;
use crate::token::Signer;

/// The keys of the cluster.
pub struct Keys {
    pub authority: Authority,
    pub signer: Signer,
}

/// Does it; the request that brings the product back. What cannot be done is said in the log.
pub fn perform(keys: &Keys, effect: Effect) -> Option<Request> {
    let made = match &effect.work {
        Work::Certificate(order) => keys.authority.issue(order),
        Work::Token(claims) => {
            serde_json::to_value(claims).map_err(Into::into).and_then(|claims| keys.signer.sign(&claims))
        }
        Work::Sweep(_) => Err(anyhow::anyhow!("it takes calls")),
    };
    match made {
        Ok(product) => Some(effect.done(&BASE64.encode(product))),
        Err(error) => {
            say(format_args!("{} was asked for and not made: {error:#}", effect.work));
            None
        }
    }
}
