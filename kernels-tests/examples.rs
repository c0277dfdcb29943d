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

#[test]
fn a_plan_of_ones_own() {
    linear_regression::main().unwrap();
}

#[test]
fn a_model_of_ones_own() {
    own_model::main().unwrap();
}

#[test]
fn data_of_ones_own() {
    own_data::main().unwrap();
}

#[test]
fn a_kernel_and_a_loss_term_of_ones_own() {
    own_loss_term::main().unwrap();
}

#[test]
fn the_estimator_tells_what_fits() {
    does_it_fit::main().unwrap();
}
