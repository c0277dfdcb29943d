//! What runs are about: data, and how a model of them is judged. One file a kind of data.
//!
//! Data go through two states, each a trait: a `Source` knows its sizes, from a file's header, which is all that plans and estimates need;
//! loaded, it is `Data` and gives batches and a `Scorecard`.

mod data;
mod epochs;
mod file_source;
mod images;
mod integer_sequences;
mod mechanisms;
mod next_vectors;
mod packing;
mod recall;
mod sample_scores;
mod samples;
mod scorecard;
mod shown_mechanisms;
mod text;
mod text_scores;

pub use data::{Data, DataKind, DataState, InputRows, InputSource, Layout, Loading, Purpose, Source, packed};
pub use epochs::{Epochs, Sets, SplitKind};
pub use file_source::FileSource;
pub use images::{ImageScorecard, ImagesConfig};
pub use integer_sequences::{IntegerScorecard, IntegerSequencesConfig, micro_batch as sequence_batch};
#[cfg(feature = "cli")]
pub(crate) use integer_sequences::{IntegerSequences, TESTED};
pub(crate) use mechanisms::{LENGTH, joint_after_joint};
pub use mechanisms::{MechanismScorecard, MechanismsConfig, Predicted, until_stop};
pub use next_vectors::{VectorScorecard, VectorsConfig};
pub use recall::RecallConfig;
pub use samples::{Columns, NormalizeConfig, SamplesConfig};
pub use scorecard::{ArrayValues, Arrays, Card, ClosingScores, Examples, Forecast, Level, Means, Scorecard, Test, Verdict};
pub use shown_mechanisms::ShownMechanisms;
pub(crate) use text::kept_characters;
pub use text::{Sampling, TextConfig};

/// Every kind of data of run files, by its `kind`: the list that the registry is made from.
macro_rules! data_kinds {
    ($make:ident) => {
        $make! {
            /// Configuration of the data, by its `kind`.
            DataConfig: DataKind {
                /// Integer sequences generated on the fly.
                IntegerSequences(crate::tasks::IntegerSequencesConfig),
                /// Associative recall, generated on the fly.
                Recall(crate::tasks::RecallConfig),
                /// Contexts of vectors and the vectors that follow, from an .npz file.
                Vectors(crate::tasks::VectorsConfig),
                /// Latents and types with the joints of mechanisms, from an .npz file.
                Mechanisms(crate::tasks::MechanismsConfig),
                /// Grey images, from an .npz file.
                Images(crate::tasks::ImagesConfig),
                /// Named fields of one's own, from an .npz, .csv or .parquet file, or from .npy files.
                Samples(crate::tasks::SamplesConfig),
                /// Text for a language model, or tokens that were made of one.
                Text(crate::tasks::TextConfig),
            }
        }
    };
}

pub(crate) use data_kinds;
