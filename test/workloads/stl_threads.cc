// A C++ program as people write them: containers, strings, shared pointers, futures and a pool of
// threads.
#include <algorithm>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace inventory {

struct item {
  std::string name;
  std::vector<double> prices;
};

class catalogue {
 public:
  __attribute__((noinline)) void insert(int key) {
    auto made = std::make_shared<item>();
    std::ostringstream name;
    name << "item number " << key << " with a name that does not fit into the string itself";
    made->name = name.str();
    made->prices.assign(200, key);
    std::lock_guard<std::mutex> guard(lock_);
    items_[key] = std::move(made);
  }
  size_t size() const { return items_.size(); }
  double sum() const {
    double total = 0;
    for (const auto &entry : items_)
      total += entry.second->prices[0] + static_cast<double>(entry.second->name.size());
    return total;
  }

 private:
  std::mutex lock_;
  std::map<int, std::shared_ptr<item>> items_;
};

template <typename Function>
__attribute__((noinline)) std::unordered_map<int, std::vector<int>> build_index(int count,
                                                                                Function function) {
  std::unordered_map<int, std::vector<int>> index;
  for (int i = 0; i < count; i++) index[function(i)].push_back(i);
  return index;
}

} // namespace inventory

int main() {
  inventory::catalogue catalogue;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([t, &catalogue] {
      for (int i = 0; i < 5000; i++) catalogue.insert(t * 5000 + i);
    });
  for (auto &thread : threads) thread.join();
  auto future = std::async(std::launch::async, [] {
    return inventory::build_index(200000, [](int i) { return i % 5000; });
  });
  auto index = future.get();
  std::cout << catalogue.size() << " items, sum " << catalogue.sum() << ", index " << index.size()
            << std::endl;
  try {
    throw std::runtime_error(std::string(1000, 'e'));
  } catch (const std::exception &error) {
    std::cout << "caught " << std::string(error.what()).size() << " characters" << std::endl;
  }
  std::cout << "ready" << std::endl;
  std::string line;
  std::getline(std::cin, line);
  return 3;
}
