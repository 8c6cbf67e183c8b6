//! What `migrate` prints for programs is what the published schemas say. They know every field, so
//! that a new one fails the tests until it is described.
//!
//! Understands the words of JSON Schema that these files use, and no other: a crate for all of them
//! would take longer to compile than everything else here.

use std::sync::LazyLock;

use serde_json::Value;

/// A published schema.
pub struct Schema(LazyLock<Value>);

macro_rules! published {
    ($name:literal) => {
        Schema(LazyLock::new(|| {
            let text = include_str!(concat!("../../../../docs/migrate-", $name, ".schema.json"));
            serde_json::from_str(text).unwrap()
        }))
    };
}

pub static EVENT: Schema = published!("event");
pub static CHECK: Schema = published!("check");
pub static PLAN: Schema = published!("plan");
pub static STATUS: Schema = published!("status");

impl Schema {
    /// The document, which must be as the schema says.
    #[track_caller]
    pub fn read(&self, text: &str) -> Value {
        let document = serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        self.check(&document);
        document
    }

    #[track_caller]
    pub fn check(&self, document: &Value) {
        if let Err(fault) = validate(&self.0, document, "") {
            panic!("{fault} in {document}");
        }
    }
}

/// The first fault of a value, with its place.
fn validate(schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    for (word, rule) in schema.as_object().unwrap() {
        let is_kept = match word.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => rule == kind(value) || list(rule).any(|it| it == kind(value)),
            "const" => rule == value,
            "enum" => list(rule).any(|it| it == value),
            "minimum" => value.is_null() || value.as_u64() >= rule.as_u64(),
            "minItems" => list(value).count() as u64 >= rule.as_u64().unwrap(),
            "uniqueItems" => {
                let mut items: Vec<_> = list(value).map(ToString::to_string).collect();
                items.sort();
                items.windows(2).all(|pair| pair[0] != pair[1])
            }
            "required" => list(rule).all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => {
                let known = &schema["properties"];
                value
                    .as_object()
                    .is_none_or(|fields| fields.keys().all(|name| known.get(name).is_some()))
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        validate(schema, value, &format!("{place}/{name}"))?;
                    }
                }
                true
            }
            "items" => {
                for (index, item) in list(value).enumerate() {
                    validate(rule, item, &format!("{place}/{index}"))?;
                }
                true
            }
            "oneOf" => {
                let faults: Vec<_> =
                    list(rule).filter_map(|one| validate(one, value, place).err()).collect();
                if faults.len() + 1 != list(rule).count() {
                    return Err(format!("{place}: not one of them: {}", faults.join("; ")));
                }
                true
            }
            other => panic!("the word `{other}` of JSON Schema is not understood here"),
        };
        if !is_kept {
            return Err(format!("{place}: not {word} {rule}: {value}"));
        }
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn what_is_unknown_or_missing_is_noticed() {
    let is_plan = |more: &str| {
        let text = format!(
            r#"{{"schemaVersion":1,"dataDirectory":"/d","from":null,"target":"3.7.1/etcd3"{more}}}"#
        );
        validate(&PLAN.0, &serde_json::from_str(&text).unwrap(), "").is_ok()
    };
    assert!(is_plan(r#","steps":[{"action":"record","version":"3.7.1"}]"#));
    for wrong in [
        "",
        r#","steps":[],"new":1"#,
        r#","steps":[{"action":"record","version":"3.7.1","new":1}]"#,
        r#","steps":[{"action":"record"}]"#,
        r#","steps":[{"action":"record","version":3}]"#,
        r#","steps":[{"action":"other","version":"3.7.1"}]"#,
        r#","steps":[{"action":"drop-v2","version":"3.5.33","way":"other"}]"#,
        r#","steps":[],"restore":{"snapshot":"/s","tool":"3.5.33","only":"no"}"#,
    ] {
        assert!(!is_plan(wrong), "{wrong}");
    }
}

/// Every object of the schemas, and every one inside of it.
fn objects(schema: &Value, each: &mut dyn FnMut(&Value)) {
    if schema["type"] == "object" {
        each(schema);
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|value| objects(value, each)),
        Value::Array(items) => items.iter().for_each(|value| objects(value, each)),
        _ => {}
    }
}

#[test]
fn no_object_may_have_fields_that_are_not_described() {
    for schema in [&EVENT, &CHECK, &PLAN, &STATUS] {
        let mut count = 0;
        objects(&schema.0, &mut |object| {
            count += 1;
            assert_eq!(object["additionalProperties"], false, "{object}");
            let properties = object["properties"].as_object().unwrap();
            assert!(
                list(&object["required"])
                    .all(|name| properties.contains_key(name.as_str().unwrap()))
            );
        });
        assert!(count > 0);
    }
}
