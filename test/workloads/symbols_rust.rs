// Generic, trait and closure names of Rust, for test_symbols.py.
struct Shelf<T> {
    items: Vec<T>,
}
trait Store<T> {
    fn store(&mut self, item: T);
}
impl<T: Clone> Store<T> for Shelf<T> {
    #[inline(never)]
    fn store(&mut self, item: T) {
        self.items.push(item);
    }
}
#[inline(never)]
fn fill_shelf(count: u64) -> usize {
    let mut shelf = Shelf { items: Vec::new() };
    (0..count).for_each(|n| shelf.store(n));
    shelf.items.len()
}
fn main() {
    println!("{}", fill_shelf(std::env::args().count() as u64));
}
