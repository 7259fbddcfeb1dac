//! The wire forms, byte by byte, against a client written for these tests: what kubectl does not do, or must not.

mod client;
mod ports;
mod spdy;
mod websocket;

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stead_stream::Options;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Panics of any task so far: a runtime catches them, so a session that panics merely seems to end.
fn panics() -> usize {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            usual(info);
        }));
    });
    PANICS.load(Ordering::SeqCst)
}

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
