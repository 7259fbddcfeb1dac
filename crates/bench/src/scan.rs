//! Counting what arrives without decoding it: the client shares the machine with the server, and must not be what is measured.

use anyhow::Result;
use memchr::memchr;
use memchr::memmem::Finder;

/// Of so many events one is looked at whole.
pub const SAMPLE_EVERY: usize = 61;

/// Counts lines over chunks cut anywhere; the first line and then each `every`th is handed out.
pub struct Lines {
    pub seen: usize,
    every: usize,
    sample: Vec<u8>,
}

impl Lines {
    pub fn every(every: usize) -> Lines {
        Lines { seen: 0, every, sample: Vec::new() }
    }

    pub fn feed(&mut self, mut chunk: &[u8], mut check: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while let Some(end) = memchr(b'\n', chunk) {
            if self.is_sample() {
                self.sample.extend_from_slice(&chunk[..end]);
                check(&self.sample)?;
                self.sample.clear();
            }
            self.seen += 1;
            chunk = &chunk[end + 1..];
        }
        if self.is_sample() {
            self.sample.extend_from_slice(chunk);
        }
        Ok(())
    }

    fn is_sample(&self) -> bool {
        self.seen.is_multiple_of(self.every)
    }
}

/// The same for frames, each with its length in four bytes before it.
pub struct Frames {
    pub seen: usize,
    every: usize,
    head: Vec<u8>,
    /// What is to come of the frame whose head has come.
    left: usize,
    sample: Vec<u8>,
}

impl Frames {
    pub fn every(every: usize) -> Frames {
        Frames { seen: 0, every, head: Vec::new(), left: 0, sample: Vec::new() }
    }

    pub fn feed(&mut self, mut chunk: &[u8], mut check: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        loop {
            if self.left == 0 {
                let (head, rest) = chunk.split_at(chunk.len().min(4 - self.head.len()));
                self.head.extend_from_slice(head);
                chunk = rest;
                let Ok(length) = <[u8; 4]>::try_from(&self.head[..]) else { return Ok(()) };
                self.left = u32::from_be_bytes(length) as usize;
                self.head.clear();
            }
            let (body, rest) = chunk.split_at(chunk.len().min(self.left));
            let is_sample = self.seen.is_multiple_of(self.every);
            if is_sample {
                self.sample.extend_from_slice(body);
            }
            self.left -= body.len();
            chunk = rest;
            if self.left > 0 {
                return Ok(());
            }
            if is_sample {
                check(&self.sample)?;
                self.sample.clear();
            }
            self.seen += 1;
        }
    }
}

/// Counts a word over chunks cut anywhere.
pub struct Words<'a> {
    word: Finder<'a>,
    pub seen: usize,
    /// The end of what came, which may hold the word's beginning.
    rest: Vec<u8>,
}

impl<'a> Words<'a> {
    pub fn of(word: &'a [u8]) -> Words<'a> {
        Words { word: Finder::new(word), seen: 0, rest: Vec::new() }
    }

    pub fn feed(&mut self, chunk: &[u8]) {
        // What is kept of the past and what is added to it are each shorter than the word: only a word across the seam is found.
        let most = self.word.needle().len() - 1;
        self.rest.extend_from_slice(&chunk[..chunk.len().min(most)]);
        self.seen += self.word.find_iter(&self.rest).count() + self.word.find_iter(chunk).count();
        if chunk.len() > most {
            self.rest.clear();
            self.rest.extend_from_slice(&chunk[chunk.len() - most..]);
        } else {
            self.rest.drain(..self.rest.len().saturating_sub(most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_sampled_however_they_are_cut() {
        let text: String = (0..200).map(|n| format!("line {n}\n")).collect();
        for size in [1, 7, 64, 10_000] {
            let (mut lines, mut sampled) = (Lines::every(SAMPLE_EVERY), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                let keep = |line: &[u8]| {
                    sampled.push(String::from_utf8_lossy(line).into_owned());
                    Ok(())
                };
                lines.feed(chunk, keep).unwrap();
            }
            assert_eq!(lines.seen, 200);
            assert_eq!(sampled, ["line 0", "line 61", "line 122", "line 183"]);
        }
    }

    #[test]
    fn words_are_counted_however_they_are_cut() {
        let text = "\"uid\":1,\"uid\":2,\"uid\"\"uid\":".repeat(9);
        for size in 1..text.len() {
            let mut words = Words::of(b"\"uid\":");
            text.as_bytes().chunks(size).for_each(|chunk| words.feed(chunk));
            assert_eq!(words.seen, 27, "cut every {size}");
        }
    }
}
