// The engine of prefill.py: reads one request a line, answers with one JSON line.
//
//   prefill_bench MODEL COMPUTE THREADS
//   peak            multiply-adds a second of a matrix multiplication of the model's dtype; with
//   AMX
//                   also what its instruction does on registers alone, on all threads
//   prefill N       N tokens into an empty cache, logits of the last row
//   importance N    the same with the tokens' importance
//   decode N        16 tokens, one by one, behind a cache of N

#include "kv/kernels/bf16_product.hh"
#include "kv/model/model.hh"

#include <ATen/core/Tensor.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::vector<std::int32_t> some_ids(std::int64_t count, std::int64_t vocab) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<std::int32_t>((i * 7919 + 13) % vocab));
  }
  return ids;
}

// Best of some runs: the peak is what the machine can do when it is left alone.
double peak_macs_per_second(const kv::Model& model) {
  constexpr std::int64_t kSide = 1024;
  const auto type = model.compute() == kv::DType::kF32 ? at::kFloat : at::kBFloat16;
  const at::Tensor a = at::ones({kSide, kSide}, at::TensorOptions(type));
  double best = 1e9;
  for (int i = 0; i < 20; ++i) {
    const auto start = Clock::now();
    at::matmul(a, a);
    best = std::min(best, seconds_since(start));
  }
  return static_cast<double>(kSide * kSide * kSide) / best;
}

// One thread's; 0 without AMX.
double register_macs_per_second() {
  double best = 1e9;
#if defined(__x86_64__)
  if (kv::product_targets().front() != kv::ProductTarget::kAmx) return 0;
  constexpr int kLoops = 20000;
  struct {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } const config;
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
  for (int round = 0; round < 20; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < kLoops; ++i) {
      __asm__ volatile(
          "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\ntdpbf16ps %%tmm7, %%tmm4, %%tmm1\n"
          "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\ntdpbf16ps %%tmm7, %%tmm5, %%tmm3"
          :);
    }
    best = std::min(best, seconds_since(start));
  }
  __asm__ volatile("tilerelease" :);
  return 4.0 * kLoops * 16 * 16 * 32 / best;
#else
  return 0;
#endif
}

void answer(const kv::Model& model, const std::string& request) {
  std::istringstream in(request);
  std::string what;
  std::int64_t tokens = 0;
  in >> what >> tokens;
  if (what == "peak") {
    const double registers =
        model.compute() == kv::DType::kBF16 ? model.threads() * register_macs_per_second() : 0;
    fmt::print("{{\"macs_per_second\": {:.4g}, \"on_registers\": {:.4g}}}\n",
               peak_macs_per_second(model), registers);
    return;
  }
  constexpr int kDecoded = 16;
  kv::KvCache cache = model.make_cache({.capacity = tokens + kDecoded});
  const std::vector<std::int32_t> ids = some_ids(tokens, model.config().vocab);
  const bool decode = what == "decode";
  if (decode) model.forward(ids, cache);
  const double cpu = cpu_seconds();
  const auto start = Clock::now();
  if (decode) {
    for (int i = 0; i < kDecoded; ++i) model.forward(std::span(ids).first(1), cache);
  } else {
    model.forward(ids, cache, {.importance = what == "importance"});
  }
  const double wall = seconds_since(start);
  fmt::print("{{\"seconds\": {:.6f}, \"cpu_seconds\": {:.6f}}}\n", wall, cpu_seconds() - cpu);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    const auto start = Clock::now();
    const auto checkpoint = kv::Checkpoint::open(argv[1]);
    const auto model = kv::Model::load(
        *checkpoint, {.compute = kv::parse_compute(argv[2]), .threads = std::stoi(argv[3])});
    fmt::print("{{\"load_seconds\": {:.6f}, \"dtype\": \"{}\"}}\n", seconds_since(start),
               kv::dtype_name(model->compute()));
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
      answer(*model, line);
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "prefill_bench: %s\n", error.what());
    return 1;
  }
}
