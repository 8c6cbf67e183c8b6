//! A long link to a server on this machine, for kernels without netem: holds every byte back, there
//! and back, and never more than that. `scripts/bench-push` measures over it.
//!
//! `long_link MILLISECONDS PORT` prints the port that it listens on.
#![expect(clippy::disallowed_macros, reason = "what it prints is its interface")]

use std::env;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// As much as is read at once.
const PIECE: usize = 1 << 18;

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1).filter_map(|text| text.parse::<u16>().ok());
    let (Some(there_and_back), Some(port)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: long_link MILLISECONDS PORT"));
    };
    let delay = Duration::from_millis(u64::from(there_and_back)) / 2;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    for near in listener.incoming() {
        let near = near?;
        thread::spawn(move || {
            // The handshake, which the kernel has done already.
            thread::sleep(2 * delay);
            connect(&near, port, delay)
        });
    }
    Ok(())
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
        let mut piece = vec![0; PIECE];
        loop {
            let length = from.read(&mut piece).unwrap_or(0);
            let is_taken = sender.send((Instant::now() + delay, piece[..length].to_vec())).is_ok();
            if length == 0 || !is_taken {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, piece) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
