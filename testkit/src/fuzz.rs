//! Replaying the corpus of a fuzz target, and trying what lies near it, in a plain test run.

use std::{fs, path::Path};

/// Checks the property for every input in `corpus/target` of a crate's `fuzz` directory, of which there are at least so
/// many, and for `variations` inputs made of them by a generator that is the same in every run.
pub fn replay(fuzz: &Path, target: &str, property: impl Fn(&[u8]), least: usize, variations: usize) {
    let directory = fuzz.join("corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|input| input.expect("the corpus can be listed").path())
        .collect();
    inputs.sort();
    assert!(inputs.len() >= least, "only {} inputs in {}", inputs.len(), directory.display());
    let inputs: Vec<Vec<u8>> = inputs
        .iter()
        .map(|path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect();
    inputs.iter().for_each(|input| property(input));
    let mut random = RandomSource::new(0x9e37_79b9_7f4a_7c15);
    (0..variations).for_each(|_| property(&random.variation(&inputs)));
}

/// A small generator (xorshift64, Marsaglia 2003).
#[derive(Debug)]
pub struct RandomSource(u64);

impl RandomSource {
    /// Repeats itself for the same seed; 0 is taken for 1.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0).checked_rem(limit).unwrap_or(0)
    }

    /// One of the inputs, or parts of two, with some bytes changed, left out, repeated or put in.
    pub fn variation(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].clone();
        if self.below(4) == 0 {
            let other = &inputs[self.below(inputs.len())];
            bytes.truncate(self.below(bytes.len() + 1));
            bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
        }
        for _ in 0..=self.below(4) {
            let (at, to) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
            let (start, end) = (at.min(to), at.max(to).min(at.min(to) + 64));
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap_or(0),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 => drop(bytes.drain(start..end)),
                3 => {
                    let again = bytes[start..end].to_vec();
                    bytes.splice(at..at, again);
                }
                _ => bytes.insert(at, *b"\0\x01\x7f\xff09aZ\"{}[],:.-/".get(self.below(20)).unwrap_or(&0)),
            }
        }
        bytes
    }
}
