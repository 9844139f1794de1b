#include "other_processes.h"

const struct other_processes *other_processes;
