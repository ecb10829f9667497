#include "cpu_features.hh"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace kv {
namespace {

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All that is asked for, read once: in a virtual machine each cpuid is a call of its host.
struct Cpu {
  Leaf leaf0, leaf1, leaf7, leaf7_1, extended1;
  std::uint32_t os_saves = 0;  // parts of a thread's state
};

Cpu read_cpu() {
  Cpu cpu;
  const auto read = [](Leaf& into, unsigned number, unsigned sub) {
    __cpuid_count(number, sub, into.eax, into.ebx, into.ecx, into.edx);
  };
  const unsigned most = __get_cpuid_max(0, nullptr),
                 most_extended = __get_cpuid_max(1u << 31, nullptr);
  read(cpu.leaf0, 0, 0);
  if (most >= 1) read(cpu.leaf1, 1, 0);
  if (most >= 7) read(cpu.leaf7, 7, 0);
  if (most >= 7 && cpu.leaf7.eax >= 1) read(cpu.leaf7_1, 7, 1);
  if (most_extended >= 0x80000001) read(cpu.extended1, 0x80000001, 0);
  if (cpu.leaf1.ecx >> 27 & 1) {  // OSXSAVE
    std::uint32_t high;
    __asm__("xgetbv" : "=a"(cpu.os_saves), "=d"(high) : "c"(0));
  }
  return cpu;
}

const Cpu& cpu() {
  static const Cpu cpu = read_cpu();
  return cpu;
}

constexpr bool has(unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; }

constexpr std::uint32_t kYmm = 0x6, kZmm = 0xE6, kTiles = 0x60000;

// AMX with what this bit of leaf 7 says.
bool tiles_with(unsigned feature) {
  const unsigned wanted = 1u << 24 | feature;
  if (!has(cpu().os_saves, kTiles) || !has(cpu().leaf7.edx, wanted)) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // arch_prctl(2)
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

}  // namespace

bool cpu_has_avx2() {
  return has(cpu().os_saves, kYmm) && has(cpu().leaf1.ecx, 1u << 29) &&  // F16C
         has(cpu().leaf7.ebx, 1u << 5);
}

bool cpu_has_avx2_group() {
  constexpr unsigned of_leaf_1 =
      1u << 1 | 1u << 12 | 1u << 23 | 1u << 25;      // PCLMUL, FMA, POPCNT, AES
  constexpr unsigned of_leaf_7 = 1u << 3 | 1u << 8;  // BMI, BMI2
  return cpu_has_avx2() && has(cpu().leaf1.ecx, of_leaf_1) && has(cpu().leaf7.ebx, of_leaf_7) &&
         has(cpu().extended1.ecx, 1u << 5);  // LZCNT
}

bool cpu_has_avx_vnni() { return cpu_has_avx2() && has(cpu().leaf7_1.eax, 1u << 4); }

bool cpu_has_avx512() {
  constexpr unsigned wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
  return cpu_has_avx2() && has(cpu().os_saves, kZmm) && has(cpu().leaf7.ebx, wanted);
}

bool cpu_has_avx512_vbmi2() {
  return cpu_has_avx2_group() && cpu_has_avx512() && has(cpu().leaf7.ecx, 1u << 1 | 1u << 6);
}

bool cpu_has_avx512_vnni() { return cpu_has_avx512() && has(cpu().leaf7.ecx, 1u << 11); }

bool cpu_has_avx512_bf16() { return cpu_has_avx512() && has(cpu().leaf7_1.eax, 1u << 5); }

bool cpu_has_amx_int8() { return cpu_has_avx512_vnni() && tiles_with(1u << 25); }
bool cpu_has_amx_bf16() { return cpu_has_avx512_bf16() && tiles_with(1u << 22); }
bool cpu_favours_bf16() {
  const Leaf& maker = cpu().leaf0;
  const bool intel = maker.ebx == signature_INTEL_ebx && maker.edx == signature_INTEL_edx &&
                     maker.ecx == signature_INTEL_ecx;
  return cpu_has_amx_bf16() || (cpu_has_avx512_bf16() && !intel);
}

}  // namespace kv

#else
namespace kv {
bool cpu_has_avx2() { return false; }
bool cpu_has_avx2_group() { return false; }
bool cpu_has_avx_vnni() { return false; }
bool cpu_has_avx512() { return false; }
bool cpu_has_avx512_vbmi2() { return false; }
bool cpu_has_avx512_vnni() { return false; }
bool cpu_favours_bf16() { return false; }
bool cpu_has_avx512_bf16() { return false; }
bool cpu_has_amx_int8() { return false; }
bool cpu_has_amx_bf16() { return false; }
}  // namespace kv
#endif
