//! Sequences that a run continues: those that come at about the same time are computed together, number by number.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::meters::Meters;
use crate::datasets::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::generate::{Decoder, Strategy, TextStream, memory};
use crate::gpu::Target;
use crate::host::Host;
use crate::problem::Problem;
use crate::random::{Random, stream};
use crate::registry::Config;
use crate::tasks::{Purpose, TextConfig};
use crate::train::Weights;

/// Sequences that are computed together at most.
const TOGETHER: usize = 8;

/// Numbers of rows of the decoders that are always ready.
const USUAL: [usize; 2] = [1, TOGETHER];

/// Times that a lost device is opened again for the same sequences.
const REOPENED: usize = 3;

/// A sequence that is asked for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) count: usize,
    pub(super) strategy: Strategy,
    /// Text before which the answer ends.
    pub(super) stop: Option<String>,
    /// Where the pieces go, one by one. A slow reader keeps nobody waiting.
    pub(super) pieces: mpsc::UnboundedSender<Result<Piece>>,
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Number(u32),
    /// Text of whole characters.
    Text(String),
    /// Nothing follows.
    End,
}

/// A sequence that is being continued.
struct Row<'a> {
    job: Job,
    /// The prompt and what was added to it.
    numbers: Vec<u32>,
    /// How many numbers the asker has been given, or the text of them.
    given: usize,
    random: Random,
    text: Option<TextStream<'a>>,
    over: bool,
}

impl<'a> Row<'a> {
    fn new(job: Job, tokenizer: Option<&'a Tokenizer>) -> Row<'a> {
        let text = tokenizer.map(|tokenizer| TextStream::new(tokenizer, job.stop.as_deref()));
        let mut row = Row { numbers: vec![], given: 0, random: Random::new(0, 0, 0), text, over: false, job };
        row.begin();
        row
    }

    /// Goes back to the prompt; what was given is not given again.
    fn begin(&mut self) {
        let seed = if let Strategy::Sampling(sampling) = self.job.strategy { sampling.seed } else { 0 };
        self.random = Random::new(seed, stream::GENERATE, 0);
        self.numbers.clone_from(&self.job.prompt);
    }

    /// Number of numbers that are still to come.
    fn left(&self) -> usize {
        self.job.prompt.len() + self.job.count - self.numbers.len()
    }

    /// Takes the next number, and gives what is new of the answer. The row is over after its last, or when nobody waits for it.
    fn take(&mut self, number: u32) {
        self.numbers.push(number);
        if self.numbers.len() - self.job.prompt.len() > self.given {
            self.given += 1;
            let piece = match &mut self.text {
                None => Some(Piece::Number(number)),
                Some(text) => Some(text.push(number)).filter(|new| !new.is_empty()).map(Piece::Text),
            };
            self.over |= piece.is_some_and(|piece| self.job.pieces.send(Ok(piece)).is_err());
        }
        let stopped = self.text.as_ref().is_some_and(|text| text.ended);
        if self.left() == 0 || stopped {
            let rest = self.text.as_mut().map(TextStream::finish).filter(|rest| !rest.is_empty());
            rest.map(Piece::Text).into_iter().chain([Piece::End]).for_each(|piece| drop(self.job.pieces.send(Ok(piece))));
            self.over = true;
        }
        self.over |= self.job.pieces.is_closed();
    }
}

/// What makes decoders of a run.
#[derive(Debug)]
pub(super) struct Sequences {
    host: Host,
    config: Config,
    device: Option<String>,
    weights: Arc<Mutex<Weights>>,
    tokenizer: Option<Arc<Tokenizer>>,
    /// Decoders that are compiled, by their number of rows: those for one sequence and for several, which share the weights, and the newest
    /// of another width.
    ready: Vec<(usize, Decoder)>,
}

impl Sequences {
    /// Those of a run with these weights; none if its model does not continue sequences.
    ///
    /// # Errors
    /// As `Decoder::new`, and those of a tokenizer's file.
    pub(super) fn open(host: &Host, config: Config, weights: Arc<Mutex<Weights>>, device: Option<&str>) -> Result<Option<Sequences>> {
        let problem = Problem::open(&config, Purpose::Generate)?;
        match memory(&problem, Target::default(), 1) {
            Err(Error::Config(_)) => return Ok(None),
            known => known.map(drop)?,
        }
        let tokenizer = match (config.data.kind() as &dyn Any).downcast_ref::<TextConfig>() {
            Some(text) => {
                let mut weights = weights.lock().unwrap_or_else(PoisonError::into_inner);
                text.trained_tokenizer(&weights.buffers(problem.buffers())?)?.map(Arc::new)
            }
            None => None,
        };
        let mut sequences = Sequences { host: host.clone(), config, device: device.map(String::from), weights, tokenizer, ready: vec![] };
        // Compiled before anybody asks.
        sequences.decoder(1)?;
        Ok(Some(sequences))
    }

