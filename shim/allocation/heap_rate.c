#include "heap_rate.h"

#include "shim/base/config.h"

struct heap_rates heap_rates;
uint64_t heap_rates_later[HEAP_RATES_MAX - 1];

bool heap_rate_set(uint64_t rate) {
  uint32_t number = 0;
  while (number < heap_rates.count && heap_rate_of(number) != rate) number++;
  if (number == HEAP_RATES_MAX) return false;
  if (number == heap_rates.count) {
    if (number == 0) heap_rates.first = rate;
    else heap_rates_later[number - 1] = rate;
    heap_rates.count = number + 1;
  }
  atomic_store_explicit(&heap_rates.now, number, memory_order_release);
  atomic_store_explicit(&config.memprofile_rate, rate, memory_order_relaxed);
  return true;
}
