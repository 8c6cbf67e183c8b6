//! Finds the settings of etcd in a text.

use std::ops::Range;

use etcd_version::Facts;
use etcd_version::facts::Flag;

use crate::plan::spelling::flag_of_variable;

/// A setting where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSetting {
    /// The name of the flag, without dashes, also for a variable.
    pub name: String,
    pub form: Form,
    pub value: Option<String>,
    /// Where the name is, with its dashes.
    pub name_range: Range<usize>,
    /// Where the value is; `None` for a flag without one.
    pub value_range: Option<Range<usize>>,
    /// Settings of one server have the same number.
    pub scope: usize,
}

impl EtcdSetting {
    /// From the name to the end of the value.
    pub fn range(&self) -> Range<usize> {
        self.name_range.start..self.value_range.as_ref().unwrap_or(&self.name_range).end
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `--name`
    Flag,
    /// `ETCD_NAME`
    Variable,
}

/// A word of the text, without quotes, brackets and commas around it.
#[derive(Clone, Debug)]
struct Word {
    range: Range<usize>,
    line: usize,
    scope: usize,
}

/// The settings of all servers in a text.
pub fn settings(text: &str) -> Vec<EtcdSetting> {
    let words = words(text);
    let of = |index: usize| words.get(index).map_or("", |word: &Word| &text[word.range.clone()]);
    let mut found = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let start = word.range.start;
        let (name, given) = match of(index).split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (of(index), None),
        };
        let Some((flag, form)) = flag(name) else { continue };
        let name_range = start..start + name.len();
        let value_range = match (form, given) {
            (_, Some(_)) => Some(name_range.end + 1..word.range.end),
            (Form::Flag, None) => value_after(&words, index, flag, &of),
            (Form::Variable, None) => match variable_value(index, &of) {
                Some(at) => words.get(at).map(|word| word.range.clone()),
                // Only mentioned.
                None => continue,
            },
        };
        found.push(EtcdSetting {
            name: flag.name.clone(),
            form,
            value: value_range.clone().map(|range| text[range].to_owned()),
            name_range,
            value_range,
            scope: word.scope,
        });
    }
    found
}

/// The flag that a word names.
fn flag(word: &str) -> Option<(&'static Flag, Form)> {
    if let Some(name) = word.strip_prefix("--") {
        return Some((Facts::current().flag(name)?, Form::Flag));
    }
    Some((flag_of_variable(word)?, Form::Variable))
}

/// The value of a flag that stands in a word of its own: behind it, or in the next line of a list.
fn value_after<'a>(
    words: &[Word],
    index: usize,
    flag: &Flag,
    of: &impl Fn(usize) -> &'a str,
) -> Option<Range<usize>> {
    if flag.is_boolean() {
        return None;
    }
    let line = words[index].line;
    let is_value = |at: usize, line: usize| {
        let word = words.get(at).filter(|word| word.line == line)?;
        (!of(at).starts_with("--") && of(at) != "\\").then(|| word.range.clone())
    };
    is_value(index + 1, line).or_else(|| {
        // As `- --name` and `- value`.
        (of(index + 1) == "-").then(|| is_value(index + 2, line + 1)).flatten()
    })
}

/// The position of the value of `name: ETCD_X`, `value: x`, in any of its spellings.
fn variable_value<'a>(index: usize, of: &impl Fn(usize) -> &'a str) -> Option<usize> {
    let is_key = |at: usize, key: &str| of(at).trim_end_matches(':') == key;
    let colons = |at: usize| if of(at) == ":" { at + 1 } else { at };
    let before = index.checked_sub(1)?;
    let before = if of(before) == ":" { before.checked_sub(1)? } else { before };
    if !is_key(before, "name") || !is_key(index + 1, "value") {
        return None;
    }
    Some(colons(index + 2)).filter(|at| !of(*at).is_empty())
}

