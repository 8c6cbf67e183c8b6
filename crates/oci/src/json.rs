//! JSON with sorted keys and no white space: the same value is the same bytes.

use serde_json::Value;

/// Sorts here, because a feature of `serde_json` that any crate may enable changes the order of the
/// map.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            let write_field = |out: &mut Vec<u8>, (key, value): (&String, &Value)| {
                out.extend(Value::from(key.as_str()).to_string().into_bytes());
                out.push(b':');
                write(out, value);
            };
            list(out, [b'{', b'}'], fields, write_field);
        }
        Value::Array(items) => list(out, [b'[', b']'], items, write),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.extend(value.to_string().into_bytes());
        }
    }
}

fn list<T>(
    out: &mut Vec<u8>,
    brackets: [u8; 2],
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut Vec<u8>, T),
) {
    out.push(brackets[0]);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(brackets[1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value: Value =
            serde_json::from_str(r#"{"b": [1, {"z": null, "a": "\"é\n"}], "a": {}}"#).unwrap();
        let text = String::from_utf8(canonical(&value)).unwrap();
        assert_eq!(text, r#"{"a":{},"b":[1,{"a":"\"é\n","z":null}]}"#);
    }
}
