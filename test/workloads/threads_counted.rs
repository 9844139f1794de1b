// threads_counted: counts its threads as Rust's crates do before they read the local offset.
use std::fs;
use std::io::{self, BufRead, Write};

fn field() -> String {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    text.rsplit(") ").next().unwrap().split(' ').nth(17).unwrap().to_string()
}

fn next_line() {
    println!("ready");
    io::stdout().flush().unwrap();
    io::stdin().lock().read_line(&mut String::new()).unwrap();
}

fn main() {
    next_line();
    println!("{} {}", field(), fs::read_dir("/proc/self/task").unwrap().count());
    next_line();
    next_line();
}
