//! What the demo looks like on a terminal.

use std::{fmt::Display, io::IsTerminal as _, time::Duration};

/// Writes the story of the demo to standard output, in colour where that is a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    colour: bool,
}

const BOLD: &str = "1";
const GREEN: &str = "32";
const DIM: &str = "2";
const CYAN: &str = "36";

impl Show {
    /// A show for the terminal this process has, if it has one.
    pub(crate) fn new() -> Self {
        Self { colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// The heading of a chapter.
    pub(crate) fn chapter(self, title: &str) {
        println!("\n{}", self.paint(BOLD, &format!("── {title}")));
    }

    /// A plain remark.
    pub(crate) fn say(self, text: impl Display) {
        println!("   {text}");
    }

    /// What was asked of a host.
    pub(crate) fn asked(self, host: &str, request: &str) {
        println!("   {} {}", self.paint(CYAN, &format!("{host} ◀")), request);
    }

    /// What it answered.
    pub(crate) fn answered(self, host: &str, reply: &str) {
        println!("   {} {}", self.paint(DIM, &format!("{host} ▶")), self.paint(DIM, reply));
    }

    /// Something that was to be seen, and was.
    pub(crate) fn proved(self, text: impl Display) {
        println!("   {} {text}", self.paint(GREEN, "✔"));
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A time in milliseconds with two decimals.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// Bits per second in the unit that fits.
pub(crate) fn rate(bits: f64) -> String {
    if bits >= 1e9 { format!("{:.2} Gbit/s", bits / 1e9) } else { format!("{:.0} Mbit/s", bits / 1e6) }
}

/// Bytes in hex, sixteen a line.
pub(crate) fn hex_lines(bytes: &[u8]) -> Vec<String> {
    let line = |chunk: &[u8]| chunk.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_in_the_unit_that_fits() {
        assert_eq!(millis(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(rate(2.5e9), "2.50 Gbit/s");
        assert_eq!(rate(42.4e6), "42 Mbit/s");
    }

    #[test]
    fn bytes_are_shown_sixteen_a_line() {
        assert_eq!(hex_lines(&[4; 18]).iter().map(String::len).collect::<Vec<_>>(), [47, 5]);
    }
}
