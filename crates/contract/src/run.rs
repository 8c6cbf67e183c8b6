//! What the config says of running the image: ports and `PATH`.

/// What etcd's clients and peers connect to, and the two ports that etcd 2 used.
pub const PORTS: [&str; 4] = ["2379/tcp", "2380/tcp", "4001/tcp", "7001/tcp"];

/// For a Linux base that sets no `PATH`.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// For a Windows base that sets no `PATH`.
pub const WINDOWS_PATH: &str = r"C:\usr\local\bin;C:\bin;C:\Windows\system32;C:\Windows";

/// What goes before the `PATH` of a Windows base that sets one.
pub const WINDOWS_PATH_PREFIX: &str = r"C:\usr\local\bin;C:\bin;";

pub const WORKING_DIRECTORY: &str = "/";
pub const WINDOWS_WORKING_DIRECTORY: &str = r"C:\";

/// Set where etcd does not support the machine and must be told to start (etcd,
/// server/etcdmain/etcd.go, checkSupportArch). Its value is the `GOARCH`.
pub const UNSUPPORTED_ARCH: &str = "ETCD_UNSUPPORTED_ARCH";
