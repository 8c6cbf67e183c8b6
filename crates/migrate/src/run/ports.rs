//! Finds free ports on this machine.

use std::net::{Ipv4Addr, TcpListener};

use crate::cli::options::{Port, ServerOptions};
use crate::error::{MigrateError, MigrateErrorKind};

/// Where a server listens for members. Nobody connects there when the member is alone or the port
/// is the default, so then any free port of this machine may be used.
pub fn peer_urls(options: &ServerOptions) -> Result<String, MigrateError> {
    let Some(preferred) = options.peer_port else { return Ok(options.listen_peer_urls.clone()) };
    let port = free_port(Port::Preferred(preferred))?;
    // An address, because `localhost` may be missing or mean something else.
    Ok(format!("http://127.0.0.1:{port}"))
}

/// A port on 127.0.0.1 on which nobody listens now.
pub fn free_port(port: Port) -> Result<u16, MigrateError> {
    let free = |port| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.local_addr().map(|address| address.port())
    };
    let (number, found) = match port {
        Port::Given(number) => (number, free(number)),
        Port::Preferred(number) => (number, free(number).or_else(|_| free(0))),
    };
    found.map_err(|error| {
        MigrateError::new(
            MigrateErrorKind::System,
            format_args!("port {number} on 127.0.0.1 is not free: {error}"),
        )
        .hint("without --port any free port is used")
    })
}
