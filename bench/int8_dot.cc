// int8_dot_bench [ROUNDS]: speed of each target of int8_dot on one core, in G multiply-adds/s,
// beside what the instruction does on registers alone in the same run; then of reconstruct. Best of
// the rounds: others use the machine too.
#include "kv/kernels/int8_dot.hh"

#include "kv/kernels/epilogue.hh"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// Of this thread: whatever else the machine does.
double now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Seconds of one call; a round is a few milliseconds of calls.
double best_seconds(int rounds, const std::function<void()>& body) {
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
constexpr int kLoops = 100000;

void peak_avx512vnni() {
  for (int i = 0; i < kLoops; ++i) {
    __asm__ volatile(
        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vpdpbusd %%zmm31,%%zmm30,%%zmm\\r\n.endr"
        :);
  }
}

void peak_avxvnni() {
  for (int i = 0; i < kLoops; ++i) {
    __asm__ volatile(
        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n %{vex%} vpdpbusd %%ymm15,%%ymm14,%%ymm\\r\n.endr"
        :);
  }
}

// The four instructions that stand for one.
void peak_avx2() {
  for (int i = 0; i < kLoops; ++i) {
    __asm__ volatile(
        ".irp r,0,1,2,3,4,5,6,7\n vpsignb %%ymm15,%%ymm14,%%ymm8\n vpmaddubsw "
        "%%ymm8,%%ymm13,%%ymm9\n"
        " vpmaddwd %%ymm12,%%ymm9,%%ymm10\n vpaddd %%ymm10,%%ymm\\r,%%ymm\\r\n.endr"
        :);
  }
}

void peak_amx() {
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
double peak(kv::DotTarget target, int rounds) {
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

struct Size {
  std::int64_t outputs, inputs, tokens, stride_tokens, active_quads;
};

double rate_of(const Size& size, int rounds) {
  std::mt19937 random(1);
  std::vector<std::int8_t> rows(static_cast<std::size_t>(size.outputs * size.inputs));
  for (auto& w : rows) w = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
  const kv::Int8Weights weights(rows, size.outputs, size.inputs);
  std::vector<std::uint8_t> x(static_cast<std::size_t>(size.inputs * size.stride_tokens) + 64);
  for (auto& value : x) value = static_cast<std::uint8_t>(random());
  const std::uint8_t* data = x.data() + (-reinterpret_cast<std::uintptr_t>(x.data()) & 63);
  const kv::QuadBlock block{data, size.inputs, size.stride_tokens};
  std::vector<std::int32_t> out(static_cast<std::size_t>(size.outputs * size.stride_tokens) + 16);
  std::int32_t* sums = out.data() + (-reinterpret_cast<std::uintptr_t>(out.data()) & 63) / 4;
  std::vector<std::int32_t> active(static_cast<std::size_t>(size.active_quads));
  for (std::size_t i = 0; i < active.size(); ++i) active[i] = static_cast<std::int32_t>(i);
  const bool whole = 4 * size.active_quads == size.inputs;
  const double seconds = best_seconds(rounds, [&] {
    if (whole) {
      kv::int8_dot(weights, {&block, 1}, size.tokens, sums, size.stride_tokens);
    } else {
      kv::int8_dot_active(weights, {&block, 1}, active, size.tokens, sums, size.stride_tokens);
    }
  });
  return static_cast<double>(size.outputs * 4 * size.active_quads * size.tokens) / seconds * 1e-9;
}

// G values/s of 192 outputs x 128 tokens, with a prediction and both results.
double reconstruct_rate(kv::EpilogueType type, int rounds) {
  constexpr std::int64_t outputs = 192, tokens = 128;
  std::mt19937 random(1);
  std::vector<std::int32_t> r(outputs * tokens), p(outputs * tokens);
  for (auto& value : r) value = static_cast<std::int32_t>(random()) >> 19;
  for (auto& value : p) value = static_cast<std::int32_t>(random()) >> 4;
  const std::vector<std::uint8_t> m(tokens, 100), f(outputs, 14);
  const std::vector<std::int8_t> s(tokens, -3);
  const std::vector<float> mean(outputs, 0.1f), unit(outputs, 1e-6f);
  std::vector<std::uint8_t> n(outputs * tokens);
  std::vector<float> x(outputs * tokens);
  kv::Reconstruction job;
  job.outputs = outputs, job.tokens = tokens;
  job.r = r.data(), job.p = p.data(), job.r_stride = job.p_stride = job.n_stride = tokens;
  job.m = m.data(), job.s = s.data(), job.f = f.data();
  job.mean = mean.data(), job.unit = unit.data();
  job.n = n.data(), job.x = x.data(), job.x_stride = outputs, job.x_type = type;
  return outputs * tokens * 1e-9 / best_seconds(rounds, [&] { kv::reconstruct(job); });
}

void report_reconstruct(int rounds) {
  std::printf(
      "\nreconstruct, G values/s on one core\n\n| target | bf16 | f16 | f32 "
      "|\n|---|---|---|---|\n");
  for (const kv::EpilogueTarget target : kv::epilogue_targets()) {
    kv::set_epilogue_target(target);
    std::printf("| %s |", kv::epilogue_target_name(target));
    for (const auto type :
         {kv::EpilogueType::kBF16, kv::EpilogueType::kF16, kv::EpilogueType::kF32}) {
      std::printf(" %.2f |", reconstruct_rate(type, rounds));
    }
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(2, std::atoi(argv[1])) : 12;
  const Size sizes[] = {
      {192, 576, 128, 128, 144},   {192, 576, 256, 1024, 144}, {192, 576, 1024, 1024, 144},
      {192, 384, 128, 128, 96},    {192, 384, 1024, 1024, 96}, {192, 192, 128, 128, 48},
      {192, 192, 128, 128, 16},    {192, 192, 128, 128, 4},    {256, 768, 256, 256, 192},
      {1024, 3072, 256, 256, 768},
  };
  std::printf(
      "G multiply-adds/s on one core, best of %d rounds; in brackets the share of the peak\n\n",
      rounds);
  std::printf("| outputs x inputs (active), tokens / stride |");
  std::vector<double> peaks;
  for (const kv::DotTarget target : kv::dot_targets()) {
    std::printf(" %13s |", kv::dot_target_name(target));
    peaks.push_back(peak(target, rounds));
  }
  std::printf("\n|%s", std::string(44, '-').c_str());
  for (std::size_t i = 0; i < peaks.size(); ++i) std::printf("|%s", std::string(15, '-').c_str());
  std::printf("|\n| %-42s |", "the instruction on registers alone");
  for (const double rate : peaks) std::printf(" %7.1f       |", rate);
  std::printf("\n");
  for (const Size& size : sizes) {
    char what[80];
    std::snprintf(what, sizeof(what), "%ld x %ld (%ld), %ld / %ld", size.outputs, size.inputs,
                  4 * size.active_quads, size.tokens, size.stride_tokens);
    std::printf("| %-42s |", what);
    std::size_t i = 0;
    for (const kv::DotTarget target : kv::dot_targets()) {
      kv::set_dot_target(target);
      const double rate = rate_of(size, target == kv::DotTarget::kScalar ? 2 : rounds);
      if (peaks[i] > 0) {
        std::printf(" %7.1f (%2.0f%%) |", rate, 100 * rate / peaks[i]);
      } else {
        std::printf(" %7.1f       |", rate);
      }
      ++i;
    }
    std::printf("\n");
  }
  report_reconstruct(rounds);
  return 0;
}
