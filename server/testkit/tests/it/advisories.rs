//! Every advisory that `docs/advisories.md` lists has the test that it names.

use std::fs;
use std::path::Path;

#[test]
fn every_advisory_has_the_test_that_is_named_after_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/advisories.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains(".rs`"));
    let mut found = 0;
    for row in rows {
        // Files and tests stand between backquotes, each file before its tests.
        let mut source = String::new();
        for quoted in row.split('`').skip(1).step_by(2) {
            if quoted.ends_with(".rs") {
                source = fs::read_to_string(root.join(quoted)).unwrap();
                continue;
            }
            assert!(source.contains(&format!("fn {quoted}(")), "{quoted}: {row}");
            found += 1;
        }
    }
    assert!(found >= 18, "{found}");
}
