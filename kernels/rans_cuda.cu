#include "kv/kernels/cuda_launch.hh"
#include "kv/kernels/rans_cuda.hh"
#include "kv/kernels/rans_kernels_cuda.hh"
#include "kv/kernels/rans_row.hh"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace KV_CUDA_NAMESPACE {

namespace rans_detail {

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
