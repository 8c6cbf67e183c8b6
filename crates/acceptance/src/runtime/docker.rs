//! Runs the image in a Docker engine. A pod is a container that only waits; the others share its
//! network. A command that needs no volume and changes no file is run inside of it, which is
//! faster.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bollard::Docker as Engine;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions,
};
use futures_util::{Stream, StreamExt};
use tokio::runtime::Runtime as Tokio;

use super::{GoesOn, Inside, OTHER_USER, Running, Runtime, RuntimeError, RuntimePod, Signal};
use crate::container::{Container, Ended, RootFilesystem};
use crate::image_under_test::ImageUnderTest;
use crate::owner::Owner;
use docker::{self, EngineError};

/// The label of our containers and images, in an engine that others use too.
const LABEL: &str = "dev.etcdimg.test";
/// The image's name in the engine; its tag names the owner, like the label of a container.
const REPOSITORY: &str = "etcdimg-test";

/// Exit codes of a shell for a program that it cannot start.
const NOT_STARTED: i32 = 127;
/// The polling interval of every wait.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long the engine may take for a response that does not depend on a container.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);

/// An engine with the image loaded; it is unloaded when this is dropped.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "an engine has nothing to show")]
pub struct Docker {
    inner: Arc<DockerImage>,
}

struct DockerImage {
    engine: Engine,
    tokio: Tokio,
    owner: String,
    reference: String,
    user: Option<(u32, u32)>,
}

impl Docker {
    /// Loads the image under a name that no other image has, nor another run for this one.
    pub fn new(
        under_test: &ImageUnderTest,
        tokio: Tokio,
        interrupted: &AtomicBool,
    ) -> Result<Self, EngineError> {
        let engine = tokio.block_on(docker::connect())?;
        tokio.block_on(remove_leftovers(&engine));
        let owner = Owner::this().to_string();
        let reference = format!("{REPOSITORY}:{owner}");
        let user = tokio.block_on(user(&engine));
        // Made before the load: dropping it also removes an image that was loaded in part.
        let inner = Arc::new(DockerImage { engine, tokio, owner, reference, user });
        let source = under_test.archive(inner.reference.clone());
        let watching = async {
            while !interrupted.load(Ordering::Relaxed) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        inner.tokio.block_on(async {
            tokio::select! {
                loaded = docker::load(&source) => loaded,
                () = watching => Err(EngineError::Archive(ErrorKind::Interrupted.into())),
            }
        })?;
        Ok(Self { inner })
    }
}

/// The user and group of containers whose image names no user. A caller who is not root gets their
/// own: they could not read, move or remove the files of another user. `None` for root, and for a
/// rootless engine, which maps the container's root to the caller.
async fn user(engine: &Engine) -> Option<(u32, u32)> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let options = engine.info().await.ok().and_then(|it| it.security_options).unwrap_or_default();
    let is_rootless = options.iter().any(|it| it.contains("rootless"));
    (!user.is_root() && !is_rootless).then(|| (user.as_raw(), group.as_raw()))
}

/// Removes containers and images that killed runs left.
async fn remove_leftovers(engine: &Engine) {
    let is_gone = |owner: &str| owner.parse::<Owner>().is_ok_and(|owner| owner.is_gone());
    let filters = HashMap::from([("label", vec![LABEL])]);
    let all = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    for container in engine.list_containers(Some(all)).await.unwrap_or_default() {
        let owner = container.labels.unwrap_or_default().remove(LABEL).unwrap_or_default();
        if let Some(id) = container.id.filter(|_| is_gone(&owner)) {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let _ = engine.remove_container(&id, Some(options)).await;
        }
    }
    let filters = HashMap::from([("reference", vec![REPOSITORY])]);
    let ours = ListImagesOptionsBuilder::new().filters(&filters).build();
    let images = engine.list_images(Some(ours)).await.unwrap_or_default();
    for name in images.into_iter().flat_map(|image| image.repo_tags) {
        let owner = name.strip_prefix(REPOSITORY).and_then(|rest| rest.strip_prefix(':'));
        if owner.is_some_and(is_gone) {
            let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
            let _ = engine.remove_image(&name, Some(options), None).await;
        }
    }
}

impl Drop for DockerImage {
    fn drop(&mut self) {
        let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
        let removing = self.engine.remove_image(&self.reference, Some(options), None);
        let _ = self.tokio.block_on(removing);
    }
}

