//! Optimisers and learning-rate schedules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Result, out_of_range};
use crate::gpu::Role;
use crate::kernels::{State, grad_norm, optimizer};
use crate::plan::{FLAT_ALIGN, Fill, Flat, Parameter, Plan, Section, Tensor};

/// Adam (Kingma & Ba 2015), AdamW (Loshchilov & Hutter 2019) or SGD with momentum (`torch.optim.SGD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam with L2 regularisation: weight decay is added to the gradient.
    Adam,
    /// AdamW: weight decay is applied to the weight itself.
    Adamw,
    /// SGD with momentum; weight decay is added to the gradient.
    Sgd,
}

/// Weights that decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decaying {
    /// All of them.
    #[default]
    All,
    /// Those with two axes or more: neither biases nor norms.
    Matrices,
    /// Those that the reference of Mamba-2 lets decay: all but the weights of norms, `A_log`, `dt_bias` and `D`.
    Reference,
}

impl Decaying {
    /// True if this weight decays.
    pub fn takes(self, parameter: &Parameter) -> bool {
        let last = |name: &str| parameter.name.rsplit('.').next() == Some(name);
        let of_norm = parameter.shape.len() == 1 && last("weight");
        match self {
            Decaying::All => true,
            Decaying::Matrices => parameter.shape.len() > 1,
            Decaying::Reference => !of_norm && !["A_log", "dt_bias", "D"].into_iter().any(last),
        }
    }
}

/// Optimiser, its learning rate and its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Kind of optimiser.
    pub kind: OptimizerKind,
    /// Peak learning rate; the schedule says how it changes.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Share of the last step's direction that is kept; 0 is plain gradient descent.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1, "kinds" = ["sgd"]))]
    pub momentum: f64,
    /// β₁, the decay rate of the first moment.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1, "kinds" = ["adam", "adamw"]))]
    pub beta1: f64,
    /// β₂, the decay rate of the second moment.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1, "kinds" = ["adam", "adamw"]))]
    pub beta2: f64,
    /// ε, added to the square root of the second moment.
    #[schemars(range(min = 1e-30), extend("kinds" = ["adam", "adamw"]))]
    pub eps: f64,
    /// Coefficient of the weight decay; 0 lets no weight decay.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Weights that decay.
    #[serde(skip_serializing_if = "is_all")]
    #[schemars(!skip_serializing_if)]
    pub decay: Decaying,
    /// Largest global norm of the gradient, to which it is clipped; 0 does not clip.
    #[schemars(range(min = 0))]
    pub clip_norm: f64,
    /// Largest absolute value of an element of the gradient, to which it is clipped (`torch.nn.utils.clip_grad_value_`); 0 does not clip.
    /// It needs `clip_norm = 0`.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(!skip_serializing_if, range(min = 0))]
    pub clip_value: f64,
}

fn is_all(value: &Decaying) -> bool {
    *value == Decaying::All
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig {
            kind: OptimizerKind::Adamw,
            learning_rate: 1e-3,
            momentum: 0.9,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            decay: Decaying::All,
            clip_norm: 1.0,
            clip_value: 0.0,
        }
    }
}

impl OptimizerConfig {
    pub(crate) fn validate(&self) -> std::result::Result<(), String> {
        if self.clip_norm > 0.0 && self.clip_value > 0.0 {
            return Err("optimizer.clip_value and optimizer.clip_norm: clip by one of them, and set the other to 0".into());
        }
        Ok(())
    }

    /// Appends the gradient norm and the update of the weights.
    ///
    /// # Errors
    /// `Internal` when the plan has no parameters.
    pub fn record(&self, plan: &mut Plan, records: Tensor) -> Result<()> {
        self.record_scaled(plan, records, false)
    }

