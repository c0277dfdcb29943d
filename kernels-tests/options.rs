//! Every option of every section of a run file is trained and evaluated, alone and in pairs; and every shader compiles under every
//! combination of its flags.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use engine::datasets::npz::{Numbers, write, write_arrays};
use engine::error::Error;
use engine::gpu::{Shader, files_used, shader_names};
use engine::kernels::metrics::StepRecord;
use engine::kernels::{State, key};
use engine::plan::Flat;
use engine::problem::Problem;
use engine::registry::Config;
use engine::tasks::{DataKind, Purpose};
use engine::train::{Options, train};

use crate::program::{host, plain_gpu as gpu};
use crate::runner::{all, note, tests};

tests![
    integer_sequences_alone_and_in_pairs,
    vectors_alone_and_in_pairs,
    mechanisms_alone_and_in_pairs,
    images_alone_and_in_pairs,
    samples_alone_and_in_pairs,
    text_alone_and_in_pairs,
    the_loop_alone_and_in_pairs,
    every_key_of_a_run_file_is_in_a_table,
    every_shader_compiles_under_every_combination_of_its_flags,
];

/// An option: its levels, each a few overrides of the run file. The first level is what the others are combined with when they are tried
/// alone.
type Factor = &'static [&'static [&'static str]];

/// A kind of run: its name, the run file, what makes it small, and its options.
struct Kind {
    name: &'static str,
    run: &'static str,
    small: &'static [&'static str],
    factors: &'static [Factor],
}

/// How weights move, in every kind of run.
const OPTIMIZER: [Factor; 5] = [
    &[
        &["optimizer.kind=adamw", "optimizer.beta1=0.9", "optimizer.beta2=0.999", "optimizer.eps=1e-8"],
        &["optimizer.kind=adamw", "optimizer.beta1=0.0"],
        // Steps of the size of the learning rate: with a mean of earlier gradients they would be as large as these are apart.
        &["optimizer.kind=adamw", "optimizer.beta1=0.0", "optimizer.beta2=0.0"],
        &["optimizer.kind=adamw", "optimizer.eps=1e-3"],
        &["optimizer.kind=adam"],
        &["optimizer.kind=sgd", "optimizer.momentum=0.9"],
        &["optimizer.kind=sgd", "optimizer.momentum=0.0"],
    ],
    &[&["optimizer.learning_rate=0.001"], &["optimizer.learning_rate=0.01"]],
    &[&["optimizer.weight_decay=0.01"], &["optimizer.weight_decay=0.0"]],
    &[&["optimizer.decay=all"], &["optimizer.decay=matrices"], &["optimizer.decay=reference"]],
    &[&["optimizer.clip_norm=1.0"], &["optimizer.clip_norm=0.0"], &["optimizer.clip_norm=0.0", "optimizer.clip_value=0.1"]],
];

/// Batches, in every kind of run.
const BATCHES: [Factor; 7] = [
    &[&["train.seed=1"], &["train.seed=2"]],
    &[&["train.batch=6"], &["train.batch=4"]],
    &[&["train.accumulate=1"], &["train.accumulate=3"]],
    &[&["train.shuffle=true"], &["train.shuffle=false"]],
    &[&["train.drop_last=true"], &["train.drop_last=false"]],
    &[&["train.precision=f32"], &["train.precision=f16"]],
    &[&["train.recompute=none"], &["train.recompute=light"], &["train.recompute=full"]],
];

const INTEGERS: Kind = Kind {
    name: "integer sequences",
    run: "integer_sequences",
    small: &["validation.sequences=5", "train.steps_per_epoch=2", "train.epochs=3"],
    factors: &[
        &[
            &["model.kind=sequence_transformer", "model.embedding=fixed", "model.d_model=2"],
            &["model.embedding=learned", "model.d_model=8"],
        ],
        // Generated data have no share.
        &[&["train.share=1.0"]],
        &[&["model.heads=2"], &["model.heads=1"]],
        &[&["model.layers=1"], &["model.layers=2"]],
        &[&["model.feed_forward=8"], &["model.feed_forward=12"]],
        &[
            &["model.activation=gelu"],
            &["model.activation=identity"],
            &["model.activation=relu"],
            &["model.activation=gelu_tanh"],
            &["model.activation=sigmoid"],
            &["model.activation=silu"],
            &["model.activation=tanh"],
        ],
        &[&["model.dropout=0.0"], &["model.dropout=0.2"]],
        &[&["model.norm_eps=1e-5"], &["model.norm_eps=1e-3"]],
        &[&["model.norm_first=false"], &["model.norm_first=true"]],
        &[&["data.context=8"], &["data.context=16", "data.shortest=4"], &["data.context=6"]],
        &[&["data.values=256"], &["data.values=100"]],
        &[&["data.kind=integer_sequences", "data.seed=1"], &["data.seed=2"]],
        &[&["data.transition_epochs=20"], &["data.transition_epochs=0"]],
        &[&["data.transition=gradual"], &["data.transition=strict"]],
        &[
            &["loss.kind=cross_entropy", "loss.weight=linear"],
            &["loss.weight=none"],
            &["loss.weight=quadratic"],
            &["loss.weight=square_root"],
            &["loss.weight=pure_distance"],
        ],
        &[&["loss.alpha=0.1"], &["loss.alpha=0.0"]],
        &[&["loss.per=position"], &["loss.per=sequence"]],
        // With a distance alone there are no labels to smooth.
        &[&["loss.label_smoothing=0.0"]],
    ],
};

