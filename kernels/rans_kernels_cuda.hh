#pragma once
// A warp a stream: lane i of the warp is lane i of the stream. Which word is whose, and which
// escape comes where, are ranks in a ballot. For rans_cuda.cu alone.

#include "kv/kernels/cuda_launch.hh"
#include "kv/kernels/cuda_namespace.hh"
#include "kv/kernels/rans.hh"

#include <cstdint>

namespace KV_CUDA_NAMESPACE {

// With a name: nvcc makes those of an unnamed one from the path of this file, and then equal
// sources would give different objects.
namespace rans_detail {

constexpr unsigned kWarps = 4;  // of a block
constexpr unsigned kLanes = kRansLanes;
constexpr unsigned kThreads = kWarps * kRansLanes;
constexpr unsigned kAll = 0xFFFFFFFFu;
constexpr unsigned kNoTable = 0xFFFFFFFFu;

// A table is 32 entries, by index as in RansRow: the start, above it the frequency (bit 16) and
// log2 of the number of symbols (bit 28).
__device__ unsigned start_of(std::uint32_t entry) { return entry & 0xFFF; }
__device__ unsigned frequency_of(std::uint32_t entry) { return entry >> 16 & 0xFFF; }
__device__ unsigned bits_of(std::uint32_t entry) { return entry >> 28; }

struct Job {
  std::uint64_t first_word;  // of the stream, its states included; in a scratch, when encoding
  std::uint64_t first_step;  // its values are at 32 times this
  std::uint64_t first_escape;
  std::uint32_t words;  // after the states
  std::uint32_t steps;
  std::uint32_t escape_room;
};

struct Outcome {
  std::uint32_t escapes;
  std::uint32_t intact;
};

struct EncodeOutcome {
  std::uint32_t states[kRansLanes];
  std::uint64_t first_word;  // of the scratch; the rest of the job's part are its words
};

// Lanes below this one.
__device__ unsigned lanes_below(unsigned lane) { return (1u << lane) - 1; }

// Brings a table to the warp's own row.
__device__ void load_row(std::uint32_t* row, const std::uint32_t* rows, unsigned table,
                         unsigned lane) {
  __syncwarp(kAll);
  row[lane] = rows[std::size_t{table} * kRansLanes + lane];
  __syncwarp(kAll);
}

__global__ void decode_kernel(const Job* jobs, unsigned job_count, const std::uint32_t* rows,
                              const std::uint16_t* streams, const RansStep* steps,
                              std::int8_t* values, std::uint32_t* escapes, Outcome* outcomes) {
  __shared__ std::uint32_t shared_rows[kWarps][kRansLanes];
  const unsigned lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const unsigned number = blockIdx.x * kWarps + warp;
  if (number >= job_count) return;
  const Job job = jobs[number];
  std::uint32_t* row = shared_rows[warp];
  const std::uint16_t* words = streams + job.first_word;
  std::uint32_t x = words[2 * lane] | static_cast<std::uint32_t>(words[2 * lane + 1]) << 16;
  words += 2 * kRansLanes;

  bool intact = __ballot_sync(kAll, x >= kRansLow) == kAll;
  std::uint32_t used = 0, found = 0;
  unsigned table = kNoTable;
  for (std::uint32_t i = 0; intact && i < job.steps; ++i) {
    const RansStep step = steps[job.first_step + i];
    if (step.table != table) {
      table = step.table;
      load_row(row, rows, table, lane);
    }
    const bool active = lane < step.lanes;
    const unsigned slot = x & ((1u << kRansScaleBits) - 1);
    unsigned index = 0;
    for (unsigned half = 1u << bits_of(row[0]) >> 1; half > 0; half >>= 1) {
      if (slot < start_of(row[index + half - 1])) index += half;
    }
    const std::uint32_t entry = row[index];
    std::uint32_t next = frequency_of(entry) * (x >> kRansScaleBits) + slot - start_of(entry);

    const bool renew = active && next < kRansLow;
    const unsigned renewed = __ballot_sync(kAll, renew);
    const unsigned taken = static_cast<unsigned>(__popc(renewed));
    if (taken > job.words - used) {
      intact = false;  // in all lanes alike
      break;
    }
    if (renew) next = next << 16 | words[used + __popc(renewed & lanes_below(lane))];
    used += taken;
    if (active) x = next;

    const bool escape = active && index == 0;
    const unsigned escaped = __ballot_sync(kAll, escape);
    const unsigned more = static_cast<unsigned>(__popc(escaped));
    if (more > job.escape_room - found) {
      intact = false;
      break;
    }
    if (escape) {
      escapes[job.first_escape + found + __popc(escaped & lanes_below(lane))] = i * kLanes + lane;
    }
    found += more;
    const int value = static_cast<int>(1u << bits_of(entry) >> 1) - static_cast<int>(index);
    values[(job.first_step + i) * kRansLanes + lane] =
        static_cast<std::int8_t>(!active  ? 0
                                 : escape ? kRansEscape
                                          : value);
  }
  const bool done = __ballot_sync(kAll, x == kRansLow) == kAll && used == job.words;
  if (lane == 0) outcomes[number] = {found, intact && done ? 1u : 0u};
}

__global__ void encode_kernel(const Job* jobs, unsigned job_count, const std::uint32_t* rows,
                              const RansStep* steps, const std::int8_t* values,
                              std::uint16_t* scratch, EncodeOutcome* outcomes) {
  __shared__ std::uint32_t shared_rows[kWarps][kRansLanes];
  const unsigned lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const unsigned number = blockIdx.x * kWarps + warp;
  if (number >= job_count) return;
  const Job job = jobs[number];
  std::uint32_t* row = shared_rows[warp];
  std::uint32_t x = kRansLow;
  std::uint64_t at = job.first_word + job.words;  // words are put down from the end
  unsigned table = kNoTable;
  for (std::uint32_t i = job.steps; i-- > 0;) {
    const RansStep step = steps[job.first_step + i];
    if (step.table != table) {
      table = step.table;
      load_row(row, rows, table, lane);
    }
    const bool active = lane < step.lanes;
    const int value = values[(job.first_step + i) * kRansLanes + lane];
    const int symbols = static_cast<int>(1u << bits_of(row[0]));
    const int wanted = symbols / 2 - value;
    const std::uint32_t entry = row[wanted < 1 || wanted >= symbols ? 0 : wanted];
    const std::uint32_t frequency = frequency_of(entry);

    const bool full = active && x >> 16 >= frequency << 4;
    const unsigned filled = __ballot_sync(kAll, full);
    at -= static_cast<unsigned>(__popc(filled));
    if (full) {
      scratch[at + __popc(filled & lanes_below(lane))] = static_cast<std::uint16_t>(x);
      x >>= 16;
    }
    if (active) {
      const std::uint32_t quotient = x / frequency;
      x = (quotient << kRansScaleBits) + (x - quotient * frequency) + start_of(entry);
    }
  }
  outcomes[number].states[lane] = x;
  if (lane == 0) outcomes[number].first_word = at;
}

}  // namespace rans_detail
}  // namespace KV_CUDA_NAMESPACE
