//! Reads the fields of a protobuf message, one after the other, without a schema.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u64),
    /// Text, bytes, a message, or a number of fixed length.
    Bytes(&'a [u8]),
}

/// Iterates over number and value of each field, up to the end or the first damage.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The fields of a message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// The last value of a number field. 0 if the field is missing: protobuf does not write zeros.
pub fn number(message: &[u8], field: u64) -> u64 {
    let numbers = fields(message).filter_map(|(number, value)| match value {
        Value::Number(value) if number == field => Some(value),
        _ => None,
    });
    numbers.last().unwrap_or_default()
}

/// The last value of a field that is text, bytes or a message.
pub fn bytes(message: &[u8], field: u64) -> Option<&[u8]> {
    let values = fields(message).filter_map(|(number, value)| match value {
        Value::Bytes(value) if number == field => Some(value),
        _ => None,
    });
    values.last()
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_distinguished() {
        let message = [0x08, 0x96, 0x01, 0x12, 3, b'P', b'U', b'T', 0x1d, 1, 2, 3, 4];
        let expected =
            [(1, Value::Number(150)), (2, Value::Bytes(b"PUT")), (3, Value::Bytes(&[1, 2, 3, 4]))];
        assert_eq!(fields(&message).collect::<Vec<_>>(), expected);
        assert_eq!(number(&message, 1), 150);
        assert_eq!(number(&message, 9), 0);
        assert_eq!(bytes(&message, 2), Some(&b"PUT"[..]));
    }

    #[test]
    fn damage_ends_a_message() {
        for message in [&[0x08][..], &[0x12, 200, 1], &[0x0b, 1], &[0xff; 20], &[]] {
            assert_eq!(fields(message).count(), 0, "{message:?}");
        }
    }
}