    /// Appends what `record` appends, for gradients that may carry a loss scale if `scaled` is true (`kernels::loss_scale`).
    ///
    /// # Errors
    /// As `record`.
    pub fn record_scaled(&self, plan: &mut Plan, records: Tensor, scaled: bool) -> Result<()> {
        plan.begin(Section::Update);
        let (w, dw) = (plan.flat(Flat::Parameters)?, plan.flat(Flat::Gradients)?);
        let (m, v) = (plan.flat(Flat::FirstMoment)?, plan.flat(Flat::SecondMoment)?);
        let partials = plan.workspace("grad_norm.partials", &[grad_norm::PARTIALS])?;
        grad_norm::Partial { x: dw, y: partials }.record(plan, "optimizer")?;
        let decays = match self.decay {
            Decaying::All => None,
            _ => {
                let mut factors = vec![0.0; plan.flat_len().div_ceil(FLAT_ALIGN)];
                for parameter in plan.parameters().iter().filter(|parameter| self.decay.takes(parameter)) {
                    let first = parameter.offset / FLAT_ALIGN;
                    factors[first..first + parameter.len().div_ceil(FLAT_ALIGN)].fill(1.0);
                }
                Some(plan.constant(Role::Workspace, "optimizer.decays", &[factors.len()], Some(Fill::floats(factors)))?)
            }
        };
        let update = optimizer::Update {
            partials,
            count: grad_norm::partials(plan.target, plan.flat_len()),
            w,
            dw,
            m,
            v,
            records,
            beta1: if self.kind == OptimizerKind::Sgd { self.momentum } else { self.beta1 },
            beta2: self.beta2,
            eps: self.eps,
            decay: self.weight_decay,
            decays,
            rule: match self.kind {
                OptimizerKind::Adam => optimizer::Rule::Adam,
                OptimizerKind::Adamw => optimizer::Rule::AdamW,
                OptimizerKind::Sgd => optimizer::Rule::Sgd,
            },
            clip_value: self.clip_value,
            scaled,
        };
        update.record(plan, "optimizer")
    }

    /// Writes this learning rate and the norm to clip to into the state of a step.
    pub fn fill(&self, state: &mut State, learning_rate: f64) {
        state.learning_rate = learning_rate as f32;
        state.max_norm = self.clip_norm as f32;
    }
}

/// Kinds of learning-rate schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Constant learning rate: always the peak.
    Constant,
    /// Linear warm-up by steps, then a cosine decay.
    WarmupCosine,
    /// The peak, times `factor` whenever the selected metric has not improved for more than `patience` validations
    /// (`torch.optim.lr_scheduler.ReduceLROnPlateau`).
    Plateau,
    /// Epoch by epoch: from `start_factor` of the peak straight up to it over `warmup_epochs`, then half a cosine down (`LinearLR` and
    /// `CosineAnnealingLR` in a `SequentialLR`).
    EpochCosine,
    /// The peak, times `factor` after every `every_epochs` epochs (`torch.optim.lr_scheduler.StepLR`).
    Step,
    /// The peak, times `factor` after every epoch (`torch.optim.lr_scheduler.ExponentialLR`).
    Exponential,
}

/// Learning-rate schedule and its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Kind of schedule.
    pub kind: ScheduleKind,
    /// Number of warm-up steps.
    #[schemars(extend("kinds" = ["warmup_cosine"]))]
    pub warmup_steps: u64,
    /// Number of warm-up epochs, below `train.epochs`; without it, `warmup_share` of all epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("kinds" = ["epoch_cosine"]))]
    pub warmup_epochs: Option<u64>,
    /// Share of the epochs that are warm-up, rounded down; a tenth if neither key is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1, "kinds" = ["epoch_cosine"]))]
    pub warmup_share: Option<f64>,
    /// Number of epochs between two decays.
    #[schemars(range(min = 1), extend("kinds" = ["step"]))]
    pub every_epochs: u64,
    /// Learning rate at the start of the warm-up, as a share of the peak.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0, "kinds" = ["epoch_cosine"]))]
    pub start_factor: f64,
    /// Least learning rate, at which a cosine ends and below which no decay goes; at most `optimizer.learning_rate`.
    #[schemars(range(min = 0), extend("kinds" = ["warmup_cosine", "epoch_cosine", "plateau", "step", "exponential"]))]
    pub min_learning_rate: f64,
    /// Factor that the learning rate is multiplied by at each decay.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1, "kinds" = ["plateau", "step", "exponential"]))]
    pub factor: f64,
    /// Number of validations without improvement that are waited for.
    #[schemars(extend("kinds" = ["plateau"]))]
    pub patience: u64,
    /// Relative improvement of the selected metric that counts.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1, "kinds" = ["plateau"]))]
    pub threshold: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig {
            kind: ScheduleKind::WarmupCosine,
            warmup_steps: 5000,
            warmup_epochs: None,
            warmup_share: None,
            every_epochs: 30,
            start_factor: 0.1,
            min_learning_rate: 1e-6,
            factor: 0.5,
            patience: 3,
            threshold: 1e-4,
        }
    }
}

