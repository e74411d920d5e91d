#include "cpu.h"

#if AC_I8MM && defined(__linux__)
#include <sys/auxv.h>

#define I8MM (1ul << 13) /* HWCAP2_I8MM, which older headers lack */

int ac_cpu_i8mm;

__attribute__((constructor)) static void ask(void) { ac_cpu_i8mm = (getauxval(AT_HWCAP2) & I8MM) != 0; }
#elif AC_I8MM
int ac_cpu_i8mm = 1; /* compiled for such CPUs only */
#endif
