//! What `migrate` did: its events by name, from `--log-format=json`, and its plan from `--json`.
//! The names and fields are an interface. Messages are for people, and prove nothing here; a test
//! looks at one only when it is about what a person reads.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::directory::outcome;
use crate::schema::{EVENT, PLAN};

/// The events of one run, in order.
#[derive(Debug, Default)]
pub struct Events(Vec<Value>);

impl Events {
    /// Lines of other programs, such as a wrapper, are ignored.
    pub fn of(log: &str) -> Self {
        let mut events = Self::default();
        log.lines().for_each(|line| events.add(line));
        events
    }

    fn add(&mut self, line: &str) {
        let event = serde_json::from_str(line).ok();
        let event = event.filter(|event: &Value| event["event"].is_string());
        if let Some(event) = &event {
            EVENT.check(event);
        }
        self.0.extend(event);
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |event| event["event"] == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// The messages of the events of this name.
    pub fn messages(&self, name: &str) -> Vec<&str> {
        self.named(name).map(|event| event["message"].as_str().unwrap()).collect()
    }

    /// A count in the last event of this name.
    #[track_caller]
    pub fn count(&self, name: &str, field: &str) -> u64 {
        let event = self.named(name).last().unwrap_or_else(|| panic!("no {name}: {self:?}"));
        event[field].as_u64().unwrap_or_else(|| panic!("no {field}: {event}"))
    }

    /// The only event of this name.
    #[track_caller]
    pub fn only(&self, name: &str) -> &Value {
        let events: Vec<_> = self.named(name).collect();
        assert_eq!(events.len(), 1, "{name}: {self:?}");
        events[0]
    }

    /// The versions of the servers that were started, in order.
    pub fn started(&self) -> Vec<&str> {
        self.named("started").map(|event| event["etcd"].as_str().unwrap()).collect()
    }

    /// Whether the data was copied. A warning of the same name says that an older copy is kept.
    pub fn made_a_copy(&self) -> bool {
        self.named("backup").any(|event| event["level"] == "info")
    }

    /// The one error of a run that failed.
    #[track_caller]
    pub fn error(&self) -> Failure<'_> {
        let errors: Vec<_> = self.0.iter().filter(|event| event["level"] == "error").collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        assert_eq!(errors[0]["event"], "failed", "{self:?}");
        let hints = errors[0]["hints"].as_array().into_iter().flatten();
        Failure {
            id: errors[0]["id"].as_str().unwrap(),
            message: errors[0]["message"].as_str().unwrap(),
            hints: hints.map(|hint| hint.as_str().unwrap()).collect(),
        }
    }
}

/// What a program and a person read of a run that failed.
#[derive(Debug)]
pub struct Failure<'a> {
    /// Stays what it is when the text changes.
    pub id: &'a str,
    pub message: &'a str,
    pub hints: Vec<&'a str>,
}

/// Runs `migrate` to its end. Its exit code and its events.
pub fn run(command: &mut Command) -> (Option<i32>, Events) {
    let (code, _, stderr) = outcome(&command.arg("--log-format=json").output().unwrap());
    (code, Events::of(&stderr))
}

/// What `migrate` would do, as `--plan --json` says.
#[track_caller]
pub fn plan(command: &mut Command) -> Value {
    let (code, stdout, stderr) = outcome(&command.args(["--plan", "--json"]).output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    PLAN.read(&stdout)
}

/// Whether a plan has a downgrade by a snapshot.
pub fn goes_by_snapshot(plan: &Value) -> bool {
    plan["steps"].as_array().unwrap().iter().any(|step| step["way"] == "snapshot")
}

/// A `migrate` at work, whose events are read while they come.
pub struct Running {
    pub child: Child,
    log: BufReader<ChildStderr>,
    pub events: Events,
}

impl Running {
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.arg("--log-format=json").stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, events: Events::default() }
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for the first server.
    #[track_caller]
    pub fn wait_for_server(&mut self) {
        while self.events.started().is_empty() {
            assert!(self.read_line(), "no server was started: {:?}", self.events);
        }
    }

    /// Waits for an event of this name.
    #[track_caller]
    pub fn wait_for_event(&mut self, name: &str) {
        while !self.events.has(name) {
            assert!(self.read_line(), "no event {name}: {:?}", self.events);
        }
    }

    /// Waits for the end. The exit code, and the events of the whole run.
    pub fn end(mut self) -> (Option<i32>, Events) {
        while self.read_line() {}
        (self.child.wait().unwrap().code(), self.events)
    }

    fn read_line(&mut self) -> bool {
        let mut line = String::new();
        let is_more = self.log.read_line(&mut line).unwrap() > 0;
        self.events.add(&line);
        is_more
    }
}
