// int8_dot_bench [ROUNDS]: speed of each target of int8_dot on one core, in G multiply-adds/s,
// beside what the instruction does on registers alone in the same run; then of reconstruct. Best of
// the rounds: others use the machine too.
#include "kv/kernels/int8_dot.hh"

#include "int8_peak.hh"
#include "kv/kernels/epilogue.hh"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace {

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
    peaks.push_back(int8_peak(target, rounds));
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
