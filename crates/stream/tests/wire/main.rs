//! The wire forms, byte by byte, against a client written for these tests: what kubectl does not do, or must not.

mod client;
mod spdy;
mod websocket;

use std::time::Duration;
use stead_stream::Options;

fn options() -> Options {
    Options { idle_timeout: Duration::from_secs(3600), stream_creation_timeout: Duration::from_secs(30) }
}

/// A small generator with a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    /// The bytes with a few of them changed, or noise.
    fn damaged(&mut self, good: &[u8]) -> Vec<u8> {
        if self.below(4) == 0 {
            return (0..self.below(200)).map(|_| self.below(256) as u8).collect();
        }
        let mut bytes = good.to_vec();
        for _ in 0..1 + self.below(5) {
            let at = self.below(bytes.len());
            bytes[at] = self.below(256) as u8;
        }
        bytes.truncate(1 + self.below(bytes.len()));
        bytes
    }
}
