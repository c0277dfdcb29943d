//! How the next token is drawn, and the text that tokens make.

use crate::datasets::tokenizer::Tokenizer;
use crate::random::Random;

/// Temperature of a text, unless another is asked for.
pub(crate) const TEMPERATURE: f64 = 0.8;

/// Sampling from softmax(logits / temperature), of the most probable numbers alone where that is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Temperature, above 0.
    pub temperature: f64,
    /// Seed; each sequence of a batch has numbers of its own.
    pub seed: u64,
    /// So many of the most probable numbers take part.
    pub top_k: Option<usize>,
    /// As few of the most probable numbers take part as have this probability together.
    pub top_p: Option<f64>,
}

impl Sampling {
    /// Draws a number.
    pub fn draw(&self, logits: &[f32], random: &mut Random) -> u32 {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| (f64::from(logit - top) / self.temperature).exp();
        let mut numbers: Vec<(u32, f64)> = (0..).zip(logits).map(|(number, logit)| (number, weight(*logit))).collect();
        if self.top_k.is_some() || self.top_p.is_some() {
            numbers.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            numbers.truncate(self.top_k.unwrap_or(usize::MAX).max(1));
            let wanted = self.top_p.unwrap_or(1.0) * numbers.iter().map(|(_, weight)| weight).sum::<f64>();
            let mut before = 0.0;
            numbers.retain(|(_, weight)| {
                let stays = before < wanted;
                before += weight;
                stays
            });
        }
        let mut left = random.uniform() * numbers.iter().map(|(_, weight)| weight).sum::<f64>();
        for (number, weight) in &numbers {
            left -= weight;
            if left < 0.0 {
                return *number;
            }
        }
        numbers.last().map_or(0, |(number, _)| *number)
    }
}

/// Text of tokens as they come: whole characters, up to a text that ends it.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    stop: Option<String>,
    tokens: Vec<u32>,
    bytes: Vec<u8>,
    /// Number of bytes that were given.
    given: usize,
    /// True once the text that ends it has come.
    pub ended: bool,
}

impl<'a> TextStream<'a> {
    /// A text that ends before `stop`.
    pub fn new(tokenizer: &'a Tokenizer, stop: Option<&str>) -> Self {
        let stop = stop.filter(|stop| !stop.is_empty()).map(String::from);
        TextStream { tokenizer, stop, tokens: vec![], bytes: vec![], given: 0, ended: false }
    }

    /// Takes a token, and gives the text that is certain now: without the first bytes of a character, and without what may be the
    /// beginning of the text that ends it.
    pub fn push(&mut self, token: u32) -> String {
        if self.ended {
            return String::new();
        }
        self.tokens.push(token);
        match self.tokenizer.has_bytes() {
            true => self.bytes.extend(self.tokenizer.decode(&[token])),
            false => self.bytes = self.tokenizer.decode(&self.tokens),
        }
        let mut end = self.bytes.len() - begun(&self.bytes);
        if let Some(stop) = self.stop.as_deref().map(str::as_bytes) {
            let rest = &self.bytes[self.given.min(end)..end];
            if let Some(at) = rest.windows(stop.len()).position(|part| part == stop) {
                (self.ended, end) = (true, self.given + at);
            } else {
                end -= (1..stop.len()).rev().find(|n| rest.ends_with(&stop[..*n])).unwrap_or(0);
            }
        }
        self.give(end)
    }

    /// The rest of the text.
    pub fn finish(&mut self) -> String {
        if self.ended { String::new() } else { self.give(self.bytes.len()) }
    }

    fn give(&mut self, end: usize) -> String {
        let text = String::from_utf8_lossy(self.bytes.get(self.given..end).unwrap_or_default()).into_owned();
        self.given = self.given.max(end);
        text
    }
}

/// Number of bytes at the end of a text that begin a character which is not whole.
fn begun(bytes: &[u8]) -> usize {
    let wanted = |byte: u8| match byte {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    let back = |n: &usize| bytes.len().checked_sub(*n).is_some_and(|at| bytes[at] & 0xC0 != 0x80);
    (1..4).find(back).filter(|n| wanted(bytes[bytes.len() - n]) > *n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole_and_a_text_ends_before_its_stop() {
        let told = |text: &str, stop| {
            let mut stream = TextStream::new(&Tokenizer::Bytes, stop);
            let mut parts: Vec<String> = text.bytes().map(|byte| stream.push(byte.into())).collect();
            parts.push(stream.finish());
            parts
        };
        assert_eq!(told("aß", None), ["a", "", "ß", ""]);
        assert_eq!(told("an end", Some("end")).concat(), "an ");
        assert_eq!(told("eend", Some("end")), ["", "e", "", "", ""]);
        assert_eq!(told("en", Some("end")), ["", "", "en"]);
        let mut cut = TextStream::new(&Tokenizer::Bytes, None);
        assert_eq!((cut.push(0xE2), cut.push(0x82), cut.finish()), (String::new(), String::new(), "\u{FFFD}".into()));
    }

    #[test]
    fn the_most_probable_alone_take_part() {
        let logits = [0.0f32, 2.0, 1.0, -1.0];
        let drawn = |top_k, top_p| {
            let sampling = Sampling { temperature: 1.0, seed: 1, top_k, top_p };
            let mut random = Random::new(1, 1, 0);
            let numbers: std::collections::BTreeSet<u32> = (0..500).map(|_| sampling.draw(&logits, &mut random)).collect();
            Vec::from_iter(numbers)
        };
        assert_eq!(drawn(None, None), [0, 1, 2, 3]);
        assert_eq!(drawn(Some(2), None), [1, 2]);
        // Probabilities 0.64, 0.24, 0.09, 0.03.
        assert_eq!(drawn(None, Some(0.7)), [1, 2]);
        assert_eq!(drawn(None, Some(0.6)), [1]);
    }
}
