//! The database `member/snap/db`: whatever its bytes are, reading it ends without a panic.
#![no_main]

use std::io::Cursor;

use etcd_migrate::inspect::bolt::Database;
use etcd_migrate::inspect::keys;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(mut database) = Database::open(Cursor::new(bytes)) else { return };
    for name in ["meta", "key", "members", "cluster", "lease", "auth"] {
        if let Ok(Some(bucket)) = database.bucket(name) {
            let _ = database.get(&bucket, "consistent_index");
            let _ = database.each(&bucket, &mut |_, _| ());
            let _ = database.last_key(&bucket);
            let Ok(mut cursor) = database.cursor(&bucket, b"\0\x01") else { continue };
            while let Ok(Some(_)) = cursor.entry() {
                if cursor.advance().is_err() {
                    break;
                }
            }
        }
    }
    let _ = keys::count(&mut database);
});
