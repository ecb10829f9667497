// rans_bench [ROUNDS]: the entropy coder on one core, each target, beside htscodecs' 32-way rANS
// and zstd -1 on the same symbols, hot. Streams as the codec makes them: 192 coefficients of 128
// tokens, 4 steps a coefficient, each with one of 64 tables. Medians of the rounds, in which all
// take turns, and their spread; ratios are to the faster of htscodecs' own targets.
#include "kv/kernels/rans.hh"

#include <zstd.h>
#ifdef KV_HTSCODECS
#include <htscodecs/rANS_static4x16.h>
#endif

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>

namespace {

constexpr std::size_t kStreams = 16, kCoefficients = 192, kStepsEach = 4;
constexpr std::size_t kSymbols = kStreams * kCoefficients * kStepsEach * kv::kRansLanes;

// Frequencies of round(x) for a Laplace variable of this scale, 4096 in all.
std::vector<std::uint16_t> laplace_row(double scale, std::size_t n) {
  const int middle = static_cast<int>(n / 2) - 1;
  std::vector<std::uint16_t> row(n, 1);
  double inside = 0;
  for (int v = -middle; v <= middle; ++v) {
    const double far = std::exp(-(std::abs(v) - 0.5) / scale);
    const double share =
        v == 0 ? 1 - std::exp(-0.5 / scale) : 0.5 * far * (1 - std::exp(-1 / scale));
    row[v + middle] = static_cast<std::uint16_t>(std::max(1.0, share * 4000));
    inside += share;
  }
  row[n - 1] = static_cast<std::uint16_t>(std::max(1.0, (1 - inside) * 4000));
  int sum = 0;
  for (const auto f : row) sum += f;
  row[middle] = static_cast<std::uint16_t>(row[middle] + 4096 - sum);
  return row;
}

struct Data {
  std::vector<std::vector<std::uint16_t>> rows;
  std::vector<kv::RansStep> steps;  // of each stream
  std::vector<std::int8_t> values;
  std::vector<std::uint8_t> symbols;  // the same as bytes, for the peers
  double entropy = 0;                 // bits a symbol, of the tables
};

Data make_data(double scale, std::size_t n) {
  Data data;
  std::mt19937_64 random(1);
  for (int i = 0; i < 64; ++i) {
    data.rows.push_back(laplace_row(scale * std::exp2((i % 8 - 3.5) / 8), n));
  }
  for (std::size_t c = 0; c < kCoefficients; ++c) {
    const auto table = static_cast<std::uint16_t>(random() % data.rows.size());
    for (std::size_t i = 0; i < kStepsEach; ++i) data.steps.push_back({table, kv::kRansLanes});
  }
  for (std::size_t stream = 0; stream < kStreams; ++stream) {
    for (const kv::RansStep& step : data.steps) {
      const auto& row = data.rows[step.table];
      for (std::size_t lane = 0; lane < kv::kRansLanes; ++lane) {
        auto slot = static_cast<std::uint16_t>(random() % 4096);
        std::size_t symbol = 0;
        while (slot >= row[symbol]) slot = static_cast<std::uint16_t>(slot - row[symbol++]);
        data.entropy += 12 - std::log2(row[symbol]);
        data.symbols.push_back(static_cast<std::uint8_t>(symbol));
        // An escape is coded as any value out of range.
        data.values.push_back(static_cast<std::int8_t>(static_cast<int>(symbol + 1 - n / 2)));
      }
    }
  }
  data.entropy /= static_cast<double>(kSymbols);
  return data;
}

struct Contender {
  std::string name;
  bool peer;
  std::function<void()> encode, decode;
  std::function<std::size_t()> size_bytes;
  std::function<bool()> exact;
  std::vector<double> encode_s, decode_s;
};

// Of this thread, whatever else the machine does; hot: after a first time that does not count.
double seconds(const std::function<void()>& body) {
  constexpr int kTimes = 4;
  const auto now = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  body();
  const double start = now();
  for (int i = 0; i < kTimes; ++i) body();
  return (now() - start) / kTimes;
}

struct Ours {
  kv::RansTables tables;
  std::vector<std::vector<std::byte>> streams;
  std::vector<std::int8_t> out;
  std::vector<std::uint32_t> escapes;
  bool intact = true;

  explicit Ours(const Data& data)
      : tables(std::vector<std::span<const std::uint16_t>>(data.rows.begin(), data.rows.end())),
        streams(kStreams),
        out(kSymbols),
        escapes(kSymbols) {}

