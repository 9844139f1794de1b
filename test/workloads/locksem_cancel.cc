// locksem_cancel.c in C++: destructors and catch (...) run on the way out.
#include "locksem_cancel.c"
