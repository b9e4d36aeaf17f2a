//! Every fault of the daemon whose protocol we speak is tested for, or said to be left out.

use std::{collections::BTreeSet, fs, ops::RangeInclusive};

use crate::{root, tree::files};

/// The numbers of the faults.
const FAULTS: RangeInclusive<u32> = 1..=55;

/// A row of the table: the fault's number and the tests.
fn rows(text: &str) -> Vec<(u32, Vec<&str>)> {
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let number = cells.first()?.parse().ok()?;
        Some((number, quoted(cells.last()?)))
    });
    rows.collect()
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The numbers in the paragraph that says what is left out.
fn left_out(text: &str) -> BTreeSet<u32> {
    let (_, paragraph) = text.split_once("\nLeft out are").unwrap();
    paragraph.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

fn text() -> String {
    fs::read_to_string(root().join("docs/peer-faults.md")).unwrap()
}

#[test]
fn every_fault_has_a_row_or_a_reason() {
    let text = text();
    let mut told = left_out(&text);
    for (number, _) in rows(&text) {
        assert!(told.insert(number), "fault {number} is told of twice");
    }
    assert_eq!(told, FAULTS.collect());
}

#[test]
fn every_fault_names_tests_that_exist() {
    let sources: Vec<String> = files("rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let defined = |test: &str| {
        // A function, a line of a macro that makes one for each family, or a rule of a suite.
        let forms = [format!("fn {test}("), format!("{test}: super::"), format!("            {test},\n")];
        sources.iter().any(|source| forms.iter().any(|form| source.contains(form)))
    };
    for (number, tests) in rows(&text()) {
        assert!(!tests.is_empty(), "fault {number} names no test");
        for test in tests {
            assert!(defined(test), "fault {number} names the test {test}, which does not exist");
        }
    }
}