const VECTORS: Kind = Kind {
    name: "vectors",
    run: "lvm_mlp",
    small: &["train.epochs=3"],
    factors: &[
        &[
            &["model={kind='vector_mlp',hidden=8,dropout=0.0,input_dropout=0.0,residual=false}"],
            &["model={kind='vector_mlp',hidden=8,dropout=0.2,input_dropout=0.2,residual=false}"],
            &["model={kind='vector_mlp',hidden=8,dropout=0.2,input_dropout=0.0,residual=true}"],
            &["model={kind='vector_mlp',hidden=8,dropout=0.0,input_dropout=0.2,residual=true}"],
            &["model={kind='vector_mlp',hidden=8,layers=3,activation='silu',dropout=0.2}"],
            &["model={kind='vector_mlp',hidden=8,layers=2,activation='gelu',skip=true,dropout=0.2}"],
            &["model={kind='vector_transformer',blocks='encoder',width=8,heads=2,layers=2,feed_forward=8,head='relu',dropout=0.2}"],
            &["model={kind='vector_transformer',blocks='encoder',width=8,heads=2,layers=1,feed_forward=8,head='gelu_norm',dropout=0.0}"],
            &["model={kind='vector_transformer',blocks='encoder',width=8,heads=1,layers=1,feed_forward=8,head='linear',dropout=0.2}"],
            &["model={kind='vector_transformer',blocks='decoder',width=64,heads=4,layers=1,feed_forward=8,head='relu',dropout=0.0}"],
            &["model={kind='vector_transformer',blocks='decoder',width=64,heads=2,layers=2,feed_forward=8,head='gelu_norm',dropout=0.2}"],
            &["model={kind='vector_transformer',blocks='decoder',width=64,heads=4,layers=1,feed_forward=8,head='linear',dropout=0.0}"],
            &["model={kind='vector_lstm',hidden=8,layers=1,head='relu',dropout=0.2}"],
            &["model={kind='vector_lstm',hidden=8,layers=2,head='relu',dropout=0.0}"],
            &["model={kind='vector_lstm',hidden=8,layers=2,head='gelu_norm',dropout=0.2}"],
            &["model={kind='vector_lstm',hidden=8,layers=1,head='gelu_norm',dropout=0.0}"],
            &["model={kind='vector_lstm',hidden=8,layers=2,head='linear',dropout=0.2}"],
            &["model={kind='vector_gru',width=8,layers=1,norm='before',head='relu'}"],
            &["model={kind='vector_gru',width=8,layers=2,norm='before',head='gelu_norm'}"],
            &["model={kind='vector_gru',width=8,layers=1,norm='before',head='linear'}"],
            &["model={kind='vector_gru',width=8,layers=2,norm='after',head='relu'}"],
            &["model={kind='vector_gru',width=8,layers=1,norm='after',head='gelu_norm'}"],
            &["model={kind='vector_gru',width=8,layers=2,norm='after',head='linear'}"],
            &["model={kind='vector_amn',width=8,hidden=8}"],
            &["model={kind='vector_mamba2',width=8,layers=1,mixer={state=4,head=4,expand=2,conv=3,groups=2,chunk=2},head='linear'}"],
            &[
                "model={kind='stack',layers=[{kind='mamba2',state=4,head=4,expand=2,conv=3,groups=2,chunk=2},{kind='last'},{kind='linear'}]}",
            ],
            &[
                "model={kind='stack',input='context',layers=[{kind='flatten'},{kind='linear',out=8},{kind='gelu'},{kind='dropout',rate=0.2},{kind='linear'}]}",
            ],
            &[
                "model={kind='stack',layers=[{kind='conv1d',out=8,kernel=3,dilation=1,causal=false},{kind='learned_positions'},{kind='lstm',hidden=8,bidirectional=true},{kind='self_attention',heads=4,causal=true,dropout=0.1},{kind='mean_pool'},{kind='norm'},{kind='linear'}]}",
            ],
            &[
                "model={kind='stack',layers=[{kind='positions'},{kind='transformer_block',heads=2,feed_forward=8,activation='gelu',causal=true,dropout=0.1,norm_first=true},{kind='last'},{kind='rms_norm'},{kind='linear'}]}",
            ],
            &[
                "model={kind='stack',layers=[{kind='gru',hidden=8,bidirectional=false},{kind='residual',layers=[{kind='linear',out=8},{kind='relu'},{kind='gelu_tanh'},{kind='sigmoid'},{kind='silu'},{kind='tanh'}]},{kind='last'},{kind='linear'}]}",
            ],
        ],
        &[
            &["loss={kind='vectors',cosine={weight=1.0}}"],
            &["loss={kind='vectors',mse={weight=1.0,on='raw'}}"],
            &["loss={kind='vectors',mse={weight=1.0,on='normalized'},cosine={weight=0.0}}"],
            &["loss={kind='vectors',mse={weight=0.5,on='normalized'},cosine={weight=0.5}}"],
        ],
        &[&[], &["loss.infonce={weight=0.1,temperature=0.07}"], &["loss.infonce={weight=0.0}"]],
        &[&[], &["loss.moment={weight=0.1}"]],
        &[&[], &["loss.variance={weight=0.1}"]],
        &[&[], &["loss.mmd={weight=0.1,anchors=4}"]],
        &[&[], &["loss.stat={weight=0.1}"]],
        &[&[], &["loss.cycle={weight=0.1,share=1.0}"], &["loss.cycle={weight=0.1,share=0.0}"]],
        &[&["data.kind=vectors", "data.file=FOLDER/vectors.npz"], &["data.file=FOLDER/halves.npz"]],
        &[&[], &["data.ood_file=FOLDER/ood.npz"]],
        &[&["data.split=auto"], &["data.split=given"], &["data.split=sequential"], &["data.split=random"]],
        &[&["data.validation_share=0.25"], &["data.validation_share=0.1"]],
        &[&["train.share=1.0"], &["train.share=0.75"]],
        &[&["data.seed=1"], &["data.seed=2"]],
        &[&["data.dim=8"], &["data.dim=16"]],
        &[&["data.context=3"], &["data.context=2"]],
        &[&["data.skip_non_finite=false"], &["data.skip_non_finite=true"]],
    ],
};

