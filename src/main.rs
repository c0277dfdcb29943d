//! The command line: see `engine help`.

fn main() {
    std::process::exit(engine::cli::main());
}
