//! Messages of raft and etcd: every field is inside of the message that it was read from.
#![no_main]

use etcd_migrate::inspect::protobuf::{self, Value};

libfuzzer_sys::fuzz_target!(|message: &[u8]| walk(message, 8));

fn walk(message: &[u8], depth: u32) {
    for (field, value) in protobuf::fields(message) {
        let _ = protobuf::number(message, field);
        let _ = protobuf::bytes(message, field);
        if let Value::Bytes(bytes) = value {
            assert!(bytes.len() <= message.len());
            if depth > 0 {
                walk(bytes, depth - 1);
            }
        }
    }
}