impl ScheduleConfig {
    /// Step at which the warm-up ends.
    pub(crate) fn warmup(&self, steps_per_epoch: u64, epochs: u64) -> u64 {
        match self.kind {
            ScheduleKind::WarmupCosine => self.warmup_steps,
            ScheduleKind::EpochCosine => self.warmup_of(epochs).saturating_mul(steps_per_epoch),
            ScheduleKind::Constant | ScheduleKind::Plateau | ScheduleKind::Step | ScheduleKind::Exponential => 0,
        }
    }

    /// Number of warm-up epochs in a run of so many epochs.
    pub(crate) fn warmup_of(&self, epochs: u64) -> u64 {
        self.warmup_epochs.unwrap_or_else(|| (self.warmup_share.unwrap_or(0.1) * epochs as f64 + 1e-9) as u64)
    }

    pub(crate) fn validate(&self, optimizer: &OptimizerConfig) -> std::result::Result<(), String> {
        if let (Some(_), Some(share)) = (self.warmup_epochs, self.warmup_share) {
            return Err(format!(
                "schedule.warmup_share = {share} and schedule.warmup_epochs say the same: leave one out, as --set schedule.warmup_share= does"
            ));
        }
        if self.kind == ScheduleKind::Constant || self.min_learning_rate <= optimizer.learning_rate {
            return Ok(());
        }
        let range = format!("at most optimizer.learning_rate = {:e}", optimizer.learning_rate);
        Err(out_of_range("schedule.min_learning_rate", self.min_learning_rate, &range))
    }

    /// Learning rate of step `step` (from 0) of `total` steps in `epochs` epochs. For `warmup_cosine`:
    /// peak · (step + 1) / warmup, then min + ½ (peak − min)(1 + cos π·progress).
    pub fn learning_rate(&self, peak: f64, step: u64, total: u64, epochs: u64) -> f64 {
        let down = |progress: f64| {
            self.min_learning_rate + 0.5 * (peak - self.min_learning_rate) * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
        };
        let epoch = || step / (total / epochs.max(1)).max(1);
        let after = |times: u64| (peak * self.factor.powf(times as f64)).max(self.min_learning_rate);
        match self.kind {
            ScheduleKind::Step => after(epoch() / self.every_epochs),
            ScheduleKind::Exponential => after(epoch()),
            ScheduleKind::EpochCosine => {
                let (epoch, warmup) = (epoch(), self.warmup_of(epochs));
                if epoch < warmup {
                    return peak * (self.start_factor + (1.0 - self.start_factor) * epoch as f64 / warmup as f64);
                }
                down((epoch - warmup) as f64 / epochs.saturating_sub(warmup).max(1) as f64)
            }
            ScheduleKind::Constant | ScheduleKind::Plateau => peak,
            ScheduleKind::WarmupCosine if step < self.warmup_steps => peak * (step + 1) as f64 / self.warmup_steps as f64,
            ScheduleKind::WarmupCosine => {
                let left = total.saturating_sub(self.warmup_steps).max(1) as f64;
                down((step - self.warmup_steps) as f64 / left)
            }
        }
    }
}

/// State of a plateau schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// Best value of the selected metric so far.
    best: Option<f64>,
    /// Number of validations since the best value or the last decay.
    waiting: u64,
    /// Factor of the peak learning rate; each decay lowers it.
    pub factor: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Plateau { best: None, waiting: 0, factor: 1.0 }
    }
}

