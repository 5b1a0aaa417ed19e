//! The `tilewise` program.

fn main() -> std::process::ExitCode {
    tilewise::cli::main()
}