impl Runtime for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn check(&self, _folder: &Path) -> Result<(), RuntimeError> {
        // If the image has no shell that starts, the engine reports it last, after everything else.
        self.inner.start(&Container::new(["/bin/sh", "-c", "exit 0"]), "none").map(drop)
    }

    fn other_user(&self) -> Result<(u32, u32), String> {
        if rustix::process::geteuid().is_root() {
            return Ok(OTHER_USER);
        }
        self.inner.user.ok_or_else(|| "a rootless engine has no other user".to_owned())
    }

    fn pod(&self, _folder: &Path) -> Result<Box<dyn RuntimePod>, RuntimeError> {
        // The shell ends at once on SIGTERM, because of the trap; process 1 ignores it otherwise.
        let wait = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
        let holder = Container::new(["/bin/sh", "-c", wait]);
        let holder = self.inner.start(&holder, "none")?;
        if let Some(why) = &holder.refused {
            return Err(RuntimeError::of_image(format!("the image's shell does not start: {why}")));
        }
        Ok(Box::new(DockerPod { inner: Arc::clone(&self.inner), holder }))
    }
}

impl DockerImage {
    fn start(
        self: &Arc<Self>,
        container: &Container,
        network: &str,
    ) -> Result<DockerRunning, RuntimeError> {
        let failed = || RuntimeError::because(format!("cannot start `{}`", container.line()));
        let volumes = container.volumes.iter();
        let binds = volumes.map(|it| format!("{}:{}", it.host.display(), it.at)).collect();
        let host_config = HostConfig {
            binds: Some(binds),
            network_mode: Some(network.to_owned()),
            readonly_rootfs: Some(container.root == RootFilesystem::ReadOnly),
            ..HostConfig::default()
        };
        let body = ContainerCreateBody {
            image: Some(self.reference.clone()),
            cmd: Some(command(container)),
            env: Some(environment(container)),
            user: container.user.or(self.user).map(|(uid, gid)| format!("{uid}:{gid}")),
            labels: Some(HashMap::from([(LABEL.to_owned(), self.owner.clone())])),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        };
        let created = self.tokio.block_on(self.engine.create_container(None, body));
        let id = created.map_err(failed())?.id;
        let mut running = DockerRunning { inner: Arc::clone(self), id, refused: None };
        let started = self.engine.start_container(&running.id, None);
        match refusal(self.tokio.block_on(started)).map_err(failed())? {
            Ok(()) => {}
            Err(why) => running.refused = Some(why),
        }
        Ok(running)
    }
}

/// Engines answer "bad request" when the image does not contain the program or the program cannot
/// be started. That is a fault of the image, not of the machine.
fn refusal<T>(answer: Result<T, Error>) -> Result<Result<T, String>, Error> {
    match answer {
        Ok(done) => Ok(Ok(done)),
        Err(Error::DockerResponseServerError { status_code: 400, message }) => Ok(Err(message)),
        Err(error) => Err(error),
    }
}

/// Standard input goes through the shell of the image: no engine loses any of that.
fn command(container: &Container) -> Vec<String> {
    if container.input.is_empty() {
        return container.command.clone();
    }
    let script = "printf '%s' \"$ETCDIMG_TEST_INPUT\" | \"$0\" \"$@\"";
    let shell = ["/bin/sh", "-c", script].map(str::to_owned);
    shell.into_iter().chain(container.command.iter().cloned()).collect()
}

fn environment(container: &Container) -> Vec<String> {
    let variables = container.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let input =
        (!container.input.is_empty()).then(|| format!("ETCDIMG_TEST_INPUT={}", container.input));
    variables.chain(input).collect()
}

struct DockerPod {
    inner: Arc<DockerImage>,
    holder: DockerRunning,
}

impl RuntimePod for DockerPod {
    fn start(&self, container: &Container) -> Result<Box<dyn Running>, RuntimeError> {
        let network = format!("container:{}", self.holder.id);
        Ok(Box::new(self.inner.start(container, &network)?))
    }

    fn run_inside(
        &self,
        container: &Container,
        goes_on: GoesOn<'_>,
    ) -> Option<Result<Inside, RuntimeError>> {
        let is_plain = container.volumes.is_empty()
            && container.user.is_none()
            && container.root == RootFilesystem::Writable;
        is_plain.then(|| self.execute(container, goes_on))
    }
}