const MECHANISMS: Kind = Kind {
    name: "mechanisms",
    run: "mechanism_small",
    small: &["train.epochs=9", "data.file=FOLDER/mechanisms.npz"],
    factors: &[
        &[
            &["model.features={kind='raw'}"],
            &["model.features={kind='powers_of_two',count=2}"],
            &["model.features={kind='linear',count=2,pi=true}"],
            &["model.features={kind='linear',count=2,pi=false}"],
            &["model.features={kind='gaussian',count=4,sigma=1.0}"],
        ],
        &[&["model.kind=mechanism_transformer", "model.d_model=16"], &["model.d_model=32"]],
        &[&["model.heads=2"], &["model.heads=4"]],
        &[&["model.layers=1"], &["model.layers=2"]],
        &[&["model.feed_forward=16"], &["model.feed_forward=32"]],
        &[&["model.dropout=0.0"], &["model.dropout=0.2"]],
        &[&["model.types=17"], &["model.types=4"]],
        &[&["model.joint_layers=1"], &["model.joint_layers=2"]],
        &[&["data.kind=mechanisms", "data.split=random"], &["data.split=sequential"]],
        &[&["data.validation_share=0.25"], &["data.validation_share=0.1"]],
        &[&["train.share=1.0"], &["train.share=0.75"]],
        &[&["data.seed=1"], &["data.seed=2"]],
        &[&["data.skip_non_finite=false"], &["data.skip_non_finite=true"]],
        &[&["data.normalize=true"], &["data.normalize=false"]],
        &[&["data.latents=50"], &["data.latents=7"]],
        &[&["loss.kind=joints", "loss.coordinates=mse"], &["loss.coordinates=huber"]],
        &[&["loss.delta=1.0"], &["loss.delta=0.1"]],
        &[&["loss.stop_weight=1.0"], &["loss.stop_weight=0.0"], &["loss.stop_weight=0.5"]],
    ],
};

const IMAGES: Kind = Kind {
    name: "images",
    run: "linkage_vae",
    small: &["train.epochs=3", "data.file=FOLDER/images.npz"],
    factors: &[
        &[
            &["model.kind=image_vae", "model.layers={kind='dense',hidden=8}"],
            &["model.layers={kind='convolution',channels=[3],kernels=[3]}"],
            &["model.layers={kind='convolution',channels=[4,3],kernels=[5,3]}"],
        ],
        &[&["model.latents=3"], &["model.latents=4"]],
        &[&["model.noise=true"], &["model.noise=false"]],
        &[&["data.kind=images", "data.split=random"], &["data.split=sequential"]],
        &[&["data.validation_share=0.25"], &["data.validation_share=0.1"]],
        &[&["train.share=1.0"], &["train.share=0.75"]],
        &[&["data.seed=1"], &["data.seed=2"]],
        &[&["data.side=8"], &["data.side=64"]],
        &[&["loss.kind=vae", "loss.divergence=1.0"], &["loss.divergence=0.0"], &["loss.divergence=0.1"]],
    ],
};

/// Tables of a run file whose keys are names of the user's.
const NAMES: [&str; 5] = ["inputs", "targets", "normalize", "known", "words"];