    /// Tokenizer of the prompts, if they are texts.
    pub(super) fn tokenizer(&self) -> Option<Arc<Tokenizer>> {
        self.tokenizer.clone()
    }

    fn decoder(&mut self, width: usize) -> Result<&mut Decoder> {
        let at = match self.ready.iter().position(|(known, _)| *known == width) {
            Some(at) => at,
            None => {
                let gpu = Arc::new(self.host.open(self.device.as_deref())?);
                let widths: &[usize] = if USUAL.contains(&width) { &USUAL } else { &[width] };
                let mut decoders = Decoder::sharing_weights(&Problem::open(&self.config, Purpose::Generate)?, &gpu, widths)?;
                let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(decoder) = decoders.first() {
                    decoder.load(&weights.load(decoder.plan().parameters())?)?;
                }
                drop(weights);
                if self.tokenizer.is_some() {
                    // As `engine generate` does with texts.
                    decoders.iter_mut().for_each(|decoder| decoder.kept = decoder.context().div_ceil(2));
                }
                self.ready.retain(|(known, _)| USUAL.contains(known));
                self.ready.extend(widths.iter().copied().zip(decoders));
                self.ready.iter().position(|(known, _)| *known == width).unwrap_or(0)
            }
        };
        Ok(&mut self.ready[at].1)
    }

    /// Continues what comes through the queue, until nobody can ask any more.
    pub(super) fn work(mut self, name: &str, mut queue: mpsc::Receiver<Job>, meters: &Meters) {
        let tokenizer = self.tokenizer.clone();
        let mut next = None;
        while let Some(job) = next.take().or_else(|| queue.blocking_recv()) {
            if job.pieces.is_closed() {
                continue;
            }
            if let Err(error) = self.decoder(1).and_then(|decoder| decoder.expect_prompt(&job.prompt)) {
                // Who has gone needs none.
                let _ = job.pieces.send(Err(error));
                continue;
            }
            let mut rows = vec![Row::new(job, tokenizer.as_deref())];
            let mut reopened = 0;
            loop {
                let ended = match rows[0].job.strategy {
                    Strategy::Beam(width) => self.search(&mut rows[0], width),
                    _ => {
                        let mut coming = Coming { queue: &mut queue, next: &mut next, tokenizer: tokenizer.as_deref() };
                        self.continue_all(&mut rows, &mut coming, |together| meters.continued(name, together))
                    }
                };
                rows.retain(|row| !row.over);
                match ended {
                    Ok(()) => break,
                    Err(Error::Lost(why)) if reopened < REOPENED => {
                        self.ready.clear();
                        reopened += 1;
                        self.host.note(&format!("{why}. It is opened again, {reopened} of at most {REOPENED} times"));
                        rows.iter_mut().for_each(Row::begin);
                    }
                    Err(error) => {
                        rows.iter().for_each(|row| drop(row.job.pieces.send(Err(error.clone()))));
                        break;
                    }
                }
                if rows.is_empty() {
                    break;
                }
            }
        }
    }

