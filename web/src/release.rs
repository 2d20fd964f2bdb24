//! Releases of web clients that are known by heart.

use serde::Deserialize;

/// A release: where its archive is, and what its bytes hash to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The client's name, in small letters.
    pub client: String,
    /// Its version, without a `v` in front.
    pub version: String,
    /// Where the archive is.
    pub url: String,
    /// SHA-256 of the archive, in hexadecimal.
    pub sha256: String,
    /// Who computed the hash, or where it was read.
    pub source: String,
}

#[derive(Deserialize)]
struct List {
    release: Vec<Release>,
}

fn list() -> Result<Vec<Release>, String> {
    let list: List = toml::from_str(include_str!("../releases.toml")).map_err(|e| e.to_string())?;
    Ok(list.release)
}

/// The release of this client and version, or the newest one of the client.
///
/// # Errors
/// The list cannot be read, which would be a fault of ours.
pub fn known(client: &str, version: Option<&str>) -> Result<Option<Release>, String> {
    let mut of_client = list()?
        .into_iter()
        .filter(|release| release.client == client);
    Ok(match version {
        Some(version) => of_client.find(|release| release.version == version),
        None => of_client.next_back(),
    })
}

/// The versions of a client that are known.
///
/// # Errors
/// As [`known`].
pub fn known_versions(client: &str) -> Result<Vec<String>, String> {
    let of_client = list()?
        .into_iter()
        .filter(|release| release.client == client);
    Ok(of_client.map(|release| release.version).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_list_can_be_read_and_its_hashes_are_hashes() {
        for release in list().unwrap() {
            assert_eq!(release.sha256.len(), 64, "{release:?}");
            assert!(release.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
            assert!(release.url.starts_with("https://"), "{release:?}");
            assert!(!release.source.is_empty(), "{release:?}");
        }
        assert_eq!(known("element", Some("0")).unwrap(), None);
    }
}
