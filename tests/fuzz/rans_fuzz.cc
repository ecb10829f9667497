// A stream from anywhere under tables and steps from anywhere: all targets say the same, nothing
// lies outside the spans, and what is intact is coded again to the same bytes. The input: table
// count, steps, then a byte a table (its shape), two bytes a step, the stream.
#include "kv/kernels/rans.hh"

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace {

constexpr std::size_t kShapes[] = {4, 8, 16, 32};

std::vector<std::uint16_t> row_of(std::uint8_t shape) {
  std::vector<std::uint16_t> row(kShapes[shape % 4], 1);
  const std::size_t peak = shape / 4 % row.size();
  row[peak] = static_cast<std::uint16_t>(4096 - (row.size() - 1));
  if (shape & 128) {  // half of it to a neighbour
    std::uint16_t& other = row[(peak + 1) % row.size()];
    other = row[peak] / 2;
    row[peak] = static_cast<std::uint16_t>(row[peak] - other + 1);
  }
  return row;
}

struct Outcome {
  std::vector<std::int8_t> values;
  std::vector<std::uint32_t> escapes;
  bool intact;
};

Outcome decode(const kv::RansTables& tables, const std::vector<kv::RansStep>& steps,
               std::span<const std::byte> stream, kv::RansTarget target) {
  Outcome outcome;
  outcome.values.resize(steps.size() * kv::kRansLanes);
  outcome.escapes.resize(outcome.values.size() / 2);
  // A copy of exactly this size: what is read beyond it shows.
  const auto exact = std::make_unique<std::byte[]>(stream.size());
  std::copy(stream.begin(), stream.end(), exact.get());
  kv::RansDecodeJob job;
  job.stream = {exact.get(), stream.size()};
  job.steps = steps;
  job.values = outcome.values.data();
  job.escapes = outcome.escapes;
  outcome.intact = kv::rans_decode(tables, {&job, 1}, target);
  outcome.escapes.resize(job.escape_count);
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::size_t table_count = data[0] % 16u, step_count = data[1];
  const std::size_t head = 2 + table_count + 2 * step_count;
  if (size < head) return 0;
  std::vector<std::vector<std::uint16_t>> rows;
  for (std::size_t i = 0; i < table_count; ++i) rows.push_back(row_of(data[2 + i]));
  const kv::RansTables tables(
      std::vector<std::span<const std::uint16_t>>(rows.begin(), rows.end()));
  std::vector<kv::RansStep> steps;
  for (std::size_t i = 0; i < step_count; ++i) {
    const std::uint8_t* step = data + 2 + table_count + 2 * i;
    steps.push_back({step[0], step[1]});
  }
  const auto stream = std::as_bytes(std::span(data + head, size - head));

  const Outcome scalar = decode(tables, steps, stream, kv::RansTarget::kScalar);
  for (const auto target : {kv::RansTarget::kAvx2, kv::RansTarget::kAvx512}) {
    if (!kv::rans_has_target(target)) continue;
    const Outcome other = decode(tables, steps, stream, target);
    if (other.intact != scalar.intact) std::abort();
    if (scalar.intact && (other.values != scalar.values || other.escapes != scalar.escapes)) {
      std::abort();
    }
    if (!scalar.intact) continue;
    std::vector<std::byte> again;
    const kv::RansEncodeJob job{steps, scalar.values.data(), &again};
    kv::rans_encode(tables, {&job, 1}, target);
    if (!std::equal(again.begin(), again.end(), stream.begin(), stream.end())) std::abort();
  }
  return 0;
}
