//! The JSON that this program writes, with its fields in the order given.
//!
//! An object of `serde_json` would sort its fields, and the feature that keeps their order would
//! change the documents of `etcdimg`, which is built in the same workspace.

use std::fmt::{self, Write};

use serde_json::Value;

/// The number in every document. It rises when a field goes or changes its meaning, not when one
/// comes.
pub const SCHEMA_VERSION: u64 = 1;

/// A document or a part of one; `Display` writes it without spaces.
#[derive(Clone, Debug)]
pub enum Json {
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    pub const NULL: Self = Self::Scalar(Value::Null);

    pub fn bool(value: bool) -> Self {
        Self::Scalar(value.into())
    }

    pub fn number(value: u64) -> Self {
        Self::Scalar(value.into())
    }

    pub fn text(value: impl fmt::Display) -> Self {
        Self::Scalar(value.to_string().into())
    }

    /// `null` for `None`.
    pub fn optional<T>(value: Option<T>, json: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::NULL, json)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(value) => value.fmt(f),
            Self::List(values) => {
                f.write_char('[')?;
                for (index, value) in values.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{value}")?;
                }
                f.write_char(']')
            }
            Self::Object(fields) => {
                f.write_char('{')?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}\"{name}\":{value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_order_is_kept() {
        let json = Json::Object(vec![
            ("z", Json::text("a\"b\\c\nd\u{1}é")),
            ("a", Json::List(vec![Json::NULL, Json::bool(true), Json::number(u64::MAX)])),
        ]);
        assert_eq!(
            json.to_string(),
            r#"{"z":"a\"b\\c\nd\u0001é","a":[null,true,18446744073709551615]}"#
        );
    }
}
