// codec_bench FILE [ROUNDS]: ratio and speed of the codec `planes` on one core over the tiles of a
// kv stream, beside zstd on the same bytes. Median of the rounds and their spread, in GB/s of raw
// tensors.
#include "kv/codec/codec.hh"

#include "kv/base/error.hh"

#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>

namespace {

struct Sample {
  kv::format::TileHeader header;
  kv::TensorView view;
  kv::Bytes raw;
};

struct Times {
  std::vector<double> encode, decode;  // seconds
  std::size_t coded = 0;
};

using Encode = std::function<kv::Bytes(const Sample&)>;
using Decode = std::function<void(const Sample&, const kv::Bytes&, kv::Bytes&)>;

// Of this thread: whatever else the machine does.
double seconds(const std::function<void()>& body) {
  const auto now = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double start = now();
  body();
  return now() - start;
}

Times measure(const std::vector<Sample>& samples, int rounds, const Encode& encode,
              const Decode& decode) {
  Times times;
  std::vector<kv::Bytes> coded(samples.size());
  kv::Bytes out;
  for (int round = 0; round < rounds; ++round) {
    times.encode.push_back(seconds([&] {
      for (std::size_t i = 0; i < samples.size(); ++i) coded[i] = encode(samples[i]);
    }));
    times.decode.push_back(seconds([&] {
      for (std::size_t i = 0; i < samples.size(); ++i) {
        out.resize(samples[i].raw.size());
        decode(samples[i], coded[i], out);
      }
    }));
  }
  for (std::size_t i = 0; i < samples.size(); ++i) {
    times.coded += coded[i].size();
    out.resize(samples[i].raw.size());
    decode(samples[i], coded[i], out);
    if (out != samples[i].raw) kv::fail_input("tile {} did not come back", i);
  }
  return times;
}

void report(const char* name, std::size_t raw, Times times) {
  const auto column = [&](std::vector<double>& all) {
    std::sort(all.begin(), all.end());
    const double gb = static_cast<double>(raw) * 1e-9;
    return fmt::format("{:5.2f} ({:.2f} to {:.2f})", gb / all[all.size() / 2], gb / all.back(),
                       gb / all.front());
  };
  std::puts(fmt::format("| {:14} | {:.3f}x | {:21} | {:21} |", name,
                        static_cast<double>(raw) / static_cast<double>(times.coded),
                        column(times.encode), column(times.decode))
                .c_str());
}

void zstd(const std::vector<Sample>& samples, std::size_t raw, int rounds, int level) {
  const Encode encode = [level](const Sample& sample) {
    kv::Bytes coded(ZSTD_compressBound(sample.raw.size()));
    coded.resize(
        ZSTD_compress(coded.data(), coded.size(), sample.raw.data(), sample.raw.size(), level));
    return coded;
  };
  const Decode decode = [](const Sample&, const kv::Bytes& coded, kv::Bytes& out) {
    ZSTD_decompress(out.data(), out.size(), coded.data(), coded.size());
  };
  report(fmt::format("zstd -{}", level).c_str(), raw, measure(samples, rounds, encode, decode));
}

void bench(const std::string& path, int rounds) {
  std::vector<Sample> samples;
  std::size_t raw = 0;
  kv::Reader reader(kv::Input::open(path));
  while (const auto meta = reader.next_member()) {
    while (const auto tile = reader.next_tile()) {
      kv::Bytes scratch;
      Sample& sample = samples.emplace_back();
      sample.header = tile->header;
      sample.header.codec = kv::format::kPlanes;
      sample.view = kv::decoded_tile(*meta, *tile, path, scratch);
      sample.raw.assign(sample.view.bytes.begin(), sample.view.bytes.end());
      raw += sample.raw.size();
    }
  }
  for (Sample& sample : samples) sample.view.bytes = sample.raw;
  std::puts(
      fmt::format("{} tiles, {} bytes raw; one core, {} rounds\n", samples.size(), raw, rounds)
          .c_str());
  std::puts("| codec          | ratio  | encode GB/s           | decode GB/s           |");
  std::puts("|----------------|--------|-----------------------|-----------------------|");
  const kv::Codec& planes = kv::codec_by_name("planes");
  report("planes", raw,
         measure(
             samples, rounds,
             [&](const Sample& sample) { return planes.encode(sample.header, sample.view); },
             [&](const Sample& sample, const kv::Bytes& coded, kv::Bytes& out) {
               planes.decode(sample.header, coded, path, out);
             }));
  zstd(samples, raw, rounds, 3);
  zstd(samples, raw, 1, 19);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  try {
    bench(argv[1], argc > 2 ? std::max(1, std::atoi(argv[2])) : 9);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "codec_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
