//! Splits `ETCD_CREDS` into arguments as a shell does, but expands nothing.
//!
//! Outside of quotes a backslash is an ordinary character, as in Windows paths, so that text
//! without quotes means what it meant to the old image. That is why no crate for POSIX words is
//! used.

/// A quote without its closing quote.
#[derive(Debug, PartialEq, Eq)]
pub struct Unclosed(char);

impl std::fmt::Display for Unclosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a quote is not closed: {}", self.0)
    }
}

/// The words of a text.
pub fn split(text: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match character {
            '\'' | '"' => quoted(character, &mut characters, word)?,
            other => word.push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to the closing quote. Between double quotes, `\"` and `\\` mean `"` and `\`.
fn quoted(
    quote: char,
    characters: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), Unclosed> {
    while let Some(character) = characters.next() {
        if character == quote {
            return Ok(());
        }
        let is_escape = quote == '"' && character == '\\';
        let next = characters.clone().next().filter(|next| is_escape && "\"\\".contains(*next));
        if next.is_some() {
            characters.next();
        }
        word.push(next.unwrap_or(character));
    }
    Err(Unclosed(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_quotes_are_those_of_the_old_program() {
        for text in ["", "  ", "--a=b  --c\td\n--e", r"--cert-file=C:\certs\a.pem --x \ $HOME *"] {
            let expected: Vec<_> = text.split_whitespace().collect();
            assert_eq!(split(text).unwrap(), expected);
        }
    }

    #[test]
    fn quotes_hold_a_word_together() {
        #[track_caller]
        fn check(text: &str, expected: &[&str]) {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        check(r#"--cert-file="/a dir/c.pem" --x"#, &["--cert-file=/a dir/c.pem", "--x"]);
        check("'--a=b c' d", &["--a=b c", "d"]);
        check(r#"--json={"a":1}"#, &["--json={a:1}"]);
        check(r#"'--json={"a": 1}'"#, &[r#"--json={"a": 1}"#]);
        check(r#""a \"b\" \\ \n $c" '\'"#, &[r#"a "b" \ \n $c"#, r"\"]);
        check(r#"a''b "" '' c"#, &["ab", "", "", "c"]);
        check(r#""C:\Program Files\etcd""#, &[r"C:\Program Files\etcd"]);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_an_error() {
        assert_eq!(split("--a='b c"), Err(Unclosed('\'')));
        assert_eq!(split(r#"--a="b\""#), Err(Unclosed('"')));
    }
}
