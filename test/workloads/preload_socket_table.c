/* A preloaded library that wraps socket(), as libvma, onload and socket_wrapper do: its table comes
 * from calloc, and it ends the program without it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int socket(int domain, int type, int protocol) {
  static int (*next)(int, int, int);
  static void *table;
  if (!next) next = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
  if (!table) table = calloc(65536, 16);
  if (!table) {
    fprintf(stderr, "preload_socket_table: out of memory\n");
    _exit(96);
  }
  return next(domain, type, protocol);
}
