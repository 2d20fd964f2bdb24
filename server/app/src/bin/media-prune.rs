//! The `media-prune` program. Everything is in the library.

fn main() -> std::process::ExitCode {
    skerry_app::media_prune()
}