/// All words that stand in a scope of etcd and in no comment.
fn words(text: &str) -> Vec<Word> {
    let mut scopes = Scopes::default();
    let mut words = Vec::new();
    let mut start = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content = &line[..comment(line)];
        let scope = scopes.of(content);
        for range in words_of(content) {
            let range = start + range.start..start + range.end;
            words.push(Word { range, line: number, scope });
        }
        start += line.len();
    }
    words.retain(|word| scopes.is_of_etcd(word.scope));
    words
}

/// Where the comment of a line begins, or its end.
pub fn comment(line: &str) -> usize {
    let bytes = line.as_bytes();
    let is_comment =
        |at: &usize| bytes[*at] == b'#' && (*at == 0 || bytes[*at - 1].is_ascii_whitespace());
    (0..bytes.len()).find(is_comment).unwrap_or(line.trim_end_matches(['\n', '\r']).len())
}

fn words_of(line: &str) -> Vec<Range<usize>> {
    let is_between = |c: char| c.is_whitespace() || ['"', '\'', '`'].contains(&c);
    let mut words = Vec::new();
    let mut rest = 0;
    for word in line.split(is_between) {
        let start = rest + word.len() - word.trim_start_matches(['[', '{', '(']).len();
        let mut end = rest + word.trim_end_matches([',', ';', '}', ')']).len();
        // As in `[etcd, --name]`, but not in `http://[::1]`.
        if line[start.min(end)..end].ends_with(']') && !line[start..end].contains('[') {
            end = start + line[start..end].trim_end_matches([']', ',', '}']).len();
        }
        if start < end {
            words.push(start..end);
        }
        rest += word.len() + line[rest + word.len()..].chars().next().map_or(0, char::len_utf8);
    }
    words
}

/// Which lines belong to one server: a container, or a text without containers.
#[derive(Default)]
struct Scopes {
    /// For each scope, whether it is a container and whether it runs etcd.
    kinds: Vec<(bool, bool)>,
    /// How far the list of containers is indented; `None` outside of one.
    indent: Option<usize>,
    /// The line before was `containers:`.
    is_expected: bool,
}

impl Scopes {
    /// The scope of the next line.
    fn of(&mut self, line: &str) -> usize {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let is_item = trimmed.starts_with("- ");
        let key = trimmed.trim_end().trim_start_matches("- ");
        if self.kinds.is_empty() || line.starts_with("---") {
            self.begin(false);
        } else if self.is_expected && is_item {
            self.indent = Some(indent);
            self.begin(true);
        } else if is_item && self.indent == Some(indent) {
            self.begin(true);
        } else if !trimmed.trim_end().is_empty() && self.indent.is_some_and(|list| indent < list) {
            self.begin(false);
        }
        if !trimmed.trim_end().is_empty() {
            self.is_expected = ["containers:", "initContainers:"].contains(&key);
        }
        if names_etcd(trimmed) {
            self.kinds.last_mut().into_iter().for_each(|(_, is_etcd)| *is_etcd = true);
        }
        self.kinds.len() - 1
    }

    fn begin(&mut self, is_container: bool) {
        if !is_container {
            self.indent = None;
        }
        self.kinds.push((is_container, false));
    }

    fn is_of_etcd(&self, scope: usize) -> bool {
        let (is_container, is_etcd) = self.kinds[scope];
        is_etcd || !is_container
    }
}

/// Whether a line of a container has etcd as its program or its image.
fn names_etcd(line: &str) -> bool {
    const OTHER_KEYS: &[&str] = &["mountPath:", "path:", "name:", "subPath:"];
    let is_other = OTHER_KEYS.iter().any(|key| line.trim_start_matches("- ").starts_with(key));
    let is_etcd = |word: &str| {
        let name = word.rsplit('/').next().unwrap_or_default();
        name.split([':', '@']).next() == Some("etcd")
    };
    !is_other && words_of(line).into_iter().any(|range| is_etcd(&line[range]))
}