impl DockerPod {
    fn execute(&self, container: &Container, goes_on: GoesOn<'_>) -> Result<Inside, RuntimeError> {
        let failed = || RuntimeError::because(format!("cannot run `{}`", container.line()));
        let started = Instant::now();
        let (engine, tokio) = (&self.inner.engine, &self.inner.tokio);
        let config = ExecConfig {
            cmd: Some(command(container)),
            env: Some(environment(container)),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let running = async {
            let id = engine.create_exec(&self.holder.id, config).await?.id;
            let mut ended = Ended::default();
            match refusal(engine.start_exec(&id, None).await)? {
                Ok(StartExecResults::Attached { output, .. }) => {
                    (ended.stdout, ended.stderr) = collect(output).await?;
                }
                Ok(StartExecResults::Detached) => {}
                Err(stderr) => {
                    return Ok(Inside::Ended(Ended { code: NOT_STARTED, stderr, ..ended }));
                }
            }
            let code = engine.inspect_exec(&id).await?.exit_code;
            ended.code = code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
            ended.after = started.elapsed();
            Ok::<_, Error>(Inside::Ended(ended))
        };
        // The engine's answer comes when the program ends, and some do not.
        let watching = async {
            while goes_on(started.elapsed()) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let ended = tokio.block_on(async {
            tokio::select! {
                ended = running => ended,
                () = watching => Ok(Inside::GivenUp),
            }
        });
        ended.map_err(failed())
    }
}

async fn collect(
    output: impl Stream<Item = Result<LogOutput, Error>>,
) -> Result<(String, String), Error> {
    let mut output = Box::pin(output);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.next().await {
        match chunk? {
            LogOutput::StdErr { message } => stderr.extend_from_slice(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                stdout.extend_from_slice(&message);
            }
            LogOutput::StdIn { .. } => {}
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((text(stdout), text(stderr)))
}

struct DockerRunning {
    inner: Arc<DockerImage>,
    id: String,
    /// Why the engine did not start the program.
    refused: Option<String>,
}

impl DockerRunning {
    fn logs(&self) -> Result<(String, String), RuntimeError> {
        if let Some(why) = &self.refused {
            return Ok((String::new(), why.clone()));
        }
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let logs = collect(self.inner.engine.logs(&self.id, Some(options)));
        let logs = async { tokio::time::timeout(RESPONSE_TIMEOUT, logs).await };
        let logs = self.inner.tokio.block_on(logs);
        let late = |_| RuntimeError::new("the engine does not finish sending a log");
        logs.map_err(late)?.map_err(RuntimeError::because("cannot read a log"))
    }

    fn exit_code(&self) -> Result<Option<i32>, RuntimeError> {
        if self.refused.is_some() {
            return Ok(Some(NOT_STARTED));
        }
        let inspected = self.inner.engine.inspect_container(&self.id, None);
        let lost = RuntimeError::because("the state of a container cannot be read any more");
        let state = self.inner.tokio.block_on(inspected).map_err(lost)?.state.unwrap_or_default();
        let has_ended = state.running == Some(false);
        let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
        Ok(code.filter(|_| has_ended))
    }
}

impl Running for DockerRunning {
    fn wait(&mut self, at_most: Duration) -> Result<Option<i32>, RuntimeError> {
        let deadline = Instant::now() + at_most;
        loop {
            let code = self.exit_code()?;
            if code.is_some() || Instant::now() >= deadline {
                return Ok(code);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), RuntimeError> {
        let name = match signal {
            Signal::Term => "SIGTERM",
            Signal::Kill => "SIGKILL",
        };
        let options = KillContainerOptionsBuilder::new().signal(name).build();
        let killed = self.inner.engine.kill_container(&self.id, Some(options));
        match self.inner.tokio.block_on(killed) {
            // It has ended by itself.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(RuntimeError::because("cannot send a signal")(error)),
        }
    }

    fn stdout(&self) -> Result<String, RuntimeError> {
        Ok(self.logs()?.0)
    }

    fn stderr(&self) -> Result<String, RuntimeError> {
        Ok(self.logs()?.1)
    }
}

impl Drop for DockerRunning {
    fn drop(&mut self) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.inner.engine.remove_container(&self.id, Some(options));
        let _ = self.inner.tokio.block_on(removed);
    }
}
