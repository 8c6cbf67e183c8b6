//! What clients have stored, in figures for people and for programs.

use crate::inspect::contents::Contents;
use crate::inspect::contents::compare::AllowedChanges;
use crate::report::json::Json;

/// Such as `10,000 keys, 12,034 revisions, 2 leases, 3 users, 1 role, compacted at 3`.
pub fn figures(contents: &Contents) -> String {
    let mut figures = vec![
        counted(contents.leases, "lease"),
        counted(contents.users, "user"),
        counted(contents.roles, "role"),
    ];
    if contents.compacted > 0 {
        figures.push(format!("compacted at {}", grouped(contents.compacted)));
    }
    let revisions = counted(contents.revisions, "revision");
    let history = match contents.keys {
        Some(keys) => format!("{}, {revisions}", counted(keys, "key")),
        None => format!("revision {}, of which {revisions} were read", grouped(contents.revision)),
    };
    format!("{history}, {}", figures.join(", "))
}

/// The same as fields of an event. Keys and revisions are `null` when not all of them were read.
pub fn fields(contents: &Contents, allowed: &AllowedChanges) -> Vec<(&'static str, Json)> {
    let revisions = contents.keys.map(|_| contents.revisions);
    let list = |texts: Vec<String>| Json::List(texts.into_iter().map(Json::text).collect());
    vec![
        ("keys", Json::optional(contents.keys, Json::number)),
        ("revisions", Json::optional(revisions, Json::number)),
        ("leases", Json::number(contents.leases)),
        ("users", Json::number(contents.users)),
        ("roles", Json::number(contents.roles)),
        ("compactedAt", Json::number(contents.compacted)),
        ("changed", list(allowed.phrases())),
        ("notCompared", list(allowed.unproven.iter().map(ToString::to_string).collect())),
    ]
}

/// The figures with what is to say about them.
pub fn verdict(contents: &Contents, allowed: &AllowedChanges) -> String {
    let mut text = format!("{}: the same", figures(contents));
    for (introduction, phrases) in [
        ("; what changed was allowed to: ", allowed.phrases().join(", ")),
        ("; not compared: ", allowed.unproven.join(", ")),
    ] {
        if !phrases.is_empty() {
            text.push_str(introduction);
            text.push_str(&phrases);
        }
    }
    text
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// With a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_a_sentence_of_figures() {
        let mut contents = Contents::default();
        (contents.keys, contents.revisions) = (Some(10_000), 12_034);
        (contents.leases, contents.users, contents.roles) = (2, 3, 1);
        contents.revision = 1_012_035;
        let mut allowed = AllowedChanges::default();
        assert_eq!(
            verdict(&contents, &allowed),
            "10,000 keys, 12,034 revisions, 2 leases, 3 users, 1 role: the same"
        );
        (contents.keys, contents.compacted) = (None, 900);
        (allowed.ended_leases, allowed.expired_keys) = (1, 12);
        allowed.unproven.push("the history");
        assert_eq!(
            verdict(&contents, &allowed),
            "revision 1,012,035, of which 12,034 revisions were read, 2 leases, 3 users, 1 role, \
             compacted at 900: the same; what changed was allowed to: 1 lease that has ended, 12 \
             keys that leases have deleted; not compared: the history"
        );
        let fields = Json::Object(fields(&contents, &allowed)).to_string();
        assert!(fields.starts_with(r#"{"keys":null,"revisions":null,"leases":2,"#), "{fields}");
    }
}
