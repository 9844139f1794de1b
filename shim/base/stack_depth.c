#include "stack_depth.h"

int32_t stack_depth_beyond_default;
