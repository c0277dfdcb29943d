//! A run file for a text: what a token is, and a model of a size that suits it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::datasets::tokens::{Tokens, holds_tokens};
use crate::error::{Error, Result};
use crate::files;

/// Most different characters of a text whose tokens are characters; one with more has bytes.
const CHARACTERS: usize = 256;

/// Bytes of a text that are looked at.
const LOOKED_AT: u64 = 64 << 20;

/// Training tokens from which an epoch is a pass over the text.
const LONG: usize = 20_000_000;

/// Least tokens of a text.
const LEAST: usize = 200;

/// A model that suits texts up to a number of tokens: features, heads, layers, context and batch.
struct Size {
    up_to: usize,
    sizes: [usize; 5],
}

/// About as many weights as tokens, from what a processor trains in minutes to GPT-2 small.
const SIZES: [Size; 5] = [
    Size { up_to: 200_000, sizes: [64, 2, 2, 32, 16] },
    Size { up_to: 3_000_000, sizes: [128, 4, 4, 64, 12] },
    Size { up_to: LONG, sizes: [256, 4, 6, 128, 32] },
    Size { up_to: 200_000_000, sizes: [384, 6, 6, 256, 32] },
    Size { up_to: usize::MAX, sizes: [768, 12, 12, 512, 8] },
];

/// Models of a text, whose sizes are chosen by its length; the first is the one without being asked for.
pub(super) const MODELS: [&str; 3] = ["gpt", "llama", "mamba2"];

/// Keys of the table of a model of these features, heads and layers. All have about as many weights.
fn sizes_of(model: &str, [d_model, heads, layers]: [usize; 3]) -> String {
    match model {
        // Three matrices of the feed-forward network have the size of two.
        "llama" => format!(
            "heads = {heads}\nkv_heads = {}\nlayers = {layers}\nfeed_forward = {}\ntied = true\ndropout = 0.1\n",
            heads / 2,
            (8 * d_model / 3).next_multiple_of(8)
        ),
        // A block has half the weights of one with attention.
        "mamba2" => format!("layers = {}\ntied = true\n", 2 * layers),
        _ => format!("heads = {heads}\nlayers = {layers}\nbias = false\ndropout = 0.1\n"),
    }
}

/// True if `engine new` takes a file for text, by its name.
pub(super) fn is_text(file: &Path) -> bool {
    ["txt", "md", "bin"].contains(&files::extension(file).as_str())
}

/// Run file of a model for a text or a file of tokens, and notes about what was found in it.
pub(super) fn look(model: &str, file: &Path) -> Result<(String, Vec<String>)> {
    let (tokens, tokenizer, mut facts) = if holds_tokens(file) { of_tokens(file)? } else { of_text(file)? };
    if tokens < LEAST {
        return Err(Error::Data(format!("{}: {tokens} tokens are too few to learn from: give a text of at least {LEAST}", file.display())));
    }
    let [d_model, heads, layers, context, batch] =
        SIZES.iter().find(|size| tokens <= size.up_to).map_or([64, 2, 2, 32, 16], |size| size.sizes);
    let (sampling, epochs) = if tokens > LONG { ("windows", 1) } else { ("random", 20) };
    let every = if tokens > LONG { "every = 1000\n" } else { "" };
    facts.push(match sampling {
        "random" => "An epoch is 250 updates on windows from anywhere in the training part; the last tenth of the text validates.".into(),
        _ => "An epoch is one pass over the training part; the last tenth of the text validates.".into(),
    });
    let quoted = toml::Value::String(file.display().to_string()).to_string();
    let tokenizer = tokenizer.map_or(String::new(), |name| format!("tokenizer = \"{name}\"\n"));
    Ok((
        format!(
            "# A language model of {}.\n[model]\nkind = \"{model}\"\nd_model = {d_model}\n{}\n\
             [data]\nkind = \"text\"\nfile = {quoted}\n{tokenizer}context = {context}\nsampling = \"{sampling}\"\n\n\
             [loss]\nkind = \"cross_entropy\"\n\n\
             [optimizer]\nkind = \"adamw\"\nlearning_rate = 1e-3\nbeta1 = 0.9\nbeta2 = 0.99\nweight_decay = 0.1\ndecay = \"matrices\"\nclip_norm = 1.0\n\n\
             [schedule]\nkind = \"warmup_cosine\"\nwarmup_steps = 100\nmin_learning_rate = 1e-4\n\n\
             [train]\nbatch = {batch}\nepochs = {epochs}\nsteps_per_epoch = 250\n\n\
             [validation]\n{every}select = \"loss\"\npatience = 5\n\n[checkpoint]\nkeep = 2\n",
            file.file_name().unwrap_or_default().to_string_lossy().replace(char::is_control, "?"),
            sizes_of(model, [d_model, heads, layers])
        ),
        facts,
    ))
}

/// Number of tokens of a text, what one is, and a note on it.
fn of_text(file: &Path) -> Result<(usize, Option<&'static str>, Vec<String>)> {
    let length = file.metadata().map_err(|e| Error::read(file, e))?.len();
    // Of a longer text the bytes are tokens, and stay in their file.
    let text =
        if length > LOOKED_AT { None } else { String::from_utf8(files::bytes(file, LOOKED_AT).map_err(|e| Error::read(file, e))?).ok() };
    let different = text.as_ref().map(|text| text.chars().collect::<BTreeSet<char>>().len());
    let name = file.display();
    Ok(match (text, different) {
        (Some(text), Some(different)) if different <= CHARACTERS => {
            let count = text.chars().count();
            (count, Some("characters"), vec![format!("{name}: {count} characters, {different} different ones, each of which is a token.")])
        }
        _ => (
            length as usize,
            Some("bytes"),
            vec![format!("{name}: {length} bytes, each of which is a token. `engine data text` makes longer ones of it.")],
        ),
    })
}

/// Number of tokens of a file of them, and a note on it.
fn of_tokens(file: &Path) -> Result<(usize, Option<&'static str>, Vec<String>)> {
    let count = Tokens::open(file)?.len();
    let note = "Name the tokenizer.json that made them as data.tokenizer, and samples are text.";
    Ok((count, None, vec![format!("{}: {count} tokens.", file.display()), note.into()]))
}
