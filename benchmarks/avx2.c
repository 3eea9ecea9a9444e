/* Hide AVX-512, AMX and VNNI from a program, so that an Intel server CPU serves as one with AVX2 alone.

       gcc -O2 -shared -fPIC -o avx2.so benchmarks/avx2.c
       LD_PRELOAD=$PWD/avx2.so python benchmarks/speed.py ...

   Linux lets a thread trap the CPUID instruction (arch_prctl(2), ARCH_CPUID; flag cpuid_fault in
   /proc/cpuinfo). The handler answers what the CPU does, without these features, to every library
   that asks: MKL, oneDNN, MLAS. Threads and, by LD_PRELOAD, child processes inherit it. A program's
   own handler of SIGSEGV, which torch's loaders install, is called for real faults only. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

typedef int (*setter)(int, const struct sigaction *, struct sigaction *);

static struct sigaction previous;

static setter real_sigaction(void) { return (setter)dlsym(RTLD_NEXT, "sigaction"); }

int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    if (number != SIGSEGV) return real_sigaction()(number, action, old);
    if (old) *old = previous;
    if (action) previous = *action;
    return 0;
}

static int allow_cpuid(int on) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, on); }

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)registers[REG_RIP];
    if (info->si_code != SI_KERNEL || code[0] != 0x0f || code[1] != 0xa2) {
        real_sigaction()(SIGSEGV, &previous, NULL); /* a real fault, which happens again */
        return;
    }
    uint32_t leaf = registers[REG_RAX], sub = registers[REG_RCX];
    uint32_t a = leaf, b, c = sub, d;
    allow_cpuid(1);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    allow_cpuid(0);
    if (leaf == 7 && sub == 0) {
        /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW,
           4FMAPS, VP2INTERSECT, AMX-BF16, FP16, AMX-TILE, AMX-INT8 */
        b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
        c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
        d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
    } else if (leaf == 7 && sub == 1) {
        a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23)); /* AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA */
        d = 0;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    real_sigaction()(SIGSEGV, &action, &previous);
    if (allow_cpuid(0)) fprintf(stderr, "avx2.so: this CPU or kernel cannot trap CPUID\n");
}
