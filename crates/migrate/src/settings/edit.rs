//! Changes of a text, made all at once.

use std::ops::Range;

use super::scan::{EtcdSetting, Form, comment};

/// Changes in any order. Only places that go may overlap.
#[derive(Debug, Default)]
pub struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Puts other words into a place.
    pub fn replace(&mut self, range: Range<usize>, words: String) {
        self.0.push((range, words));
    }

    /// Gives a setting another name and another value.
    pub fn set(&mut self, setting: &EtcdSetting, name: String, value: &str) {
        match (&setting.value_range, setting.form) {
            (None, Form::Flag) => {
                self.replace(setting.name_range.clone(), format!("{name}={value}"));
            }
            (range, _) => {
                self.replace(setting.name_range.clone(), name);
                if let Some(range) = range {
                    self.replace(range.clone(), value.to_owned());
                }
            }
        }
    }

    /// Takes a setting out: the lines in which nothing else stands, else only its words.
    pub fn remove(&mut self, text: &str, setting: &EtcdSetting) {
        let range = setting.range();
        let start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[range.end..].find('\n').map_or(text.len(), |at| range.end + at + 1);
        let is_alone = is_nothing(&text[start..range.start], setting.form)
            && is_nothing(&text[range.end..end], setting.form);
        // In the last line of a command that goes over several lines the line before goes on here.
        let goes_on = text[..start].trim_end_matches(['\n', '\r']).ends_with('\\');
        let lines = &text[start..end];
        let ends_command = goes_on && !lines.trim_end().ends_with('\\');
        if is_alone && !ends_command {
            return self.replace(start..end, comments(lines));
        }
        self.replace(with_quotes_and_gap(text, range), String::new());
    }

    /// The text with all changes.
    pub fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let mut changed = String::with_capacity(text.len());
        let mut at = 0;
        for (range, words) in self.0 {
            // Neighbours in a list both take the comma between them along.
            changed.push_str(text.get(at..range.start).unwrap_or_default());
            if range.start < at && text[range.end..].starts_with(']') {
                changed.truncate(changed.trim_end_matches([',', ' ']).len());
            }
            changed.push_str(&words);
            at = at.max(range.end);
        }
        changed.push_str(&text[at..]);
        changed
    }
}

/// Whether a part of a line is only the frame of a setting.
fn is_nothing(part: &str, form: Form) -> bool {
    let part = &part[..comment(part)];
    let is_frame = |c: char| c.is_whitespace() || ['-', '"', '\'', ',', '\\'].contains(&c);
    let rest = part.trim_matches(is_frame);
    rest.is_empty() || (form == Form::Variable && ["name:", "export"].contains(&rest))
}

/// The comments of lines that go, each where it was.
fn comments(lines: &str) -> String {
    let comment_of = |line: &str| {
        let at = comment(line);
        let is_there = line[at..].starts_with('#');
        let indent = &line[..line.len() - line.trim_start().len()];
        is_there.then(|| format!("{indent}{}", &line[at..]))
    };
    lines.split_inclusive('\n').filter_map(comment_of).collect()
}

/// The words with the quotes around them, and the space or the comma that is then one too many.
fn with_quotes_and_gap(text: &str, mut range: Range<usize>) -> Range<usize> {
    let before = |at: usize| text[..at].chars().next_back();
    let after = |at: usize| text[at..].chars().next();
    if let Some(quote) = before(range.start).filter(|c| ['"', '\''].contains(c))
        && after(range.end) == Some(quote)
        && !is_open(text, range.start - 1)
    {
        range = range.start - 1..range.end + 1;
    }
    if after(range.end) == Some(',') {
        range.end += 1;
        if after(range.end) == Some(' ') {
            range.end += 1;
        }
    } else if before(range.start) == Some(' ') {
        range.start -= 1;
        if before(range.start) == Some(',') {
            range.start -= 1;
        }
    }
    range
}

/// Whether the quote at a position closes another one, and does not open one.
fn is_open(text: &str, at: usize) -> bool {
    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let quote = &text[at..=at];
    text[start..at].matches(quote).count() % 2 == 1
}
