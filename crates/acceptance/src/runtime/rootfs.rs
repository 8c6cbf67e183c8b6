//! Runs the image without an engine: unpacked once, each container with a layer of its own over
//! it, in namespaces that util-linux makes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{OTHER_USER, Running, Runtime, RuntimeError, RuntimePod, Signal, find};
use crate::container::{Container, RootFilesystem};
use crate::image_under_test::ImageUnderTest;
use process::{Child, Invocation, Streams};

/// Makes the mounts that a container expects and becomes the container's program. The exit code 125
/// means, as for engines and chroot, that the container could not be started.
const ENTER: &str = r#"
set -e
trap 'exit 125' EXIT
mount -t overlay overlay -o "lowerdir=$IMAGE,upperdir=$OWN/upper,workdir=$OWN/work" "$OWN/root"
cd "$OWN/root"
[ ! -d proc ] || mount -t proc proc proc
if [ -d dev ]; then
  mount -t tmpfs -o mode=755 tmpfs dev
  for name in null zero full random urandom tty; do
    : >"dev/$name"
    mount --bind "/dev/$name" "dev/$name"
  done
fi
while IFS='|' read -r host at; do
  [ -n "$host" ] || continue
  if [ -d "$host" ]; then mkdir -p ".$at"; else mkdir -p ".${at%/*}"; : >>".$at"; fi
  mount --bind "$host" ".$at"
done <<END
$VOLUMES
END
[ "$READ_ONLY" != yes ] || mount -o remount,bind,ro "$OWN/root"
exec env -i "$@"
"#;

/// Holds the network of a pod; prints a line when its loopback device is up.
const HOLD: &str = r#"
set -e
PATH=$PATH:/sbin:/usr/sbin
ip link set lo up 2>/dev/null || "$IMAGE/bin/busybox" ifconfig lo up
echo up
exec sleep 2147483647
"#;

/// The exit code of `ENTER` if the container could not be started.
const NO_CONTAINER: i32 = 125;
/// How long namespaces and mounts may take.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The unpacked image.
#[derive(Debug)]
pub struct Rootfs {
    image: PathBuf,
    environment: BTreeMap<String, String>,
    is_root: bool,
}

impl Rootfs {
    /// Unpacks the image below a folder.
    pub fn new(under_test: &ImageUnderTest, folder: &Path) -> Result<Self, RuntimeError> {
        let image = folder.join("image");
        let failed = || format!("cannot unpack the image into {}", image.display());
        fs::create_dir_all(&image).map_err(RuntimeError::because(failed()))?;
        under_test.unpack(&image).map_err(RuntimeError::because(failed()))?;
        // Engines make these folders, too.
        for name in ["proc", "dev", "tmp"] {
            fs::create_dir_all(image.join(name)).map_err(RuntimeError::because(failed()))?;
        }
        let is_root = rustix::process::geteuid().is_root();
        Ok(Self { image, environment: under_test.environment(), is_root })
    }
}

impl Runtime for Rootfs {
    fn name(&self) -> &'static str {
        "rootfs"
    }

    fn check(&self, folder: &Path) -> Result<(), RuntimeError> {
        let pod = self.hold(folder)?;
        let mut running = pod.enter(&Container::default(), &[path_of("true")])?;
        match running.wait(START_TIMEOUT)? {
            Some(0) => Ok(()),
            _ => Err(no_container(&running.stderr()?)),
        }
    }

    fn other_user(&self) -> Result<(u32, u32), String> {
        let why = "a namespace that a user other than root makes has no other user";
        if self.is_root { Ok(OTHER_USER) } else { Err(why.to_owned()) }
    }

    fn pod(&self, folder: &Path) -> Result<Box<dyn RuntimePod>, RuntimeError> {
        Ok(Box::new(self.hold(folder)?))
    }
}

impl Rootfs {
    /// A network, and the process that holds it.
    fn hold(&self, folder: &Path) -> Result<RootfsPod, RuntimeError> {
        let failed = || RuntimeError::because("cannot make a network for a pod");
        let (reader, writer) = std::io::pipe().map_err(failed())?;
        let mut words = vec!["--pdeathsig", "KILL", "unshare", "--net"];
        if !self.is_root {
            words.extend(["--user", "--map-root-user"]);
        }
        words.extend(["sh", "-c", HOLD]);
        let environment = BTreeMap::from([("IMAGE".to_owned(), self.image.clone().into())]);
        let log = File::create(folder.join("pod.log")).map_err(failed())?;
        let streams = Streams { stdin: None, stdout: writer.into(), stderr: log.into() };
        let holder = invocation(words.into_iter().map(OsString::from).collect(), environment)
            .spawn(streams)
            .map_err(RuntimeError::because("cannot make a network for a pod"))?;
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).map_err(failed())?;
        if line != "up\n" {
            let said = fs::read_to_string(folder.join("pod.log")).unwrap_or_default();
            return Err(RuntimeError::new(format!(
                "cannot make a network for a pod: {}",
                said.trim()
            )));
        }
        Ok(RootfsPod {
            image: self.image.clone(),
            image_environment: self.environment.clone(),
            is_root: self.is_root,
            holder,
            folder: folder.to_owned(),
            count: AtomicU32::new(0),
        })
    }
}

struct RootfsPod {
    image: PathBuf,
    image_environment: BTreeMap<String, String>,
    is_root: bool,
    holder: Child,
    folder: PathBuf,
    count: AtomicU32,
}

