//! The syntax of etcd's own flags, as they stand among the extra arguments.

/// The last value of a flag among arguments; `name` comes without dashes.
pub fn value_of(name: &str, arguments: &[String]) -> Option<String> {
    let is_named = |argument: &String| parse(argument).is_some_and(|flag| flag.0 == name);
    let at = arguments.iter().rposition(is_named)?;
    let (_, value) = parse(&arguments[at])?;
    value.map(str::to_owned).or_else(|| arguments.get(at + 1).cloned())
}

/// Name and value of a flag. Go takes one dash for two.
pub fn parse(argument: &str) -> Option<(&str, Option<&str>)> {
    let flag = argument.strip_prefix('-')?;
    let flag = flag.strip_prefix('-').unwrap_or(flag);
    Some(flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_however_it_is_written() {
        let value = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
            value_of("name", &arguments)
        };
        assert_eq!(value(&["--name", "a", "-name", "b"]).as_deref(), Some("b"));
        assert_eq!(value(&["-name=a=b", "--other", "c"]).as_deref(), Some("a=b"));
        assert_eq!(value(&["--name"]), None);
        assert_eq!(value(&["name", "--names=a"]), None);
    }
}
