// Rust's ways to wait, as reallock_cxx20.cc: by_KIND waits ROUNDS times, each time until
// release_KIND, 20 ms after it was seen asleep in a futex call. Truth: `wait FUNCTION LEAF COUNT
// NANOSECONDS AWAKE`, `release FUNCTION LEAF COUNT NANOSECONDS AWAKE`; see there.
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{channel, sync_channel, Receiver, Sender, SyncSender};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: u64 = 10;
const HOLD: Duration = Duration::from_millis(20);

#[inline(never)]
fn by_mutex(m: &Mutex<u64>) { *m.lock().unwrap() += 1; }
#[inline(never)]
fn by_read(l: &RwLock<u64>) { assert!(*l.read().unwrap() < ROUNDS); }
#[inline(never)]
fn by_write(l: &RwLock<u64>) { *l.write().unwrap() += 1; }
#[inline(never)]
fn by_condvar(p: &(Mutex<bool>, Condvar)) {
    let mut set = p.0.lock().unwrap();
    while !*set { set = p.1.wait(set).unwrap(); }
    *set = false;
}
#[inline(never)]
fn by_channel(r: &Receiver<u64>) { r.recv().unwrap(); }
#[inline(never)]
fn by_full_channel(s: &SyncSender<u64>) { s.send(1).unwrap(); }
#[inline(never)]
fn by_park(flag: &AtomicBool) {
    while !flag.swap(false, SeqCst) { thread::park(); }
}
#[inline(never)]
fn by_barrier(b: &Barrier) { b.wait(); }
#[inline(never)]
fn by_join(h: thread::JoinHandle<()>) { h.join().unwrap(); }

#[inline(never)]
fn release_mutex(guard: MutexGuard<u64>) { drop(guard); }
#[inline(never)]
fn release_read(guard: RwLockWriteGuard<u64>) { drop(guard); }
#[inline(never)]
fn release_write(guard: RwLockReadGuard<u64>) { drop(guard); }
#[inline(never)]
fn release_condvar(p: &(Mutex<bool>, Condvar)) {
    *p.0.lock().unwrap() = true;
    p.1.notify_one();
}
#[inline(never)]
fn release_channel(s: &Sender<u64>) { s.send(1).unwrap(); }
#[inline(never)]
fn release_full_channel(r: &Receiver<u64>) { r.recv().unwrap(); }
#[inline(never)]
fn release_park(t: &thread::Thread, flag: &AtomicBool) {
    flag.store(true, SeqCst);
    t.unpark();
}
#[inline(never)]
fn release_barrier(b: &Barrier) { b.wait(); }
#[inline(never)]
fn release_join(gate: &mut UnixStream) { gate.write_all(b"x").unwrap(); }

fn time_awake() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

fn take(from: &mut UnixStream) { from.read_exact(&mut [0]).unwrap(); }
fn give(to: &mut UnixStream) { to.write_all(b"x").unwrap(); }

struct Stage {
    base: Instant,
    began: Arc<AtomicU64>, // of the latest wait, ns after base
}

impl Stage {
    // `wait` runs ROUNDS times in a thread of its own; `prepare` gives what `release` needs.
    // Sockets turn the two about: they are no locks.
    fn run<W, P, G, R>(
        &self, name: &str, leafs: (&str, &str), mut wait: W, mut prepare: P, mut release: R,
    ) where
        W: FnMut() + Send + 'static,
        P: FnMut(&thread::Thread) -> G,
        R: FnMut(&thread::Thread, G),
    {
        let (mut mine, mut theirs) = UnixStream::pair().unwrap();
        let (base, began) = (self.base, self.began.clone());
        let waiter = thread::spawn(move || {
            let place = std::fs::read_link("/proc/thread-self").unwrap();
            writeln!(theirs, "{}", place.display()).unwrap();
            let (mut nanoseconds, mut awake) = (0, 0);
            for _ in 0..ROUNDS {
                take(&mut theirs);
                let awake_before = time_awake();
                let start = Instant::now();
                began.store((start - base).as_nanos() as u64, SeqCst);
                wait();
                nanoseconds += start.elapsed().as_nanos();
                awake += time_awake() - awake_before;
                give(&mut theirs);
            }
            (nanoseconds, awake)
        });
        let mut place = String::new();
        while !place.ends_with('\n') {
            let mut byte = [0];
            mine.read_exact(&mut byte).unwrap();
            place.push(byte[0] as char);
        }
        let call = format!("/proc/{}/syscall", place.trim());
        let mut until_release = 0;
        for _ in 0..ROUNDS {
            let held = prepare(waiter.thread());
            give(&mut mine);
            while !std::fs::read_to_string(&call).unwrap().starts_with("202 ") {
                thread::sleep(HOLD / 40);
            }
            thread::sleep(HOLD);
            until_release += self.base.elapsed().as_nanos() as u64 - self.began.load(SeqCst);
            release(waiter.thread(), held);
            take(&mut mine);
        }
        let (waited, awake) = waiter.join().unwrap();
        println!("wait by_{} {} {} {} {}", name, leafs.0, ROUNDS, waited, awake);
        println!("release release_{} {} {} {} {}", name, leafs.1, ROUNDS, until_release, awake);
    }
}

fn main() {
    let stage = Stage { base: Instant::now(), began: Arc::new(AtomicU64::new(0)) };
    let futex = ("syscall", "syscall");

    let mutex: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(0)));
    let hold = |_: &thread::Thread| mutex.lock().unwrap();
    stage.run("mutex", futex, move || by_mutex(mutex), hold, |_, guard| release_mutex(guard));
    let lock: &'static RwLock<u64> = Box::leak(Box::new(RwLock::new(0)));
    let hold = |_: &thread::Thread| lock.write().unwrap();
    stage.run("read", futex, move || by_read(lock), hold, |_, guard| release_read(guard));
    let hold = |_: &thread::Thread| lock.read().unwrap();
    stage.run("write", futex, move || by_write(lock), hold, |_, guard| release_write(guard));
    let pair: &'static (Mutex<bool>, Condvar) =
        Box::leak(Box::new((Mutex::new(false), Condvar::new())));
    stage.run("condvar", futex, move || by_condvar(pair), |_| (), |_, _| release_condvar(pair));
    let (sender, receiver) = channel();
    let wait = move || by_channel(&receiver);
    stage.run("channel", futex, wait, |_| (), |_, _| release_channel(&sender));
    let (sender, receiver) = sync_channel(0);
    let wait = move || by_full_channel(&sender);
    stage.run("full_channel", futex, wait, |_| (), |_, _| release_full_channel(&receiver));
    let flag: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    stage.run("park", futex, move || by_park(flag), |_| (), |thread, _| release_park(thread, flag));
    let barrier: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
    let wait = move || by_barrier(barrier);
    stage.run("barrier", futex, wait, |_| (), |_, _| release_barrier(barrier));
    let (mut open, gate) = UnixStream::pair().unwrap();
    let join = move || {
        let mut gate = gate.try_clone().unwrap();
        by_join(thread::spawn(move || take(&mut gate)))
    };
    stage.run("join", ("pthread_join", "-"), join, |_| (), |_, _| release_join(&mut open));

    assert_eq!((*mutex.lock().unwrap(), *lock.read().unwrap()), (ROUNDS, ROUNDS));
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(6);
}
