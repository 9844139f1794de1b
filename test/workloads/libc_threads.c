/* libc_threads: what libc makes of this program's number of threads, before and after each `ready`.
 */
#include <sys/single_threaded.h>

#include "workload.h"

int main(void) {
  for (int i = 0; i < 3; i++) {
    say("single %d\n", __libc_single_threaded);
    if (!ready()) return 1;
  }
  say("single %d\n", __libc_single_threaded);
  return 0;
}
