//! The tests: see README.md in this folder for what goes where.

mod adapt;
mod architecture;
mod cli;
mod cost;
mod examples;
mod export;
mod faults;
mod forms;
mod guide;
mod isa;
mod kernels;
mod keys;
mod limits;
mod mechanisms;
mod memory;
mod models;
mod options;
mod passed;
mod predict;
mod program;
mod ranks;
mod resume;
mod runner;
mod samples;
#[cfg(all(unix, feature = "serve"))]
mod serve;
mod shipped;
mod sizes;
mod stack;
mod text;
mod tune;
mod vectors;
mod web;
mod written;

/// Runs the tests, the longest first, so that no thread is left alone with one; or one of the jobs that take what the tests have.
fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("record") => passed::record(),
        Some("write-kernels") => written::write(),
        Some("write-web") => web::write(),
        Some("write-web-part") => web::write_part(),
        _ => return tests(),
    }
    std::process::ExitCode::SUCCESS
}

fn tests() -> std::process::ExitCode {
    runner::main(&[
        kernels::FAMILY_TESTS,
        forms::TESTS,
        options::TESTS,
        sizes::TESTS,
        ranks::TESTS,
        cli::TESTS,
        cost::TESTS,
        faults::TESTS,
        isa::TESTS,
        keys::TESTS,
        memory::TESTS,
        models::TESTS,
        mechanisms::TESTS,
        vectors::TESTS,
        resume::TESTS,
        predict::TESTS,
        samples::TESTS,
        #[cfg(all(unix, feature = "serve"))]
        serve::TESTS,
        stack::TESTS,
        text::TESTS,
        adapt::TESTS,
        tune::TESTS,
        limits::TESTS,
        kernels::TESTS,
        export::TESTS,
        web::TESTS,
        examples::TESTS,
        guide::TESTS,
        architecture::TESTS,
    ])
}