const SAMPLES: Kind = Kind {
    name: "samples",
    run: "sunspots",
    small: &["train.epochs=3", "validation.patience=0", "validation.select=loss"],
    factors: &[
        &[
            &[
                "data={kind='samples',file='FOLDER/samples.npz',inputs={x='x'},targets={y='y'},normalize='standard',split='random',validation_share=0.3,seed=3}",
                "loss={kind='regression',penalty='huber',delta=0.5}",
                "model={kind='stack',input='x',layers=[{kind='linear',out=8},{kind='gelu'},{kind='linear'}]}",
            ],
            &[
                "data={kind='samples',file='FOLDER/samples.npz',inputs={past=['a','b']},targets={future='a'},window={context=3,horizon=2,stride=1},season=2,normalize={past='minmax'},split='sequential',known={}}",
                "loss={kind='regression',penalty='mae'}",
                "model={kind='stack',layers=[{kind='gru',hidden=4,bidirectional=false},{kind='last'},{kind='linear'}]}",
            ],
            &[
                "data={kind='samples',file='FOLDER/samples.npz',inputs={x='sequence'},targets={y='label'},classes=true,lengths='lengths',balance=true,normalize={x='unit'},skip_non_finite=true}",
                "loss={kind='cross_entropy',weight='none',alpha=0.1,label_smoothing=0.1,per='position'}",
                "model={kind='stack',layers=[{kind='lstm',hidden=4,bidirectional=true},{kind='attention_pool',heads=2},{kind='linear'}]}",
            ],
            &[
                "data={kind='samples',file='FOLDER/samples.npz',inputs={x='sequence'},targets={y='tags'},classes=true,lengths='lengths',split='blocks',class_weights=[1.0,3.0]}",
                "loss={kind='cross_entropy',weight='none',per='sequence'}",
                "model={kind='stack',layers=[{kind='gru',hidden=4,bidirectional=false},{kind='linear'}]}",
            ],
            &[
                "data={kind='samples',file='FOLDER/samples.npz',inputs={x=['label','lengths']},integers=['x'],targets={y='y'}}",
                "loss={kind='regression',penalty='mse'}",
                "model={kind='stack',layers=[{kind='embedding',features=4,positions=false},{kind='flatten'},{kind='linear'}]}",
            ],
            &[
                "data={kind='samples',file='FOLDER/samples.npz',inputs={x='sequence'},targets={y='sequence'},lengths='lengths'}",
                "loss={kind='regression',penalty='mse'}",
                "model={kind='stack',layers=[{kind='lstm',hidden=4,bidirectional=true},{kind='linear',out=3}]}",
            ],
        ],
        &[&["train.share=1.0"], &["train.share=0.9"]],
    ],
};

const TEXT: Kind = Kind {
    name: "text",
    run: "gpt_cpu",
    small: &["train.epochs=3", "train.steps_per_epoch=2"],
    factors: &[
        &[
            &["model={kind='gpt',d_model=8,heads=2,layers=1,activation='gelu',bias=true,dropout=0.0}"],
            &["model={kind='gpt',d_model=12,heads=3,layers=2,feed_forward=20,activation='gelu_tanh',bias=false,dropout=0.2,norm_eps=1e-3}"],
            &["model={kind='llama',d_model=8,heads=2,layers=1,feed_forward=8,tied=false,dropout=0.0}"],
            &[
                "model={kind='llama',d_model=16,heads=4,kv_heads=2,layers=2,feed_forward=16,tied=true,dropout=0.2,norm_eps=1e-3,rope_theta=100.0}",
            ],
            &["model={kind='mamba2',d_model=8,layers=1,tied=true,mixer={state=4,head=4,expand=2,conv=3,groups=2,chunk=4}}"],
            &["model={kind='mamba2',d_model=12,layers=2,tied=false,mixer={state=8,head=8,expand=2,conv=4,groups=1,chunk=8}}"],
        ],
        &[&[], &["adapt={rank=2,layers='all'}"], &["adapt={rank=3,alpha=6.0,layers='all'}"]],
        &[
            &["data={kind='text',file='FOLDER/text.txt',tokenizer='bytes',context=8,sampling='random',validation_share=0.2}"],
            &["data={kind='text',file='FOLDER/text.txt',tokenizer='characters',context=12,sampling='windows'}"],
            &["data={kind='text',file='FOLDER/tokens.bin',validation_file='FOLDER/tokens.bin',vocabulary=37,context=7,sampling='windows'}"],
        ],
        &[
            &["loss={kind='cross_entropy',weight='none',alpha=0.0,per='position'}"],
            &["loss={kind='cross_entropy',label_smoothing=0.1}"],
            &["loss={kind='cross_entropy',per='sequence'}"],
        ],
        &[&["train.share=1.0"], &["train.share=0.75"]],
    ],
};