impl RuntimePod for RootfsPod {
    fn start(&self, container: &Container) -> Result<Box<dyn Running>, RuntimeError> {
        let mut inside = vec![path_of("chroot")];
        if let Some((uid, gid)) = container.user {
            inside.push(format!("--userspec={uid}:{gid}"));
        }
        inside.push(".".to_owned());
        inside.extend(container.command.iter().cloned());
        Ok(Box::new(self.enter(container, &inside)?))
    }
}

impl RootfsPod {
    /// Starts a program of this machine in a container, with the container's root as its directory.
    fn enter(
        &self,
        container: &Container,
        program: &[String],
    ) -> Result<RootfsRunning, RuntimeError> {
        let failed = || RuntimeError::because(format!("cannot start `{}`", container.line()));
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let own = self.folder.join(format!("container-{count}"));
        for name in ["root", "upper", "work"] {
            fs::create_dir_all(own.join(name)).map_err(failed())?;
        }
        let input = own.join("stdin");
        fs::write(&input, &container.input).map_err(failed())?;
        let create = |name: &str| File::create(own.join(name));
        let streams = Streams {
            stdin: Some(File::open(&input).map_err(failed())?),
            stdout: create("stdout").map_err(failed())?.into(),
            stderr: create("stderr").map_err(failed())?.into(),
        };
        let child = self
            .words(container, program, &own)
            .spawn(streams)
            .map_err(RuntimeError::because(format!("cannot start `{}`", container.line())))?;
        Ok(RootfsRunning { child, own, code: None })
    }

    fn words(&self, container: &Container, program: &[String], own: &Path) -> Invocation {
        let mut words = vec!["--pdeathsig".to_owned(), "KILL".to_owned(), "nsenter".to_owned()];
        words.push(format!("--net=/proc/{}/ns/net", self.holder.id()));
        if !self.is_root {
            words.push(format!("--user=/proc/{}/ns/user", self.holder.id()));
            words.push("--preserve-credentials".to_owned());
        }
        let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts"];
        words.extend(unshare.map(str::to_owned));
        words.extend(["sh", "-c", ENTER, "enter"].map(str::to_owned));
        let environment = self.image_environment.iter().chain(&container.environment);
        words.extend(environment.map(|(name, value)| format!("{name}={value}")));
        words.extend(program.iter().cloned());
        let volumes: Vec<_> = container
            .volumes
            .iter()
            .map(|volume| format!("{}|{}", volume.host.display(), volume.at))
            .collect();
        let read_only = if container.root == RootFilesystem::ReadOnly { "yes" } else { "no" };
        let environment = BTreeMap::from([
            ("IMAGE".to_owned(), self.image.clone().into()),
            ("OWN".to_owned(), own.into()),
            ("READ_ONLY".to_owned(), read_only.into()),
            ("VOLUMES".to_owned(), volumes.join("\n").into()),
        ]);
        invocation(words.into_iter().map(OsString::from).collect(), environment)
    }
}

/// Everything goes through `setpriv`, so that nothing outlives this program.
fn invocation(arguments: Vec<OsString>, environment: BTreeMap<String, OsString>) -> Invocation {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let passed_on = BTreeMap::from([("PATH".to_owned(), path)]);
    Invocation {
        program: "setpriv".into(),
        arguments,
        folder: PathBuf::from("/"),
        passed_on,
        environment,
    }
}

struct RootfsRunning {
    child: Child,
    own: PathBuf,
    code: Option<i32>,
}

impl Running for RootfsRunning {
    fn wait(&mut self, at_most: Duration) -> Result<Option<i32>, RuntimeError> {
        let deadline = Instant::now() + at_most;
        let mut pause = Duration::from_millis(1);
        while self.code.is_none() {
            let lost = RuntimeError::because("the state of a container cannot be read any more");
            self.code = self.child.poll().map_err(lost)?;
            if self.code.is_some() || Instant::now() >= deadline {
                break;
            }
            thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        if self.code == Some(NO_CONTAINER) {
            return Err(no_container(&self.stderr()?));
        }
        Ok(self.code)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), RuntimeError> {
        let number = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        // The first process of the container is the only child of the one that we started.
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let first = children.unwrap_or_default();
        let first = first.split_whitespace().next().and_then(|text| text.parse().ok());
        let Some(first) = first.and_then(rustix::process::Pid::from_raw) else { return Ok(()) };
        match rustix::process::kill_process(first, number) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(RuntimeError::because("cannot send a signal")(error)),
        }
    }

    fn stdout(&self) -> Result<String, RuntimeError> {
        read(&self.own.join("stdout"))
    }

    fn stderr(&self) -> Result<String, RuntimeError> {
        read(&self.own.join("stderr"))
    }
}

impl Drop for RootfsRunning {
    fn drop(&mut self) {
        if self.code.is_none() {
            let _ = self.signal(Signal::Kill);
            let _ = self.child.kill();
        }
        // The kernel creates this folder with mode 0, and only root could remove it like that.
        let _ = fs::set_permissions(self.own.join("work/work"), Permissions::from_mode(0o700));
        // What the container wrote is not needed any more.
        let _ = fs::remove_dir_all(self.own.join("upper"));
    }
}

fn no_container(said: &str) -> RuntimeError {
    RuntimeError::new(format!("namespaces and mounts cannot be made here: {}", said.trim()))
}

/// The path of a program of this machine, which may not be on the PATH of the image.
fn path_of(program: &str) -> String {
    find(program).map_or_else(|| program.to_owned(), |path| path.display().to_string())
}

fn read(path: &Path) -> Result<String, RuntimeError> {
    let bytes =
        fs::read(path).map_err(RuntimeError::because(format!("cannot read {}", path.display())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
