//! A proxy that delays the connection to a server on this machine, for kernels without netem. It
//! delays every byte, in both directions, and does not limit the bandwidth.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// As much as is read at once.
const BUFFER: usize = 1 << 18;

/// Listens until this process ends; returns the port. `delay` is the time there and back.
pub fn start(delay: Duration, port: u16) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let own_port = listener.local_addr()?.port();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                // The handshake, which the kernel has done already.
                thread::sleep(delay);
                connect(&near, port, delay / 2)
            });
        }
    });
    Ok(own_port)
}

fn connect(near: &TcpStream, port: u16, delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for stream in [near, &far] {
        stream.set_nodelay(true)?;
    }
    carry(near.try_clone()?, far.try_clone()?, delay);
    carry(far, near.try_clone()?, delay);
    Ok(())
}

/// One direction, until its end, which takes as long as everything else.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let is_taken = sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_ok();
            if length == 0 || !is_taken {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_takes_its_time() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let delay = Duration::from_millis(40);
        let own = start(delay, port).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, own)).unwrap();
        let begin = Instant::now();
        stream.write_all(b"ping").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "ping");
        assert!(begin.elapsed() >= 2 * delay, "{:?}", begin.elapsed());
    }
}
