#include "thread_state.h"

_Thread_local struct thread_state thread_state;
_Atomic bool thread_some_have_no_system_calls;
