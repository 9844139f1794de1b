// Threads made by Rust's library. Truth: `created NAME FUNCTION LINE`, - being the name that the
// first thread has.
use std::io::Read;
use std::sync::mpsc;
use std::thread;

#[inline(never)]
fn spawn_plain(gate: mpsc::Receiver<()>) -> thread::JoinHandle<()> {
    thread::spawn(move || { let _ = gate.recv(); })
}

#[inline(never)]
fn spawn_named(gate: mpsc::Receiver<()>) -> thread::JoinHandle<()> {
    let builder = thread::Builder::new().name("rusty".to_string());
    builder.spawn(move || { let _ = gate.recv(); }).unwrap()
}

#[inline(never)]
fn spawn_short(count: usize) {
    for _ in 0..count {
        thread::spawn(|| ()).join().unwrap();
    }
}

fn main() {
    let (open_plain, plain) = mpsc::channel();
    let (open_named, named) = mpsc::channel();
    let handles = vec![spawn_plain(plain), spawn_named(named)];
    spawn_short(11);
    println!("created - spawn_plain 9");
    println!("created rusty spawn_named 15");
    println!("ready");
    let mut byte = [0];
    let _ = std::io::stdin().read(&mut byte);
    drop(open_plain);
    drop(open_named);
    for handle in handles {
        handle.join().unwrap();
    }
}
