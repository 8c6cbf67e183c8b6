//! Text of others, such as the content of a file or a line of a server, as it may go to a terminal.

use std::borrow::Cow;

/// The text with its control characters as escapes, such as `\u{1b}`; tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\t')
}

/// The same for several lines: newlines stay, too.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\t' && character != '\n')
}

fn escaped(text: &str, is_unwanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_escaped = |character: char| character.is_control() && is_unwanted(character);
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_commands_it() {
        let text = "a\u{1b}[2Jb\tc\nd\u{7f}\u{9b}é\r";
        assert_eq!(printable(text), "a\\u{1b}[2Jb\tc\\nd\\u{7f}\\u{9b}é\\r");
        assert_eq!(printable_lines(text), "a\\u{1b}[2Jb\tc\nd\\u{7f}\\u{9b}é\\r");
        assert!(matches!(printable("plain é"), Cow::Borrowed("plain é")));
    }
}
