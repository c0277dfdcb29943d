//! What a prediction of a problem takes and gives: the fields of a sample, and the shape of the output.

use super::Problem;
use crate::batch::{Field, Normalization};
use crate::plan::{FixedPlan, Tensor};
use crate::session::PredictIo;
use crate::tasks::DataState;

/// Inputs and output of a prediction.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// Fields that the model looks at, with their tensors in the plan.
    pub fields: Vec<(Field, Tensor)>,
    /// Shape of the output for one sample.
    pub shape: Vec<usize>,
    /// Number of classes, if the last axis of the output has a logit for each.
    pub classes: Option<usize>,
    /// What is predicted; none if it is an input itself.
    pub answer: Option<Field>,
}

impl Prediction {
    /// The answer whose numbers the output has, normalised as they are.
    pub fn numbers(&self) -> Option<&Field> {
        self.answer.as_ref().filter(|field| self.classes.is_none() && self.shape.iter().product::<usize>() == field.len())
    }
}

impl<D: DataState + ?Sized> Problem<D> {
    /// What a recorded prediction takes and gives.
    pub fn prediction(&self, plan: &FixedPlan, io: &PredictIo) -> Prediction {
        let batch = io.feed.batch;
        let used = |tensor: &Tensor| plan.entries().iter().any(|entry| entry.tensors.contains(tensor));
        let mut all = self.source().fields().0;
        for field in &mut all {
            if let Some(scale) = self.source().scale(field.name, &self.buffers) {
                field.normalization = Normalization::Scale(scale);
            }
        }
        let tensor_of = |field: &Field| io.feed.inputs.iter().find(|(name, _)| *name == field.name).map(|(_, tensor)| *tensor);
        let fields = all.iter().filter(|field| !field.answer).filter_map(|field| Some((field.clone(), tensor_of(field).filter(used)?)));
        let (fields, len) = (fields.collect(), plan.len(io.output) / batch);
        // Rows of a sample lie one after the other.
        let shape = match plan.shape(io.output) {
            [first, rest @ ..] if *first == batch => rest.to_vec(),
            [_, rest @ ..] => [vec![len / rest.iter().product::<usize>()], rest.to_vec()].concat(),
            [] => vec![],
        };
        // A row of numbers that predicts several moments or features has the target's shape, and a reconstruction that of its input.
        let mirrored = all.iter().all(|field| !field.answer);
        let shape = match all.iter().find(|field| (field.answer || mirrored) && field.below.is_none() && field.len() == len) {
            Some(field) => field.shape.clone(),
            None => shape,
        };
        let answer = all.iter().find(|field| field.answer).cloned();
        let classes = answer.as_ref().and_then(|field| field.below).filter(|below| shape.last() == Some(below));
        Prediction { fields, shape, classes, answer }
    }
}
