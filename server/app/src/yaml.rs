//! Registration files of application services.

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use skerry_account::appservice::Registration;

/// The largest registration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a registration file.
///
/// # Errors
/// What is wrong with it, in words for whoever wrote it.
pub(crate) fn registration(path: &Path) -> Result<Registration, String> {
    let file = std::fs::File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    let mut text = String::new();
    let mut limited = file.take(FILE_BYTES_MAX + 1);
    limited
        .read_to_string(&mut text)
        .map_err(|e| format!("cannot be read: {e}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("is larger than 1 MiB".into());
    }
    let source: Value = serde_saphyr::from_str(&text).map_err(|e| format!("is not YAML: {e}"))?;
    Registration::read(source).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read(text: &str) -> Result<Registration, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registration.yaml");
        std::fs::write(&path, text).unwrap();
        registration(&path)
    }

    /// The specification's own example.
    const EXAMPLE: &str = r##"
id: "IRC Bridge"
url: "http://127.0.0.1:1234"
as_token: "30c05ae90a248a4188e620216fa72e349803310ec83e2a77b34fe90be6081f46"
hs_token: "312df522183efd404ec1cd22d2ffa4bbc76a8c1ccf541dd692eef281356bb74e"
sender_localpart: "_irc_bot" # Will result in @_irc_bot:example.org
namespaces:
  users:
    - exclusive: true
      regex: "@_irc_bridge_.*"
  aliases:
    - exclusive: false
      regex: "#_irc_bridge_.*"
  rooms: []
"##;

    #[test]
    fn reads_files_and_names_mistakes() {
        let good = EXAMPLE.to_owned();
        assert_eq!(read(&good).unwrap().id, "IRC Bridge");
        let number = good.replace(
            r#""30c05ae90a248a4188e620216fa72e349803310ec83e2a77b34fe90be6081f46""#,
            "123",
        );
        assert_eq!(
            read(&number).unwrap_err(),
            "as_token: has to be text; put it in quotes"
        );
        assert!(read("id: [").unwrap_err().starts_with("is not YAML: "));
        assert!(read("x: &a [*a, *a]").is_err());
        assert!(read(&"#".repeat(1_100_000)).unwrap_err().contains("1 MiB"));
        let gone = registration(Path::new("/nonexistent/file.yaml"));
        assert!(gone.unwrap_err().starts_with("cannot be read: "));
    }
}
