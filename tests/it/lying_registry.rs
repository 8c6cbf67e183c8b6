//! A registry on 127.0.0.1 that keeps to distribution-spec 1.1, as far as pushing goes, until it
//! is told to lie. It records what it was asked, and notices a tag that names something incomplete.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use etcdimg::digest::Digest;
use serde_json::json;

use crate::lies::{Behaviour, Lie, Rule};
use crate::lying_manifests::{created, manifests, referrers};
use crate::wire::{ReceivedRequest, Reply, read_head, send};

#[derive(Default)]
pub struct State {
    pub blobs: BTreeMap<(String, Digest), Vec<u8>>,
    pub manifests: BTreeMap<(String, Digest), (String, Vec<u8>)>,
    pub tags: BTreeMap<(String, String), Digest>,
    uploads: BTreeMap<u64, Vec<u8>>,
    pub requests: Vec<ReceivedRequest>,
    /// Bytes of blobs that came over the wire, in vain or not.
    pub received: u64,
    /// Tokens that are good now.
    pub valid: BTreeSet<String>,
    tokens: u64,
    /// How long a token lives, where there are any.
    life: Option<&'static str>,
    /// Where so many bytes of blobs have arrived, no more are read until this is `None`.
    pub holds_at: Option<u64>,
    /// Tags that were set to something incomplete.
    pub violations: Vec<String>,
    next: u64,
}

impl State {
    pub fn forget_uploads(&mut self) {
        self.uploads.clear();
    }
}

struct RunningServer {
    address: SocketAddr,
    behaviour: Mutex<Behaviour>,
    rules: Mutex<Vec<Rule>>,
    state: Mutex<State>,
    connections: AtomicUsize,
}

pub struct LyingRegistry(Arc<RunningServer>);

impl LyingRegistry {
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(RunningServer {
            address,
            behaviour: Mutex::new(behaviour),
            rules: Mutex::default(),
            state: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let served = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let inner = Arc::clone(&served);
                // The client hanging up is part of some scripts.
                inner.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let served = stream.and_then(|stream| inner.serve(&stream));
                    inner.connections.fetch_sub(1, Ordering::SeqCst);
                    served
                });
            }
        });
        Self(inner)
    }

    /// The same registry once more.
    pub fn twin(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    pub fn host(&self) -> String {
        self.0.address.to_string()
    }

    /// For requests that match: is honest `turns.0` times, then lies `turns.1` times.
    pub fn lie(self, method: &'static str, part: &str, turns: (usize, usize), lie: Lie) -> Self {
        let (skip, times) = turns;
        let rule = Rule { method, part: part.to_owned(), skip, times, lie, told: 0 };
        self.0.rules.lock().unwrap().push(rule);
        self
    }

    /// A test of a lie that was never told is a test of nothing.
    #[track_caller]
    pub fn assert_each_lie_was_told(&self) {
        for rule in self.0.rules.lock().unwrap().iter() {
            assert!(rule.told > 0, "no lie about {} {}", rule.method, rule.part);
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    pub fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.0.behaviour.lock().unwrap()
    }

    /// Its own token server gives `1`, `2` and so on, which are good until they are revoked.
    pub fn hand_out_tokens(&self, life: &'static str) {
        self.state().life = Some(life);
    }

    /// Waits until all connections are closed: sent bytes still arrive after their sender was
    /// killed. Returns how many bytes of blobs there are.
    pub fn settled(&self) -> u64 {
        while !self.is_alone() {
            thread::sleep(Duration::from_millis(5));
        }
        self.state().received
    }

    pub fn is_alone(&self) -> bool {
        self.0.connections.load(Ordering::SeqCst) == 0
    }

    /// `HEAD manifests`, `POST uploads` and so on, counted.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in &self.state().requests {
            let kind = ["manifests", "uploads", "blobs", "tags", "referrers", "token"]
                .into_iter()
                .find(|kind| request.target.contains(&format!("/{kind}")))
                .unwrap_or("other");
            *counts.entry(format!("{} {kind}", request.method)).or_default() += 1;
        }
        counts
    }
}

