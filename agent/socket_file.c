#include "socket_file.h"

#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/base/confinement.h"
#include "agent.h"
#include "agent/runtime/trusted_path.h"
#include "agent/tree/process_tree.h"

/* Written by the admin thread, the inode last; read by the thread that ends the program. 0: no
 * file. */
static struct sockaddr_un socket_name;
static _Atomic uint64_t socket_device, socket_inode;

void socket_file_remember(const struct listen_address *address) {
  struct stat status;
  if (address->port || lstat(address->socket.local.sun_path, &status) != 0) return;
  socket_name = address->socket.local;
  atomic_store(&socket_device, status.st_dev);
  atomic_store(&socket_inode, status.st_ino);
}

__attribute__((destructor)) static void remove_socket_file(void) {
  if (!atomic_load(&socket_inode) || confinement_forbids_calls() || !agent_is_process(getpid()))
    return;
  if (process_tree_is_last())
    trusted_path_remove_socket(socket_name.sun_path, atomic_load(&socket_device),
                               atomic_load(&socket_inode));
}
