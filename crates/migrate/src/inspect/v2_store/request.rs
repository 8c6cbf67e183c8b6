//! A request of the v2 API as the log holds it (`etcdserverpb.Request`).

use std::borrow::Cow;

use crate::inspect::protobuf::{self, Value, fields};

/// A request. Text that is not UTF-8 is as the snapshot of a server has it, and all its clients:
/// with U+FFFD in place of what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub path: Cow<'a, str>,
    pub value: Cow<'a, str>,
    /// The key is to be a folder.
    pub is_folder: bool,
    /// In nanoseconds since 1970; `None` means never.
    pub expires: Option<i64>,
    /// Only the expiration changes (`refresh`).
    pub keeps_value: bool,
    pub change: Change<'a>,
}

/// What a request does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Creates a key with a name of its own in a folder.
    CreateUnique,
    /// Creates a key that does not exist.
    Create,
    Set,
    /// Changes a key that exists.
    Update,
    /// Changes a key that has this value and this modified index; empty and 0 are not compared.
    CompareAndSwap {
        value: Cow<'a, str>,
        index: u64,
    },
    Delete {
        folder: bool,
        recursive: bool,
    },
    CompareAndDelete {
        value: Cow<'a, str>,
        index: u64,
    },
    /// Removes what has expired until then, in nanoseconds since 1970.
    Expire {
        until: i64,
    },
}

impl Request<'static> {
    /// What servers note about their members, without its value.
    pub(super) const NOTE: Self = Self {
        path: Cow::Borrowed(""),
        value: Cow::Borrowed(""),
        is_folder: false,
        expires: None,
        keeps_value: false,
        change: Change::Set,
    };
}

impl<'a> Request<'a> {
    /// Reads a message; `None` if it changes nothing, such as a health check, or is no such
    /// request.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let text =
            |field| String::from_utf8_lossy(protobuf::bytes(message, field).unwrap_or_default());
        let number = |field| protobuf::number(message, field);
        let is = |field| number(field) != 0;
        let previous_value = text(6);
        let previous_index = number(7);
        let compares = previous_index > 0 || !previous_value.is_empty();
        let change = match text(2).as_ref() {
            "POST" => Change::CreateUnique,
            "PUT" => match optional(message, 8) {
                Some(0) => Change::Create,
                Some(_) if !compares => Change::Update,
                None if !compares => Change::Set,
                _ => Change::CompareAndSwap { value: previous_value, index: previous_index },
            },
            "DELETE" if compares => {
                Change::CompareAndDelete { value: previous_value, index: previous_index }
            }
            "DELETE" => Change::Delete { folder: is(5), recursive: is(12) },
            "SYNC" => Change::Expire { until: number(15).cast_signed() },
            _ => return None,
        };
        Some(Self {
            path: text(3),
            value: text(4),
            is_folder: is(5),
            expires: Some(number(9).cast_signed()).filter(|time| *time != 0),
            keeps_value: is(17),
            change,
        })
    }
}

/// The last value of a number field that says something even when it is 0.
fn optional(message: &[u8], field: u64) -> Option<u64> {
    let numbers = fields(message).filter_map(|(number, value)| match value {
        Value::Number(value) if number == field => Some(value),
        _ => None,
    });
    numbers.last()
}
