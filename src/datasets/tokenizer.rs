//! Tokenizers: what turns text into tokens and back.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{DecoderWrapper, Tokenizer as Trained};

use crate::error::{Error, Result};
use crate::files;

/// Largest size of a tokenizer's file that is read, in bytes.
const LARGEST: u64 = 256 << 20;

/// Length from which a text is tokenized in pieces, in bytes.
const PIECE: usize = 1 << 20;

/// Way to turn text into tokens and back.
#[derive(Debug, Clone)]
pub enum Tokenizer {
    /// The bytes of its UTF-8: 256 tokens.
    Bytes,
    /// Characters, in the order of their code points: the token of each is its place.
    Characters(Vec<char>),
    /// A tokenizer of Hugging Face's `tokenizer.json`, with the bytes of each of its tokens where it is one of bytes.
    File(Box<(Trained, Option<Vec<Vec<u8>>>)>),
}

/// The byte that each character of a byte-level token stands for, as GPT-2 writes bytes: those that can be seen as themselves, the others
/// in order from U+0100 on.
fn byte_of_character() -> HashMap<char, u8> {
    let seen = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let hidden = (0..=255u8).filter(|byte| !seen(byte)).zip(256u32..).filter_map(|(byte, code)| Some((char::from_u32(code)?, byte)));
    (0..=255u8).filter(seen).map(|byte| (char::from(byte), byte)).chain(hidden).collect()
}

/// Bytes of each token of a tokenizer of bytes; none for one of another kind.
fn bytes_of_tokens(trained: &Trained) -> Option<Vec<Vec<u8>>> {
    let of_bytes = |decoder: &DecoderWrapper| match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(_) => serde_json::to_string(decoder).is_ok_and(|text| text.contains("\"ByteLevel\"")),
        _ => false,
    };
    trained.get_decoder().filter(|decoder| of_bytes(decoder))?;
    let (known, added) = (byte_of_character(), trained.get_added_tokens_decoder());
    let one = |id: u32| match (added.get(&id), trained.id_to_token(id)) {
        (Some(added), _) => added.content.clone().into_bytes(),
        (None, Some(token)) => token.chars().filter_map(|c| known.get(&c).copied()).collect(),
        (None, None) => vec![],
    };
    Some((0..vocabulary_of(trained) as u32).map(one).collect())
}

/// One more than the largest token.
fn vocabulary_of(trained: &Trained) -> usize {
    trained.get_vocab(true).into_values().max().map_or(0, |largest| largest as usize + 1)
}

impl Tokenizer {
    /// The characters that occur in a text.
    pub fn of_characters(text: &str) -> Self {
        let found: std::collections::BTreeSet<char> = text.chars().collect();
        Tokenizer::Characters(found.into_iter().collect())
    }