impl RunningServer {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream.try_clone()?;
        while let Some(request) = read_head(&mut reader)? {
            self.state.lock().unwrap().requests.push(request.clone());
            let lie = self.lie(&request);
            if !self.tell_lie(&request, lie, &mut reader, &mut writer)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn lie(&self, request: &ReceivedRequest) -> Option<Lie> {
        let mut rules = self.rules.lock().unwrap();
        for rule in rules.iter_mut() {
            // What cannot be cut takes no turn: small blobs may come first or last.
            let is_short = matches!(rule.lie, Lie::Cuts(bytes) if request.length <= bytes);
            if rule.method != request.method || !request.target.contains(&rule.part) || is_short {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                rule.told += 1;
                return Some(rule.lie.clone());
            }
        }
        None
    }

    /// Whether the connection lives on.
    fn tell_lie(
        &self,
        request: &ReceivedRequest,
        lie: Option<Lie>,
        reader: &mut BufReader<TcpStream>,
        writer: &mut TcpStream,
    ) -> io::Result<bool> {
        match lie {
            None => {
                let reply = self.handle(request, reader)?;
                send(request, &reply, writer)?;
            }
            Some(Lie::Says(status, headers, body)) => {
                io::copy(&mut reader.take(request.length as u64), &mut io::sink())?;
                let mut reply = Reply::status(status).body(body.as_bytes());
                for (name, value) in headers {
                    reply = reply.header(name, *value);
                }
                send(request, &reply, writer)?;
            }
            Some(Lie::SaysEarly(status, challenge)) => {
                let reply = Reply::status(status).header("connection", "close");
                send(request, &reply.header("www-authenticate", challenge), writer)?;
                thread::sleep(Duration::from_millis(20));
                return Ok(false);
            }
            Some(Lie::Cuts(bytes)) => {
                let cut = ReceivedRequest { length: request.length.min(bytes), ..request.clone() };
                self.receive(&cut, reader, request.length)?;
                return Ok(false);
            }
            Some(Lie::DoesSilently) => {
                self.handle(request, reader)?;
                return Ok(false);
            }
            Some(Lie::DoesButSays(status)) => {
                self.handle(request, reader)?;
                send(request, &Reply::status(status), writer)?;
            }
            Some(Lie::DoesButHeader(name, value)) => {
                let mut reply = self.handle(request, reader)?;
                reply.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                reply.headers.extend(value.map(|value| (name.to_owned(), value)));
                send(request, &reply, writer)?;
            }
            Some(Lie::DoesButTruncates) => {
                let reply = self.handle(request, reader)?;
                let length = reply.body.len() + 100;
                write!(
                    writer,
                    "HTTP/1.1 {} Said\r\ncontent-length: {length}\r\n\r\n",
                    reply.status
                )?;
                writer.write_all(&reply.body)?;
                return Ok(false);
            }
            Some(Lie::Stalls) => {
                thread::sleep(Duration::from_secs(3));
                return Ok(false);
            }
            Some(Lie::Trickles) => {
                write!(writer, "HTTP/1.1 200 Said\r\nx-slow: ")?;
                for _ in 0..100 {
                    writer.write_all(b"a")?;
                    thread::sleep(Duration::from_millis(50));
                }
                return Ok(false);
            }
            Some(Lie::After(what)) => {
                what(&mut self.state.lock().unwrap());
                let reply = self.handle(request, reader)?;
                send(request, &reply, writer)?;
            }
            Some(Lie::Redirects(status, to)) => {
                io::copy(&mut reader.take(request.length as u64), &mut io::sink())?;
                send(request, &Reply::status(status).header("location", to), writer)?;
            }
        }
        Ok(true)
    }

    fn handle(
        &self,
        request: &ReceivedRequest,
        reader: &mut BufReader<TcpStream>,
    ) -> io::Result<Reply> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        // By its other name it is another host, which gets no secrets and wants none.
        let is_elsewhere = request.header("host").is_some_and(|it| it.starts_with("localhost"));
        if let Some(lets_in) = behaviour.lets_in.as_ref().filter(|_| !is_elsewhere) {
            let said = request.header("authorization").unwrap_or_default();
            let valid = self.state.lock().unwrap().valid.clone();
            let is_good = lets_in.authorization.contains(said) || valid.contains(said);
            if !request.target.starts_with("/token") && !is_good {
                io::copy(&mut reader.take(request.length as u64), &mut io::sink())?;
                let reply = Reply::error(401, "UNAUTHORIZED");
                return Ok(reply.header("www-authenticate", &*lets_in.challenge));
            }
        }
        let path = request.target.split('?').next().unwrap().to_owned();
        if path == "/token" {
            io::copy(&mut reader.take(request.length as u64), &mut io::sink())?;
            let mut state = self.state.lock().unwrap();
            state.tokens += 1;
            let (token, life) = (state.tokens, state.life.unwrap_or("300"));
            state.valid.insert(format!("Bearer {token}"));
            let body = format!(r#"{{"token": "{token}", "expires_in": {life}}}"#);
            return Ok(Reply::status(200).body(body.as_bytes()));
        }
        let Some(path) = path.strip_prefix("/v2/") else { return Ok(Reply::status(404)) };
        if path.is_empty() {
            return Ok(Reply::status(200));
        }
        if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
            return self.upload(&behaviour, request, repository, id, reader);
        }
        let mut body = Vec::new();
        reader.take(request.length as u64).read_to_end(&mut body)?;
        let mut state = self.state.lock().unwrap();
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            let key = (repository.to_owned(), digest.parse().unwrap());
            return Ok(match state.blobs.get(&key) {
                None => Reply::error(404, "BLOB_UNKNOWN"),
                Some(bytes) => {
                    Reply::status(200).header("docker-content-digest", digest).body(bytes)
                }
            });
        }
        if let Some((repository, name)) = path.split_once("/manifests/") {
            return Ok(manifests(&behaviour, &mut state, request, repository, name, &body));
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            let own = state.tags.keys().filter(|(known, _)| known == repository);
            let tags: Vec<_> = own.map(|(_, tag)| tag).collect();
            let body = json!({ "name": repository, "tags": tags }).to_string();
            return Ok(Reply::status(200).body(body.as_bytes()));
        }
        if let Some((repository, digest)) = path.split_once("/referrers/")
            && behaviour.knows_referrers
        {
            return Ok(referrers(&state, repository, digest));
        }
        Ok(Reply::status(404))
    }

    fn upload(
        &self,
        behaviour: &Behaviour,
        request: &ReceivedRequest,
        repository: &str,
        id: &str,
        reader: &mut BufReader<TcpStream>,
    ) -> io::Result<Reply> {
        if request.length > behaviour.largest_body {
            io::copy(&mut reader.take(request.length as u64), &mut io::sink())?;
            return Ok(Reply::status(413));
        }
        if request.method == "POST" {
            let mut body = Vec::new();
            reader.take(request.length as u64).read_to_end(&mut body)?;
            return Ok(self.start(behaviour, request, repository, &body));
        }
        let id: u64 = id.parse().unwrap_or_default();
        if request.method == "PATCH" && !behaviour.takes_chunks {
            io::copy(&mut reader.take(request.length as u64), &mut io::sink())?;
            return Ok(Reply::error(405, "UNSUPPORTED"));
        }
        let known = self.state.lock().unwrap().uploads.get(&id).map(Vec::len);
        let Some(offset) = known else {
            io::copy(&mut reader.take(request.length as u64), &mut io::sink())?;
            return Ok(Reply::error(404, "BLOB_UPLOAD_UNKNOWN"));
        };
        if let Some(range) = request.header("content-range")
            && range.split('-').next().unwrap().parse() != Ok(offset)
        {
            io::copy(&mut reader.take(request.length as u64), &mut io::sink())?;
            return Ok(Reply::error(416, "RANGE_INVALID"));
        }
        self.receive(request, reader, request.length)?;
        let mut state = self.state.lock().unwrap();
        let length = state.uploads.get(&id).map_or(0, Vec::len);
        let location = self.location(behaviour, repository, id);
        Ok(match request.method.as_str() {
            "PATCH" => {
                Reply::status(202).header("location", location).header("range", range(length))
            }
            "GET" => Reply::status(204).header("location", location).header("range", range(length)),
            "PUT" => {
                let bytes = state.uploads.remove(&id).unwrap_or_default();
                let digest: Digest = request.query("digest").unwrap().parse().unwrap();
                if Digest::of(&bytes) != digest {
                    return Ok(Reply::error(400, "DIGEST_INVALID"));
                }
                state.blobs.insert((repository.to_owned(), digest), bytes);
                created(behaviour, digest)
            }
            _ => Reply::status(405),
        })
    }

    fn start(
        &self,
        behaviour: &Behaviour,
        request: &ReceivedRequest,
        repository: &str,
        body: &[u8],
    ) -> Reply {
        let mut state = self.state.lock().unwrap();
        if let Some(digest) = request.query("mount") {
            let digest: Digest = digest.parse().unwrap();
            let from = request.query("from");
            let places: Vec<_> =
                state.blobs.keys().filter(|(_, known)| *known == digest).cloned().collect();
            let found = places.iter().find(|(place, _)| match &from {
                Some(from) if from == repository => behaviour.mounts_own && place == from,
                Some(from) => behaviour.mounts_others && place == from,
                None => behaviour.mounts_from_anywhere,
            });
            if let Some(found) = found {
                let bytes = state.blobs[found].clone();
                state.blobs.insert((repository.to_owned(), digest), bytes);
                return created(behaviour, digest);
            }
        }
        if let Some(digest) = request.query("digest").filter(|_| behaviour.takes_single_post) {
            let digest: Digest = digest.parse().unwrap();
            state.received += body.len() as u64;
            if Digest::of(body) != digest {
                return Reply::error(400, "DIGEST_INVALID");
            }
            state.blobs.insert((repository.to_owned(), digest), body.to_vec());
            return created(behaviour, digest);
        }
        state.next += 1;
        let id = state.next;
        state.uploads.insert(id, Vec::new());
        let mut reply = Reply::status(202)
            .header("location", self.location(behaviour, repository, id))
            .header("range", "0-0");
        if behaviour.smallest_chunk > 0 {
            reply = reply.header("oci-chunk-min-length", behaviour.smallest_chunk.to_string());
        }
        reply
    }

    fn location(&self, behaviour: &Behaviour, repository: &str, id: u64) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/{id}?_state=kept%2Fas-it-is");
        if behaviour.relative_locations { path } else { format!("http://{}{path}", self.address) }
    }

    fn hold(&self) {
        let is_held = |state: &State| state.holds_at.is_some_and(|at| state.received >= at);
        while is_held(&self.state.lock().unwrap()) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Bytes of an upload, as they come; `announced` is how many should.
    fn receive(
        &self,
        request: &ReceivedRequest,
        reader: &mut BufReader<TcpStream>,
        announced: usize,
    ) -> io::Result<()> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        let path = request.target.split('?').next().unwrap().to_owned();
        let id = path.rsplit('/').next().unwrap().parse::<u64>().unwrap_or_default();
        let mut left = request.length;
        let mut buffer = vec![0; 1 << 14];
        let mut error = None;
        while left > 0 {
            self.hold();
            let most = buffer.len().min(left);
            match reader.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(n) => {
                    let mut state = self.state.lock().unwrap();
                    state.received += n as u64;
                    if let Some(upload) = state.uploads.get_mut(&id) {
                        upload.extend_from_slice(&buffer[..n]);
                    }
                    left -= n;
                    drop(state);
                    if let Some(pace) = behaviour.pace {
                        thread::sleep(Duration::from_micros((n * 1000 / pace) as u64));
                    }
                }
                Err(broken) => {
                    error = Some(broken);
                    break;
                }
            }
        }
        if (left > 0 || request.length < announced) && !behaviour.keeps_partial {
            self.state.lock().unwrap().uploads.remove(&id);
        }
        match error {
            Some(error) => Err(error),
            None if left > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Ok(()),
        }
    }
}

fn range(length: usize) -> String {
    format!("0-{}", length.saturating_sub(1))
}
