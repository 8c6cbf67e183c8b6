//! A release host on 127.0.0.1 that does what its script says, lies included, and records
//! what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough that the other side has read what was sent before.
const MOMENT: Duration = Duration::from_millis(50);

pub struct ReleaseServer {
    address: SocketAddr,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    answers: Mutex<BTreeMap<String, VecDeque<FakeResponse>>>,
    requests: Mutex<Vec<RecordedRequest>>,
}

#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// With the query.
    pub target: String,
    pub at: Instant,
    headers: BTreeMap<String, String>,
}

impl RecordedRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// One response. By default it honours `Range` and is complete.
#[derive(Clone, Debug)]
pub struct FakeResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    ranges: bool,
    length: bool,
    authorization: Option<(String, String)>,
    delay: Duration,
    ending: Ending,
}

/// What happens after so many bytes of the body.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Complete,
    Close(usize),
    Reset(usize),
    Stall(usize),
}

impl FakeResponse {
    pub fn file(body: &[u8]) -> Self {
        Self { body: body.to_vec(), ranges: true, ..Self::status(200) }
    }

    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            ranges: false,
            length: true,
            authorization: None,
            delay: Duration::ZERO,
            ending: Ending::Complete,
        }
    }

    pub fn redirect(to: &str) -> Self {
        Self::status(307).header("location", to)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without_ranges(self) -> Self {
        Self { ranges: false, ..self }
    }

    /// The body ends with the connection.
    pub fn without_length(self) -> Self {
        Self { length: false, ..self }
    }

    pub fn closed_after(self, bytes: usize) -> Self {
        Self { ending: Ending::Close(bytes), ..self }
    }

    pub fn reset_after(self, bytes: usize) -> Self {
        Self { ending: Ending::Reset(bytes), ..self }
    }

    pub fn stalled_after(self, bytes: usize) -> Self {
        Self { ending: Ending::Stall(bytes), ..self }
    }

    pub fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Requests without this authorization get a 401 with this challenge.
    pub fn only_for(self, authorization: &str, challenge: &str) -> Self {
        Self { authorization: Some((authorization.to_owned(), challenge.to_owned())), ..self }
    }

    fn to(&self, request: &RecordedRequest) -> Self {
        if let Some((authorization, challenge)) = &self.authorization
            && request.header("authorization") != Some(authorization)
        {
            return Self::status(401).header("www-authenticate", challenge);
        }
        let mut answer = self.clone();
        if let Some(start) = request.header("range").filter(|_| self.ranges) {
            let start = start.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            answer.status = 206;
            let (end, total) = (self.body.len() - 1, self.body.len());
            answer.headers.push(("content-range".into(), format!("bytes {start}-{end}/{total}")));
            answer.body = self.body[start..].to_vec();
        }
        answer
    }

    fn send(&self, stream: &mut TcpStream) -> io::Result<()> {
        thread::sleep(self.delay);
        write!(stream, "HTTP/1.1 {} Said\r\nconnection: close\r\n", self.status)?;
        if self.length {
            write!(stream, "content-length: {}\r\n", self.body.len())?;
        }
        for (name, value) in &self.headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        let sent = match self.ending {
            Ending::Complete => self.body.len(),
            Ending::Close(bytes) | Ending::Reset(bytes) | Ending::Stall(bytes) => bytes,
        };
        stream.write_all(&self.body[..sent.min(self.body.len())])?;
        match self.ending {
            // A socket that is closed with something unread sends a reset: see `read_request`.
            Ending::Reset(_) => thread::sleep(MOMENT),
            Ending::Stall(_) => thread::sleep(Duration::from_secs(3)),
            Ending::Complete | Ending::Close(_) => stream.read_exact(&mut [0])?,
        }
        Ok(())
    }
}

impl ReleaseServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script::default());
        let scripted = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let script = Arc::clone(&scripted);
                // The client hanging up is part of some scripts.
                thread::spawn(move || script.serve(stream?));
            }
        });
        Self { address, script }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The answers for one path, in order; the last one is repeated.
    pub fn on(&self, path: &str, answers: impl Into<VecDeque<FakeResponse>>) -> String {
        self.script.answers.lock().unwrap().insert(path.to_owned(), answers.into());
        self.url(path)
    }

    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.script.requests.lock().unwrap().clone()
    }

    /// Of each request, a header that may be missing.
    pub fn received(&self, header: &str) -> Vec<Option<String>> {
        self.requests().iter().map(|r| r.header(header).map(ToOwned::to_owned)).collect()
    }
}

impl Script {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let request = read_request(&mut stream)?;
        let answer = self.answer(&request).to(&request);
        self.requests.lock().unwrap().push(request);
        answer.send(&mut stream)
    }

    fn answer(&self, request: &RecordedRequest) -> FakeResponse {
        let path = request.target.split('?').next().unwrap();
        match self.answers.lock().unwrap().get_mut(path) {
            Some(answers) if answers.len() > 1 => answers.pop_front().unwrap(),
            Some(answers) => answers[0].clone(),
            None => FakeResponse::status(404),
        }
    }
}

/// Leaves the very last byte unread, so that closing the socket resets the connection: the
/// standard library has no stable way to set `SO_LINGER`.
fn read_request(stream: &mut TcpStream) -> io::Result<RecordedRequest> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(RecordedRequest { target, at: Instant::now(), headers })
}