/// What the loop does with any task: schedules, validation, checkpoints, rules.
const LOOP: Kind = Kind {
    name: "loop",
    run: "integer_sequences",
    small: &["train.batch=2", "validation.sequences=250", "data.transition_epochs=0"],
    factors: &[
        &[
            &["schedule={kind='constant'}"],
            &["schedule={kind='warmup_cosine',warmup_steps=5000,min_learning_rate=0.0}"],
            &["schedule={kind='warmup_cosine',warmup_steps=0,min_learning_rate=1e-4}"],
            &["schedule={kind='plateau',factor=0.1,patience=0,threshold=0.5,min_learning_rate=1e-4}"],
            &["schedule={kind='epoch_cosine',warmup_epochs=1,start_factor=0.1}"],
            &["schedule={kind='epoch_cosine',warmup_share=0.5}"],
            &["schedule={kind='step',every_epochs=1,factor=0.1,min_learning_rate=1e-4}"],
            &["schedule={kind='exponential',factor=0.1}"],
        ],
        &[&["train.epochs=2"], &["train.epochs=3"]],
        &[&["train.steps_per_epoch=2"], &["train.steps_per_epoch=1"]],
        &[&["train.log_every=100"], &["train.log_every=1"]],
        &[&[], &["validation.every=1"]],
        &[&["validation.sequences=250"], &["validation.sequences=200"]],
        &[&["validation.patience=0"], &["validation.patience=1"]],
        &[&["validation.select=loss"], &["validation.select=accuracy"]],
        &[&["validation.patience_after=0"], &["validation.patience_after=3"]],
        &[&["validation.min_delta=0.001"], &["validation.min_delta=100.0"]],
        &[&[], &["checkpoint.every=1"]],
        &[&["checkpoint.keep=3"], &["checkpoint.keep=1"]],
        &[
            &[],
            &["abort_if=[{metric='train_loss',below=-1.0,after_epoch=2}]"],
            &["abort_if=[{metric='validation_loss',above=1e9}]"],
            &["abort_if=[{metric='validation_accuracy',flat=0.0,after_epoch=2}]"],
            &["abort_if=[{metric='train_cross_entropy',worse=1e9}]"],
        ],
        &[
            &[],
            &["expect=[{metric='validation_accuracy',at_least=2.0,epoch=1}]", "validation.every=1"],
            &["expect=[{metric='validation_loss',at_most=1e9}]"],
            &["expect=[{metric='validation_loss',at_most=1e9,if_met='go on',if_missed='look again'}]"],
        ],
    ],
};

impl Kind {
    fn factors(&self) -> Vec<Factor> {
        let shared: &[&[Factor]] = if self.name == LOOP.name { &[] } else { &[&OPTIMIZER, &BATCHES] };
        [&[self.factors], shared].concat().concat()
    }

    /// The run with a level of each factor.
    fn config(&self, levels: &[usize], folder: &Path) -> Config {
        let chosen = self.factors().into_iter().zip(levels).flat_map(|(factor, level)| factor[*level]);
        // Where the device has no 16-bit floats, that option is refused.
        let chosen = chosen.filter(|set| gpu().target.half || !set.contains("f16"));
        let set: Vec<String> = self.small.iter().chain(chosen).map(|s| s.replace("FOLDER", folder.to_str().unwrap())).collect();
        Config::load(Path::new(&format!("data/runs/{}.toml", self.run)), &set).unwrap_or_else(|e| panic!("{}: {set:?}: {e}", self.name))
    }

    /// Rows of levels: the first of all factors, each other one alone, and from there rows in which each pair of levels occurs; and where
    /// those begin.
    fn rows(&self) -> (Vec<Vec<usize>>, usize) {
        let counts: Vec<usize> = self.factors().iter().map(|f| f.len()).collect();
        let first = vec![0; counts.len()];
        let mut rows = vec![first.clone()];
        for (f, count) in counts.iter().enumerate() {
            rows.extend((1..*count).map(|level| {
                let mut row = first.clone();
                row[f] = level;
                row
            }));
        }
        let alone = rows.len();
        type Pair = ((usize, usize), (usize, usize));
        let pair = |a: (usize, usize), b: (usize, usize)| -> Pair { (a.min(b), a.max(b)) };
        let mut open: BTreeSet<Pair> = BTreeSet::new();
        for f in 0..counts.len() {
            for g in f + 1..counts.len() {
                open.extend((0..counts[f]).flat_map(|a| (0..counts[g]).map(move |b| ((f, a), (g, b)))));
            }
        }
        let close = |open: &mut BTreeSet<Pair>, row: &[usize]| {
            let levels: Vec<_> = row.iter().copied().enumerate().collect();
            for (i, a) in levels.iter().enumerate() {
                open.retain(|(b, c)| b != a || !levels[i + 1..].contains(c));
            }
        };
        rows.iter().for_each(|row| close(&mut open, row));
        // Each further row starts from a pair that is missing and takes, factor by factor, the level that closes most.
        while let Some(&(a, b)) = open.first() {
            let mut chosen = vec![a, b];
            for f in (0..counts.len()).filter(|f| *f != a.0 && *f != b.0) {
                let closes = |level: &usize| chosen.iter().filter(|c| open.contains(&pair(**c, (f, *level)))).count();
                let best = (0..counts[f]).rev().max_by_key(closes).unwrap();
                chosen.push((f, best));
            }
            chosen.sort_unstable();
            let row: Vec<usize> = chosen.into_iter().map(|(_, level)| level).collect();
            close(&mut open, &row);
            rows.push(row);
        }
        (rows, alone)
    }