  void encode(const Data& data, kv::RansTarget target) {
    std::vector<kv::RansEncodeJob> jobs;
    for (std::size_t i = 0; i < kStreams; ++i) {
      streams[i].clear();
      jobs.push_back({data.steps, data.values.data() + i * kSymbols / kStreams, &streams[i]});
    }
    kv::rans_encode(tables, jobs, target);
  }
  void decode(const Data& data, kv::RansTarget target) {
    std::vector<kv::RansDecodeJob> jobs;
    for (std::size_t i = 0; i < kStreams; ++i) {
      const std::size_t from = i * kSymbols / kStreams, count = kSymbols / kStreams;
      jobs.push_back(
          {streams[i], data.steps, out.data() + from, std::span(escapes).subspan(from, count)});
    }
    intact &= kv::rans_decode(tables, jobs, target);
  }
  bool exact(const Data& data) const {
    for (std::size_t i = 0; i < kSymbols; ++i) {
      const auto& row = data.rows[data.steps[i / kv::kRansLanes % data.steps.size()].table];
      const bool escape = data.symbols[i] + 1u == row.size();
      if (out[i] != (escape ? kv::kRansEscape : data.values[i])) return false;
    }
    return intact;
  }
  std::size_t size_bytes() const {
    std::size_t sum = 0;
    for (const auto& stream : streams) sum += stream.size();
    return sum;
  }
};

struct Peer {
  std::vector<std::uint8_t> in, coded, out;
  unsigned size = 0;
  explicit Peer(const Data& data) : in(data.symbols), coded(2 * kSymbols + 100000), out(kSymbols) {}
};

std::vector<Contender> contenders(const Data& data) {
  std::vector<Contender> all;
  for (const auto target :
       {kv::RansTarget::kAvx512, kv::RansTarget::kAvx2, kv::RansTarget::kScalar}) {
    if (!kv::rans_has_target(target)) continue;
    const auto ours = std::make_shared<Ours>(data);
    all.push_back({rans_target_name(target),
                   false,
                   [=, &data] { ours->encode(data, target); },
                   [=, &data] { ours->decode(data, target); },
                   [=] { return ours->size_bytes(); },
                   [=, &data] { return ours->exact(data); },
                   {},
                   {}});
  }
  const auto add_peer = [&](const char* name, bool rival, auto&& encode, auto&& decode) {
    const auto peer = std::make_shared<Peer>(data);
    all.push_back({name,
                   rival,
                   [=] { encode(*peer); },
                   [=] { decode(*peer); },
                   [=] { return peer->size; },
                   [=] { return peer->in == peer->out; },
                   {},
                   {}});
  };
#ifdef KV_HTSCODECS
  const auto add_htscodecs = [&](const char* name, int cpu) {
    add_peer(
        name, true,
        [cpu](Peer& peer) {
          rans_set_cpu(cpu);
          peer.size = static_cast<unsigned>(peer.coded.size());
          rans_compress_to_4x16(peer.in.data(), kSymbols, peer.coded.data(), &peer.size,
                                RANS_ORDER_X32);
        },
        [cpu](Peer& peer) {
          rans_set_cpu(cpu);
          unsigned size = kSymbols;
          rans_uncompress_to_4x16(peer.coded.data(), peer.size, peer.out.data(), &size);
        });
  };
  if (__builtin_cpu_supports("avx512bw")) {
    add_htscodecs("htscodecs AVX-512", RANS_CPU_ENC_AVX512 | RANS_CPU_DEC_AVX512);
  }
  if (__builtin_cpu_supports("avx2")) {
    add_htscodecs("htscodecs AVX2", RANS_CPU_ENC_AVX2 | RANS_CPU_DEC_AVX2);
  }
#endif
  add_peer(
      "zstd -1", false,
      [](Peer& peer) {
        peer.size = static_cast<unsigned>(
            ZSTD_compress(peer.coded.data(), peer.coded.size(), peer.in.data(), kSymbols, 1));
      },
      [](Peer& peer) { ZSTD_decompress(peer.out.data(), kSymbols, peer.coded.data(), peer.size); });
  return all;
}

double median(std::vector<double>& times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

std::string cell(std::vector<double>& times, double best_peer) {
  const auto rate = [](double s) { return 1e-9 * static_cast<double>(kSymbols) / s; };
  const double middle = rate(median(times));
  std::array<char, 80> text;
  std::snprintf(text.data(), text.size(), "%5.2f (%4.2f to %4.2f)", middle, rate(times.back()),
                rate(times.front()));
  std::string cell = text.data();
  if (best_peer > 0) {
    std::snprintf(text.data(), text.size(), " | %5.2fx", middle / best_peer);
    cell += text.data();
  } else {
    cell += " |      -";
  }
  return cell;
}

void bench(double scale, std::size_t n, int rounds) {
  const Data data = make_data(scale, n);
  std::vector<Contender> all = contenders(data);
  for (Contender& c : all) {
    c.encode();
    c.decode();
    if (!c.exact()) throw std::runtime_error(c.name + ": what was coded did not come back");
  }
  for (int round = 0; round < rounds; ++round) {
    for (Contender& c : all) c.encode_s.push_back(seconds(c.encode));
    for (Contender& c : all) c.decode_s.push_back(seconds(c.decode));
  }
  double best_encode = 0, best_decode = 0;
  for (Contender& c : all) {
    if (!c.peer) continue;
    best_encode = std::max(best_encode, 1e-9 * static_cast<double>(kSymbols) / median(c.encode_s));
    best_decode = std::max(best_decode, 1e-9 * static_cast<double>(kSymbols) / median(c.decode_s));
  }
  std::printf("\n%.2f bits a symbol, %zu symbols a table\n\n", data.entropy, n);
  std::puts(
      "| coder             | decode, G symbols/s   | ratio  | encode, G symbols/s   | ratio  | "
      "bits |");
  std::puts(
      "|-------------------|-----------------------|--------|-----------------------|--------|-----"
      "-|");
  for (Contender& c : all) {
    std::printf("| %-17s | %s | %s | %.2f |\n", c.name.c_str(),
                cell(c.decode_s, best_decode).c_str(), cell(c.encode_s, best_encode).c_str(),
                8 * static_cast<double>(c.size_bytes()) / static_cast<double>(kSymbols));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 31;
    std::printf("%zu symbols, %d rounds, one core\n", kSymbols, rounds);
    bench(0.17, 4, rounds);
    bench(0.36, 8, rounds);
    bench(0.85, 16, rounds);
    bench(2.4, 32, rounds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rans_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
