//! Numbers that nobody can guess.

use anyhow::Result;
use ring::rand::{SecureRandom, SystemRandom};

/// # Errors
/// When the system gives no random numbers.
pub fn number() -> Result<u64> {
    let mut bytes = [0; 8];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(u64::from_le_bytes(bytes))
}
