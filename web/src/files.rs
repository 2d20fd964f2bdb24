//! The files of a client's build: which file a path names, its type, how long it may be kept.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The longest path that is looked for, in bytes.
const PATH_MAX: usize = 1024;

/// A file that was found.
pub(crate) struct File {
    pub(crate) content_type: &'static str,
    /// The `Content-Encoding`, where a compressed sister of the file is given instead.
    pub(crate) encoding: Option<&'static str>,
    pub(crate) etag: String,
    /// Its name says what is in it, so that it can be kept for ever.
    pub(crate) immutable: bool,
    pub(crate) length: u64,
    /// Open, at its beginning.
    pub(crate) file: fs::File,
}

/// The file that a request's path names inside `root`, or a compressed sister of it that the
/// client accepts. Never anything outside, and nothing hidden.
pub(crate) fn find(root: &Path, path: &str, accepts: &str) -> Option<File> {
    let relative = relative(path)?;
    let plain = root.join(&relative);
    // A link may lead anywhere; what is served lies in the folder.
    let real = fs::canonicalize(&plain).ok()?;
    if !real.starts_with(fs::canonicalize(root).ok()?) || !real.is_file() {
        return None;
    }
    let sisters = [("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz")];
    let sister = sisters.into_iter().find_map(|(encoding, suffix)| {
        let mut name = real.clone().into_os_string();
        name.push(suffix);
        let wanted = accepts.split(',').any(|part| accepted(part, encoding));
        let file = wanted.then(|| fs::File::open(&name).ok()).flatten()?;
        Some((Some(encoding), file))
    });
    let (encoding, file) = match sister {
        Some(found) => found,
        None => (None, fs::File::open(&real).ok()?),
    };
    let facts = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let changed = facts.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let etag = format!(
        "\"{:x}-{:x}{}\"",
        changed.as_nanos(),
        facts.len(),
        encoding.unwrap_or_default()
    );
    Some(File {
        content_type: content_type(&relative),
        encoding,
        etag,
        immutable: immutable(&relative),
        length: facts.len(),
        file,
    })
}

/// Whether one part of an `Accept-Encoding` header allows an encoding.
fn accepted(part: &str, encoding: &str) -> bool {
    let mut words = part.split(';').map(str::trim);
    words.next() == Some(encoding) && !words.any(|word| word == "q=0" || word == "q=0.0")
}

/// A request's path as a path below a folder: names only, none of them hidden.
fn relative(path: &str) -> Option<PathBuf> {
    if path.len() > PATH_MAX {
        return None;
    }
    let decoded = percent_encoding::percent_decode_str(path.strip_prefix('/')?)
        .decode_utf8()
        .ok()?;
    let relative = PathBuf::from(&*decoded);
    let good = |part: Component<'_>| match part {
        Component::Normal(name) => name.to_str().is_some_and(|name| !name.starts_with('.')),
        _ => false,
    };
    let plain = !decoded.contains(['\\', '\0']) && relative.components().all(good);
    (plain && !decoded.is_empty()).then_some(relative)
}

/// Files that are asked for again whatever their name looks like.
fn changes(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    matches!(name, "index.html" | "sw.js" | "version" | "welcome.html")
        || (name.starts_with("config") && name.ends_with(".json"))
        || path.starts_with("i18n")
}

/// Whether a name or a folder of the path holds a hash: seven hexadecimal digits or more between
/// other signs, one of them a number.
fn immutable(path: &Path) -> bool {
    let hash = |word: &str| {
        word.len() >= 7
            && word.bytes().all(|b| b.is_ascii_hexdigit())
            && word.bytes().any(|b| b.is_ascii_digit())
    };
    !changes(path)
        && path
            .to_str()
            .is_some_and(|path| path.split(['/', '.', '-', '_', '~']).any(hash))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or("") {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "ogg" => "audio/ogg",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain; charset=utf-8",
        "xml" => "text/xml; charset=utf-8",
        _ if path == Path::new("version") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("build");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(dir.path().join("secret"), "no").unwrap();
        fs::write(root.join("sub/.hidden"), "no").unwrap();
        fs::write(root.join("a b.txt"), "yes").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).unwrap();
        assert!(find(&root, "/a%20b.txt", "").is_some());
        for path in [
            "/../secret",
            "/sub/../../secret",
            "/%2e%2e/secret",
            "/sub/%2e%2e/%2e%2e/secret",
            "//etc/passwd",
            "/sub/.hidden",
            "/link",
            "/sub",
            "/",
            "/%00",
            "/..%5csecret",
            "secret",
        ] {
            assert!(find(&root, path, "").is_none(), "{path}");
        }
    }

    #[test]
    fn a_hash_in_the_name_makes_a_file_immutable() {
        for path in [
            "bundles/8af2b04c7d3e91/app.js",
            "img/logo.7ab3f12.svg",
            "a-0123456789abcdef.css",
        ] {
            assert!(immutable(Path::new(path)), "{path}");
        }
        for path in [
            "index.html",
            "i18n/de.0123456789.json",
            "sw.js",
            "config.0123456.json",
            "facade.js",
            "version",
        ] {
            assert!(!immutable(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_compressed_sister_is_given_to_who_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("app.js"), "plain").unwrap();
        fs::write(dir.path().join("app.js.br"), "brotli").unwrap();
        fs::write(dir.path().join("app.js.zst"), "zstd").unwrap();
        let asked = |accepts| find(dir.path(), "/app.js", accepts).unwrap().encoding;
        assert_eq!(asked("gzip, br;q=0.9"), Some("br"));
        assert_eq!(asked("br;q=0, gzip"), None);
        assert_eq!(asked("gzip, zstd"), Some("zstd"));
        assert_eq!(asked(""), None);
    }
}