    /// A byte-level BPE with so many tokens, trained on a text: the 256 bytes, and what is merged of them most often within words, as GPT-2
    /// divides a text into words.
    ///
    /// # Errors
    /// `Data` when the library refuses the text.
    pub fn train(text: &str, vocabulary: usize) -> Result<Self> {
        let failed = |e| Error::Data(format!("no tokenizer can be trained on this text: {e}"));
        let mut trained = Trained::new(BPE::default());
        trained.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        trained.with_decoder(Some(ByteLevel::new(false, true, true)));
        let trainer = BpeTrainerBuilder::new()
            .vocab_size(vocabulary)
            .show_progress(false)
            .initial_alphabet(byte_of_character().into_keys().collect());
        trained.train(&mut TrainerWrapper::from(trainer.build()), pieces(text)).map_err(failed)?;
        let bytes = bytes_of_tokens(&trained);
        Ok(Tokenizer::File(Box::new((trained, bytes))))
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Data` when it is none of this kind.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = files::bytes(path, LARGEST).map_err(|e| Error::read(path, e))?;
        let wrong = |e| Error::Data(format!("{} is no tokenizer.json that can be used: {e}", path.display()));
        let mut trained = Trained::from_bytes(bytes).map_err(wrong)?;
        // A file may ask for sentences to be cut or filled up, which is for batches of them.
        trained.with_padding(None);
        trained.with_truncation(None).map_err(wrong)?;
        let bytes = bytes_of_tokens(&trained);
        Ok(Tokenizer::File(Box::new((trained, bytes))))
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        match self {
            Tokenizer::Bytes => 256,
            Tokenizer::Characters(characters) => characters.len(),
            Tokenizer::File(file) => vocabulary_of(&file.0),
        }
    }

    /// Tokens of a text.
    ///
    /// # Errors
    /// A message that names the first character that the tokenizer does not have.
    pub fn encode(&self, text: &str) -> std::result::Result<Vec<u32>, String> {
        match self {
            Tokenizer::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Tokenizer::Characters(known) => {
                let token = |(place, c): (usize, char)| {
                    let missing = |_| format!("character {place} is {c:?} (U+{:04X}), which the training text does not have", u32::from(c));
                    known.binary_search(&c).map(|token| token as u32).map_err(missing)
                };
                text.chars().enumerate().map(token).collect()
            }
            Tokenizer::File(file) => {
                let mut tokens = vec![];
                for piece in pieces(text) {
                    tokens.extend(file.0.encode_fast(piece, false).map_err(|e| e.to_string())?.get_ids());
                }
                Ok(tokens)
            }
        }
    }

    /// Text of tokens, as bytes: the last of them may be the beginning of a character.
    pub fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        match self {
            Tokenizer::Bytes => tokens.iter().map(|token| *token as u8).collect(),
            Tokenizer::Characters(known) => tokens.iter().filter_map(|token| known.get(*token as usize)).collect::<String>().into_bytes(),
            Tokenizer::File(file) => match &file.1 {
                Some(bytes) => tokens.iter().filter_map(|token| bytes.get(*token as usize)).flatten().copied().collect(),
                None => file.0.decode(tokens, true).unwrap_or_default().into_bytes(),
            },
        }
    }

    /// True if each token stands for bytes of its own, so that the text of several is that of one after the other.
    pub fn has_bytes(&self) -> bool {
        !matches!(self, Tokenizer::File(file) if file.1.is_none())
    }

    /// Bytes of text that each token stands for; none where a token alone has no text of its own.
    pub fn lengths(&self) -> Option<Vec<u32>> {
        match self {
            Tokenizer::Bytes => Some(vec![1; 256]),
            Tokenizer::Characters(known) => Some(known.iter().map(|c| c.len_utf8() as u32).collect()),
            Tokenizer::File(file) => file.1.as_ref().map(|bytes| bytes.iter().map(|bytes| bytes.len() as u32).collect()),
        }
    }

    /// The tokenizer as a `tokenizer.json` of Hugging Face.
    pub fn json(&self) -> String {
        let (vocabulary, parts) = match self {
            Tokenizer::File(file) => return file.0.to_string(false).unwrap_or_default(),
            Tokenizer::Bytes => {
                let vocabulary: Map<String, Value> = byte_of_character().into_iter().map(|(c, byte)| (c.into(), byte.into())).collect();
                let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
                (vocabulary, [bytes.clone(), bytes])
            }
            Tokenizer::Characters(known) => (
                known.iter().zip(0..).map(|(c, token)| (c.to_string(), Value::from(token))).collect(),
                [Value::Null, json!({ "type": "Fuse" })],
            ),
        };
        let [before, after] = parts;
        let model = json!({ "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": [] });
        let whole = json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": before, "post_processor": null, "decoder": after, "model": model });
        whole.to_string()
    }

    /// The characters as code points, for a tokenizer whose characters come from the training text. They are below 2^24, which a float has
    /// exactly.
    pub fn code_points(&self) -> Option<Vec<f32>> {
        let Tokenizer::Characters(known) = self else { return None };
        Some(known.iter().map(|c| u32::from(*c) as f32).collect())
    }

    /// The characters of these code points; none if they are not those of characters in order.
    pub fn of_code_points(points: &[f32]) -> Option<Self> {
        let characters: Option<Vec<char>> = points.iter().map(|value| char::from_u32(*value as u32)).collect();
        characters.filter(|found| found.is_sorted_by(|a, b| a < b)).map(Tokenizer::Characters)
    }
}

/// Pieces of a text, which are cut before a single space between two letters, where no token of a tokenizer by words lies across.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let letter = |at: usize| rest.as_bytes().get(at).is_some_and(u8::is_ascii_alphabetic);
        let cut = (PIECE..rest.len()).find(|at| rest.as_bytes()[*at] == b' ' && letter(at - 1) && letter(at + 1));
        let (piece, after) = rest.split_at(cut.unwrap_or(rest.len()));
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_kept_and_found_again() {
        let tokenizer = Tokenizer::of_characters("naïve 😀 text");
        let kept = Tokenizer::of_code_points(&tokenizer.code_points().unwrap()).unwrap();
        let tokens = kept.encode("xïe😀").unwrap();
        assert_eq!(kept.decode(&tokens), "xïe😀".as_bytes());
        assert_eq!(kept.lengths().unwrap()[tokens[3] as usize], 4);
        assert!(kept.encode("xy").unwrap_err().contains("character 1 is 'y' (U+0079)"));
        assert!(Tokenizer::of_code_points(&[0.0, 0.0]).is_none());
    }

    #[test]
    fn a_file_of_them_does_the_same() {
        let text = "naïve 😀 text\n";
        for tokenizer in [Tokenizer::Bytes, Tokenizer::of_characters(text)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tokenizer.json");
            std::fs::write(&path, tokenizer.json()).unwrap();
            let read = Tokenizer::open(&path).unwrap();
            let tokens = tokenizer.encode(text).unwrap();
            assert_eq!((read.encode(text).unwrap(), read.vocabulary()), (tokens.clone(), tokenizer.vocabulary()));
            assert_eq!(read.decode(&tokens), text.as_bytes());
        }
    }

    #[test]
    fn words_that_come_often_are_tokens() {
        let tokenizer = Tokenizer::train(&"the naïve bear ate the berries. ".repeat(50), 300).unwrap();
        let tokens = tokenizer.encode("the bear").unwrap();
        assert!(tokens.len() < 4 && tokenizer.vocabulary() <= 300, "{tokens:?}");
        let odd = "Zoë 😀\0";
        assert_eq!(tokenizer.decode(&tokenizer.encode(odd).unwrap()), odd.as_bytes());
    }

    #[test]
    fn every_byte_has_one_character() {
        let known = byte_of_character();
        assert_eq!((known.len(), known[&'A'], known[&'Ġ'], known[&'Ċ']), (256, b'A', b' ', b'\n'));
    }

    #[test]
    fn a_long_text_is_cut_between_words_alone() {
        let text = "one two ".repeat(PIECE / 4);
        let cut: Vec<&str> = pieces(&text).collect();
        assert!(cut.len() > 1 && cut[1..].iter().all(|piece| piece.starts_with(' ')));
        assert_eq!(cut.concat(), text);
    }
}
