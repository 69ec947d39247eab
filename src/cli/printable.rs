//! Text from elsewhere, made safe for a terminal.

use std::fmt;

/// How many characters of a text are printed, unless its place says otherwise.
const LONGEST: usize = 128;

/// Prints a text without the characters that a terminal obeys, that turn the order of others round, or that nobody
/// sees. Each of them becomes U+FFFD. A text that is too long ends with `…`.
pub(crate) struct Printable<'a> {
    text: &'a str,
    longest: usize,
}

impl<'a> Printable<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self::of_length(text, LONGEST)
    }

    pub(crate) fn of_length(text: &'a str, longest: usize) -> Self {
        Self { text, longest }
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let mut characters = self.text.chars();
        for character in characters.by_ref().take(self.longest) {
            f.write_char(if is_harmless(character) {
                character
            } else {
                char::REPLACEMENT_CHARACTER
            })?;
        }
        match characters.next() {
            Some(_) => f.write_char('…'),
            None => Ok(()),
        }
    }
}

/// Controls are those of Unicode's category Cc. The others are marks of direction (UAX 9), separators of lines,
/// characters without width, and tags.
pub(crate) fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_nobody_sees_is_replaced() {
        for bad in [
            '\u{1b}',
            '\u{7}',
            '\n',
            '\r',
            '\t',
            '\u{7f}',
            '\u{9b}',
            '\u{202e}',
            '\u{2066}',
            '\u{200f}',
            '\u{61c}',
            '\u{200b}',
            '\u{feff}',
            '\u{2028}',
            '\u{e0041}',
            '\u{ad}',
        ] {
            let shown = Printable::new(&format!("a{bad}b")).to_string();
            assert_eq!(shown, "a\u{fffd}b", "{bad:?}");
        }
        for good in ["chats/eu-1", "Größe", "日本語", "עברית", "a b"] {
            assert_eq!(Printable::new(good).to_string(), good);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(129);
        assert_eq!(Printable::new(&long).to_string(), "é".repeat(128) + "…");
        assert_eq!(Printable::new(&long[..256]).to_string(), "é".repeat(128));
        assert_eq!(Printable::of_length("abc", 2).to_string(), "ab…");
    }
}