    /// Trains the first and the last step of an epoch and evaluates, with each option alone, and with the rows that bring a new pair of
    /// what a batch is made by; the plans of the other pairs are recorded, and their kernels validated: what they compute is checked by the
    /// cases of their families. With
    /// `ENGINE_TESTS=all` every row is trained. Failures are listed together.
    fn check(&self) {
        let folder = tempfile::tempdir().unwrap();
        data(folder.path());
        let (rows, alone) = self.rows();
        let (mut failures, mut trained, mut pairs) = (vec![], 0, HashSet::new());
        let of_batches = self.factors().len() - BATCHES.len();
        for (number, row) in rows.iter().enumerate() {
            let levels: Vec<_> = row.iter().enumerate().skip(of_batches).collect();
            let before = pairs.len();
            pairs.extend(levels.iter().enumerate().flat_map(|(i, a)| levels[i + 1..].iter().map(move |b| (a.0, *a.1, b.0, *b.1))));
            let trains = number < alone || pairs.len() > before || all();
            let config = self.config(row, folder.path());
            trained += usize::from(trains);
            if let Err(error) = if trains { works(&config, number % 2 == 0) } else { is_recorded(&config) } {
                failures.push(format!("{error}\n{}", config.to_toml().unwrap()));
            }
        }
        note!("{}: {trained} of {} rows are trained", self.name, rows.len());
        assert!(failures.is_empty(), "{}: {} of {} fail, the first:\n{}", self.name, failures.len(), rows.len(), failures[0]);
    }
}

/// Files of all kinds, with 20 samples that train and validate.
fn data(folder: &Path) {
    let wave = |n: usize, pace: f32| (0..n).map(|i| (i as f32 * pace).sin()).collect::<Vec<f32>>();
    let vectors = |file: &str, names: [&str; 2], samples: usize, half: bool| {
        let (contexts, targets) = (wave(samples * 3 * 8, 0.7), wave(samples * 8, 0.37));
        let halves = |v: &[f32]| v.iter().map(|x| half::f16::from_f32(*x)).collect::<Vec<_>>();
        let (half_contexts, half_targets) = (halves(&contexts), halves(&targets));
        let numbers = |single, halves| if half { Numbers::F16(halves) } else { Numbers::F32(single) };
        let (validation_contexts, validation_targets) = (wave(5 * 3 * 8, 0.9), wave(5 * 8, 0.5));
        let arrays = [
            (names[0], &[samples, 3, 8][..], numbers(&contexts, &half_contexts)),
            (names[1], &[samples, 8], numbers(&targets, &half_targets)),
            ("val_context_sequences", &[5, 3, 8], Numbers::F32(&validation_contexts)),
            ("val_target_vectors", &[5, 8], Numbers::F32(&validation_targets)),
        ];
        write_arrays(&folder.join(file), &arrays).unwrap();
    };
    vectors("vectors.npz", ["contexts", "targets"], 20, false);
    vectors("halves.npz", ["contexts", "targets"], 20, true);
    vectors("ood.npz", ["ood_context_sequences", "ood_target_vectors"], 7, false);
    let (latents, joints) = (wave(20 * 50, 0.7), wave(20 * 16, 1.3));
    let types: Vec<f32> = (0..20).map(|i| (i % 4) as f32).collect();
    let mask: Vec<f32> = (0..20 * 8).map(|i| if i % 8 < 5 + i / 8 % 4 { 1.0 } else { 0.0 }).collect();
    let mechanisms: [(&str, &[usize], &[f32]); 4] =
        [("latents", &[20, 50], &latents), ("types", &[20], &types), ("joints", &[20, 8, 2], &joints), ("mask", &[20, 8], &mask)];
    write(&folder.join("mechanisms.npz"), &mechanisms).unwrap();
    let pixels: Vec<f32> = wave(20 * 64, 0.3).iter().map(|v| 0.5 + 0.5 * v).collect();
    write(&folder.join("images.npz"), &[("images", &[20, 8, 8], &pixels)]).unwrap();
    let (x, y, sequence) = (wave(24 * 4, 0.7), wave(24 * 2, 0.31), wave(24 * 5 * 3, 0.9));
    let (a, b) = (wave(24, 0.8), wave(24, 0.21));
    let label: Vec<i32> = (0..24).map(|i| i % 3).collect();
    let tags: Vec<i32> = (0..24 * 5).map(|i| i * i % 4).collect();
    let lengths: Vec<i32> = (0..24).map(|i| 1 + i % 5).collect();
    let arrays = [
        ("x", &[24, 4][..], Numbers::F32(&x)),
        ("y", &[24, 2], Numbers::F32(&y)),
        ("sequence", &[24, 5, 3], Numbers::F32(&sequence)),
        ("a", &[24], Numbers::F32(&a)),
        ("b", &[24], Numbers::F32(&b)),
        ("label", &[24], Numbers::I32(&label)),
        ("tags", &[24, 5], Numbers::I32(&tags)),
        ("lengths", &[24], Numbers::I32(&lengths)),
    ];
    write_arrays(&folder.join("samples.npz"), &arrays).unwrap();
    std::fs::write(folder.join("text.txt"), (0..30).map(|i| format!("{} bears ate {}. ", i * i % 31, i % 7)).collect::<String>()).unwrap();
    let tokens: Vec<u8> = (0..400u16).flat_map(|i| (i % 37 * (i % 37) % 37).to_le_bytes()).collect();
    std::fs::write(folder.join("tokens.bin"), tokens).unwrap();
}

