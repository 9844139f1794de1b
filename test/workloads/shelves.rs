// A Rust program with the system allocator: strings, maps, boxed traits, threads, a panic that is
// caught.
use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;
use std::sync::{Arc, Mutex};

trait Shape {
    fn area(&self) -> f64;
}
struct Square(f64, Vec<u8>);
impl Shape for Square {
    fn area(&self) -> f64 {
        self.0 * self.0 + self.1.len() as f64
    }
}

#[inline(never)]
fn fill_shelves(count: usize) -> HashMap<String, Vec<u64>> {
    let mut shelves = HashMap::new();
    for i in 0..count {
        shelves.insert(format!("shelf number {} of the house", i), vec![i as u64; 100]);
    }
    shelves
}

#[inline(never)]
fn make_shapes(count: usize) -> Vec<Box<dyn Shape>> {
    (0..count).map(|i| Box::new(Square(i as f64, vec![0; 500])) as Box<dyn Shape>).collect()
}

fn main() {
    let shared = Arc::new(Mutex::new(BTreeMap::new()));
    let threads: Vec<_> = (0..3)
        .map(|t| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for i in 0..2000 {
                    shared.lock().unwrap().insert(t * 2000 + i, "x".repeat(300));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let shelves = fill_shelves(20000);
    let shapes = make_shapes(5000);
    let area: f64 = shapes.iter().map(|s| s.area()).sum();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = std::panic::catch_unwind(|| panic!("{}", "p".repeat(100))).is_err();
    let entries = shared.lock().unwrap().len();
    println!("{} shelves, {} entries, area {}, caught {}", shelves.len(), entries, area, caught);
    println!("ready");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    std::process::exit(5);
}