    /// Continues a sequence by beam search, whose numbers are known at its end.
    fn search(&mut self, row: &mut Row<'_>, width: usize) -> Result<()> {
        let numbers = self.decoder(width)?.search(&row.job.prompt, row.job.count, || !row.job.pieces.is_closed())?;
        for number in numbers {
            if !row.over {
                row.take(number);
            }
        }
        Ok(())
    }

    /// Continues rows to their ends, all at the same position: a row whose prompt is longer than that of another is fed while that is
    /// continued. What comes meanwhile joins them where that costs no more than they have still to go, as they begin anew for it.
    fn continue_all<'a>(&mut self, rows: &mut Vec<Row<'a>>, coming: &mut Coming<'_, 'a>, begun: impl Fn(usize)) -> Result<()> {
        while !rows.is_empty() {
            begun(rows.len());
            let width = if rows.len() > 1 { TOGETHER } else { 1 };
            let decoder = self.decoder(width)?;
            // The rest of the rows is fed zeros.
            let up_to = |rows: &[Row<'_>], fed: usize| -> Vec<Vec<u32>> {
                let of_row = |row: &Row<'_>| row.numbers.get(..fed).map_or_else(|| vec![0; fed], <[u32]>::to_vec);
                rows.iter().map(of_row).chain(std::iter::repeat_n(vec![0; fed], width - rows.len())).collect()
            };
            let mut fed = rows.iter().map(|row| row.numbers.len()).min().unwrap_or(0);
            decoder.prefill(&up_to(rows, fed))?;
            loop {
                choose(decoder, rows, fed)?;
                let alive = || rows.iter().filter(|row| !row.over);
                let left = alive().map(Row::left).max().unwrap_or(0);
                if left == 0 {
                    rows.clear();
                    break;
                }
                let fits = decoder.limit().is_none_or(|limit| alive().all(|row| row.numbers.len() <= limit));
                let joinable = fits && fed <= left;
                let room = if joinable { TOGETHER - alive().count() } else { 0 };
                let joining = coming.up_to(room, decoder);
                if !joining.is_empty() {
                    rows.retain(|row| !row.over);
                    rows.extend(joining);
                    break;
                }
                fed += 1;
                decoder.advance(&up_to(rows, fed))?;
            }
        }
        Ok(())
    }
}

/// Those who have asked, and wait.
struct Coming<'q, 'a> {
    queue: &'q mut mpsc::Receiver<Job>,
    /// The first of them, if it has left the queue.
    next: &'q mut Option<Job>,
    tokenizer: Option<&'a Tokenizer>,
}

impl<'a> Coming<'_, 'a> {
    /// So many rows at most, in the order in which they came, up to the first that has to be alone.
    fn up_to(&mut self, room: usize, decoder: &Decoder) -> Vec<Row<'a>> {
        let mut rows = vec![];
        while rows.len() < room && self.next.is_none() {
            let Ok(job) = self.queue.try_recv() else { break };
            let alone = matches!(job.strategy, Strategy::Beam(_)) || decoder.limit().is_some_and(|limit| job.prompt.len() > limit);
            // A wrong prompt is refused when its turn comes.
            match alone || decoder.expect_prompt(&job.prompt).is_err() {
                true => *self.next = Some(job),
                false => rows.push(Row::new(job, self.tokenizer)),
            }
        }
        rows
    }
}

/// Takes the next number of each row of which all is fed.
fn choose(decoder: &Decoder, rows: &mut [Row<'_>], fed: usize) -> Result<()> {
    let (mut best, mut logits) = (None, None);
    for (at, row) in rows.iter_mut().enumerate().filter(|(_, row)| !row.over && row.numbers.len() == fed) {
        let number = match row.job.strategy {
            Strategy::Sampling(sampling) => {
                let logits = match &logits {
                    Some(known) => known,
                    None => logits.insert(decoder.logits()?),
                };
                sampling.draw(&logits[at], &mut row.random)
            }
            _ => {
                let best = match &best {
                    Some(known) => known,
                    None => best.insert(decoder.best()?),
                };
                best[at]
            }
        };
        row.take(number);
    }
    Ok(())
}
