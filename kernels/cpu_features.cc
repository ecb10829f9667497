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

Leaf leaf(unsigned number, unsigned sub) {
  Leaf result;
  __get_cpuid_count(number, sub, &result.eax, &result.ebx, &result.ecx, &result.edx);
  return result;
}

// The parts of a thread's state that the operating system saves.
bool os_saves(std::uint32_t mask) {
  if (!(leaf(1, 0).ecx >> 27 & 1)) return false;  // OSXSAVE
  std::uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & mask) == mask;
}

constexpr std::uint32_t kYmm = 0x6, kZmm = 0xE6, kTiles = 0x60000;

// AMX with what this bit of leaf 7 says.
bool tiles_with(unsigned feature) {
  const unsigned wanted = 1u << 24 | feature;
  if (!os_saves(kTiles) || (leaf(7, 0).edx & wanted) != wanted) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // arch_prctl(2)
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

}  // namespace

bool cpu_has_avx2() {
  return os_saves(kYmm) && (leaf(1, 0).ecx >> 29 & 1) && (leaf(7, 0).ebx >> 5 & 1);
}

bool cpu_has_avx_vnni() { return cpu_has_avx2() && (leaf(7, 1).eax >> 4 & 1); }

bool cpu_has_avx512() {
  constexpr unsigned wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
  return cpu_has_avx2() && os_saves(kZmm) && (leaf(7, 0).ebx & wanted) == wanted;
}

bool cpu_has_avx512_vnni() { return cpu_has_avx512() && (leaf(7, 0).ecx >> 11 & 1); }

bool cpu_has_avx512_bf16() { return cpu_has_avx512() && (leaf(7, 1).eax >> 5 & 1); }

bool cpu_has_amx_int8() { return cpu_has_avx512_vnni() && tiles_with(1u << 25); }
bool cpu_has_amx_bf16() { return cpu_has_avx512_bf16() && tiles_with(1u << 22); }

}  // namespace kv

#else
namespace kv {
bool cpu_has_avx2() { return false; }
bool cpu_has_avx_vnni() { return false; }
bool cpu_has_avx512() { return false; }
bool cpu_has_avx512_vnni() { return false; }
bool cpu_has_avx512_bf16() { return false; }
bool cpu_has_amx_int8() { return false; }
bool cpu_has_amx_bf16() { return false; }
}  // namespace kv
#endif