/// The plans of training and of evaluation can be made.
fn is_recorded(config: &Config) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let (problem, _) = Problem::open(config, Purpose::Train).and_then(Problem::load).map_err(text)?;
    problem.record_training(gpu().target).map_err(text)?;
    problem.record_evaluation(gpu().target).map_err(text)?;
    Ok(())
}

/// The weights move, and all numbers are finite; the data lie on the device where they may.
fn works(config: &Config, resident: bool) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let (mut problem, _) = Problem::open(config, Purpose::Train).and_then(Problem::load).map_err(text)?;
    let placed = problem.place(gpu().target, if resident { u64::MAX } else { 0 }).map_err(text)?;
    let session = problem.training_in(placed, &gpu()).map_err(text)?;
    let before = session.arena.read_flat(Flat::Parameters).map_err(text)?;
    for (slot, step) in [0, problem.source().steps_per_epoch() - 1].into_iter().enumerate() {
        let mut state = State { seed: key(config.train.seed), slot: slot as u32, ..State::default() };
        config.optimizer.fill(&mut state, config.optimizer.learning_rate);
        let batches = problem.batches(step).map_err(text)?;
        let index = session.submit_step(&batches, state, step, config.train.accumulate).map_err(text)?;
        session.arena.gpu.wait(index).map_err(text)?;
        let records = session.records().map_err(text)?;
        let record = StepRecord::of(&records, slot);
        if record.skipped() || !record.words().iter().all(|v| v.is_finite()) || record.count() == 0.0 {
            return Err(format!("step {step} was skipped or gives {record:?}"));
        }
    }
    let after = session.arena.read_flat(Flat::Parameters).map_err(text)?;
    if before == after || !after.iter().all(|v| v.is_finite()) {
        return Err("the weights do not move, or to where they are not finite".into());
    }
    let card = problem.scorecard();
    let mut rows = vec![("validation".to_string(), card.validate(&session, 0, 0).map_err(text)?)];
    // Judging generated sequences takes thousands of them.
    if !config.data.files().is_empty() {
        rows.extend(card.closing_scores(&session, 2).map_err(text)?.rows);
    }
    for (row, metrics) in rows {
        if let Some((name, value)) = metrics.0.iter().find(|(_, v)| !v.is_finite()) {
            return Err(format!("{name} of {row} is {value}"));
        }
    }
    Ok(())
}

fn integer_sequences_alone_and_in_pairs() {
    INTEGERS.check();
}

fn vectors_alone_and_in_pairs() {
    VECTORS.check();
}

fn mechanisms_alone_and_in_pairs() {
    MECHANISMS.check();
}

fn images_alone_and_in_pairs() {
    IMAGES.check();
}

fn samples_alone_and_in_pairs() {
    SAMPLES.check();
}

fn text_alone_and_in_pairs() {
    TEXT.check();
}

fn the_loop_alone_and_in_pairs() {
    let folder = tempfile::tempdir().unwrap();
    for (number, row) in LOOP.rows().0.into_iter().enumerate() {
        let config = LOOP.config(&row, folder.path());
        let options =
            Options { out: folder.path().join(number.to_string()), quiet: true, steps: Some(2), host: host(), ..Options::default() };
        let report = match Problem::open(&config, Purpose::Train).and_then(|problem| train(problem, &options)) {
            // Two steps may well bring nothing.
            Err(Error::Aborted(why)) if why.contains("validation_accuracy is flat") => continue,
            result => result.unwrap_or_else(|e| panic!("{e}\n{}", config.to_toml().unwrap())),
        };
        assert!(report.steps >= 1 && report.test.values().all(|m| m.get("loss").unwrap().is_finite()), "{}", config.to_toml().unwrap());
    }
}

/// Keys that `item`, an override, names: `loss.mse={weight=1}` names loss.mse and loss.mse.weight.
fn named(item: &str) -> Vec<String> {
    fn inner(path: &str, value: &toml::Value, found: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
                found.push(format!("{path}.{key}"));
                inner(&format!("{path}.{key}"), value, found);
            }),
            toml::Value::Array(list) => list.iter().for_each(|value| inner(path, value, found)),
            _ => {}
        }
    }
    let (path, value) = item.split_once('=').unwrap();
    let mut found = vec![path.to_string()];
    if let Ok(table) = format!("v = {value}").parse::<toml::Table>() {
        inner(path, &table["v"], &mut found);
    }
    found
}

