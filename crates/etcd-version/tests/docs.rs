//! `docs/etcd-versions.md` is made from `etcd-versions.json`, so that the two cannot disagree.
//! `ETCDIMG_UPDATE_DOCS=1 cargo test -p etcd-version --test docs` writes it.

use std::fs;

use serde_json::Value;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/etcd-versions.md");

#[test]
fn the_document_is_what_the_table_says() {
    let expected = document(&serde_json::from_str(include_str!("../etcd-versions.json")).unwrap());
    if std::env::var_os("ETCDIMG_UPDATE_DOCS").is_some() {
        fs::write(PATH, &expected).unwrap();
    }
    let is_same = fs::read_to_string(PATH).unwrap() == expected;
    assert!(is_same, "run `ETCDIMG_UPDATE_DOCS=1 cargo test -p etcd-version --test docs`");
}

fn document(table: &Value) -> String {
    let rows = |key: &str| table[key].as_array().unwrap().iter();
    let evidence = rows("evidence").map(|row| {
        let version = text(&row["since"]).or(text(&row["version"])).unwrap();
        format!("| {} | {version} | {} |", text(&row["in"]).unwrap(), reason(row))
    });
    let replay = rows("replay").map(|row| {
        let until = text(&row["until"]).unwrap();
        format!("| {} | {until} | {} |", text(&row["requests"]).unwrap(), reason(row))
    });
    let end_of_life = rows("endOfLife").map(|row| {
        let [minor, date] = ["minor", "date"].map(|key| text(&row[key]).unwrap());
        format!("| {minor} | {date} | [source]({}) |", text(&row["source"]).unwrap())
    });
    let special = rows("flags").filter(|row| row.as_object().unwrap().len() > 2);
    [
        "# What differs between versions of etcd\n",
        "Made from `crates/etcd-version/etcd-versions.json`; change that file. `etcdimg` and `migrate`\n\
         take their rules from it and from nowhere else.\n",
        "## Patches that the data must have seen before another minor version\n",
        "| way | required | wanted | because |\n|---|---|---|---|",
        &lines(rows("floors").map(floor)),
        "## Requests in the log, and the last version that replays them\n",
        "| requests | until | because |\n|---|---|---|",
        &lines(replay),
        "## What a database says without naming its version\n",
        "| what | version | because |\n|---|---|---|",
        &lines(evidence),
        "## End of life\n",
        "| minor | date | |\n|---|---|---|",
        &lines(end_of_life),
        "## Flags that not every version knows, or that mean something to a migration\n",
        "All other flags in the table are known to every version and kept.\n",
        "| flag | versions | to the others | in the servers of a migration |\n|---|---|---|---|",
        lines(special.map(flag)).trim_end(),
        "",
    ]
    .join("\n")
}

fn floor(row: &Value) -> String {
    let minor = text(&row["minor"]).unwrap();
    let way = match text(&row["before"]) {
        Some(next) => format!("{minor} to {next}"),
        None => format!("{} to {minor}", text(&row["after"]).unwrap()),
    };
    let [required, wanted] = ["required", "wanted"].map(|key| text(&row[key]).unwrap_or_default());
    format!("| {way} | {required} | {wanted} | {} |", reason(row))
}

fn flag(row: &Value) -> String {
    let versions = match (text(&row["since"]), text(&row["until"])) {
        (None, None) => "all".to_owned(),
        (Some(since), None) => format!("{since} and later"),
        (None, Some(until)) => format!("up to {until}"),
        (Some(since), Some(until)) if since == until => since.to_owned(),
        (Some(since), Some(until)) => format!("{since} to {until}"),
    };
    let instead = &row["instead"];
    let others = if let Some(twin) = text(&row["twin"]) {
        format!("`--{twin}`")
    } else if let Some(gate) = text(&row["gate"]) {
        format!("`--feature-gates={gate}=…`")
    } else if let Some(name) = text(&instead["name"]) {
        format!("`--{name}={}`", text(&instead["value"]).unwrap())
    } else {
        text(&row["reason"]).unwrap_or_default().to_owned()
    };
    let between = match (text(&row["leftOut"]), text(&row["refused"])) {
        (Some(reason), _) => format!("left out: {reason}"),
        (_, Some(reason)) => format!("refused: {reason}"),
        (None, None) => "kept".to_owned(),
    };
    format!("| `--{}` | {versions} | {others} | {between} |", text(&row["name"]).unwrap())
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn reason(row: &Value) -> String {
    format!("{} ([source]({}))", text(&row["reason"]).unwrap(), text(&row["source"]).unwrap())
}

fn lines(rows: impl Iterator<Item = String>) -> String {
    rows.flat_map(|row| [row, "\n".to_owned()]).collect()
}
