#pragma once
// What benchmarks of one core share: its time, and what its 8-bit products reach on registers
// alone.

#include "kv/kernels/int8_dot.hh"

#include <algorithm>
#include <ctime>
#include <functional>

// Of this thread: whatever else the machine does.
inline double now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Seconds of one call; a round is a few milliseconds of calls.
inline double best_seconds(int rounds, const std::function<void()>& body) {
  body();
  int calls = 1;
  double best = 1e9;
  for (int round = 0; round < rounds; ++round) {
    const double start = now();
    for (int i = 0; i < calls; ++i) body();
    const double spent = now() - start;
    best = std::min(best, spent / calls);
    if (spent < 3e-3) calls = static_cast<int>(std::min(1e5, calls * 4e-3 / std::max(spent, 1e-6)));
  }
  return best;
}

#if defined(__x86_64__)
// As many independent sums as hide the instruction's latency; the assembler text keeps the compiler
// from changing the loop.
inline constexpr int kLoops = 100000;

inline void peak_avx512vnni() {
  for (int i = 0; i < kLoops; ++i) {
    __asm__ volatile(
        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vpdpbusd %%zmm31,%%zmm30,%%zmm\\r\n.endr"
        :);
  }
}

inline void peak_avxvnni() {
  for (int i = 0; i < kLoops; ++i) {
    __asm__ volatile(
        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n %{vex%} vpdpbusd %%ymm15,%%ymm14,%%ymm\\r\n.endr"
        :);
  }
}

// The four instructions that stand for one.
inline void peak_avx2() {
  for (int i = 0; i < kLoops; ++i) {
    __asm__ volatile(
        ".irp r,0,1,2,3,4,5,6,7\n vpsignb %%ymm15,%%ymm14,%%ymm8\n vpmaddubsw "
        "%%ymm8,%%ymm13,%%ymm9\n"
        " vpmaddwd %%ymm12,%%ymm9,%%ymm10\n vpaddd %%ymm10,%%ymm\\r,%%ymm\\r\n.endr"
        :);
  }
}

inline void peak_amx() {
  alignas(64) unsigned char config[64] = {1};
  for (int tile = 0; tile < 8; ++tile) config[16 + 2 * tile] = 64, config[48 + tile] = 16;
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
  for (int i = 0; i < kLoops; ++i) {
    __asm__ volatile(
        "tdpbssd %%tmm6,%%tmm4,%%tmm0\n tdpbssd %%tmm7,%%tmm4,%%tmm1\n"
        "tdpbssd %%tmm6,%%tmm5,%%tmm2\n tdpbssd %%tmm7,%%tmm5,%%tmm3"
        :);
  }
  __asm__ volatile("tilerelease");
}
#endif

// G multiply-adds/s; 0 where there is no such instruction.
inline double int8_peak(kv::DotTarget target, int rounds) {
  const auto rate = [rounds](double macs_a_loop, void (*loops)()) {
    return macs_a_loop * kLoops / best_seconds(rounds, loops) * 1e-9;
  };
  switch (target) {
    case kv::DotTarget::kAmx:
      return rate(4 * 16 * 16 * 64, peak_amx);
    case kv::DotTarget::kAvx512Vnni:
      return rate(16 * 64, peak_avx512vnni);
    case kv::DotTarget::kAvxVnni:
      return rate(12 * 32, peak_avxvnni);
    case kv::DotTarget::kAvx2:
      return rate(8 * 32, peak_avx2);
    default:
      return 0;
  }
}
