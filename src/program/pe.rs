//! Windows programs.

use object::read::pe::{ImageNtHeaders, PeFile64};

use super::ProgramFacts;

/// The only allowed linkage: libraries that Nano Server has.
pub const SYSTEM_ONLY: &str = "libraries of Windows only";

const SYSTEM: &[&str] = &[
    "advapi32.dll",
    "bcrypt.dll",
    "bcryptprimitives.dll",
    "crypt32.dll",
    "dnsapi.dll",
    "iphlpapi.dll",
    "kernel32.dll",
    "msvcrt.dll",
    "mswsock.dll",
    "ntdll.dll",
    "powrprof.dll",
    "secur32.dll",
    "shell32.dll",
    "ucrtbase.dll",
    "userenv.dll",
    "winmm.dll",
    "ws2_32.dll",
];

/// `None` for anything but a 64-bit PE executable.
pub(super) fn facts(bytes: &[u8]) -> Option<ProgramFacts> {
    let file = PeFile64::parse(bytes).ok()?;
    let machine = file.nt_headers().file_header().machine.get(object::LittleEndian);
    let foreign: Vec<_> = imports(&file)?.into_iter().filter(|name| !is_system(name)).collect();
    let linkage = if foreign.is_empty() {
        SYSTEM_ONLY.to_owned()
    } else {
        format!("also {}", foreign.join(", "))
    };
    Some(ProgramFacts { machine: format!("PE machine 0x{machine:x}"), linkage })
}

fn imports(file: &PeFile64<'_>) -> Option<Vec<String>> {
    let Some(table) = file.import_table().ok()? else { return Some(Vec::new()) };
    let mut names = Vec::new();
    let mut descriptors = table.descriptors().ok()?;
    while let Some(descriptor) = descriptors.next().ok()? {
        let name = table.name(descriptor.name.get(object::LittleEndian)).ok()?;
        names.push(String::from_utf8_lossy(name).to_lowercase());
    }
    Some(names)
}

fn is_system(name: &str) -> bool {
    // API sets are alternative names of Windows libraries.
    name.starts_with("api-ms-win-") || SYSTEM.contains(&name)
}