/// The key of the value that begins after this text: directly after `key=`, or within `key=[…`.
fn key_before(text: &str) -> &str {
    let mut depth = 0;
    let opens = |(at, c): (usize, char)| {
        depth += i32::from("]}".contains(c)) - i32::from("[{".contains(c));
        (depth < 0).then_some(at)
    };
    let end = if text.ends_with('=') { text.len() } else { text.char_indices().rev().find_map(opens).unwrap_or(0) };
    text[..end].trim_end_matches('=').rsplit(['{', ',', '[']).next().unwrap()
}

/// A key that is in no table is an option that no test sees: the names are those that the parser itself gives for an unknown key.
fn every_key_of_a_run_file_is_in_a_table() {
    let common: Vec<String> = OPTIMIZER.iter().chain(&BATCHES).flat_map(|f| *f).flat_map(|l| *l).flat_map(|item| named(item)).collect();
    for kind in [INTEGERS, VECTORS, MECHANISMS, IMAGES, SAMPLES, TEXT] {
        let items = || kind.small.iter().chain(kind.factors.iter().chain(LOOP.factors).flat_map(|f| *f).flat_map(|l| *l));
        let tables: HashSet<String> = items().flat_map(|item| named(item)).chain(common.clone()).collect();
        // Each level with an unknown key in each table that it or the run file has.
        let mut expected = BTreeSet::new();
        let mut ask = |set: Vec<String>, section: &str| {
            let error = Config::load(Path::new(&format!("data/runs/{}.toml", kind.run)), &set).unwrap_err().to_string();
            assert!(error.contains("unknown field `zzz`"), "{set:?}: {error}");
            let names = error.split_once("`zzz`").unwrap().1.split('`').skip(1).step_by(2);
            expected.extend(names.map(|name| format!("{section}.{name}")));
        };
        let base = || kind.small.iter().chain(kind.factors.iter().flat_map(|f| f[0])).map(ToString::to_string);
        for section in ["model", "data", "loss", "optimizer", "schedule", "train", "validation", "checkpoint"] {
            ask(base().chain([format!("{section}.zzz=1")]).collect(), section);
        }
        for item in items().filter(|item| item.contains('{')) {
            for (at, _) in item.match_indices('{') {
                // What the brace belongs to: the key before it or before its list, below that before an outer brace.
                let (outer, inner) = (item.split_once('=').unwrap().0, key_before(&item[..at]));
                if NAMES.contains(&inner) {
                    continue;
                }
                let section = if inner == outer { outer.to_string() } else { format!("{outer}.{inner}") };
                let mut with = item.to_string();
                with.insert_str(at + 1, "zzz=1,");
                ask(base().chain([with]).collect(), &section);
            }
        }
        // Refused by all of these data: text.rs has it.
        expected.remove("validation.sample");
        let missing: Vec<_> = expected.difference(&tables.into_iter().collect()).cloned().collect();
        assert!(missing.is_empty(), "{}: no level sets {missing:?}", kind.name);
    }
}

/// What is left when branches on consts are folded is valid, whichever are taken. Everyday these are the combinations in which at most two
/// flags are set, or at most two are not, which have every pair.
fn every_shader_compiles_under_every_combination_of_its_flags() {
    let (mut combinations, mut wrong) = (0, vec![]);
    for name in shader_names() {
        let read = |name: &str| std::fs::read_to_string(format!("shaders/{name}.wgsl")).unwrap();
        let mut text = read(&name);
        let used: Vec<String> = files_used(&text).into_iter().map(|alternatives| read(alternatives[0])).collect();
        text.extend(used);
        let asked = |name: &str| ["== 1u", "== 0u", "!= 0u"].iter().any(|value| text.contains(&format!("if ({name} {value}")));
        let flag = |line: &str| {
            let (name, value) = line.strip_prefix("const ")?.split_once(": u32 = ")?;
            (value.starts_with(['0', '1']) && value[1..].starts_with('u') && asked(name)).then(|| name.to_string())
        };
        let flags: BTreeSet<String> = text.lines().filter_map(flag).collect();
        let flags: Vec<&'static str> = flags.into_iter().map(|flag| &*flag.leak()).collect();
        let most = if all() { flags.len() } else { 2 } as u32;
        for bits in (0..1u32 << flags.len()).filter(|bits| bits.count_ones().min(flags.len() as u32 - bits.count_ones()) <= most) {
            let consts: Vec<_> = flags.iter().enumerate().map(|(i, flag)| (*flag, bits >> i & 1)).collect();
            wrong.extend(Shader::load(&name, &consts).err().map(|error| format!("{name} with {consts:?}: {error}")));
            combinations += 1;
        }
    }
    assert!(combinations > 300 && wrong.is_empty(), "{} of {combinations} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
