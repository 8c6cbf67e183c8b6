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
        }
    }
    let _ = keys::count(&mut database);
});
