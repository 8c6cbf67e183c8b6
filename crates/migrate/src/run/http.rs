//! One HTTP request to a server on this machine: `/health` and `/version`, and both APIs of etcd.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// In bytes. What is asked for here is shorter, and of the old value of a key nobody needs the
/// rest.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// What a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRequest<'a> {
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    pub body: &'a str,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    pub body: String,
}

/// Asks without a body.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<HttpResponse> {
    send(address, HttpRequest { method: "GET", path, body: "" }, timeout)
}

/// Sends a request. `timeout` limits the connection and each read and write.
pub fn send(
    address: SocketAddr,
    request: HttpRequest<'_>,
    timeout: Duration,
) -> io::Result<HttpResponse> {
    let HttpRequest { method, path, body } = request;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // A server of HTTP/1.0 ends its answer with the connection, and sends it in one piece.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn parse(text: &str) -> Option<HttpResponse> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(HttpResponse { status, body: body.to_owned() })
}

impl HttpResponse {
    /// The body as a JSON object; `Value::Null` when it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            let answer = b"HTTP/1.1 503 Service Unavailable\r\nX: y\r\n\r\n{\"health\":\"false\"}";
            stream.write_all(answer).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let answer = get(address, "/health", Duration::from_secs(5)).unwrap();
        assert_eq!(answer, HttpResponse { status: 503, body: "{\"health\":\"false\"}".to_owned() });
        assert!(server.join().unwrap().starts_with("GET /health HTTP/1.0\r\n"));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in ["", "HTTP/1.1 200 OK", "SSH-2.0\r\n\r\n", "HTTP/1.1 OK\r\n\r\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_has_no_fields() {
        let json = |body: &str| HttpResponse { status: 200, body: body.to_owned() }.json();
        assert_eq!(json(r#"{"etcdcluster": "3.5.0"}"#)["etcdcluster"], "3.5.0");
        assert_eq!(json(r#"{"health":true}"#)["health"], true);
        for body in ["", "3.5.0", "{\"etcdcluster\": \"3.5.0\"", &"[".repeat(100_000)] {
            assert_eq!(json(body)["etcdcluster"], Value::Null);
        }
    }
}
