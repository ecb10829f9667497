// A warp a stream: lane i of the warp is lane i of the stream. Which word is whose, and which
// escape comes where, are ranks in a ballot.
#include "kv/kernels/cuda_launch.hh"
#include "kv/kernels/rans_cuda.hh"
#include "kv/kernels/rans_row.hh"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

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

inline std::vector<std::uint32_t> device_rows(const RansTables& tables) {
  std::vector<std::uint32_t> rows;
  for (std::size_t table = 0; table < tables.size(); ++table) {
    const RansRow& row = tables.rows()[table];
    for (unsigned i = 0; i < kRansLanes; ++i) {
      rows.push_back(row.start[i] | row.frequency(i) << 16 |
                     static_cast<std::uint32_t>(row.bits) << 28);
    }
  }
  return rows;
}

inline unsigned blocks_for(std::size_t jobs) {
  return static_cast<unsigned>((jobs + kWarps - 1) / kWarps);
}

}  // namespace rans_detail

namespace rans_detail {

// `device_values`: where the values of the only job go, in place of the host's memory.
inline bool decode_jobs(const RansTables& tables, std::span<RansDecodeJob> jobs,
                        std::int8_t* device_values) {
  std::vector<Job> device_jobs;
  std::vector<RansDecodeJob*> sound;
  std::vector<std::uint16_t> streams;
  std::vector<RansStep> steps;
  std::uint64_t escape_room = 0;
  for (RansDecodeJob& job : jobs) {
    job.escape_count = 0;
    job.intact = false;
    const std::size_t size = job.stream.size();
    if (size < kRansStateBytes || size % 2 != 0 || !rans_valid_steps(tables, job.steps)) continue;
    // More words than the steps can use are damage; fewer bytes to copy.
    const std::size_t words = (size - kRansStateBytes) / 2;
    if (words > job.steps.size() * kRansLanes) continue;
    Job made{};
    made.first_word = streams.size();
    made.first_step = steps.size();
    made.first_escape = escape_room;
    made.words = static_cast<std::uint32_t>(words);
    made.steps = static_cast<std::uint32_t>(job.steps.size());
    made.escape_room =
        static_cast<std::uint32_t>(std::min(job.escapes.size(), job.steps.size() * kRansLanes));
    device_jobs.push_back(made);
    sound.push_back(&job);
    streams.resize(streams.size() + size / 2);
    std::memcpy(streams.data() + made.first_word, job.stream.data(), size);
    steps.insert(steps.end(), job.steps.begin(), job.steps.end());
    escape_room += made.escape_room;
  }
  if (!sound.empty()) {
    const DeviceArray<Job> on_jobs{device_jobs};
    const DeviceArray<std::uint32_t> on_rows{device_rows(tables)};
    const DeviceArray<std::uint16_t> on_streams{streams};
    const DeviceArray<RansStep> on_steps{steps};
    const DeviceArray<std::int8_t> on_values(device_values ? 0 : steps.size() * kRansLanes);
    const DeviceArray<std::uint32_t> on_escapes(escape_room);
    const DeviceArray<Outcome> on_outcomes(sound.size());
    cuda_launch(decode_kernel, blocks_for(sound.size()), kThreads, on_jobs.data(),
                static_cast<unsigned>(sound.size()), on_rows.data(), on_streams.data(),
                on_steps.data(), device_values ? device_values : on_values.data(),
                on_escapes.data(), on_outcomes.data());
    std::vector<Outcome> outcomes(sound.size());
    on_outcomes.download(0, outcomes);
    for (std::size_t i = 0; i < sound.size(); ++i) {
      RansDecodeJob& job = *sound[i];
      job.intact = outcomes[i].intact != 0;
      if (!job.intact) continue;
      job.escape_count = outcomes[i].escapes;
      if (!device_values) {
        on_values.download(device_jobs[i].first_step * kRansLanes,
                           {job.values, job.steps.size() * kRansLanes});
      }
      on_escapes.download(device_jobs[i].first_escape, job.escapes.first(job.escape_count));
    }
  }
  bool intact = true;
  for (const RansDecodeJob& job : jobs) intact = intact && job.intact;
  return intact;
}

}  // namespace rans_detail

bool rans_has_cuda() { return cuda_has_device(); }

bool rans_decode_cuda(const RansTables& tables, std::span<RansDecodeJob> jobs) {
  return rans_detail::decode_jobs(tables, jobs, nullptr);
}

bool rans_decode_on_device(const RansTables& tables, RansDecodeJob& job) {
  return rans_detail::decode_jobs(tables, {&job, 1}, job.values);
}

void rans_encode_cuda(const RansTables& tables, std::span<const RansEncodeJob> jobs) {
  using namespace rans_detail;
  std::vector<Job> device_jobs;
  std::vector<RansStep> steps;
  std::vector<std::int8_t> values;
  for (const RansEncodeJob& job : jobs) {
    if (!rans_valid_steps(tables, job.steps)) {
      throw std::invalid_argument("rANS steps: too many, or one without a table or lanes");
    }
    Job made{};
    made.first_step = steps.size();
    made.first_word = steps.size() * kRansLanes;
    made.steps = static_cast<std::uint32_t>(job.steps.size());
    made.words = static_cast<std::uint32_t>(job.steps.size() * kRansLanes);
    device_jobs.push_back(made);
    steps.insert(steps.end(), job.steps.begin(), job.steps.end());
    values.insert(values.end(), job.values, job.values + job.steps.size() * kRansLanes);
  }
  if (jobs.empty()) return;
  const DeviceArray<Job> on_jobs{device_jobs};
  const DeviceArray<std::uint32_t> on_rows{device_rows(tables)};
  const DeviceArray<RansStep> on_steps{steps};
  const DeviceArray<std::int8_t> on_values{values};
  const DeviceArray<std::uint16_t> on_scratch(values.size());
  const DeviceArray<EncodeOutcome> on_outcomes(jobs.size());
  cuda_launch(encode_kernel, blocks_for(jobs.size()), kThreads, on_jobs.data(),
              static_cast<unsigned>(jobs.size()), on_rows.data(), on_steps.data(), on_values.data(),
              on_scratch.data(), on_outcomes.data());
  std::vector<EncodeOutcome> outcomes(jobs.size());
  on_outcomes.download(0, outcomes);
  std::vector<std::uint16_t> words;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const Job& job = device_jobs[i];
    words.resize(job.first_word + job.words - outcomes[i].first_word);
    on_scratch.download(outcomes[i].first_word, words);
    std::vector<std::byte>& out = *jobs[i].out;
    const auto head = std::as_bytes(std::span(outcomes[i].states));
    const auto body = std::as_bytes(std::span(words));
    out.insert(out.end(), head.begin(), head.end());
    out.insert(out.end(), body.begin(), body.end());
  }
}

}  // namespace KV_CUDA_NAMESPACE
