#include "spare_listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/http/process_owner.h"

/* Admin thread only. */
static bool has_spare;
static int spare;
static struct stat spare_file; /* st_ino 0: its path is out of sight here */

bool spare_listener_may_go_to(uid_t user) { return user == 0 || user == process_owner_first(); }

void spare_listener_forget(void) {
  if (has_spare) close(spare);
  has_spare = false;
}

void spare_listener_look(void) {
  if (has_spare && !process_owner_is(0) && !process_owner_is(process_owner_first()))
    spare_listener_forget();
}

void spare_listener_keep(int descriptor, const struct listen_address *address) {
  int listens = 0;
  socklen_t size = sizeof listens;
  bool is_wanted = descriptor >= 0 && address->socket.generic.sa_family == AF_UNIX &&
                   getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 &&
                   listens;
  spare_listener_forget();
  has_spare = is_wanted;
  if (is_wanted) spare = descriptor;
  else if (descriptor >= 0) close(descriptor);
  if (is_wanted && lstat(address->socket.local.sun_path, &spare_file) != 0) spare_file.st_ino = 0;
}

static bool has_lost_its_file(const struct listen_address *address) {
  struct stat now;
  return spare_file.st_ino &&
         (lstat(address->socket.local.sun_path, &now) != 0 || now.st_ino != spare_file.st_ino);
}

int spare_listener_take(const struct listen_address *address) {
  if (!has_spare || has_lost_its_file(address)) return -1;
  has_spare = false;
  return spare;
}