impl Plateau {
    /// Takes in a new value of the selected metric, and lowers the learning rate if it has not improved for too long.
    pub fn step(&mut self, schedule: &ScheduleConfig, peak: f64, value: f64, less_is_better: bool) {
        if schedule.kind != ScheduleKind::Plateau {
            return;
        }
        let better = |best: f64| match less_is_better {
            true => value < best * (1.0 - schedule.threshold),
            false => value > best * (1.0 + schedule.threshold),
        };
        if value.is_finite() && self.best.is_none_or(better) {
            (self.best, self.waiting) = (Some(value), 0);
        } else {
            self.waiting += 1;
        }
        if self.waiting > schedule.patience {
            self.waiting = 0;
            // PyTorch leaves the rate alone where it would change by no more than 1e-8.
            let rate = (peak * self.factor * schedule.factor).max(schedule.min_learning_rate);
            if peak * self.factor - rate > 1e-8 {
                self.factor = rate / peak;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_the_peak_and_falls_to_the_minimum() {
        let schedule = ScheduleConfig::default();
        // Five steps an epoch: LinearLR(0.1, total_iters = 4), then CosineAnnealingLR(T_max = 6), as PyTorch's SequentialLR gives them.
        let by_epoch =
            ScheduleConfig { kind: ScheduleKind::EpochCosine, warmup_epochs: Some(4), min_learning_rate: 0.0, ..ScheduleConfig::default() };
        let want = [1.0e-4, 3.25e-4, 5.5e-4, 7.75e-4, 1e-3, 9.330127e-4, 7.5e-4, 5.0e-4, 2.5e-4, 6.69873e-5];
        for (step, want) in (0..50).map(|s| (s, want[s as usize / 5])) {
            let rate = by_epoch.learning_rate(1e-3, step, 50, 10);
            assert!((rate - want).abs() < 1e-9, "{step}: {rate} {want}");
        }
        let rate = |step| schedule.learning_rate(1e-3, step, 60_000, 60);
        assert!((rate(0) - 2e-7).abs() < 1e-12 && (rate(4999) - 1e-3).abs() < 1e-12 && (rate(5000) - 1e-3).abs() < 1e-12);
        assert!((rate(32_500) - 5.005e-4).abs() < 1e-9 && (rate(60_000) - 1e-6).abs() < 1e-12);
    }

    #[test]
    fn the_rate_steps_down_as_pytorch_has_it() {
        let schedule = |kind| ScheduleConfig { kind, every_epochs: 3, min_learning_rate: 1e-4, ..ScheduleConfig::default() };
        // Two steps an epoch, eight epochs.
        let rates = |kind| (0..16).step_by(2).map(|step| schedule(kind).learning_rate(1e-3, step, 16, 8)).collect::<Vec<_>>();
        let close = |got: Vec<f64>, want: [f64; 8]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(rates(ScheduleKind::Step), [1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 2.5e-4, 2.5e-4]));
        assert!(close(rates(ScheduleKind::Exponential), [1e-3, 5e-4, 2.5e-4, 1.25e-4, 1e-4, 1e-4, 1e-4, 1e-4]));
        let share = ScheduleConfig { kind: ScheduleKind::EpochCosine, warmup_share: Some(0.25), ..ScheduleConfig::default() };
        assert_eq!((share.warmup_of(200), share.warmup_of(7), share.warmup(10, 8)), (50, 1, 20));
        assert_eq!(ScheduleConfig { warmup_share: Some(0.29), ..share.clone() }.warmup_of(100), 29);
        let both = ScheduleConfig { warmup_epochs: Some(3), ..share };
        assert!(both.validate(&OptimizerConfig::default()).unwrap_err().contains("leave one out"));
    }

    /// Factors of torch.optim.lr_scheduler.ReduceLROnPlateau(factor = 0.5, patience = 3) after each of these losses.
    #[test]
    fn a_plateau_halves_the_rate_after_four_validations_without_improvement() {
        let schedule = ScheduleConfig { kind: ScheduleKind::Plateau, min_learning_rate: 0.0, ..ScheduleConfig::default() };
        let mut plateau = Plateau::default();
        let losses = [1.0, 0.9, 0.95, 0.9, 0.92, 0.89995, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9];
        let want = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125];
        for (i, (loss, want)) in losses.into_iter().zip(want).enumerate() {
            plateau.step(&schedule, 1e-3, loss, true);
            assert_eq!(plateau.factor, want, "{i}");
        }
        // The same upwards, as with mode = "max"; what is not finite is no improvement.
        let mut plateau = Plateau::default();
        for (i, value) in [f64::NAN, 0.3, 0.4, 0.40003, f64::INFINITY, 0.2, 0.4].into_iter().enumerate() {
            plateau.step(&schedule, 1e-3, value, false);
            assert_eq!(plateau.factor, if i == 6 { 0.5 } else { 1.0 }, "{i}");
        }
    }
}
