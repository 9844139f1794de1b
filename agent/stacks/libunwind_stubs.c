/* What libunwind refers to and is not linked in: unwind information that a program registers with
 * libunwind itself, in a process that has it. Context: agent threads; locks: none. */
#include "libunwind/include/libunwind.h"

/* libunwind's own names for them, as its UNWI_OBJ makes them. */
int _Ux86_64_Idyn_remote_find_proc_info(unw_addr_space_t space, unw_word_t pc,
                                        unw_proc_info_t *info, int need_unwind_info,
                                        void *argument);
void _Ux86_64_Idyn_remote_put_unwind_info(unw_addr_space_t space, unw_proc_info_t *info,
                                          void *argument);

int _Ux86_64_Idyn_remote_find_proc_info(unw_addr_space_t space, unw_word_t pc,
                                        unw_proc_info_t *info, int need_unwind_info,
                                        void *argument) {
  (void)space, (void)pc, (void)info, (void)need_unwind_info, (void)argument;
  return -UNW_ENOINFO;
}

void _Ux86_64_Idyn_remote_put_unwind_info(unw_addr_space_t space, unw_proc_info_t *info,
                                          void *argument) {
  (void)space, (void)info, (void)argument;
}
