//! The examples of the library are run.

#[path = "../examples/does_it_fit.rs"]
mod does_it_fit;
#[path = "../examples/linear_regression.rs"]
mod linear_regression;
#[path = "../examples/own_data.rs"]
mod own_data;
#[path = "../examples/own_loss_term.rs"]
mod own_loss_term;
#[path = "../examples/own_model.rs"]
mod own_model;
#[path = "../examples/predict.rs"]
mod predict;
use crate::runner::tests;

tests![
    a_plan_of_ones_own,
    a_model_of_ones_own,
    data_of_ones_own,
    a_kernel_and_a_loss_term_of_ones_own,
    the_estimator_tells_what_fits,
    a_trained_run_predicts,
];

fn a_plan_of_ones_own() {
    linear_regression::main().unwrap();
}

fn a_model_of_ones_own() {
    own_model::main().unwrap();
}

fn data_of_ones_own() {
    own_data::main().unwrap();
}

fn a_kernel_and_a_loss_term_of_ones_own() {
    own_loss_term::main().unwrap();
}

fn the_estimator_tells_what_fits() {
    does_it_fit::main().unwrap();
}

fn a_trained_run_predicts() {
    predict::main().unwrap();
}
