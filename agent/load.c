/* The library's constructor: everything that happens to a program at load, in order. */
#include "shim/base/config.h"
#include "shim/next/startup.h"
#include "agent.h"
#include "agent/runtime/process_info.h"

__attribute__((constructor)) static void agent_load(void) {
  startup_ensure();
  process_arguments_remember();
  agent_start();
  if (config.dump_signals || config.records_cpu) agent_end_prepare(); /* a page of code */
}
