//! Where the cache folder of etcdimg is: one rule for the program, `xtask` and the tests.
//!
//! Not responsible for: what is in the folder, or for making it.

use std::ffi::OsString;
use std::path::PathBuf;

/// The folder that `ETCDIMG_CACHE` names, else [`default_folder`]. `None` where no variable says
/// anything.
pub fn cache_folder() -> Option<PathBuf> {
    chosen(|name| std::env::var_os(name))
}

/// Where the cache is when nobody chose a folder: `$XDG_CACHE_HOME/etcdimg`, else
/// `~/.cache/etcdimg`. `None` where neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn default_folder() -> Option<PathBuf> {
    default(|name| std::env::var_os(name))
}

fn chosen(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    folder(&variable, "ETCDIMG_CACHE").or_else(|| default(variable))
}

fn default(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let home = || Some(PathBuf::from(variable("HOME")?).join(".cache"));
    let caches = folder(&variable, "XDG_CACHE_HOME").or_else(home)?;
    Some(caches.join("etcdimg"))
}

/// An empty variable is one that is not set.
fn folder(variable: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: Option<&str>) {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        assert_eq!(chosen(variable), expected.map(PathBuf::from));
    }

    #[test]
    fn the_most_particular_variable_decides() {
        check(&[("HOME", "/h")], Some("/h/.cache/etcdimg"));
        check(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], Some("/x/etcdimg"));
        check(&[("XDG_CACHE_HOME", "/x"), ("ETCDIMG_CACHE", "/e")], Some("/e"));
        check(&[("HOME", "/h"), ("ETCDIMG_CACHE", "/e")], Some("/e"));
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        check(
            &[("HOME", "/h"), ("XDG_CACHE_HOME", ""), ("ETCDIMG_CACHE", "")],
            Some("/h/.cache/etcdimg"),
        );
        check(&[("XDG_CACHE_HOME", "")], None);
        check(&[], None);
    }
}
